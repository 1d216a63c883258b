//! When one more stamp is ordered. Pure.
//!
//! A *pool* is the stamps that may stand in for each other: one region, one ring, shared or single. A stamp takes [`LEAD`] days
//! from the order until it serves, so a pool orders when what is free, and what is on order, is less than
//!
//! ```text
//! shared   2 · LEAD · growth per day  +  what the fullest of its stamps holds (the loss of one stamp)
//! single   as many empty stamps as there are tenants whose own stamps have less than 2 · LEAD · their growth free, and one
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};

use wire::ids::Region;

use crate::allocation::{Ring, Tenancy};

/// Days from the order of a stamp until it serves.
pub(super) const LEAD: u32 = 7;
/// Days over which growth is measured.
const WINDOW: usize = 14;

/// Stamps that may stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pool {
    pub(super) region: Region,
    pub(super) ring: Ring,
    pub(super) single: bool,
}

impl Pool {
    pub(super) fn tenancy(&self) -> Tenancy {
        if self.single { Tenancy::Single } else { Tenancy::Shared }
    }
}

/// A stamp that serves, as the rule sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Devices promised.
    pub(super) promised: u64,
    /// Devices that it can still take.
    pub(super) free: u64,
    /// Whose alone it is.
    pub(super) tenant: Option<usize>,
}

/// What came on the last days, by what it counts for.
#[derive(Debug, Default)]
pub(super) struct Growth {
    days: VecDeque<(HashMap<Pool, u64>, HashMap<usize, u64>)>,
}

impl Growth {
    pub(super) fn begin_day(&mut self) {
        self.days.push_back(Default::default());
        if self.days.len() > WINDOW {
            self.days.pop_front();
        }
    }

    /// Devices of a tenant have come, or would have if there had been room.
    pub(super) fn came(&mut self, pool: &Pool, tenant: usize, devices: u64) {
        if let Some((pools, tenants)) = self.days.back_mut() {
            *pools.entry(pool.clone()).or_default() += devices;
            *tenants.entry(tenant).or_default() += devices;
        }
    }

    fn of_pool(&self, pool: &Pool) -> f64 {
        self.per_day(self.days.iter().filter_map(|(pools, _)| pools.get(pool)).sum())
    }

    fn of_tenant(&self, tenant: usize) -> f64 {
        self.per_day(self.days.iter().filter_map(|(_, tenants)| tenants.get(&tenant)).sum())
    }

    fn per_day(&self, devices: u64) -> f64 {
        devices as f64 / self.days.len().max(1) as f64
    }
}

/// How many stamps a pool orders now. `tenants` are those that want stamps of their own in it, `ordered` those on their way,
/// `size` is what a stamp holds.
pub(super) fn to_order(
    pool: &Pool,
    stamps: &[Standing],
    tenants: &[usize],
    growth: &Growth,
    (ordered, size): (u64, u64),
) -> u64 {
    let ahead = f64::from(2 * LEAD);
    if pool.single {
        let mut own: BTreeMap<usize, f64> = tenants.iter().map(|tenant| (*tenant, 0.0)).collect();
        for stamp in stamps {
            if let Some(room) = stamp.tenant.and_then(|tenant| own.get_mut(&tenant)) {
                *room += stamp.free as f64;
            }
        }
        if own.is_empty() {
            return 0;
        }
        let short = |(tenant, room): (&usize, &f64)| {
            let missing = growth.of_tenant(*tenant) * ahead - room;
            if missing > 0.0 { (missing / size as f64).ceil() as u64 } else { 0 }
        };
        let wanted = own.iter().map(short).sum::<u64>() + 1;
        let empty = stamps.iter().filter(|stamp| stamp.tenant.is_none()).count() as u64;
        return wanted.saturating_sub(empty + ordered);
    }
    let free: u64 = stamps.iter().map(|stamp| stamp.free).sum::<u64>() + ordered * size;
    let fullest = stamps.iter().map(|stamp| stamp.promised).max().unwrap_or_default();
    let wanted = growth.of_pool(pool) * ahead + fullest as f64;
    let missing = wanted - free as f64;
    if missing > 0.0 { (missing / size as f64).ceil() as u64 } else { 0 }
}
