//! What a guest may call, and what is kept for it during a call. Every host call is cheap and bounded: what a guest
//! hands over is limited by the store's fuel before it is copied, and what is kept by the constants here.

use std::collections::BTreeMap;

use crate::bindings::sluice::plugin::{clock, link, log, metrics, state, types};
use crate::call::{CallContext, Level, LogLine, MAX_TEXT_BYTES, Metric, MetricValue, Uplink};
use crate::imports::{Import, Imports};
use crate::limits::{Limits, MemoryGuard};
use crate::slices::Budget;
use crate::state::{Refused, State};

/// Most names of metrics a step may have in its life.
const MAX_METRICS: usize = 64;
/// Longest name of a metric.
const MAX_METRIC_NAME: usize = 64;

/// What a step may call: what its plugin asks for and the operator grants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority {
    pub(crate) asked: Imports,
    pub(crate) granted: Imports,
}

/// A call that the step may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "called {call}, which grant.imports does not allow: add {import:?} to it if the plugin may{said}"
    )]
    NotGranted { call: &'static str, import: &'static str, said: String },
    #[error(
        "called {call}, which its manifest does not ask for: {import:?} is missing in asks.imports{said}"
    )]
    NotAsked { call: &'static str, import: &'static str, said: String },
}

impl Authority {
    /// `said` is what a denied log line would have said: a panic's text, for example.
    fn check(self, import: Import, call: &'static str, said: Option<&str>) -> wasmtime::Result<()> {
        if self.asked.and(self.granted).contains(import) {
            return Ok(());
        }
        let said = said.map_or_else(String::new, |said| format!(" (it would have logged: {said})"));
        let (asked, import) = (self.asked.contains(import), import.name());
        Err(if asked {
            Denied::NotGranted { call, import, said }
        } else {
            Denied::NotAsked { call, import, said }
        }
        .into())
    }
}

/// What belongs to a step and outlives its instances.
#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) limits: Limits,
    authority: Authority,
    pub(crate) memory: MemoryGuard,
    pub(crate) time: Budget,
    pub(crate) state: State,
    pub(crate) context: CallContext,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) logs_dropped: u64,
    /// Every name ever used, and its value if this call reported one.
    metrics: BTreeMap<String, Option<MetricValue>>,
}

impl HostState {
    pub(crate) fn new(limits: Limits, authority: Authority, state: State) -> Self {
        HostState {
            limits,
            authority,
            memory: MemoryGuard::new(limits.memory),
            time: Budget::new(limits.time),
            state,
            context: CallContext::default(),
            logs: Vec::new(),
            logs_dropped: 0,
            metrics: BTreeMap::new(),
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, context: &CallContext) {
        self.context = *context;
        self.time.begin();
        self.memory.refused = false;
        self.state.over_quota = false;
    }

    /// A call is over and counts for nothing; what it logged is handed over.
    pub(crate) fn abandon(&mut self) -> Vec<LogLine> {
        self.logs_dropped = 0;
        self.metrics.values_mut().for_each(|value| *value = None);
        self.state.roll_back();
        std::mem::take(&mut self.logs)
    }

    pub(crate) fn take_metrics(&mut self) -> Vec<Metric> {
        let reported = self.metrics.iter_mut().filter_map(|(name, value)| Some((name, value.take()?)));
        reported.map(|(name, value)| Metric { name: name.clone(), value }).collect()
    }

    fn metric(&mut self, name: String) -> Option<&mut Option<MetricValue>> {
        let valid = (1..=MAX_METRIC_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let room = self.metrics.len() < MAX_METRICS || self.metrics.contains_key(&name);
        (valid && room).then(|| self.metrics.entry(name).or_default())
    }
}

/// Cuts a text at a character's end.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.shrink_to_fit();
    }
    text
}

impl types::Host for HostState {}

impl log::Host for HostState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.authority.check(Import::Log, "log.write", Some(&message))?;
        if self.logs.len() >= self.limits.log_lines {
            self.logs_dropped = self.logs_dropped.saturating_add(1);
            return Ok(());
        }
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.logs.push(LogLine { level, message: cut(message) });
        Ok(())
    }
}

impl metrics::Host for HostState {
    fn count(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        self.authority.check(Import::Metrics, "metrics.count", None)?;
        if let Some(value) = self.metric(name) {
            let before = if let Some(MetricValue::Count(before)) = *value { before } else { 0 };
            *value = Some(MetricValue::Count(before.saturating_add(by)));
        }
        Ok(())
    }

    fn gauge(&mut self, name: String, gauge: f64) -> wasmtime::Result<()> {
        self.authority.check(Import::Metrics, "metrics.gauge", None)?;
        if let (true, Some(value)) = (gauge.is_finite(), self.metric(name)) {
            *value = Some(MetricValue::Gauge(gauge));
        }
        Ok(())
    }
}

impl state::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.authority.check(Import::State, "state.get", None)?;
        Ok(self.state.get(&key).cloned())
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), state::Refusal>> {
        self.authority.check(Import::State, "state.set", None)?;
        Ok(self.state.set(key, value).map_err(|refused| match refused {
            Refused::Quota => state::Refusal::Quota(self.state.limit() as u64),
            Refused::Key => state::Refusal::Key,
        }))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.authority.check(Import::State, "state.delete", None)?;
        self.state.delete(key);
        Ok(())
    }

    fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        self.authority.check(Import::State, "state.keys", None)?;
        Ok(self.state.keys(&prefix))
    }
}

impl clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<i64> {
        self.authority.check(Import::Clock, "clock.now", None)?;
        Ok(self.context.now)
    }
}

impl link::Host for HostState {
    fn get(&mut self) -> wasmtime::Result<link::Status> {
        self.authority.check(Import::Link, "link.get", None)?;
        let crate::call::Link { backlog_bytes, disk_left_bytes, uplink } = self.context.link;
        let uplink = match uplink {
            Uplink::Up => link::Uplink::Up,
            Uplink::Down => link::Uplink::Down,
            Uplink::Parked => link::Uplink::Parked,
        };
        Ok(link::Status { backlog_bytes, disk_left_bytes, uplink })
    }
}
