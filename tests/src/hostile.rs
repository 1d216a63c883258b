//! Plugins that misbehave, and a healthy tenant beside them: what the demo shows and the end-to-end tests check.
//!
//! [`fixtures`]: each kind of misbehaviour, how it is configured, and what must become of the tenant that uses it.
//! [`files`]: plugin files that are broken in ways no compiler produces. [`neighbours`]: a gateway with both tenants.
//!
//! Invariant: the healthy tenant's part is the same in all of them, so that figures compare.

pub mod files;
pub mod fixtures;
pub mod neighbours;

pub use fixtures::{FIXTURES, Fate, Fixture, Traffic};
pub use neighbours::{EVIL, GOOD, Neighbours};
