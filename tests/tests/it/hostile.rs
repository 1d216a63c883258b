//! A healthy tenant beside each hostile plugin, and what becomes of the hostile one's rows. Facts without times; the demo
//! `cargo xtask demo --scenario hostile` measures.

use std::time::Duration;

use e2e::hostile::fixtures::in_balance;
use e2e::hostile::neighbours::EVIL_DEVICES;
use e2e::hostile::{EVIL, Fate, Fixture, GOOD, Neighbours};
use e2e::load::Ledger;
use e2e::oracle::Landed;
use e2e::process::wait_until;
use e2e::world::World;

use crate::site::{PATIENCE, seed};

/// Few faults until the quarantine, which lasts.
const STRICT: &str =
    "limits = { time = \"50 ms\" }\nquarantine = { faults = 3, within = \"1 min\", probe = \"never\" }";
/// Messages of each hostile device, where they are taken.
const EACH: u32 = 120;

/// The healthy tenant gets all of its rows, once, from a gateway that lives; the hostile one's are all accounted for.
fn beside(name: &str) {
    let fixture = Fixture::named(name).unwrap_or_else(|| panic!("there is no fixture {name:?}"));
    let world = World::create().unwrap();
    let chain = fixture.chain(world.path(), STRICT).unwrap();
    let mut both = Neighbours::start(&world, "edge", Some(chain)).unwrap();
    let process = both.gateway.process().unwrap().id();
    let seed = seed();
    let through = matches!(fixture.fate, Fate::Passes | Fate::Poison(_) | Fate::PoisonDevice(_));
    let evil = both.evil_devices(Some(500.0), through.then_some(EACH), seed).unwrap();

    let healthy = both.good_devices(1_000.0, Duration::from_secs(2), seed).unwrap();
    assert!(healthy.in_time && both.settle(GOOD).unwrap(), "{}", both.gateway.log());
    let account = healthy.account(&both.rows(GOOD, 0).unwrap()).unwrap();
    assert!(account.is_kept(), "{account:#?}");
    assert_eq!((account.landed, both.restarts), (healthy.expected(), 0), "{account:#?}");

    let settled = wait_until("the hostile tenant's fate is sealed", PATIENCE, || {
        let tenant = both.evil()?;
        Ok(fixture.check(&tenant).is_ok() && (fixture.fate != Fate::Fails || tenant.lane != "running"))
    });
    assert!(settled.is_ok(), "{:?}\n{:#?}\n{}", settled, both.evil(), both.gateway.log());
    let ledger = if through { evil.wait() } else { evil.abandon() }.unwrap();
    assert!(both.settle(EVIL).unwrap());
    accounted(fixture, &both, &ledger);
    assert_eq!(both.gateway.status().unwrap().pid, Some(process));
    both.gateway.process().unwrap().check_running().unwrap();
}

/// Every row that a hostile tenant's device was told is safe is a dead letter or at the stamp, as its fate says.
fn accounted(fixture: &Fixture, both: &Neighbours, ledger: &Ledger) {
    let tenant = both.evil().unwrap();
    fixture.check(&tenant).unwrap();
    in_balance(&tenant).unwrap();
    assert!(ledger.accepted() <= tenant.accepted_rows, "{tenant:#?}");
    let landed = both.rows(EVIL, 0).unwrap();
    let dead = match fixture.fate {
        Fate::Refused(_) => {
            assert_eq!((ledger.accepted(), landed.len()), (0, 0));
            0
        }
        Fate::Fails => {
            assert!(landed.is_empty(), "{} rows passed a plugin that fails", landed.len());
            tenant.accepted_rows - tenant.duplicates
        }
        Fate::Passes => {
            assert_exactly(ledger, &landed, |_, _| true);
            0
        }
        Fate::Poison(seq) => {
            assert_exactly(ledger, &landed, |_, of| of != seq);
            EVIL_DEVICES as u64
        }
        Fate::PoisonDevice(nth) => {
            assert_exactly(ledger, &landed, |device, _| device != nth);
            u64::from(EACH)
        }
    };
    assert_eq!(tenant.dead_letters, dead, "{tenant:#?}");
}

/// Of what the devices sent the rows that are wanted landed once each, and no others.
fn assert_exactly(ledger: &Ledger, landed: &[Landed], wanted: impl Fn(usize, u32) -> bool) {
    let mut there: Vec<(&str, u32)> =
        landed.iter().map(|row| (row.device.as_str(), row.seq.unwrap() as u32)).collect();
    there.sort_unstable();
    let sent = ledger.devices.iter().enumerate().flat_map(|(nth, device)| {
        (1..=device.entries.len() as u32).map(move |seq| (nth, device.device.as_str(), seq))
    });
    let mut due: Vec<(&str, u32)> =
        sent.filter(|(nth, _, seq)| wanted(*nth, *seq)).map(|(_, device, seq)| (device, seq)).collect();
    due.sort_unstable();
    assert!(there == due, "{} rows landed instead of {}", there.len(), due.len());
}

/// A test for each fixture: its name says what the plugin does.
macro_rules! beside {
    ($($test:ident: $fixture:literal;)*) => {$(
        #[test]
        fn $test() {
            beside($fixture);
        }
    )*

    #[test]
    fn every_fixture_of_the_demo_has_a_test() {
        let tested = [$($fixture),*];
        let names: Vec<&str> = e2e::hostile::FIXTURES.iter().map(|fixture| fixture.name).collect();
        assert_eq!(names, tested);
    }};
}

beside! {
    a_plugin_that_loops_costs_its_own_tenant_only: "endless loop";
    a_plugin_that_loops_in_configure_costs_its_own_tenant_only: "endless loop in configure";
    a_plugin_that_allocates_without_end_costs_its_own_tenant_only: "unbounded allocation";
    a_plugin_that_traps_at_a_row_costs_that_row_only: "trap at the n-th row";
    a_plugin_that_floods_log_and_metrics_is_cut_off: "log and metric flood";
    a_plugin_that_floods_its_state_costs_its_own_tenant_only: "state flood";
    a_plugin_that_returns_too_much_costs_its_own_tenant_only: "oversized output";
    a_plugin_for_another_version_is_refused_and_its_tenant_held: "older or newer interface";
    a_plugin_that_imports_wasi_is_refused_and_its_tenant_held: "imports WASI";
    a_truncated_plugin_is_refused_and_its_tenant_held: "truncated file";
    a_plugin_of_100_mb_is_refused_and_its_tenant_held: "file of 100 MB";
    a_component_that_is_no_plugin_is_refused_and_its_tenant_held: "component of another interface";
}
