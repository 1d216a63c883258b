//! Who comes when: tenants by a power law, and the day of each of their gateways. Pure.

use backoff::random::Random;
use wire::ids::{EnrolmentId, NameError, Region, TenantId};

use super::{GATEWAY, Population};
use crate::allocation::Ring;

/// Regions and the tenants of each, in percent.
pub(super) const REGIONS: [(&str, u64); 4] =
    [("eu-west", 40), ("us-east", 30), ("asia-south", 20), ("sa-east", 10)];
/// Tenants that want what is new, in percent.
const FAST: u64 = 10;
/// Of the tenants with at least half a stamp's devices, those that want stamps of their own, in percent.
const DEDICATED: u64 = 25;
/// Devices at the beginning, as a part of those at the end.
const BEGINNING: f64 = 0.1;
/// Devices per tenant, on average.
const TENANT: u64 = 500;

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) id: TenantId,
    pub(super) enrolment: EnrolmentId,
    pub(super) region: Region,
    pub(super) ring: Ring,
    pub(super) dedicated: bool,
    /// Devices behind each of its gateways.
    pub(super) devices: u32,
}

/// The year's tenants, and per day the tenants of which a gateway comes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) tenants: Vec<Planned>,
    pub(super) arrivals: Vec<Vec<usize>>,
}

/// Draws a year.
pub(super) fn draw(population: &Population, random: &mut Random) -> Result<Plan, NameError> {
    let count = (population.devices / TENANT).max(1);
    // Zipf's law: the k-th tenant has 1/k of the first one's devices.
    let harmonic: f64 = (1..=count).map(|k| 1.0 / k as f64).sum();
    let mut tenants = Vec::new();
    let mut arrivals = vec![Vec::new(); population.days.max(1) as usize];
    for k in 1..=count {
        let size = ((population.devices as f64 / harmonic / k as f64).round() as u64).max(1);
        let gateways = size.div_ceil(GATEWAY);
        let large = size * 2 >= u64::from(population.stamp_devices());
        let name = format!("tenant-{k:06}");
        tenants.push(Planned {
            id: TenantId::new(&name)?,
            enrolment: EnrolmentId::new(&name)?,
            region: Region::new(region(random.next() % 100))?,
            ring: if random.next() % 100 < FAST { Ring::Fast } else { Ring::Slow },
            dedicated: large && random.next() % 100 < DEDICATED,
            devices: (size / gateways) as u32,
        });
        for _ in 0..gateways {
            let day = day(random.fraction(), population.days);
            if let Some(arriving) = arrivals.get_mut(day) {
                arriving.push(tenants.len() - 1);
            }
        }
    }
    Ok(Plan { tenants, arrivals })
}

/// Growth is exponential: at a part `t` of the year there are `BEGINNING^(1 - t)` of the devices, and `at` is a part of them.
fn day(at: f64, days: u32) -> usize {
    let part = 1.0 - at.max(BEGINNING).ln() / BEGINNING.ln();
    ((part * f64::from(days)) as usize).min(days.saturating_sub(1) as usize)
}

fn region(percent: u64) -> &'static str {
    let mut below = 0;
    for (name, share) in REGIONS {
        below += share;
        if percent < below {
            return name;
        }
    }
    REGIONS[0].0
}
