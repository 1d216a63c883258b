//! A file of cases as it is meant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::{FaultKind, Imports, Level, Limits, Link};
use wire::frame::Frame;

use crate::rows::diff::Expected;
use crate::rows::messages::Inbox;

/// All cases of a file.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The file.
    pub file: PathBuf,
    /// The plugin, if the file names one.
    pub plugin: Option<PathBuf>,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One case: a plugin's life with one configuration, from its first instance on.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name; unique in the file.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// How the plugin is set up.
    pub setup: Setup,
    /// Version of the plugin that wrote the state.
    pub state_version: Option<String>,
    /// The state it begins with.
    pub state: BTreeMap<String, Vec<u8>>,
    /// When it begins: nanoseconds since 1970.
    pub start: i64,
    /// How far floating-point numbers may be apart.
    pub tolerance: f64,
    /// Part of the text with which the plugin must refuse its configuration.
    pub refused: Option<String>,
    /// Where expected output is kept that is not written here.
    pub golden: Option<PathBuf>,
    /// What happens, in order.
    pub batches: Vec<Batch>,
}

/// How a plugin is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Configuration as a JSON object.
    pub with: String,
    /// What it may use up.
    pub limits: Limits,
    /// What it may ask of the host.
    pub imports: Imports,
}

/// One thing that happens: at most one input, and what a site does to it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its line.
    pub line: usize,
    /// Virtual time, nanoseconds since 1970, if it moves on.
    pub at: Option<i64>,
    /// By how much the gateway's clock is set forward (or back) before it.
    pub clock_jump: i64,
    /// The way to the cloud, from now on.
    pub link: Option<Link>,
    /// A new configuration or version before it.
    pub reload: Option<Reload>,
    /// What the plugin is given.
    pub input: Input,
    /// When the power fails.
    pub power_cut: Option<PowerCut>,
    /// What must come out; `None`: anything but a fault.
    pub expect: Option<Expect>,
}

/// What the plugin is given.
#[derive(Debug, Clone)]
pub enum Input {
    /// Nothing.
    None,
    /// Frames.
    Frames(Vec<Frame>),
    /// Messages.
    Messages(Box<Inbox>),
    /// One tick.
    Tick,
    /// So many nanoseconds, with the ticks that the plugin asked for.
    Pass(i64),
}

/// When the power fails. In both cases the instance is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// Output and state changes are lost; the source sends the same batch again.
    BeforeCommit,
    /// Output and state are on disk.
    AfterCommit,
}

/// A swap at a batch boundary.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The other plugin, if it is another.
    pub plugin: Option<PathBuf>,
    /// The setup from now on.
    pub setup: Setup,
    /// Part of the text with which it must be refused; then the old one goes on.
    pub refused: Option<String>,
    /// Its line.
    pub line: usize,
}

/// What must come out.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// Its line.
    pub line: usize,
    /// Rows by route; routes that are not named must have none. `None`: rows are not compared.
    pub routes: Option<BTreeMap<String, Vec<Expected>>>,
    /// Rejected rows; others fail the case. `None`: not compared.
    pub rejected: Option<Vec<Rejected>>,
    /// The fault.
    pub fault: Option<Fault>,
    /// Log lines that must come in this order; an empty list: none at all. `None`: not compared.
    pub logs: Option<Vec<Log>>,
    /// Kept state by key; `None`: the key must not be there.
    pub state: BTreeMap<String, Option<Vec<u8>>>,
    /// Metrics by name: what counters grew by, the last value of gauges.
    pub metrics: BTreeMap<String, f64>,
}

/// A rejected row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the input frame; 0 for messages.
    pub frame: usize,
    /// The row or message.
    pub row: usize,
    /// Part of the reason.
    pub reason: String,
}

/// An expected fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which way.
    pub kind: FaultKind,
    /// Part of its text.
    pub message: String,
}

/// An expected log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How important; `None`: any.
    pub level: Option<Level>,
    /// Part of the line.
    pub message: String,
}
