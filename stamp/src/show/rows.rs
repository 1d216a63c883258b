//! From a landed batch to its frames, and the names of what a row has beside its columns.

use wire::codec::{self, DecodeError, Limits};
use wire::frame::Frame;

use crate::landing::Batch;

/// What every row has, in the order it is written: whose it is, when it was measured (as text and in nanoseconds since
/// 1970 UTC), its route and profile, when the stamp received it (nanoseconds), and the number of its batch.
pub const FIXED: [&str; 9] =
    ["tenant", "gateway", "device", "time", "time_ns", "route", "profile", "received_ns", "batch"];

/// A batch that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch {id} ({seq} of tenant {tenant} from gateway {gateway}) cannot be read: {cause}")]
pub struct RowError {
    id: i64,
    seq: u64,
    tenant: String,
    gateway: String,
    cause: DecodeError,
}

/// The frames of a batch.
///
/// # Errors
/// [`RowError`] names the batch.
pub fn decode(batch: &Batch) -> Result<Vec<Frame>, RowError> {
    codec::decode(&batch.payload, &Limits::default()).map_err(|cause| error(batch, cause))
}

pub(super) fn error(batch: &Batch, cause: DecodeError) -> RowError {
    RowError {
        id: batch.id,
        seq: batch.seq.0,
        tenant: batch.tenant.clone(),
        gateway: batch.gateway.clone(),
        cause,
    }
}

/// A column's name as it is written: one that is called like a fixed part gets `columns.` in front.
#[must_use]
pub fn column_name(name: &str) -> String {
    if FIXED.contains(&name) { format!("columns.{name}") } else { name.to_owned() }
}
