//! Stamps, and how full they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{Environment, Region, StampId};

use crate::allocation::{Ring, StampState, Tenancy};

/// A stamp to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStamp {
    /// Its name: the Common Name of its certificate.
    #[schema(value_type = String)]
    pub id: StampId,
    /// Where it is: `eu`, `us-east`.
    #[schema(value_type = String)]
    pub region: Region,
    /// What it is for: `test`, `production`.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// `quic://host:port` or `tcp://host:port`, the better first; 1 to 8.
    pub endpoints: Vec<String>,
    /// Devices that it was built for.
    pub max_devices: u32,
    /// Who shares it.
    #[serde(default)]
    pub tenancy: Tenancy,
    /// When it is updated.
    #[serde(default)]
    pub ring: Ring,
    /// Its part of what is hashed, beside those of the others.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

/// [`NewStamp::weight`] without another word.
#[must_use]
pub fn default_weight() -> u32 {
    100
}

/// What is to change of a stamp; what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StampChange {
    /// `quic://host:port` or `tcp://host:port`, the better first; gateways are told when they ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<String>>,
    /// Devices that it was built for. Below what is promised: nobody comes any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_devices: Option<u32>,
    /// Its part of what is hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// When it is updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Ring>,
    /// `active`, `cordoned` or `down`; `draining` comes of an operation, and ends with `undrain` or its abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StampState>,
}

/// A stamp, and how full it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StampView {
    /// Its name.
    #[schema(value_type = String)]
    pub id: StampId,
    /// Where it is.
    #[schema(value_type = String)]
    pub region: Region,
    /// What it is for.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// Who shares it.
    pub tenancy: Tenancy,
    /// When it is updated.
    pub ring: Ring,
    /// Its part of what is hashed.
    pub weight: u32,
    /// Whether it takes anybody.
    pub state: StampState,
    /// Where gateways reach it.
    pub endpoints: Vec<String>,
    /// When it was registered.
    pub registered: i64,
    /// Devices that it was built for.
    pub max_devices: u32,
    /// Devices promised to it, those on their way included.
    pub promised: u32,
    /// Devices it can still be promised.
    pub headroom: u32,
    /// Tenants of gateways that it serves.
    pub assignments: u32,
    /// Devices a day that it gained of late; absent: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_per_day: Option<f64>,
    /// When it is full at that rate; absent: never, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_at: Option<i64>,
    /// What it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<StampReport>,
}

/// What a stamp said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StampReport {
    /// When.
    pub at: i64,
    /// Product version.
    pub software: String,
    /// The revision of the roster it works by.
    pub revision: u64,
    /// Gateways connected.
    pub connected: u32,
    /// Devices that have landed data.
    pub devices: u32,
}
