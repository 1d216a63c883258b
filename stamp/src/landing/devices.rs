//! Which devices count towards the capacity: a device counts once per gateway and tenant, from its first landed row.
//!
//! Kept in memory for all gateways (about 100 bytes a device, bounded by `max_devices`), and in the database. Devices
//! are never given up by themselves, a quota is a matter of contract; but who has moved to another stamp takes no place.

use std::collections::{HashMap, HashSet};

use wire::ids::{GatewayId, TenantId};

use super::{Limits, TenantDevice};

/// Devices of a batch for which there is no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    pub(super) devices: Vec<String>,
    /// The tightest limit, for a person.
    pub(super) text: String,
}

/// All devices of the stamp.
#[derive(Debug, Default)]
pub(super) struct Devices {
    max: u32,
    total: u32,
    gateways: HashMap<GatewayId, OfGateway>,
}

#[derive(Debug, Default)]
struct OfGateway {
    quota: Option<u32>,
    count: u32,
    tenants: HashMap<TenantId, OfTenant>,
}

#[derive(Debug, Default)]
struct OfTenant {
    quota: Option<u32>,
    devices: HashSet<Box<str>>,
}

impl Devices {
    pub(super) fn new(max: u32) -> Self {
        Self { max, ..Self::default() }
    }

    /// Counts a device that is in the database.
    pub(super) fn add(&mut self, gateway: &GatewayId, (tenant, device): TenantDevice<'_>) {
        let of_gateway = self.gateways.entry(gateway.clone()).or_default();
        if of_gateway.tenants.entry(tenant.clone()).or_default().devices.insert(device.into()) {
            of_gateway.count += 1;
            self.total += 1;
        }
    }

    /// Takes a device back whose commit failed.
    pub(super) fn remove(&mut self, gateway: &GatewayId, (tenant, device): TenantDevice<'_>) {
        let Some(of_gateway) = self.gateways.get_mut(gateway) else { return };
        if of_gateway.tenants.get_mut(tenant).is_some_and(|of_tenant| of_tenant.devices.remove(device)) {
            of_gateway.count -= 1;
            self.total -= 1;
        }
    }

    pub(super) fn set_quota(&mut self, gateway: &GatewayId, quota: Option<u32>) {
        self.gateways.entry(gateway.clone()).or_default().quota = quota;
    }

    pub(super) fn set_tenant_quota(&mut self, gateway: &GatewayId, tenant: &TenantId, quota: Option<u32>) {
        let of_gateway = self.gateways.entry(gateway.clone()).or_default();
        of_gateway.tenants.entry(tenant.clone()).or_default().quota = quota;
    }

    /// A tenant has gone: its devices' places are free.
    pub(super) fn remove_tenant(&mut self, gateway: &GatewayId, tenant: &TenantId) {
        let Some(of_gateway) = self.gateways.get_mut(gateway) else { return };
        let gone = of_gateway.tenants.remove(tenant).map_or(0, |of_tenant| of_tenant.devices.len() as u32);
        of_gateway.count -= gone;
        self.total -= gone;
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn count_of(&self, gateway: &GatewayId) -> u32 {
        self.gateways.get(gateway).map_or(0, |of_gateway| of_gateway.count)
    }

    pub(super) fn is_full(&self) -> bool {
        self.total >= self.max
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// Other quotas hold from now on.
    pub(super) fn limit(&mut self, gateway: &GatewayId, limits: &Limits) {
        self.set_quota(gateway, limits.gateway);
        for (tenant, quota) in &limits.tenants {
            self.set_tenant_quota(gateway, tenant, *quota);
        }
    }

    /// Those of `devices` that are not counted yet, or for which of them there is no room. In the order of their names, so
    /// that the same ones are refused whatever batch they come in.
    pub(super) fn unknown<'a>(
        &self,
        gateway: &GatewayId,
        tenant: &TenantId,
        devices: &'a [String],
    ) -> Result<Vec<&'a str>, Beyond> {
        let of_gateway = self.gateways.get(gateway);
        let of_tenant = of_gateway.and_then(|of_gateway| of_gateway.tenants.get(tenant));
        let known = of_tenant.map(|of_tenant| &of_tenant.devices);
        let mut new: Vec<&str> = devices
            .iter()
            .map(String::as_str)
            .filter(|device| !known.is_some_and(|known| known.contains(*device)))
            .collect();
        new.sort_unstable();
        new.dedup();
        let (count, quota) = of_gateway.map_or((0, None), |of_gateway| (of_gateway.count, of_gateway.quota));
        let (counted, own) =
            of_tenant.map_or((0, None), |of_tenant| (of_tenant.devices.len() as u32, of_tenant.quota));
        let own = own.map(|own| {
            (own.saturating_sub(counted), format!("the tenant's quota of {own} devices at this gateway"))
        });
        let quota = quota
            .map(|quota| (quota.saturating_sub(count), format!("the gateway's quota of {quota} devices")));
        let max = self.max;
        let whole = (max.saturating_sub(self.total), format!("the stamp's capacity of {max} devices"));
        // Of equal ones the first, which is the one that can be changed most easily.
        let tightest = own.into_iter().chain(quota).chain([whole]).min_by_key(|(room, _)| *room);
        let (room, limit) = tightest.unwrap_or_default();
        let beyond = new.split_off(new.len().min(room as usize));
        let Some(first) = beyond.first() else { return Ok(new) };
        let others = match beyond.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let text = format!("device {first:?}{others} of tenant {tenant} is beyond {limit}");
        Err(Beyond { devices: beyond.into_iter().map(str::to_owned).collect(), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_tenant_has_a_quota_of_its_own_and_leaves_no_device_behind() {
        let gateway = GatewayId::new("a").unwrap();
        let (acme, umbra) = (TenantId::new("acme").unwrap(), TenantId::new("umbra").unwrap());
        let mut devices = Devices::new(3);
        devices.set_tenant_quota(&gateway, &acme, Some(1));
        devices.add(&gateway, (&acme, "x"));
        let beyond = devices.unknown(&gateway, &acme, &names(&["z", "x", "y"])).unwrap_err();
        assert_eq!(beyond.devices, ["y", "z"]);
        assert_eq!(
            beyond.text,
            "device \"y\" and 1 more of tenant acme is beyond the tenant's quota of 1 devices at this gateway"
        );
        devices.limit(&gateway, &Limits { gateway: Some(1), tenants: vec![(acme.clone(), Some(2))] });
        let beyond = devices.unknown(&gateway, &acme, &names(&["x", "y"])).unwrap_err();
        assert!(beyond.text.contains("gateway's quota of 1"), "{}", beyond.text);
        devices.limit(&gateway, &Limits { gateway: None, tenants: vec![(acme.clone(), Some(2))] });
        assert_eq!(devices.unknown(&gateway, &acme, &names(&["x", "y"])).unwrap(), ["y"]);
        assert_eq!(devices.unknown(&gateway, &umbra, &names(&["x", "y"])).unwrap(), ["x", "y"]);
        devices.remove_tenant(&gateway, &acme);
        assert_eq!((devices.total(), devices.count_of(&gateway)), (0, 0));
        devices.remove_tenant(&gateway, &acme);
    }

    #[test]
    fn a_device_counts_once_and_the_next_beyond_a_limit_is_named() {
        let (gateway, other) = (GatewayId::new("a").unwrap(), GatewayId::new("b").unwrap());
        let (acme, umbra) = (TenantId::new("acme").unwrap(), TenantId::new("umbra").unwrap());
        let mut devices = Devices::new(3);
        devices.set_quota(&gateway, Some(2));
        assert_eq!(devices.unknown(&gateway, &acme, &names(&["y", "x", "y"])).unwrap(), ["x", "y"]);
        devices.add(&gateway, (&acme, "x"));
        devices.add(&gateway, (&acme, "x"));
        devices.add(&gateway, (&umbra, "x"));
        assert_eq!(devices.unknown(&gateway, &acme, &names(&["x"])).unwrap(), [""; 0]);
        let error = devices.unknown(&gateway, &acme, &names(&["x", "z"])).unwrap_err().text;
        assert!(error.contains("\"z\"") && error.contains("quota of 2"), "{error}");
        assert!(!devices.is_full());
        let error = devices.unknown(&other, &acme, &names(&["m", "n"])).unwrap_err().text;
        assert!(error.contains("\"n\"") && error.contains("capacity of 3"), "{error}");
        devices.add(&other, (&acme, "m"));
        assert!(devices.is_full());
        devices.remove(&other, (&acme, "m"));
        assert_eq!(devices.count_of(&other), 0);
        assert!(!devices.is_full());
    }
}
