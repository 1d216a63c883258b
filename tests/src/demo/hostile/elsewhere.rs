//! What else the machine did meanwhile: the cores that processes other than the demo's own kept busy.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::hostile::Neighbours;
use crate::process::usage;

/// /proc/stat counts in hundredths of a second (USER_HZ, see proc(5)).
const TICK: Duration = Duration::from_millis(10);
/// Its columns that are work: user, nice, system; irq, softirq, steal.
const WORK: [usize; 6] = [0, 1, 2, 5, 6, 7];

/// CPU time of the machine and of the demo, at one moment.
pub(super) struct Elsewhere {
    at: Instant,
    all: Duration,
    own: Duration,
}

impl Elsewhere {
    /// Now; both processes and this one count as the demo's own.
    pub(super) fn look(neighbours: &Neighbours) -> Result<Self> {
        let own = usage(std::process::id())?.cpu + neighbours.gateway.cpu()? + neighbours.stamp.cpu()?;
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.strip_prefix("cpu ").and_then(|rest| rest.lines().next()).context("/proc/stat")?;
        let ticks: Vec<u32> = line.split_ascii_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
        let work: u32 = WORK.iter().filter_map(|&column| ticks.get(column)).sum();
        Ok(Self { at: Instant::now(), all: TICK * work, own })
    }

    /// Cores kept busy by others from then to now.
    pub(super) fn cores(then: &Self, now: &Self) -> f64 {
        let others = now.all.saturating_sub(then.all).saturating_sub(now.own.saturating_sub(then.own));
        others.as_secs_f64() / (now.at - then.at).as_secs_f64()
    }
}
