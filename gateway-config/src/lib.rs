//! The gateway's TOML configuration: the typed [`model`], and [`topic`] filters.
//!
//! Does not open sources, stores or plugins; it looks whether the files it names are there.
pub mod model;
pub mod topic;

pub use model::*;
pub use topic::{Segment, TopicError, TopicFilter};
