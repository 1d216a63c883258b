//! What provisioning knows: tenants, enrolments, gateways, assignments. Plain records; what may follow what is decided in
//! [`crate::registry`].

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{EnrolmentId, Environment, GatewayId, Region, StampId, TenantId};
use wire::provisioning::{Backlog, CopyPolicy};

use crate::allocation::{Policy, Ring, Stamp};

/// A stamp with how it is reached and how full it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StampRecord {
    /// As it was registered.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// `quic://host:port`, the better first; at least one.
    pub endpoints: Vec<String>,
    /// When it was registered: nanoseconds since 1970 UTC.
    pub registered: i64,
    /// Devices promised to it.
    pub promised: u32,
    /// Assignments to it.
    pub assignments: u32,
}

/// Where a tenant's data may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// Only to these regions; empty: anywhere.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// Only to stamps of this ring.
    #[serde(default)]
    pub ring: Option<Ring>,
    /// To stamps that it shares with nobody.
    #[serde(default)]
    pub dedicated: bool,
    /// To this stamp alone.
    #[serde(default)]
    pub pinned: Option<StampId>,
    /// How one of several is chosen.
    #[serde(default)]
    pub policy: Policy,
}

/// How a gateway proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// SHA-256 of the DER of its own certificate.
    Fingerprint([u8; 32]),
    /// Its certificate comes from this authority (DER); the Common Name is the gateway id.
    Authority(Vec<u8>),
    /// A key that it alone has.
    Key(Vec<u8>),
    /// Its key is HMAC-SHA256 of the gateway id under this key, which never leaves the service.
    GroupKey(Vec<u8>),
}

impl Proof {
    /// Its kind, in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Proof::Fingerprint(_) => "fingerprint",
            Proof::Authority(_) => "authority",
            Proof::Key(_) => "key",
            Proof::GroupKey(_) => "group-key",
        }
    }

    /// Whether one enrolment with it stands for many gateways.
    #[must_use]
    pub fn is_of_group(&self) -> bool {
        matches!(self, Proof::Authority(_) | Proof::GroupKey(_))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are secrets.
        f.write_str(self.kind())
    }
}

/// A tenant that an enrolled gateway serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Devices of it that are expected at each gateway: reserved at its stamp.
    pub devices: u32,
}

/// The cloud knows of a gateway, or of a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Its name; of a single gateway, the gateway's.
    pub id: EnrolmentId,
    /// How its gateways prove who they are.
    pub proof: Proof,
    /// The stamps its gateways go to.
    pub environment: Environment,
    /// The tenants each of its gateways serves.
    pub shares: Vec<Share>,
    /// Nobody registers by it any more.
    pub blocked: bool,
}

/// A gateway that has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Its name.
    pub id: GatewayId,
    /// How it came in.
    pub enrolment: EnrolmentId,
    /// Where it goes to now; its enrolment's until it was promoted.
    pub environment: Environment,
    /// It is refused everywhere.
    pub blocked: bool,
    /// First registered: nanoseconds since 1970 UTC.
    pub registered: i64,
    /// Last registered, renewed, or asked.
    pub seen: i64,
    /// When its certificate ends, in seconds since 1970 UTC; `None`: not known.
    pub certificate_ends: Option<i64>,
}

/// A tenant of a gateway and the stamp that serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// The stamp.
    pub stamp: StampId,
    /// Grows with every move of this tenant of this gateway, from 1.
    pub epoch: u64,
    /// Devices promised.
    pub devices: u32,
    /// What becomes of the backlog at this epoch's beginning.
    pub backlog: Backlog,
    /// The last epoch at whose beginning the backlog was given up; 0: at none. A gateway that has missed that epoch gives
    /// up what it stored before, though it was moved again since.
    pub dropped: u64,
}

/// What an operator wants done, as an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Tenants of gateways go elsewhere: those that all of the given conditions name; at least one is given.
    Move {
        /// Of these gateways; empty: of any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Vec<String>)]
        gateways: Vec<GatewayId>,
        /// These tenants; empty: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Vec<String>)]
        tenants: Vec<TenantId>,
        /// Those at this stamp.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        from: Option<StampId>,
        /// To this stamp; without it, where the rules send them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        to: Option<StampId>,
        /// What becomes of what was not sent.
        #[serde(default)]
        #[schema(value_type = crate::api::openapi::shapes::Backlog)]
        backlog: Backlog,
        /// What becomes of what the stamps that are left have landed: `keep`, `export` to a file there, `delete`. It is not at the
        /// stamp that follows: what is deleted is gone.
        #[serde(default)]
        #[schema(value_type = crate::api::openapi::shapes::CopyPolicy)]
        copy: CopyPolicy,
    },
    /// Everything of a stamp goes elsewhere, and nobody comes.
    Drain {
        /// Which.
        #[schema(value_type = String)]
        stamp: StampId,
        /// To this stamp; without it, where the rules send them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        to: Option<StampId>,
        /// It is gone for good: nobody waits for what it would say. What it had landed is lost with it, or comes twice
        /// should it be found again.
        #[serde(default)]
        lost: bool,
        /// What becomes of what it has landed: `keep`, `export` to a file there, `delete`. It is not at the stamps that follow:
        /// what is deleted is gone. Of a lost stamp it is kept.
        #[serde(default)]
        #[schema(value_type = crate::api::openapi::shapes::CopyPolicy)]
        copy: CopyPolicy,
    },
    /// Gateways go to another environment, with all their tenants.
    Promote {
        /// Which.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Vec<String>)]
        gateways: Vec<GatewayId>,
        /// And all that came in by this enrolment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        enrolment: Option<EnrolmentId>,
        /// Where to.
        #[schema(value_type = String)]
        environment: Environment,
        /// What becomes of what was not sent: given up, unless this says otherwise.
        #[serde(default = "dropped")]
        #[schema(value_type = crate::api::openapi::shapes::Backlog)]
        backlog: Backlog,
        /// What becomes of what the stamps that are left have landed: `keep`, `export` to a file there, `delete`. It is not at the
        /// stamp that follows: what is deleted is gone.
        #[serde(default)]
        #[schema(value_type = crate::api::openapi::shapes::CopyPolicy)]
        copy: CopyPolicy,
    },
}

impl Task {
    /// What becomes of what the stamps that are left have landed.
    #[must_use]
    pub fn copy(&self) -> CopyPolicy {
        match self {
            Self::Move { copy, .. } | Self::Drain { copy, .. } | Self::Promote { copy, .. } => *copy,
        }
    }
}

fn dropped() -> Backlog {
    Backlog::Drop
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// All is done.
    Finished,
    /// An operator has ended it; what had moved has moved.
    Aborted,
}
