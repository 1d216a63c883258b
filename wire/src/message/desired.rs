//! What a gateway should run, told by its stamp, and what the gateway says of it.
//!
//! ```text
//! stamp                                        gateway
//!   desired{tenant, release, contents}  ─→                      after the welcome, and at each change
//!                                       ←─ fetch{digest, offset}      one at a time, for contents not at hand
//!   content{digest, offset, total}      ─→                      again and again, a piece each
//!                                       ←─ condition{release, state, counts}   at each change, and now and then
//! ```
//! A stamp speaks of a release only once it has all of its contents. What was said of a tenant last is what counts.
//! Nothing said is not nothing desired: a gateway that hears of no release goes on with what it runs.
//!
//! A gateway says the condition of what it runs after each welcome, at each change of state, and every 10 s while its
//! counts change; of a release that it refuses, once per session.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ConditionState, TenantIndex};
use crate::ids::{Digest, Release};

/// Most bytes of a release's document.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 10;
/// Most contents of one release.
pub const MAX_CONTENTS: usize = 64;
/// Most bytes of one content. The least is 1: no content is empty.
pub const MAX_CONTENT_BYTES: u64 = 64 << 20;
/// Most bytes of one piece of content: what acknowledgements may have to wait behind.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;

/// What a tenant's gateway should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Whose.
    pub tenant: TenantIndex,
    /// Its number; [`Release::NONE`], with an empty document, says: what the gateway's own file says.
    pub release: Release,
    /// Whether the release after it was taken back: where the gateway runs that one and has this one as its previous,
    /// it goes back, code and state together.
    pub rollback: bool,
    /// The contents that the document names, each once; at most [`MAX_CONTENTS`].
    pub contents: Vec<ContentRef>,
    /// TOML, at most [`MAX_DOCUMENT_BYTES`].
    pub document: Bytes,
}

/// A content by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentRef {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its bytes, from 1 to [`MAX_CONTENT_BYTES`].
    pub size: u64,
}

/// A gateway wants a piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Of which content. It is served if a desired state of this session names it.
    pub digest: Digest,
    /// From which byte on.
    pub offset: u64,
}

/// A piece of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Of which content.
    pub digest: Digest,
    /// Its first byte's place.
    pub offset: u64,
    /// Bytes of the whole content; 0, and no bytes: it is not to be had here, the next desired state may name another.
    pub total: u64,
    /// As many bytes as the stamp chooses, at least 1 and at most [`MAX_CHUNK_BYTES`].
    pub bytes: Bytes,
}

/// What a gateway runs for a tenant, and how it does. Counts are since the release was applied or the gateway was
/// started, whichever is later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Whose.
    pub tenant: TenantIndex,
    /// Of which release; [`Release::NONE`]: of what the gateway's own file says.
    pub release: Release,
    /// How far it is.
    pub state: ConditionState,
    /// For a person: why it was refused or taken back; else empty.
    pub reason: String,
    /// Rows that went into the steps.
    pub rows: u64,
    /// Calls of steps that failed: traps, limits, time-outs.
    pub faults: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// CPU time of the steps, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory of the steps' instances now, in bytes.
    pub memory: u64,
}
