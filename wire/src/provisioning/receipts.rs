//! What becomes of the copy that a tenant leaves behind, and receipts that outlive the stamp that gave them.
//!
//! A stamp numbers its receipts in the order in which they came about, in a log that has a random name. It tells what
//! follows the last number that provisioning says it has of that log; so nothing is told by halves, and what was told before
//! provisioning lost it, or by a stamp that has begun anew, is told again.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, GatewayId, StreamId, TenantId};

/// Most receipts told at once.
pub const MAX_RECEIPTS: usize = 500;
/// Most bytes of a reason, and of the name of a file.
pub const MAX_RECEIPT_TEXT_BYTES: usize = 256;

/// What becomes of what a stamp has landed of a tenant that has moved elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyPolicy {
    /// It stays, for as long as the stamp keeps copies.
    #[default]
    Keep,
    /// It is written to a file beside the stamp's database, with a receipt, and stays.
    Export,
    /// It is deleted for good, with a receipt.
    Delete,
}

impl CopyPolicy {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Export => "export",
            Self::Delete => "delete",
        }
    }
}

/// The answer to [`super::Fenced`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FenceAnswer {
    /// What becomes of the copy. Anything but [`CopyPolicy::Keep`] says as well that the move is complete, and is not taken
    /// back any more.
    #[serde(default)]
    pub copy: CopyPolicy,
}

/// A stamp tells its receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The name of the stamp's log.
    pub log: u64,
    /// They are all that follow this number; absent: none is told, what is known is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// By number; at most [`MAX_RECEIPTS`].
    pub receipts: Vec<Receipt>,
}

/// The answer to [`Receipts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsKept {
    /// Up to which number of the log all are known.
    pub up_to: u64,
}

/// A receipt: what was given up, deleted or exported of a tenant of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its number in the stamp's log, from 1.
    pub number: u64,
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// When it came about: nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Rows that it is about.
    pub rows: u64,
    /// What was done with them.
    pub what: Receipted,
}

/// What a receipt is given for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Receipted {
    /// The gateway gave them up before they had landed.
    Loss {
        /// In which life of the tenant's store.
        stream: StreamId,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
        /// Why.
        reason: String,
    },
    /// The stamp has deleted its copy of a tenant that had gone.
    Deletion {
        /// The epoch of its departure.
        epoch: u64,
        /// Batches.
        batches: u64,
        /// Bytes of their payloads.
        bytes: u64,
        /// By which they can be known again: see the stamp's `landing::departed`.
        sha256: Digest,
    },
    /// The stamp has written its copy of a tenant that had gone to a file.
    Export {
        /// The epoch of its departure.
        epoch: u64,
        /// Batches.
        batches: u64,
        /// Bytes of the file.
        bytes: u64,
        /// Of the file.
        sha256: Digest,
        /// Where it is, in the stamp's data folder.
        file: String,
    },
}
