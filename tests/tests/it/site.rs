//! A stamp and a gateway that run, as most tests want them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use e2e::gateway::{Gateway, Setup, Upstream};
use e2e::load::{Fleet, Plan};
use e2e::oracle::{self, Account, Rules};
use e2e::process::wait_until;
use e2e::proxy::Proxy;
use e2e::stamp::Stamp;
use e2e::world::{World, workload_chain};
use host::uplink::LinkStatus;

/// Longest wait for any state.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A stamp `stamp-1` and a gateway `edge-1`.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) stamp: Stamp,
    pub(crate) world: World,
    /// What chains do beyond the range filter, by tenant.
    pub(crate) rules: HashMap<String, Rules>,
}

impl Site {
    /// Starts both, every tenant with the workload's chain.
    pub(crate) fn start(tenants: &[&str]) -> Self {
        let chains = tenants.iter().map(|tenant| ((*tenant).to_owned(), workload_chain(tenant))).collect();
        Self::start_with(&Setup { tenants: chains, ..Setup::default() })
    }

    /// Starts both.
    pub(crate) fn start_with(setup: &Setup) -> Self {
        let mut site = Self::create(setup);
        site.stamp.start().unwrap();
        site.gateway.start().unwrap();
        site
    }

    /// Starts nothing.
    pub(crate) fn create(setup: &Setup) -> Self {
        let world = World::create().unwrap();
        let tenants: Vec<&str> = setup.tenants.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let stamp = world.stamp("stamp-1", &[("edge-1", &tenants)]).unwrap();
        let gateway = world.gateway("edge-1", setup, &stamp).unwrap();
        Self { gateway, stamp, world, rules: HashMap::new() }
    }

    /// Starts both, with a line of the test's own between them.
    pub(crate) fn start_behind_proxy(setup: &Setup) -> (Self, Proxy) {
        let mut site = Self::create(setup);
        let proxy = Proxy::start(site.stamp.address, seed()).unwrap();
        let upstream = site.world.upstream(&site.stamp, site.world.pki.gateway("edge-1").unwrap());
        let upstream = Upstream { address: proxy.address, ..upstream };
        site.gateway = Gateway::create(site.world.path(), "edge-1", setup, &upstream).unwrap();
        site.stamp.start().unwrap();
        site.gateway.start().unwrap();
        (site, proxy)
    }

    /// The link to the stamp, as the gateway tells of it.
    pub(crate) fn link(&self) -> LinkStatus {
        self.gateway.status().unwrap().uplink.links.remove(0)
    }

    /// Rows that landed, as the gateway counts them in its present life.
    fn landed(&self) -> u64 {
        self.gateway.status().unwrap().tenants.iter().map(|tenant| tenant.landed_rows).sum()
    }

    /// Waits until that many more rows have landed than now.
    pub(crate) fn wait_landed(&self, rows: u64) {
        let before = self.landed();
        let more = wait_until("rows land", PATIENCE, || Ok(self.landed() >= before + rows));
        assert!(more.is_ok(), "{more:?}\n{:#?}\n{}", self.link(), self.gateway.log());
    }

    /// Waits until the gateway has taken that many rows of all tenants.
    pub(crate) fn wait_accepted(&self, rows: u64) {
        let accepted = || {
            let status = self.gateway.status()?;
            Ok(status.tenants.iter().map(|tenant| tenant.accepted_rows).sum::<u64>() >= rows)
        };
        wait_until(&format!("{rows} rows are accepted"), PATIENCE, accepted).unwrap();
    }

    /// Waits until everything the gateway holds has landed.
    pub(crate) fn drain(&mut self) {
        self.gateway.drain(PATIENCE).unwrap();
    }

    /// Every row that landed, as the stamp exports it.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        self.stamp.rows().unwrap()
    }

    /// Drains, and checks that every promise was kept.
    pub(crate) fn settle(&mut self, ledger: &e2e::load::Ledger) -> Account {
        self.drain();
        let rules = |tenant: &str| self.rules.get(tenant).copied().unwrap_or_default();
        let account = oracle::settle(ledger, rules, self.stamp.landed().unwrap()).unwrap();
        assert!(account.is_kept(), "{account:#?}\n{}", self.gateway.log());
        account
    }
}

/// The tenants in rows that landed are checked one by one, each against what its devices were acknowledged.
pub(crate) fn settle_each(site: &mut Site, ledgers: &[&e2e::load::Ledger]) {
    site.drain();
    for ledger in ledgers {
        let tenant = ledger.devices[0].tenant.clone();
        let rows = site.stamp.landed().unwrap();
        let landed = rows.filter(|row| row.as_ref().is_ok_and(|row| row.tenant == tenant));
        let account = oracle::settle(ledger, |_| Rules::default(), landed).unwrap();
        assert!(account.is_kept(), "{account:#?}\n{}", site.gateway.log());
    }
}

/// A plan with the seed printed, so that a failure can be played again.
pub(crate) fn plan(address: SocketAddr, fleets: Vec<Fleet>, rate: f64) -> Plan {
    let seed = seed();
    Plan { address, fleets, rate: Some(rate), each: None, window: 32, cut_after: None, seed }
}

/// What everything random of a test follows from: `SLUICE_SEED`, or another one each time. Printed, and so shown when the test
/// fails.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SLUICE_SEED").ok();
    let seed =
        given.map_or(std::process::id().into(), |given| given.parse().expect("SLUICE_SEED is a number"));
    println!("to play it again: SLUICE_SEED={seed}");
    seed
}
