//! What the gateways of this stamp should run: followed from provisioning, kept, told to them, and how they do.
//!
//! ```text
//! follower   asks provisioning what is desired in this stamp's ring, fetches what that needs, tells how gateways do
//! kept       data_dir/desired.json: what provisioning has said, by which the stamp works while provisioning is down
//! contents   data_dir/contents: documents and plugins by SHA-256, each fetched once
//! board      what can be told to gateways now: releases of which all is here; connections follow it
//! conditions what gateways say of what they run, summed for each tenant and release
//! ```
//! Order of a change: what was said is on disk, then contents are fetched, then gateways are told. Does not decide anything:
//! what comes next, and whether a release does well, is provisioning's.
//!
//! Invariant: of a release gateways are told only when its document and all its contents are here.

mod board;
mod conditions;
mod contents;
mod follower;
mod kept;

pub use board::{Desires, Ready, States};
pub use conditions::{Conditions, Presence};
pub use contents::Contents;
pub use follower::Follower;
pub use kept::Kept;
