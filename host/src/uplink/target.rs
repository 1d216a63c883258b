//! What the uplink is to serve: per stamp its endpoints and tenants, as configured or as provisioning has assigned. Pure.
//!
//! Does not know which links there are: that is [`super::links`]'s.

use std::collections::BTreeMap;

use gateway_config::Endpoint;
use wire::ids::{StampId, TenantId};

/// A stamp, how to reach it, and whose data goes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Checked against what the stamp says it is.
    pub stamp: StampId,
    /// Tried in this order, one per attempt.
    pub endpoints: Vec<Endpoint>,
    /// Each with the epoch of its assignment; 0: from a file, of none.
    pub tenants: Vec<(TenantId, u64)>,
}

/// The targets as they are served: one per stamp, in the order given, with its tenants in the order of their names; each tenant
/// at one stamp, that of its newest epoch; tenants that are not `here` and stamps without any are left out.
pub(super) fn sound(targets: Vec<Target>, here: impl Fn(&TenantId) -> bool) -> Vec<Target> {
    let mut newest: BTreeMap<TenantId, (u64, StampId)> = BTreeMap::new();
    for target in &targets {
        for (tenant, epoch) in target.tenants.iter().filter(|(tenant, _)| here(tenant)) {
            let place = newest.entry(tenant.clone()).or_insert_with(|| (*epoch, target.stamp.clone()));
            if place.1 != target.stamp {
                let (stamp, other) = (&target.stamp, &place.1);
                tracing::error!(%tenant, %stamp, %other, "a tenant is assigned to two stamps: the newer epoch counts");
            }
            if *epoch > place.0 {
                *place = (*epoch, target.stamp.clone());
            }
        }
    }
    let mut sound: Vec<Target> = Vec::new();
    for Target { stamp, endpoints, .. } in targets {
        let served = newest.iter().filter(|(_, (_, at))| *at == stamp);
        let tenants: Vec<_> = served.map(|(tenant, (epoch, _))| (tenant.clone(), *epoch)).collect();
        if !tenants.is_empty() && sound.iter().all(|target| target.stamp != stamp) {
            sound.push(Target { stamp, endpoints, tenants });
        }
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(stamp: &str, tenants: &[(&str, u64)]) -> Target {
        Target {
            stamp: StampId::new(stamp).unwrap(),
            endpoints: Vec::new(),
            tenants: tenants.iter().map(|(name, epoch)| (TenantId::new(name).unwrap(), *epoch)).collect(),
        }
    }

    #[test]
    fn a_tenant_is_served_at_one_stamp_that_of_its_newest_epoch() {
        let told = vec![
            target("a", &[("moved", 3), ("stays", 1)]),
            target("b", &[("moved", 4)]),
            target("c", &[("moved", 2), ("elsewhere", 1)]),
        ];
        let here = |tenant: &TenantId| tenant.as_str() != "elsewhere";
        assert_eq!(sound(told, here), [target("a", &[("stays", 1)]), target("b", &[("moved", 4)])]);
    }

    #[test]
    fn a_stamp_named_twice_is_one_and_the_order_of_tenants_does_not_matter() {
        let told = vec![target("a", &[("y", 1)]), target("b", &[("z", 1)]), target("a", &[("x", 2)])];
        assert_eq!(sound(told, |_| true), [target("a", &[("x", 2), ("y", 1)]), target("b", &[("z", 1)])]);
        let other = vec![target("a", &[("x", 2), ("y", 1)])];
        assert_eq!(sound(other, |_| true), sound(vec![target("a", &[("y", 1), ("x", 2)])], |_| true));
    }
}
