//! The gateway's TOML configuration: the typed [`model`], [`load`]ing with every mistake at once, and the [`diff()`] of
//! two configurations.
//!
//! Looks whether the files it names are there; does not open sources, stores or plugins. Invariant: whoever has a
//! [`Config`] has a complete, consistent one and checks nothing again.

mod address;
pub mod diff;
pub mod document;
pub mod load;
mod locate;
pub mod model;
pub mod problem;
mod read;
mod reader;
pub mod size;
pub mod topic;

pub use diff::{Changes, diff, taken_over};
pub use document::{Document, Place};
pub use load::{Loaded, Report, check, check_text, load};
pub use locate::{data_dir, problem_at};
pub use model::*;
pub use problem::{Problem, Problems, Severity};
pub use topic::{Segment, TopicError, TopicFilter};
