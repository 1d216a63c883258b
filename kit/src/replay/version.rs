//! One version of a plugin while it is run over exported rows: what it gave, what it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use runtime::{
    CallContext, ConfigureFault, Engine, Limits, Link, Plugin, Processed, StepConfig, StepFault, Uplink,
};
use wire::frame::Frame;

use super::export::Item;
use crate::cases::expectation::fault_name;
use crate::guest::Guest;

/// Most times that are kept for percentiles; beyond, every other one is dropped.
const MAX_TIMES: usize = 1 << 20;

/// A version and its account.
pub(super) struct Version {
    /// The plugin.
    pub(super) plugin: Plugin,
    guest: Guest,
    last_tick: i64,
    /// Rows it gave.
    pub(super) rows: u64,
    /// Rows it rejected.
    pub(super) rejected: u64,
    /// Log lines.
    pub(super) logs: u64,
    /// Faults by kind: how many, and the first.
    pub(super) faults: BTreeMap<&'static str, (u64, StepFault)>,
    /// Calls.
    pub(super) calls: u64,
    /// All calls together.
    pub(super) took: Duration,
    /// Most memory it held after a call, in bytes.
    pub(super) memory: usize,
    /// Times of calls, in microseconds, every `stride`th.
    times: Vec<f64>,
    stride: u64,
}

/// What a call gave, to be compared.
#[derive(Debug, Default)]
pub(super) struct Gave {
    /// Frames by route.
    pub(super) frames: Vec<(String, Frame)>,
    /// Rejected rows.
    pub(super) rejected: Vec<u32>,
    /// The fault, by its name.
    pub(super) fault: Option<&'static str>,
}

impl Version {
    /// Configures it, without state.
    ///
    /// # Errors
    /// [`ConfigureFault`]
    pub(super) fn new(
        engine: &Engine,
        plugin: &Plugin,
        with: &str,
        limits: Limits,
        now: i64,
    ) -> Result<Self, ConfigureFault> {
        let config = StepConfig {
            name: plugin.name().to_owned(),
            config_json: with.to_owned(),
            limits,
            ..StepConfig::default()
        };
        let guest = Guest::new(engine, plugin, config, Vec::new(), &context(now))?;
        Ok(Version {
            plugin: plugin.clone(),
            guest,
            last_tick: now,
            rows: 0,
            rejected: 0,
            logs: 0,
            faults: BTreeMap::new(),
            calls: 0,
            took: Duration::ZERO,
            memory: 0,
            times: Vec::new(),
            stride: 1,
        })
    }

    /// Gives it an item, and a tick before if one is due by the items' own time.
    pub(super) fn give(&mut self, item: &Item, now: i64) -> Gave {
        let mut gave = Gave::default();
        let due = self.guest.tick_every().map(|every| i64::try_from(every.as_nanos()).unwrap_or(i64::MAX));
        if due.is_some_and(|every| now.saturating_sub(self.last_tick) >= every) {
            self.last_tick = now;
            self.call(&mut gave, |guest| guest.tick(&context(now)));
        }
        match item {
            Item::Frame(frame) => {
                self.call(&mut gave, |guest| guest.process(std::slice::from_ref(frame), &context(now)))
            }
            Item::Messages(inbox) => self.call(&mut gave, |guest| guest.decode(inbox, &context(now))),
        }
        gave
    }

    fn call(&mut self, gave: &mut Gave, call: impl FnOnce(&mut Guest) -> Result<Processed, Box<StepFault>>) {
        let started = Instant::now();
        let result = call(&mut self.guest);
        let took = started.elapsed();
        self.took += took;
        self.note(took);
        self.memory = self.memory.max(self.guest.memory_bytes());
        match result {
            Ok(processed) => {
                self.logs += processed.logs.len() as u64 + processed.logs_dropped;
                for rejected in processed.rejected {
                    self.rejected += rejected.rows.len() as u64;
                    gave.rejected.extend(rejected.rows);
                }
                for routed in processed.frames {
                    self.rows += routed.frame.rows() as u64;
                    gave.frames.push((routed.route.as_str().to_owned(), routed.frame));
                }
            }
            Err(fault) => {
                let name = fault_name(fault.kind);
                gave.fault = Some(name);
                self.faults.entry(name).or_insert((0, *fault)).0 += 1;
            }
        }
    }

    fn note(&mut self, took: Duration) {
        if self.calls.is_multiple_of(self.stride) {
            self.times.push(took.as_secs_f64() * 1e6);
            if self.times.len() >= MAX_TIMES {
                let mut keep = false;
                self.times.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
        }
        self.calls += 1;
    }

    /// Microseconds of a call, of which that share is faster.
    #[must_use]
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }

    /// All faults.
    #[must_use]
    pub(super) fn fault_count(&self) -> u64 {
        self.faults.values().map(|(count, _)| count).sum()
    }
}

fn context(now: i64) -> CallContext {
    CallContext { now, link: Link { uplink: Uplink::Up, ..Link::default() } }
}
