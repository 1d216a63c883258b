//! A population of devices that grows over a year: the real registry, with virtual days.
//!
//! ```text
//! plan      tenants by a power law, the day on which each of their gateways comes
//! pools     stamps that may stand in for each other (region, ring, tenancy), and when one more is ordered
//! year      day by day: stamps arrive, stamps are lost, gateways register; everything is counted again from the answers
//! ```
//! Shows what a number of stamps comes to, when the next one must be ordered, and that no stamp is ever promised more than it
//! was built for. Registrations, moves and losses go through [`crate::registry`] as in the service; certificates are left
//! out, since their cost does not depend on how many there are. Started by `cargo xtask simulate stamps`.

mod plan;
mod plot;
mod pools;
mod year;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use plot::plot;
pub use year::{YearError, run};

/// What is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// Devices at the end of the year; a tenth of them at its beginning.
    pub devices: u64,
    /// Stamps that so many devices are to be spread over; their size follows.
    pub stamps: u32,
    /// Days of the year.
    pub days: u32,
    /// Stamps lost for good over the year.
    pub losses: u32,
    /// For the random numbers: the same seed gives the same year.
    pub seed: u64,
}

/// Part of a stamp's capacity that is meant to be promised at the end: the rest is for growth and for what is lost.
const FILL: f64 = 0.92;
/// Devices behind a gateway of a tenant that has as many.
const GATEWAY: u64 = 100;

impl Population {
    /// `max_devices` of each stamp.
    #[must_use]
    pub fn stamp_devices(&self) -> u32 {
        let size = self.devices as f64 / f64::from(self.stamps.max(1)) / FILL;
        (size.ceil() as u32).max(2 * GATEWAY as u32)
    }
}

/// How the population stands on a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The day, from 0.
    pub day: u32,
    /// Gateways registered.
    pub gateways: u64,
    /// Devices promised.
    pub devices: u64,
    /// Stamps that serve.
    pub stamps: u64,
    /// Promised ÷ capacity, over all stamps that serve.
    pub utilisation: f64,
    /// The fullest stamp's.
    pub fullest: f64,
    /// Assignments moved from stamps that were lost, since the beginning.
    pub moves: u64,
    /// Microseconds of a registration since the sample before, its part of the commits included; not the same from run to run.
    pub registration_us: f64,
}

/// A year.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Devices at the end.
    pub devices: u64,
    /// Gateways at the end.
    pub gateways: u64,
    /// Tenants at the end.
    pub tenants: u64,
    /// Stamps ever added.
    pub stamps_added: u64,
    /// Stamps that serve at the end.
    pub stamps: u64,
    /// `max_devices` of each.
    pub stamp_devices: u32,
    /// Stamps lost for good.
    pub lost_stamps: u64,
    /// Assignments that moved because of that.
    pub moves: u64,
    /// Gateways that found no room on the day on which they came.
    pub waited: u64,
    /// Promised ÷ capacity at the end.
    pub utilisation: f64,
    /// Times a stamp was found with more devices than it was built for: none, or the allocation is wrong.
    pub caps_exceeded: u64,
    /// Assignments found outside their tenant's region, ring or tenancy: none, or the allocation is wrong.
    pub outside_rules: u64,
    /// Over the year.
    pub samples: Vec<Sample>,
}
