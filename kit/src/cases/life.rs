//! A plugin's life in a case: the runtime of the gateway, a clock that only the case moves, and what a lane does around a
//! plugin: commits its state, cuts rows into calls, ticks it, swaps it, loses power.
//!
//! Not simulated: retrying a failed batch in halves, quarantine, and the other steps of a lane.

use std::collections::BTreeMap;

use runtime::{
    CallContext, ConfigureFault, Engine, Link, LogLine, MetricValue, Plugin, Processed, StepConfig,
    StepFault, Uplink,
};
use wire::frame::{Frame, MAX_ROWS};

use super::model::{Input, Rejected, Setup};
use crate::guest::Guest;
use crate::rows::cut;

/// Most ticks while time passes in one batch.
const MAX_TICKS: u32 = 100_000;

/// The state that is on disk.
pub type Kept = BTreeMap<String, Vec<u8>>;

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Happened {
    /// Frames with their routes, in order.
    pub frames: Vec<(String, Frame)>,
    /// Rejected rows, by the frames and rows of the case.
    pub rejected: Vec<Rejected>,
    /// Calls that failed.
    pub faults: Vec<StepFault>,
    /// Log lines, those of failed calls included.
    pub logs: Vec<LogLine>,
    /// Log lines beyond the limit.
    pub logs_dropped: u64,
    /// Counters' growth and gauges.
    pub metrics: BTreeMap<String, f64>,
    /// Calls of the plugin.
    pub calls: u64,
    changes: Vec<runtime::StateChange>,
    rows: usize,
}

/// Why a case cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The plugin cannot be configured again after a power cut.
    #[error("the plugin does not start again: {0}")]
    Restart(Box<ConfigureFault>),
    /// Too many ticks.
    #[error("more than {MAX_TICKS} ticks in one batch; let less time pass at once")]
    Ticks,
    /// Too much output to compare.
    #[error("more than {MAX_ROWS} rows of output in one batch; give it less input")]
    Rows,
}

/// A running plugin.
pub struct Life<'e> {
    engine: &'e Engine,
    plugin: Plugin,
    setup: Setup,
    guest: Guest,
    kept: Kept,
    clock: Clock,
    last_tick: i64,
}

/// What the plugin may know.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Time that passed, as nanoseconds since 1970.
    now: i64,
    /// By how much the gateway's clock is off.
    jump: i64,
    link: Link,
}

impl Clock {
    fn context(&self) -> CallContext {
        CallContext { now: self.now.saturating_add(self.jump), link: self.link }
    }
}

impl<'e> Life<'e> {
    /// Begins, with the state that an earlier life left.
    ///
    /// # Errors
    /// [`ConfigureFault`]
    pub fn begin(
        engine: &'e Engine,
        plugin: &Plugin,
        setup: &Setup,
        state_version: Option<String>,
        mut kept: Kept,
        start: i64,
    ) -> Result<Self, ConfigureFault> {
        let clock = Clock { now: start, jump: 0, link: Link { uplink: Uplink::Up, ..Link::default() } };
        let guest = make(engine, plugin, setup, state_version, &mut kept, &clock)?;
        Ok(Life {
            engine,
            plugin: plugin.clone(),
            setup: setup.clone(),
            guest,
            kept,
            clock,
            last_tick: start,
        })
    }

    /// The state on disk.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Time moves on without a tick.
    pub fn advance(&mut self, to: i64) {
        self.clock.now = self.clock.now.max(to);
    }

    /// The gateway's clock is set.
    pub fn jump(&mut self, by: i64) {
        self.clock.jump = self.clock.jump.saturating_add(by);
    }

    /// The way to the cloud changes.
    pub fn link(&mut self, link: Link) {
        self.clock.link = link;
    }

    /// Swaps configuration and version, as a reload of the gateway does between two batches: the state stays, and is
    /// migrated if the version is another. If that fails the old one goes on.
    ///
    /// # Errors
    /// [`ConfigureFault`]
    pub fn reload(&mut self, plugin: Option<&Plugin>, setup: &Setup) -> Result<(), ConfigureFault> {
        let plugin = plugin.unwrap_or(&self.plugin).clone();
        let mut kept = self.kept.clone();
        let written_by = Some(self.plugin.version().to_owned());
        let guest = make(self.engine, &plugin, setup, written_by, &mut kept, &self.clock)?;
        (self.plugin, self.setup, self.guest, self.kept) = (plugin, setup.clone(), guest, kept);
        self.last_tick = self.clock.now;
        Ok(())
    }

    /// The power fails and comes back: what is on disk is all that is left.
    ///
    /// # Errors
    /// [`Stopped::Restart`]
    pub fn power_cut(&mut self) -> Result<(), Stopped> {
        let version = Some(self.plugin.version().to_owned());
        self.guest = make(self.engine, &self.plugin, &self.setup, version, &mut self.kept, &self.clock)
            .map_err(|fault| Stopped::Restart(Box::new(fault)))?;
        self.last_tick = self.clock.now;
        Ok(())
    }

    /// Gives the plugin its input and commits what it changed, unless the power fails before.
    ///
    /// # Errors
    /// [`Stopped`]
    pub fn run(&mut self, input: &Input, lost_first: bool) -> Result<Happened, Stopped> {
        if lost_first {
            let before = self.clock;
            self.give(input)?;
            self.clock = before;
            self.power_cut()?;
        }
        let happened = self.give(input)?;
        for change in &happened.changes {
            apply(&mut self.kept, change);
        }
        Ok(happened)
    }

    fn give(&mut self, input: &Input) -> Result<Happened, Stopped> {
        let mut happened = Happened::default();
        match input {
            Input::None => {}
            Input::Frames(frames) => {
                for pieces in cut::calls(frames, cut::CALL_ROWS) {
                    let places: Vec<(usize, usize)> =
                        pieces.iter().map(|(at, from, _)| (*at, *from)).collect();
                    let frames: Vec<Frame> = pieces.into_iter().map(|(_, _, frame)| frame).collect();
                    let result = self.guest.process(&frames, &self.clock.context());
                    happened.take(result, &places)?;
                }
            }
            Input::Messages(inbox) => {
                for (from, piece) in inbox.pieces(cut::CALL_ROWS) {
                    let result = self.guest.decode(&piece, &self.clock.context());
                    happened.take(result, &[(0, from)])?;
                }
            }
            Input::Tick => self.tick(&mut happened)?,
            Input::Pass(span) => self.pass(*span, &mut happened)?,
        }
        Ok(happened)
    }

    fn tick(&mut self, happened: &mut Happened) -> Result<(), Stopped> {
        self.last_tick = self.clock.now;
        let result = self.guest.tick(&self.clock.context());
        happened.take(result, &[])
    }

    fn pass(&mut self, span: i64, happened: &mut Happened) -> Result<(), Stopped> {
        let end = self.clock.now.saturating_add(span);
        let mut ticks = 0;
        while let Some(every) = self.guest.tick_every() {
            let every = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
            let due = self.last_tick.saturating_add(every).max(self.clock.now);
            if due > end {
                break;
            }
            if ticks == MAX_TICKS {
                return Err(Stopped::Ticks);
            }
            ticks += 1;
            self.clock.now = due;
            self.tick(happened)?;
        }
        self.clock.now = end;
        Ok(())
    }
}

impl Happened {
    /// Takes the result of a call, whose pieces of input begin at these frames and rows.
    fn take(
        &mut self,
        result: Result<Processed, Box<StepFault>>,
        places: &[(usize, usize)],
    ) -> Result<(), Stopped> {
        self.calls += 1;
        let processed = match result {
            Ok(processed) => processed,
            Err(fault) => {
                self.logs.extend(fault.logs.iter().cloned());
                self.faults.push(*fault);
                return Ok(());
            }
        };
        self.rows += processed.frames.iter().map(|routed| routed.frame.rows()).sum::<usize>();
        if self.rows > MAX_ROWS {
            return Err(Stopped::Rows);
        }
        self.frames.extend(
            processed.frames.into_iter().map(|routed| (routed.route.as_str().to_owned(), routed.frame)),
        );
        for rejected in processed.rejected {
            let (frame, from) = places.get(rejected.frame).copied().unwrap_or_default();
            self.rejected.extend(rejected.rows.iter().map(|row| Rejected {
                frame,
                row: from + *row as usize,
                reason: rejected.reason.clone(),
            }));
        }
        for metric in processed.metrics {
            match metric.value {
                MetricValue::Count(by) => *self.metrics.entry(metric.name).or_insert(0.0) += by as f64,
                MetricValue::Gauge(value) => drop(self.metrics.insert(metric.name, value)),
            }
        }
        self.logs.extend(processed.logs);
        self.logs_dropped += processed.logs_dropped;
        self.changes.extend(processed.state);
        Ok(())
    }
}

fn make(
    engine: &Engine,
    plugin: &Plugin,
    setup: &Setup,
    state_version: Option<String>,
    kept: &mut Kept,
    clock: &Clock,
) -> Result<Guest, ConfigureFault> {
    let config = StepConfig {
        name: plugin.name().to_owned(),
        config_json: setup.with.clone(),
        limits: setup.limits,
        imports: setup.imports,
        state_version,
    };
    let state = kept.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let guest = Guest::new(engine, plugin, config, state, &clock.context())?;
    // What a migration changed is committed together with the swap.
    *kept = guest.state().into_iter().collect();
    Ok(guest)
}

fn apply(kept: &mut Kept, change: &runtime::StateChange) {
    match &change.value {
        Some(value) => drop(kept.insert(change.key.clone(), value.clone())),
        None => drop(kept.remove(&change.key)),
    }
}
