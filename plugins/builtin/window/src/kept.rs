//! The open windows of all devices, and how they are kept over restarts.
//!
//! ```text
//! state key "w/<shard>" = postcard of { every, columns, [ (device, Device) ] }
//! ```
//! Devices are spread over a few shards, so that a call writes a few values instead of one per device, and not all
//! windows when only some changed. State that was written with another window or other columns is forgotten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_plugin::host;
use sluice_plugin::state::{self, StateError};

use crate::stats::Stats;

const SHARDS: u64 = 16;
/// A device without open windows is forgotten after this time, in nanoseconds: a day.
const IDLE: i64 = 86_400_000_000_000;

/// One device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    /// When its last reading arrived, by the gateway's clock.
    pub(crate) arrived: i64,
    /// The latest time of its readings.
    pub(crate) latest: i64,
    /// Readings before this time are late.
    pub(crate) closed_before: i64,
    /// Open windows by their begin; per window, the aggregates of each column.
    pub(crate) open: BTreeMap<i64, Vec<Stats>>,
}

#[derive(Default)]
struct Shard {
    devices: BTreeMap<String, Device>,
    changed: bool,
}

/// All devices.
pub(crate) struct Kept {
    every: i64,
    columns: Vec<String>,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Written<'a> {
    every: i64,
    columns: &'a [String],
    devices: &'a BTreeMap<String, Device>,
}

#[derive(Deserialize)]
struct Read {
    every: i64,
    columns: Vec<String>,
    devices: BTreeMap<String, Device>,
}

impl Kept {
    pub(crate) fn restore(every: i64, columns: &[String]) -> Self {
        let shards = (0..SHARDS).map(|shard| Shard { devices: read(shard, every, columns), changed: false });
        Kept { every, columns: columns.to_vec(), shards: shards.collect() }
    }

    /// A device, to change; a new one if it is not known yet.
    pub(crate) fn device(&mut self, name: &str) -> &mut Device {
        let shard = (fnv1a(name) % SHARDS) as usize;
        #[expect(clippy::indexing_slicing, reason = "there are SHARDS shards")]
        let shard = &mut self.shards[shard];
        shard.changed = true;
        shard.devices.entry(name.to_owned()).or_insert_with(Device::new)
    }

    /// Looks at every device; `change` says whether it changed it.
    pub(crate) fn review(&mut self, mut change: impl FnMut(&str, &mut Device) -> bool) {
        for shard in &mut self.shards {
            for (name, device) in &mut shard.devices {
                shard.changed |= change(name, device);
            }
        }
    }

    /// Forgets devices that have long been silent.
    pub(crate) fn forget_idle(&mut self, now: i64) {
        for shard in &mut self.shards {
            let before = shard.devices.len();
            shard
                .devices
                .retain(|_, device| !device.open.is_empty() || now.saturating_sub(device.arrived) < IDLE);
            shard.changed |= shard.devices.len() != before;
        }
    }

    /// Keeps what changed.
    pub(crate) fn save(&mut self) -> Result<(), StateError> {
        for (index, shard) in self.shards.iter_mut().enumerate().filter(|(_, shard)| shard.changed) {
            let written = Written { every: self.every, columns: &self.columns, devices: &shard.devices };
            state::set(&format!("w/{index}"), &written)?;
            shard.changed = false;
        }
        Ok(())
    }
}

impl Device {
    fn new() -> Self {
        Device { arrived: i64::MIN, latest: i64::MIN, closed_before: i64::MIN, open: BTreeMap::new() }
    }
}

fn read(shard: u64, every: i64, columns: &[String]) -> BTreeMap<String, Device> {
    match state::get::<Read>(&format!("w/{shard}")) {
        Ok(None) => BTreeMap::new(),
        Ok(Some(read)) if read.every == every && read.columns == columns => read.devices,
        Ok(Some(_)) | Err(_) => {
            host::warn("open windows of another configuration are forgotten");
            BTreeMap::new()
        }
    }
}

/// FNV-1a, 64 bit: the same in every build, as state outlives builds.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
