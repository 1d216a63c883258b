//! What is asked for: a stamp for one tenant of one gateway.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{Environment, GatewayId, Region, StampId, TenantId};
use wire::provisioning::Latency;

use super::stamps::Ring;

/// How one of several stamps that may serve is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// By weighted rendezvous hashing of gateway and tenant: the same answer each time, in proportion to the weights, and
    /// a stamp that is added takes over its share and moves nobody else.
    ///
    /// Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; weights as in Schindelhauer
    /// and Schomaker, "Weighted distributed hash tables", 2005.
    #[default]
    Hashed,
    /// The stamp with the smallest share of its capacity promised.
    LeastFilled,
    /// The stamp that the gateway reaches soonest; those it did not measure come last.
    LowestLatency,
}

/// One tenant of one gateway looks for its stamp.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The gateway.
    pub gateway: &'a GatewayId,
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Devices that are promised with it.
    pub devices: u32,
    /// Only stamps of this environment.
    pub environment: &'a Environment,
    /// Only stamps of these regions; empty: any region.
    pub regions: &'a [Region],
    /// Only stamps of this ring; `None`: of any.
    pub ring: Option<Ring>,
    /// The tenant shares its stamp with nobody.
    pub dedicated: bool,
    /// Only this stamp (the static way); it must fit the other rules all the same.
    pub pinned: Option<&'a StampId>,
    /// Not this stamp: the one that is being left.
    pub except: Option<&'a StampId>,
    /// How to choose.
    pub policy: Policy,
    /// What the gateway measured.
    pub latencies: &'a [Latency],
}
