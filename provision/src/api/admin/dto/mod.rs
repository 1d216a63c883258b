//! What operators say and are told: the JSON of `/v1/admin`. The command line speaks through the same types.
//!
//! ```text
//! GET    /v1/admin/status                                   → Status
//! GET    /v1/admin/stamps            ?after&limit           → Page<StampView>        POST NewStamp       → StampView
//! GET    /v1/admin/stamps/{id}                              → StampView              PATCH StampChange   → StampView   DELETE → 204
//! POST   /v1/admin/stamps/{id}/undrain                      → StampView
//! GET    /v1/admin/tenants           ?after&limit           → Page<TenantView>       POST NewTenant      → TenantView
//! GET    /v1/admin/tenants/{id}                             → TenantView             PATCH TenantChange  → TenantView  DELETE → 204
//! GET    /v1/admin/enrolments        ?after&limit           → Page<EnrolmentView>    POST NewEnrolment   → Enrolled
//! GET    /v1/admin/enrolments/{id}                          → EnrolmentView          PATCH EnrolmentChange → EnrolmentView  DELETE → 204
//! POST   /v1/admin/enrolments/{id}/key    KeyQuestion       → KeyAnswer
//! GET    /v1/admin/gateways ?after&limit&stamp&tenant&enrolment → Page<GatewayView>
//! GET    /v1/admin/gateways/{id}                            → GatewayDetail          DELETE → 204
//! POST   /v1/admin/gateways/{id}/block | /unblock           → GatewayDetail
//! GET    /v1/admin/operations        ?after&limit&state     → Page<OperationView>, the newest first
//! POST   /v1/admin/operations        NewOperation           → OperationDetail, or Plan for a dry run
//! GET    /v1/admin/operations/{id}                          → OperationDetail
//! POST   /v1/admin/operations/{id}/abort                    → OperationDetail
//! GET    /v1/admin/receipts ?after&limit&gateway&tenant&stamp&kind → Page<ReceiptView>, the newest first
//! POST   /v1/admin/explain           Question               → Explanation
//! GET    /v1/admin/audit             ?after&limit           → Page<AuditEntry>, the newest first
//! ```
//! Lists go on after `next` of the page before. Times are seconds since 1970 UTC, bytes are base64. What is refused is a
//! [`wire::provisioning::Problem`]. Unknown fields of a question are refused; answers may gain fields.

mod enrolments;
mod gateways;
mod operations;
mod receipts;
mod stamps;
mod status;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::ids::{EnrolmentId, StampId, TenantId};

pub use crate::allocation::{Policy, Ring, StampState, Tenancy};
pub use crate::model::{OperationState, Share, Task};
pub use enrolments::*;
pub use gateways::*;
pub use operations::*;
pub use receipts::*;
pub use stamps::*;
pub use status::*;

/// Most items of one page.
pub const MAX_LIMIT: u32 = 1_000;
/// Items of a page where the question does not say.
pub const DEFAULT_LIMIT: u32 = 100;
/// Most lines of a journal that are told with an operation, the latest.
pub const MAX_JOURNAL: u32 = 1_000;

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Which gateways.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GatewayFilter {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Those with a tenant at this stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub stamp: Option<StampId>,
    /// Those that serve this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// Those that came in by this enrolment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub enrolment: Option<EnrolmentId>,
}

/// Which operations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct OperationFilter {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only those that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<OperationState>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// There is more: ask again with `after` = this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Tells `null` from what is absent.
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
