//! A gateway's way up alone, in this process: the store of one tenant, filled beforehand, and the uplink that empties it over
//! QUIC. Does not measure: who does says what is sent, and where to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use host::intake::Nobody;
use host::outbox::{Outbox, Priority};
use host::store::{Commit, DataFolder, NewBatch, Store, StoreConfig};
use host::uplink::{Origin, Uplink};
use wire::ids::{GatewayId, InstallationId, RouteName, StampId, TenantId};

use crate::world::World;

/// The tenant that all is of.
pub(super) const TENANT: &str = "acme";

/// An uplink that is still to start.
pub(super) struct Sender {
    /// What it sends from.
    pub(super) store: Arc<Store>,
    config: gateway_config::Uplink,
    origin: Origin,
}

impl Sender {
    /// A gateway of the world's authority whose data lies in `folder`, to send to the stamp that is reached at that port.
    pub(super) fn new(
        world: &World,
        gateway: &str,
        folder: &Path,
        (stamp, port): (&str, u16),
    ) -> Result<Self> {
        let tenant = TenantId::new(TENANT)?;
        let folder = Arc::new(DataFolder::lock(folder)?);
        let store = Store::open(&folder, &tenant, StoreConfig::default())?.store;
        let identity = world.pki.gateway(gateway)?;
        let config = gateway_config::Uplink {
            stamps: vec![gateway_config::Stamp {
                id: StampId::new(stamp)?,
                endpoints: vec![gateway_config::Endpoint {
                    transport: gateway_config::Transport::Quic,
                    host: "localhost".into(),
                    port,
                }],
                tenants: vec![tenant],
            }],
            identity: gateway_config::Identity {
                certificate: identity.certificate,
                key: identity.key,
                trust: world.pki.trust(),
            },
            retry: backoff::Policy::upstream(),
            window: 16 << 20,
            look_for_quic: Duration::from_secs(600),
            daily_budget: None,
        };
        let origin = Origin {
            gateway: GatewayId::new(gateway)?,
            installation: InstallationId(1),
            software: "bench".into(),
            budget_file: None,
            routes_file: None,
            follower: None,
        };
        Ok(Self { store, config, origin })
    }

    /// Fills the store with the same batch again and again.
    pub(super) fn fill(&self, times: u64, payload: &Bytes, rows: u32) -> Result<()> {
        for _ in 0..times {
            let batch = NewBatch {
                route: RouteName::new(RouteName::TELEMETRY)?,
                priority: Priority::Normal,
                keep: None,
                rows,
                payload: payload.clone(),
            };
            let custody = vec![Box::new(Nobody) as _];
            self.store.commit(Commit { batches: vec![batch], custody, ..Commit::default() });
        }
        self.store.settle();
        Ok(())
    }

    /// Starts to send.
    pub(super) fn start(&self) -> Result<Uplink> {
        let outbox: Arc<dyn Outbox> = Arc::clone(&self.store) as Arc<dyn Outbox>;
        Ok(Uplink::start(&self.config, &self.origin, &[outbox])?)
    }
}
