//! What stamps have said of their gateways, in memory.
//!
//! Bounded: by the registered stamps, and [`MAX_TENANTS`] of each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::ids::{Release, StampId, TenantId};
use wire::provisioning::{Conditions, ReleaseCondition, TenantConditions};

use super::Evidence;

/// Most tenants of one stamp of which something is remembered.
const MAX_TENANTS: usize = 10_000;

/// What was heard since the service began.
#[derive(Debug, Default)]
pub struct Heard {
    stamps: Mutex<HashMap<StampId, OfStamp>>,
}

#[derive(Debug, Default)]
struct OfStamp {
    revision: u64,
    tenants: HashMap<TenantId, TenantConditions>,
}

impl Heard {
    /// A stamp says how its gateways are.
    pub fn hear(&self, stamp: &StampId, conditions: Conditions) {
        let mut stamps = self.lock();
        let of = stamps.entry(stamp.clone()).or_default();
        of.revision = conditions.revision;
        for tenant in conditions.tenants {
            if of.tenants.len() < MAX_TENANTS || of.tenants.contains_key(&tenant.tenant) {
                of.tenants.insert(tenant.tenant.clone(), tenant);
            }
        }
    }

    /// What is known of a release on these stamps, which should follow at least this revision.
    #[must_use]
    pub fn evidence(
        &self,
        stamps: &[StampId],
        tenant: &TenantId,
        release: Release,
        revision: u64,
    ) -> Evidence {
        let heard = self.lock();
        let mut evidence = Evidence::default();
        evidence.is.release = release;
        for stamp in stamps {
            let Some(of) = heard.get(stamp).filter(|of| of.revision >= revision) else {
                evidence.behind.push(stamp.clone());
                continue;
            };
            let Some(conditions) = of.tenants.get(tenant) else { continue };
            evidence.connected = evidence.connected.saturating_add(conditions.connected);
            conditions.releases.iter().filter(|is| is.release == release).for_each(|is| evidence.is.add(is));
        }
        evidence
    }

    /// Per release how it does, on these stamps, and the gateways connected for the tenant.
    #[must_use]
    pub fn of_tenant(&self, stamps: &[StampId], tenant: &TenantId) -> (u32, Vec<ReleaseCondition>) {
        let heard = self.lock();
        let (mut connected, mut sums) = (0_u32, Vec::<ReleaseCondition>::new());
        for conditions in stamps.iter().filter_map(|stamp| heard.get(stamp)?.tenants.get(tenant)) {
            connected = connected.saturating_add(conditions.connected);
            for is in &conditions.releases {
                match sums.iter_mut().find(|sum| sum.release == is.release) {
                    Some(sum) => sum.add(is),
                    None => sums.push(is.clone()),
                }
            }
        }
        sums.sort_by_key(|sum| sum.release);
        (connected, sums)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StampId, OfStamp>> {
        // The map is whole after each statement.
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
