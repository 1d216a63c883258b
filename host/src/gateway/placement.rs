//! What provisioning has assigned becomes what stores and uplink do: each tenant's epoch begins in its store, and then the
//! uplink is told.
//!
//! Invariant: nothing is sent for a tenant under an epoch that its store has not on disk. So what a move gives up is given up
//! before the next stamp is spoken to, whenever the power fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_config::{Config, Endpoint};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::ids::TenantId;
use wire::provisioning::{Assigned, Backlog};

use crate::provisioning::{Agent, Ask, Asking, BoardView, Given, Kept, Setup};
use crate::store::{EpochError, Store};
use crate::uplink::{LinkState, LinkStatus, Target, Uplink};

/// Tenants whose stores are not ready by then are told to the uplink later: their disk takes no writes.
const PATIENCE: Duration = Duration::from_secs(2);
/// A store that has too much to write is asked again after this time, and up to twice it.
const AGAIN: Duration = Duration::from_millis(500);

/// Who tells where data goes.
pub(super) struct Provisioning {
    /// Until it runs.
    agent: Option<Agent>,
    /// Changes when the operator says "now".
    operator: watch::Sender<u64>,
    view: BoardView,
}

impl Provisioning {
    /// `None` if the configuration says itself where data goes. Asks nobody yet.
    pub(super) fn new(config: &Config, uplink: &Uplink, software: String) -> Option<Self> {
        let (section, gateway) = (config.provisioning.as_ref()?, &config.gateway);
        let kept = Kept::new(&gateway.data_dir, &section.endpoint, &gateway.id);
        let (provisioning, gateway) = (section.clone(), gateway.id.clone());
        let setup = Setup {
            ask: Ask { provisioning, gateway, software, kept },
            tenants: config.tenants.keys().cloned().collect(),
            policy: config.uplink.as_ref().map(|uplink| uplink.retry.clone())?,
            ledger: uplink.ledger(),
            astray: uplink.astray(),
            network: uplink.network(),
        };
        let (operator, operated) = watch::channel(0);
        let agent = Agent::new(setup, operated);
        let view = agent.view();
        Some(Self { agent: Some(agent), operator, view })
    }

    /// What is to run, once.
    pub(super) fn agent(&mut self) -> Option<Agent> {
        self.agent.take()
    }

    /// How registration stands.
    pub(super) fn view(&self) -> BoardView {
        self.view.clone()
    }

    /// The operator says "now". Returns what was done before.
    pub(super) fn ask_now(&self) -> Asking {
        let state = self.view.status().state;
        self.operator.send_modify(|count| *count += 1);
        state
    }
}

/// Follows provisioning, if there is one; never ends.
pub(super) async fn follow(agent: Option<Agent>, uplink: Option<&Uplink>, stores: &[(TenantId, Arc<Store>)]) {
    let (Some(agent), Some(uplink)) = (agent, uplink) else {
        return std::future::pending().await;
    };
    let hand_on = async |given: Given<'_>| {
        place(uplink, stores, given.assignments).await;
        if given.identity {
            retry(uplink, |link| link.state == LinkState::GivenUp);
        }
        if let Some(stamp) = given.confirmed {
            retry(uplink, |link| link.state == LinkState::Parked && link.stamp == stamp.as_str());
        }
    };
    agent.run(hand_on).await;
}

async fn place(uplink: &Uplink, stores: &[(TenantId, Arc<Store>)], assignments: &[Assigned]) {
    let mut beginning = JoinSet::new();
    for assigned in assignments {
        if let Some((_, store)) = stores.iter().find(|(tenant, _)| *tenant == assigned.tenant) {
            beginning.spawn(begin(Arc::clone(store), assigned.clone()));
        }
    }
    let mut ready = Vec::new();
    let until = Instant::now() + PATIENCE;
    while let Ok(Some(begun)) = tokio::time::timeout_at(until, beginning.join_next()).await {
        ready.extend(begun.ok().flatten());
    }
    uplink.assign(targets(&ready));
    while let Some(begun) = beginning.join_next().await {
        ready.extend(begun.ok().flatten());
        uplink.assign(targets(&ready));
    }
}

/// Begins the epoch of an assignment; `None` if the store is gone.
async fn begin(store: Arc<Store>, assigned: Assigned) -> Option<Assigned> {
    let Assigned { tenant, stamp, epoch, .. } = &assigned;
    let backlog = backlog(store.epoch(), &assigned);
    loop {
        match store.begin_epoch(*epoch, backlog).await {
            Ok(true) => {
                tracing::info!(%tenant, %stamp, epoch, ?backlog, "the tenant is assigned to a stamp");
                return Some(assigned);
            }
            Ok(false) => return Some(assigned),
            Err(error @ EpochError::Busy(_)) => {
                tracing::warn!(%tenant, %error, "the tenant's assignment must wait for its store");
                tokio::time::sleep(AGAIN.mul_f64(rand::random_range(1.0..2.0))).await;
            }
            Err(error @ EpochError::Closed(_)) => {
                tracing::error!(%tenant, %error, "the tenant's assignment cannot be taken over");
                return None;
            }
        }
    }
}

/// Whether what waits is given up: if the store has missed an epoch that gave it up. What was taken before the first
/// assignment belongs to whichever that is.
fn backlog(begun: u64, assigned: &Assigned) -> Backlog {
    let dropped = match assigned.backlog {
        Backlog::Drop => assigned.epoch,
        Backlog::Carry => assigned.dropped,
    };
    if begun > 0 && begun < dropped { Backlog::Drop } else { Backlog::Carry }
}

/// One target per stamp.
fn targets(assignments: &[Assigned]) -> Vec<Target> {
    let mut by_stamp: BTreeMap<_, Target> = BTreeMap::new();
    for Assigned { tenant, stamp, endpoints, epoch, .. } in assignments {
        let target = by_stamp.entry(stamp.clone()).or_insert_with(|| Target {
            stamp: stamp.clone(),
            endpoints: endpoints.iter().filter_map(|endpoint| parsed(endpoint)).collect(),
            tenants: Vec::new(),
        });
        target.tenants.push((tenant.clone(), *epoch));
    }
    by_stamp.into_values().collect()
}

/// Those of a later version are left out.
fn parsed(endpoint: &str) -> Option<Endpoint> {
    match endpoint.parse() {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            tracing::warn!(endpoint, %error, "provisioning names an endpoint that this version does not know");
            None
        }
    }
}

/// Has links try again: what they gave up for, or wait for, has changed.
fn retry(uplink: &Uplink, is_it: impl Fn(&LinkStatus) -> bool) {
    for link in uplink.view().status().iter().filter(|link| is_it(link)) {
        uplink.try_now(Some(&link.stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(tenant: &str, stamp: &str, epoch: u64, backlog: Backlog, dropped: u64) -> Assigned {
        let endpoints = vec![format!("quic://{stamp}.example"), "pigeon://coop".to_owned()];
        let (tenant, stamp) = (tenant.parse().unwrap(), stamp.parse().unwrap());
        Assigned { tenant, stamp, endpoints, epoch, devices: 1, backlog, dropped }
    }

    #[test]
    fn an_epoch_that_gave_the_backlog_up_counts_though_others_came_since() {
        let carried = assigned("t", "s", 5, Backlog::Carry, 0);
        assert_eq!(backlog(4, &carried), Backlog::Carry);
        let promoted = assigned("t", "s", 5, Backlog::Drop, 5);
        assert_eq!(backlog(4, &promoted), Backlog::Drop);
        assert_eq!(backlog(0, &promoted), Backlog::Carry, "never was anywhere else");
        let moved_since = assigned("t", "s", 7, Backlog::Carry, 5);
        assert_eq!(backlog(4, &moved_since), Backlog::Drop);
        assert_eq!(backlog(5, &moved_since), Backlog::Carry);
    }

    #[test]
    fn tenants_of_one_stamp_are_one_target_and_unknown_endpoints_are_left_out() {
        let all = [
            assigned("x", "b", 1, Backlog::Carry, 0),
            assigned("y", "a", 2, Backlog::Carry, 0),
            assigned("z", "b", 3, Backlog::Carry, 0),
        ];
        let targets = targets(&all);
        let shown: Vec<_> = targets
            .iter()
            .map(|target| (target.stamp.as_str(), target.endpoints.len(), target.tenants.len()))
            .collect();
        assert_eq!(shown, [("a", 1, 1), ("b", 1, 2)]);
        assert_eq!(targets[0].endpoints[0].to_string(), "quic://a.example:7443");
    }
}
