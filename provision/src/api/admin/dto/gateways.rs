//! Gateways and what they were given.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{EnrolmentId, Environment, GatewayId, StampId, TenantId};
use wire::provisioning::Backlog;

/// A gateway that has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: GatewayId,
    /// How it came in.
    #[schema(value_type = String)]
    pub enrolment: EnrolmentId,
    /// Where it goes to now.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// It is refused everywhere.
    pub blocked: bool,
    /// First registered.
    pub registered: i64,
    /// Last registered, renewed, or asked for its assignments.
    pub seen: i64,
    /// When its certificate ends; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<i64>,
    /// Tenants that have a stamp.
    pub assignments: u32,
    /// Devices promised at their stamps.
    pub devices: u32,
}

/// A gateway with what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayDetail {
    /// It.
    pub gateway: GatewayView,
    /// Per tenant its stamp.
    pub assignments: Vec<AssignmentView>,
}

/// A tenant of a gateway and its stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssignmentView {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The stamp.
    #[schema(value_type = String)]
    pub stamp: StampId,
    /// Grows with every move.
    pub epoch: u64,
    /// Devices promised.
    pub devices: u32,
    /// It is on its way elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<MovingView>,
}

/// A move under way: the stamp that is left has yet to say what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MovingView {
    /// Where to.
    #[schema(value_type = String)]
    pub to: StampId,
    /// The epoch there.
    pub epoch: u64,
    /// What becomes of what was not sent.
    #[schema(value_type = crate::api::openapi::shapes::Backlog)]
    pub backlog: Backlog,
    /// Since when; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// The operation it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<i64>,
}
