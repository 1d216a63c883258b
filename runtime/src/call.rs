//! What a call is given and what it hands back.

use wire::frame::Frame;
use wire::ids::RouteName;

use crate::state::StateChange;

/// What the guest may know during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallContext {
    /// Nanoseconds since 1970 UTC.
    pub now: i64,
    /// The way to the cloud.
    pub link: Link,
}

/// State of the way to the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Bytes of this tenant's batches that wait to be sent.
    pub backlog_bytes: u64,
    /// Bytes left of this tenant's disk quota.
    pub disk_left_bytes: u64,
    /// The connection.
    pub uplink: Uplink,
}

/// State of the connection to the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uplink {
    /// Connected.
    Up,
    /// Not connected, being tried again.
    #[default]
    Down,
    /// Given up for now.
    Parked,
}

/// Messages for a decoder, by columns; all lists per message have the same length.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// The profile for what is decoded; may be empty.
    pub profile: &'a str,
    /// The devices that occur.
    pub devices: &'a [String],
    /// Per message, the index into `devices`.
    pub device: &'a [u32],
    /// Per message, when it arrived: nanoseconds since 1970 UTC.
    pub arrived: &'a [i64],
    /// The topics that occur.
    pub topics: &'a [String],
    /// Per message, the index into `topics`.
    pub topic: &'a [u32],
    /// Per message, where its payload ends in `payloads`.
    pub ends: &'a [u32],
    /// All payloads, one after the other.
    pub payloads: &'a [u8],
}

/// What a call handed back, checked.
#[derive(Debug, Default)]
pub struct Processed {
    /// Frames with at least one row each; [`Frame::check`] holds for them.
    pub frames: Vec<Routed>,
    /// Rows (or messages) that the plugin cannot use.
    pub rejected: Vec<Rejected>,
    /// What to write to the step's kept state, in the same commit as the frames. Each key once.
    pub state: Vec<StateChange>,
    /// Log lines, within the limit.
    pub logs: Vec<LogLine>,
    /// Log lines beyond it.
    pub logs_dropped: u64,
    /// Metrics of this call.
    pub metrics: Vec<Metric>,
}

/// A frame and its way.
#[derive(Debug, PartialEq)]
pub struct Routed {
    /// `telemetry` goes on to the next step, others leave the lane's steps.
    pub route: RouteName,
    /// The rows.
    pub frame: Frame,
    /// Where the rows come from; `None` for rows that the plugin made.
    pub origin: Option<Origin>,
}

/// Where the rows of an output frame come from. All indices were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Index of the input frame; 0 for a decoder.
    pub frame: usize,
    /// Per row, the row (or message) it comes from; `None`: row for row the same.
    pub rows: Option<Vec<u32>>,
}

/// Rows that the plugin cannot use: for the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index of the input frame; 0 for a decoder.
    pub frame: usize,
    /// The rows (or messages); all exist.
    pub rows: Vec<u32>,
    /// Why, for a person; at most [`MAX_TEXT_BYTES`].
    pub reason: String,
}

/// Longest text that is kept of what a guest says (log lines, reasons), in bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// A line that the guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important.
    pub level: Level,
    /// The text; at most [`MAX_TEXT_BYTES`].
    pub message: String,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Normal operation.
    Info,
    /// Something unusual that the plugin coped with.
    Warn,
    /// A person is needed.
    Error,
}

/// A number that the guest reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name: `a-z 0-9 _`.
    pub name: String,
    /// The number.
    pub value: MetricValue,
}

/// A counter's growth during the call, or a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricValue {
    /// To be added.
    Count(u64),
    /// To be set; finite.
    Gauge(f64),
}
