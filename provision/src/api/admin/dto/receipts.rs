//! Receipts that stamps have told.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::ids::{GatewayId, StampId, TenantId};

pub use crate::registry::receipts::ReceiptKind;

/// Which receipts: those for which all of it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFilter {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Of this gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub gateway: Option<GatewayId>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// Told by this stamp, which need not be there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub stamp: Option<StampId>,
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub kind: Option<ReceiptKind>,
}

/// A receipt: what was given up, deleted or exported of a tenant of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// Its number; grows.
    pub id: i64,
    /// What it is given for.
    pub kind: ReceiptKind,
    /// The stamp that told it.
    #[schema(value_type = String)]
    pub stamp: StampId,
    /// The gateway.
    #[schema(value_type = String)]
    pub gateway: GatewayId,
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// When it came about, by the stamp's clock.
    pub at: i64,
    /// When it was heard here.
    pub heard: i64,
    /// Rows that it is about.
    pub rows: u64,
    /// Of a loss: the life of the tenant's store at the gateway, 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Of a loss: the first number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Of a loss: the last number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Of a loss: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a copy: the epoch of the departure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Of a copy: its batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<u64>,
    /// Bytes deleted, or of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// By which what was deleted, or the file, can be known again: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of an export: the file, in the stamp's data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Of a copy: the operation whose move it comes of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<i64>,
}
