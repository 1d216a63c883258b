//! What gateways say of what they run, summed for each tenant and release. In memory: after a restart gateways say it
//! again when they connect.
//!
//! Bounded: by the tenants of gateways that were admitted and are still served, and [`MAX_RELEASES_TOLD`] releases of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::ids::{GatewayId, TenantId};
use wire::message::{Condition, ConditionState};
use wire::provisioning::{MAX_RELEASES_TOLD, ReleaseCondition, TenantConditions};

/// Most characters of a reason that is told.
const MAX_REASON: usize = 200;

/// Everything said.
#[derive(Debug, Default)]
pub struct Conditions {
    tenants: Mutex<HashMap<TenantId, OfTenant>>,
}

#[derive(Debug, Default)]
struct OfTenant {
    connected: u32,
    /// By gateway, the release that it spoke of last at the end.
    gateways: HashMap<GatewayId, Vec<Condition>>,
    changed: bool,
}

/// A gateway is connected for a tenant, until this is dropped.
#[derive(Debug)]
pub struct Presence {
    conditions: Arc<Conditions>,
    tenant: TenantId,
}

impl Conditions {
    /// A gateway is there for a tenant.
    #[must_use]
    pub fn connect(self: &Arc<Self>, tenant: &TenantId) -> Presence {
        let mut tenants = self.lock();
        let of = tenants.entry(tenant.clone()).or_default();
        of.connected += 1;
        of.changed = true;
        Presence { conditions: Arc::clone(self), tenant: tenant.clone() }
    }

    /// A gateway says how it is with a release.
    pub fn say(&self, gateway: &GatewayId, tenant: &TenantId, condition: Condition) {
        let mut tenants = self.lock();
        let of = tenants.entry(tenant.clone()).or_default();
        of.changed = true;
        let said = of.gateways.entry(gateway.clone()).or_default();
        said.retain(|before| before.release != condition.release);
        if said.len() >= MAX_RELEASES_TOLD {
            said.remove(0);
        }
        said.push(condition);
    }

    /// The sums of the tenants that have changed since the last call, or of `all`. Gateways that are not `served` any more
    /// are forgotten.
    pub fn sums(&self, all: bool, served: impl Fn(&GatewayId, &TenantId) -> bool) -> Vec<TenantConditions> {
        let mut tenants = self.lock();
        if all {
            for (tenant, of) in tenants.iter_mut() {
                of.gateways.retain(|gateway, _| served(gateway, tenant));
            }
        }
        let due = tenants.iter_mut().filter(|(_, of)| all || of.changed);
        let sums = due.map(|(tenant, of)| of.sum(tenant)).collect();
        if all {
            tenants.retain(|_, of| of.connected > 0 || !of.gateways.is_empty());
        }
        sums
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, OfTenant>> {
        // The map is whole after each statement.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(of) = self.conditions.lock().get_mut(&self.tenant) {
            of.connected = of.connected.saturating_sub(1);
            of.changed = true;
        }
    }
}

impl OfTenant {
    fn sum(&mut self, tenant: &TenantId) -> TenantConditions {
        self.changed = false;
        let mut releases: Vec<ReleaseCondition> = Vec::new();
        for (gateway, condition) in
            self.gateways.iter().flat_map(|(id, said)| said.iter().map(move |it| (id, it)))
        {
            let one = one(gateway, condition);
            match releases.iter_mut().find(|sum| sum.release == one.release) {
                Some(sum) => sum.add(&one),
                None => releases.push(one),
            }
        }
        // The latest: their numbers grow.
        releases.sort_by_key(|sum| std::cmp::Reverse(sum.release));
        releases.truncate(MAX_RELEASES_TOLD);
        TenantConditions { tenant: tenant.clone(), connected: self.connected, releases }
    }
}

fn one(gateway: &GatewayId, said: &Condition) -> ReleaseCondition {
    let mut one = ReleaseCondition {
        release: said.release,
        rows: said.rows,
        faults: said.faults,
        rejected: said.rejected,
        cpu_ns: said.cpu_ns,
        memory: said.memory,
        ..ReleaseCondition::default()
    };
    match said.state {
        ConditionState::Fetching | ConditionState::Unknown(_) => one.fetching = 1,
        ConditionState::Applied => one.applied = 1,
        ConditionState::Refused => one.refused = 1,
        ConditionState::RolledBack => one.rolled_back = 1,
    }
    if one.refused + one.rolled_back > 0 {
        let reason: String = said.reason.chars().take(MAX_REASON).collect();
        one.reasons.push(format!("{gateway}: {reason}"));
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::Release;
    use wire::message::TenantIndex;

    fn said(release: u64, state: ConditionState, rows: u64) -> Condition {
        let (tenant, release, reason) = (TenantIndex(0), Release(release), "no signature".to_owned());
        Condition { tenant, release, state, reason, rows, faults: 1, rejected: 2, cpu_ns: 3, memory: 4 }
    }

    fn gateway(id: &str) -> GatewayId {
        id.parse().unwrap()
    }

    #[test]
    fn conditions_are_summed_by_what_each_gateway_said_last() {
        let conditions = Arc::new(Conditions::default());
        let acme: TenantId = "acme".parse().unwrap();
        let here = [conditions.connect(&acme), conditions.connect(&acme)];
        conditions.say(&gateway("a"), &acme, said(1, ConditionState::Applied, 100));
        conditions.say(&gateway("a"), &acme, said(2, ConditionState::Fetching, 0));
        conditions.say(&gateway("a"), &acme, said(2, ConditionState::Refused, 0));
        conditions.say(&gateway("b"), &acme, said(1, ConditionState::Applied, 40));
        conditions.say(&gateway("b"), &acme, said(2, ConditionState::Applied, 7));
        let sums = conditions.sums(false, |_, _| true);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[0].connected, 2);
        let [two, one] = sums[0].releases.as_slice() else { panic!("{sums:?}") };
        assert_eq!((two.release, two.applied, two.refused, two.fetching, two.rows), (Release(2), 1, 1, 0, 7));
        assert_eq!(two.reasons, ["a: no signature"]);
        assert_eq!((one.applied, one.rows, one.faults, one.rejected, one.cpu_ns), (2, 140, 2, 4, 6));
        assert!(conditions.sums(false, |_, _| true).is_empty(), "nothing has changed");
        drop(here);
        assert_eq!(conditions.sums(false, |_, _| true)[0].connected, 0);
    }

    #[test]
    fn who_is_not_served_any_more_is_forgotten() {
        let conditions = Arc::new(Conditions::default());
        let acme: TenantId = "acme".parse().unwrap();
        conditions.say(&gateway("a"), &acme, said(1, ConditionState::Applied, 100));
        conditions.say(&gateway("b"), &acme, said(1, ConditionState::Applied, 40));
        assert_eq!(conditions.sums(true, |id, _| id.as_str() == "b")[0].releases[0].rows, 40);
        assert!(conditions.sums(true, |_, _| false)[0].releases.is_empty(), "said once, as nothing");
        assert!(conditions.sums(true, |_, _| false).is_empty());
    }

    #[test]
    fn of_a_gateway_only_the_latest_releases_are_remembered() {
        let conditions = Arc::new(Conditions::default());
        let acme: TenantId = "acme".parse().unwrap();
        for release in 0..20 {
            conditions.say(&gateway("a"), &acme, said(release, ConditionState::Applied, 1));
        }
        assert_eq!(conditions.sums(true, |_, _| true)[0].releases.len(), MAX_RELEASES_TOLD);
    }
}
