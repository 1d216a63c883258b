//! `builtin:window`: aggregates per device over tumbling windows of the readings' own time.
//!
//! Window `k` of a device holds its readings with `k × every ≤ time < (k + 1) × every`. It is closed and emitted when a
//! reading of that device says that time has gone past its end by `lateness`, or when the device has been silent for
//! `every + lateness`. Readings of a closed window are late: dropped and counted. A reading from the future waits in its
//! window; it closes nothing before the gateway's own clock has got there, so one wrong clock cannot shut the others out.
//!
//! ```text
//! one row a device and window; time = begin of the window; per column: <column>_min, _max, _mean, _last (f64), _count (i64)
//! ```
//! Values that are not numbers (NaN) are left out. Open windows are kept over restarts, in the same commit as the
//! readings they took in: nothing is counted twice. State: see `kept`.

mod kept;
mod stats;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sluice_plugin::{
    ConfigError, Fault, Frame, Missing, Output, Processor, Rows, Span, TELEMETRY, Values, host,
};

use kept::{Device, Kept};
use stats::Stats;

/// Most windows of one device that are open at once; beyond, the oldest is closed.
const MAX_OPEN: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Length of a window.
    every: Span,
    /// The columns to aggregate.
    columns: Vec<String>,
    #[serde(default = "all")]
    aggregates: Vec<Aggregate>,
    /// How long a window waits for readings that come out of order; not at all by default.
    lateness: Option<Span>,
    #[serde(default = "telemetry")]
    route: String,
    /// Profile of the aggregates.
    #[serde(default = "window")]
    profile: String,
    /// Also forward the readings themselves.
    #[serde(default)]
    forward: bool,
    /// For frames that have none of the columns.
    #[serde(default)]
    missing: Missing,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Aggregate {
    Min,
    Max,
    Mean,
    Count,
    Last,
}

struct Window {
    config: Config,
    every: i64,
    lateness: i64,
    /// Units of the columns, as last seen.
    units: Vec<String>,
    kept: Kept,
}

/// A window that is done.
struct Closed {
    device: String,
    start: i64,
    columns: Vec<Stats>,
}

impl Processor for Window {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        if config.columns.is_empty() || config.aggregates.is_empty() {
            return Err("columns and aggregates must name at least one each".into());
        }
        let every = config.every.nanos();
        let kept = Kept::restore(every, &config.columns);
        let lateness = config.lateness.map_or(0, Span::nanos);
        let units = vec![String::new(); config.columns.len()];
        Ok(Window { config, every, lateness, units, kept })
    }

    fn tick_every(&self) -> Option<Duration> {
        Some(self.config.every.duration().clamp(Duration::from_millis(100), Duration::from_secs(1)))
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let columns: Vec<_> = self.config.columns.iter().map(|name| frame.numbers(name)).collect();
        if let Some(Err(why)) = columns.first().filter(|_| columns.iter().all(Result::is_err)) {
            let why = why.clone();
            drop(columns);
            self.config.missing.handle(frame, &why, out);
            return Ok(());
        }
        for (unit, name) in self.units.iter_mut().zip(&self.config.columns) {
            if let Some(column) = frame.column(name).filter(|column| column.unit != *unit) {
                unit.clone_from(&column.unit);
            }
        }
        let now = host::now();
        let mut closed = Vec::new();
        let mut late = 0;
        for (name, rows) in frame.devices().iter().zip(rows_by_device(&frame)) {
            if rows.is_empty() {
                continue;
            }
            let device = self.kept.device(name);
            device.arrived = now;
            for row in rows {
                let Some(&time) = frame.time().get(row) else { continue };
                let start = time.div_euclid(self.every).saturating_mul(self.every);
                if start < device.closed_before {
                    late += 1;
                    continue;
                }
                device.latest = device.latest.max(time);
                let stats = device.open.entry(start).or_insert_with(|| vec![Stats::default(); columns.len()]);
                for (stats, column) in stats.iter_mut().zip(&columns) {
                    if let Some(value) = column.as_ref().ok().and_then(|values| values.get(row)) {
                        stats.add(time, *value);
                    }
                }
            }
            let until = device.latest.min(now).saturating_sub(self.lateness);
            close(name, device, self.every, until, &mut closed);
        }
        drop(columns);
        host::count("late", late);
        self.emit(closed, out)?;
        if self.config.forward {
            out.forward(frame);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut Output) -> Result<(), Fault> {
        let now = host::now();
        let (every, lateness) = (self.every, self.lateness);
        let mut closed = Vec::new();
        self.kept.review(|name, device| {
            let silent = now.saturating_sub(device.arrived) >= every.saturating_add(lateness);
            let until = if silent { i64::MAX } else { device.latest.min(now).saturating_sub(lateness) };
            close(name, device, every, until, &mut closed)
        });
        self.kept.forget_idle(now);
        self.emit(closed, out)
    }

    fn end_of_call(&mut self, _out: &mut Output) -> Result<(), Fault> {
        Ok(self.kept.save()?)
    }
}

/// Closes the windows of a device that end at or before `until`; says whether there was one.
fn close(name: &str, device: &mut Device, every: i64, until: i64, closed: &mut Vec<Closed>) -> bool {
    let mut any = false;
    while let Some(first) = device.open.first_entry() {
        let start = *first.key();
        let end = start.saturating_add(every);
        if end > until && device.open.len() <= MAX_OPEN {
            break;
        }
        let columns = device.open.remove(&start).unwrap_or_default();
        device.closed_before = device.closed_before.max(end);
        closed.push(Closed { device: name.to_owned(), start, columns });
        any = true;
    }
    any
}

fn rows_by_device(frame: &Frame) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); frame.devices().len()];
    for (row, &device) in frame.device_index().iter().enumerate() {
        if let Some(rows) = rows.get_mut(device as usize) {
            rows.push(row);
        }
    }
    rows
}

impl Window {
    /// One frame for each set of columns that had values: a frame has no nulls.
    fn emit(&self, closed: Vec<Closed>, out: &mut Output) -> Result<(), Fault> {
        let mut groups = BTreeMap::<Vec<bool>, Vec<Closed>>::new();
        for window in closed {
            let present: Vec<bool> = window.columns.iter().map(|stats| stats.count > 0).collect();
            if present.contains(&true) {
                groups.entry(present).or_default().push(window);
            }
        }
        for (present, windows) in groups {
            let mut rows = Rows::new(self.config.profile.as_str());
            windows.iter().for_each(|window| rows.push(&window.device, window.start));
            let mut frame = rows.finish();
            let columns = self.config.columns.iter().zip(&self.units).zip(present).enumerate();
            for (index, ((name, unit), _)) in columns.filter(|(_, (_, present))| *present) {
                let stats: Vec<Stats> =
                    windows.iter().filter_map(|window| window.columns.get(index).copied()).collect();
                for &aggregate in &self.config.aggregates {
                    let name = format!("{name}_{}", aggregate.name());
                    frame.set(&name, aggregate.of(&stats))?;
                    if aggregate != Aggregate::Count {
                        frame.set_unit(&name, unit);
                    }
                }
            }
            out.emit(&self.config.route, frame);
        }
        Ok(())
    }
}

impl Aggregate {
    fn name(self) -> &'static str {
        match self {
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Mean => "mean",
            Aggregate::Count => "count",
            Aggregate::Last => "last",
        }
    }

    fn of(self, stats: &[Stats]) -> Values {
        let floats = |value: fn(&Stats) -> f64| Values::F64s(stats.iter().map(value).collect());
        match self {
            Aggregate::Min => floats(|stats| stats.min),
            Aggregate::Max => floats(|stats| stats.max),
            Aggregate::Mean => floats(Stats::mean),
            Aggregate::Last => floats(|stats| stats.last),
            Aggregate::Count => Values::S64s(stats.iter().map(|stats| stats.count as i64).collect()),
        }
    }
}

fn all() -> Vec<Aggregate> {
    vec![Aggregate::Min, Aggregate::Max, Aggregate::Mean, Aggregate::Count, Aggregate::Last]
}

fn telemetry() -> String {
    TELEMETRY.to_owned()
}

fn window() -> String {
    "window".to_owned()
}

sluice_plugin::export!(Window);
