//! Releases: what a tenant's gateways are to run, as an operator publishes it.
//!
//! ```text
//! document   TOML: the tenant's steps, decoders, routes, as in a gateway's file; contents by SHA-256
//! contents   files by SHA-256, documents among them, in data_dir/contents
//! sweep      removes contents that no release names any more
//! ```
//! Checks what can be checked without a gateway: size, TOML, whose it is, that its contents are there. Whether the steps
//! make sense is for the gateways to say, and for the gate of a rollout ([`crate::rollout`]) to hear.

mod contents;
mod document;
mod sweep;

pub use contents::{ContentError, Contents, GRACE, MAX_STORED_BYTES, Pieces, Swept};
pub use document::{DocumentError, check};
pub use sweep::sweep;
