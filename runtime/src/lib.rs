//! Hosts WebAssembly plugins: loads them, configures them as steps, and calls them under limits.
//!
//! In the order of a plugin's life: the [`engine`] loads a file (it is [inspected](inspection) before it is
//! compiled, and compiled only once per machine), a [`Step`] or a [`DecodeStep`] is made of the [`Plugin`] and its
//! configuration, and [calls](call) hand it frames or messages. What a guest may ask for in return is in `host`, what it
//! may use up in [`limits`], what is left when it fails in [`fault`].
//!
//! Guests are hostile: every length, index and name they return is checked, every quantity is bounded, and whatever they
//! do ends as a [`StepFault`], never as a panic or a stuck thread. This crate decides nothing about a lane: it does not
//! retry, store or route. A call is a future that hands its thread back about every 5 ms ([`Step::process_async`]), or
//! keeps it until it is done ([`Step::process`]).

#[doc(hidden)]
pub mod bare;
mod bindings;
mod boundary;
mod cache;
pub mod call;
pub mod engine;
pub mod fault;
mod host;
pub mod imports;
mod inherit;
mod inspect;
pub mod inspection;
mod instance;
pub mod limits;
pub mod load;
pub mod manifest;
pub mod plugin;
mod precompiled;
mod sections;
pub mod signature;
mod slices;
pub mod state;
pub mod step;
mod ticker;

pub use call::{
    CallContext, Level, Link, LogLine, Messages, Metric, MetricValue, Origin, Processed, Rejected, Routed,
    Uplink,
};
pub use engine::{Engine, EngineConfig, EngineError};
pub use fault::{ConfigureFault, FaultKind, StepFault};
pub use imports::{Import, Imports};
pub use inspect::Counts;
pub use inspection::{Inspection, inspect_file};
pub use limits::Limits;
pub use load::LoadError;
pub use manifest::{Asks, Manifest};
pub use plugin::{Digest, Kind, Plugin};
pub use signature::Trust;
pub use state::StateChange;
pub use step::{DecodeStep, Step, StepConfig};
