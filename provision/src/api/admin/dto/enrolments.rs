//! Tenants, and the enrolments whose gateways serve them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{EnrolmentId, Environment, GatewayId, Region, StampId, TenantId};
use wire::provisioning::Bytes;

use super::present;
use crate::allocation::{Policy, Ring};
use crate::model::Share;

/// A tenant to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// Its name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Only to these regions; empty: anywhere.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub regions: Vec<Region>,
    /// Only to stamps of this ring.
    #[serde(default)]
    pub ring: Option<Ring>,
    /// To stamps that it shares with nobody.
    #[serde(default)]
    pub dedicated: bool,
    /// To this stamp alone.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub pinned: Option<StampId>,
    /// How one of several is chosen.
    #[serde(default)]
    pub policy: Policy,
}

/// What is to change of a tenant; what is absent stays, `null` takes a rule away. What is assigned stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantChange {
    /// Only to these regions; empty: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub regions: Option<Vec<Region>>,
    /// Only to stamps of this ring; `null`: of any.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<Ring>)]
    pub ring: Option<Option<Ring>>,
    /// To stamps that it shares with nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated: Option<bool>,
    /// To this stamp alone; `null`: to any.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub pinned: Option<Option<StampId>>,
    /// How one of several is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// A tenant, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Only to these regions; empty: anywhere.
    #[schema(value_type = Vec<String>)]
    pub regions: Vec<Region>,
    /// Only to stamps of this ring.
    pub ring: Option<Ring>,
    /// To stamps that it shares with nobody.
    pub dedicated: bool,
    /// To this stamp alone.
    #[schema(value_type = Option<String>)]
    pub pinned: Option<StampId>,
    /// How one of several is chosen.
    pub policy: Policy,
    /// Gateways that serve it.
    pub gateways: u32,
    /// Devices promised at their stamps.
    pub devices: u64,
}

/// How gateways of an enrolment prove who they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NewProof {
    /// One gateway, by the SHA-256 of its certificate (DER).
    Fingerprint {
        /// 64 hexadecimal digits; colons may part them.
        sha256: String,
    },
    /// One gateway, by its certificate.
    Certificate {
        /// PEM, the first certificate counts.
        pem: String,
    },
    /// A group, by the authority of its certificates; the Common Name is the gateway's id.
    Authority {
        /// PEM, the first certificate counts.
        pem: String,
    },
    /// One gateway, by a key.
    Key {
        /// At least 16 bytes; without it the service makes one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = Byte)]
        key: Option<Bytes>,
    },
    /// A group, by keys that are derived from this one.
    GroupKey {
        /// At least 16 bytes; without it the service makes one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>, format = Byte)]
        key: Option<Bytes>,
    },
}

impl std::fmt::Debug for NewProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are secrets.
        f.write_str(match self {
            NewProof::Fingerprint { .. } => "fingerprint",
            NewProof::Certificate { .. } => "certificate",
            NewProof::Authority { .. } => "authority",
            NewProof::Key { .. } => "key",
            NewProof::GroupKey { .. } => "group-key",
        })
    }
}

/// An enrolment to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnrolment {
    /// Its name; of a single gateway, the gateway's.
    #[schema(value_type = String)]
    pub id: EnrolmentId,
    /// How its gateways prove who they are.
    pub proof: NewProof,
    /// The stamps its gateways go to.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The tenants each of its gateways serves; 1 to 64.
    pub shares: Vec<Share>,
    /// Nobody registers by it yet.
    #[serde(default)]
    pub blocked: bool,
}

/// What is to change of an enrolment; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentChange {
    /// Whether nobody registers by it any more. Gateways that have registered go on: block those by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// The tenants each of its gateways serves, all of them. A gateway that is there gets what is new, and other numbers
    /// of devices, when it asks next; what it has of a tenant that is not named any more stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Vec<Share>>,
    /// The stamps that gateways which register from now on go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<Environment>,
}

/// An enrolment, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: EnrolmentId,
    /// `fingerprint`, `authority`, `key` or `group-key`.
    pub proof: String,
    /// SHA-256 of the certificate or authority: 64 hexadecimal digits; absent for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether it stands for many gateways.
    pub group: bool,
    /// The stamps its gateways go to.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The tenants each of its gateways serves.
    pub shares: Vec<Share>,
    /// Nobody registers by it.
    pub blocked: bool,
    /// Gateways that have registered by it.
    pub gateways: u32,
}

/// An enrolment that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// It.
    pub enrolment: EnrolmentView,
    /// The key, if the service made it. It is shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Byte)]
    pub key: Option<Bytes>,
}

/// Whose key of a group is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyQuestion {
    /// The gateway.
    #[schema(value_type = String)]
    pub gateway: GatewayId,
}

/// The key of a gateway of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyAnswer {
    /// The gateway.
    #[schema(value_type = String)]
    pub gateway: GatewayId,
    /// The group, which the gateway names when it registers.
    #[schema(value_type = String)]
    pub enrolment: EnrolmentId,
    /// HMAC-SHA256 of the gateway's id under the group's key.
    #[schema(value_type = String, format = Byte)]
    pub key: Bytes,
}
