//! Explanations, the state of the service, and who did what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{Environment, GatewayId, StampId, TenantId};

use super::{AssignmentView, OperationView, StampView};
use crate::allocation::Policy;

/// Where would a tenant of a gateway go?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The gateway; one that has not registered is good too. Without it a name of no meaning is hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<GatewayId>,
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Devices; without it as many as it is promised now, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<u32>,
    /// The environment; without it the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<Environment>,
    /// Only this stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stamp: Option<StampId>,
    /// Round trips in microseconds, as the gateway would measure them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<crate::api::openapi::shapes::Latency>)]
    pub latencies: Vec<wire::provisioning::Latency>,
}

/// The choice, or why there is none, stamp by stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The stamp it would get if it came now; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stamp: Option<StampId>,
    /// Stamps that may serve it, the chosen one first.
    #[schema(value_type = Vec<String>)]
    pub fitting: Vec<StampId>,
    /// Why each of the others may not.
    pub misfits: Vec<MisfitView>,
    /// Devices it was asked for.
    pub devices: u32,
    /// The environment it was asked for.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// How one of several is chosen.
    pub policy: Policy,
    /// What it has now; a gateway keeps that until it is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<AssignmentView>,
}

/// Why a stamp may not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MisfitView {
    /// The stamp.
    #[schema(value_type = String)]
    pub stamp: StampId,
    /// In one word: `state`, `environment`, `region`, `ring`, `not_dedicated`, `occupied`, `not_pinned`, `excepted`, `full`.
    pub code: String,
    /// For a person.
    pub why: String,
}

/// How provisioning stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Product version of the service.
    pub software: String,
    /// Its time.
    pub now: i64,
    /// Since when it runs.
    pub started: i64,
    /// When the authority of gateways' certificates ends.
    pub authority_ends: i64,
    /// How much there is.
    pub counts: Counts,
    /// The stamps, at most 1,000, by name.
    pub stamps: Vec<StampView>,
    /// Operations that run, the newest first.
    pub operations: Vec<OperationView>,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Stamps.
    pub stamps: u64,
    /// Tenants.
    pub tenants: u64,
    /// Enrolments.
    pub enrolments: u64,
    /// Gateways that have registered.
    pub gateways: u64,
    /// Of them blocked.
    pub blocked: u64,
    /// Tenants of gateways that have a stamp.
    pub assignments: u64,
    /// Devices promised at all stamps.
    pub devices: u64,
    /// Devices that all stamps were built for.
    pub max_devices: u64,
    /// Moves under way.
    pub moves: u64,
    /// Operations that run.
    pub operations: u64,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; grows.
    pub id: i64,
    /// When.
    pub at: i64,
    /// Who: the Common Name of the certificate.
    pub operator: String,
    /// From where.
    pub address: String,
    /// What: `stamp.add`, `gateway.block`, `operation.start`, …
    pub action: String,
    /// To what.
    pub subject: String,
    /// The question, without secrets: JSON.
    pub detail: String,
}
