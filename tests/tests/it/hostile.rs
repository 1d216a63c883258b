//! A healthy tenant beside each hostile plugin, and what becomes of the hostile one's rows. Facts without times; the demo
//! `cargo xtask demo --scenario hostile` measures.

use std::time::Duration;

use e2e::hostile::fixtures::in_balance;
use e2e::hostile::{EVIL, Fate, Fixture, GOOD, Neighbours, Traffic};
use e2e::load::Ledger;
use e2e::oracle::{self, Landed, Rules};
use e2e::process::wait_until;
use e2e::world::World;

use crate::site::{PATIENCE, seed};

/// Few faults until a quarantine, which lasts.
const QUARANTINE: &str = "quarantine = { faults = 3, within = \"1 min\", probe = \"never\" }";
/// For those that fail in any time.
const SHORT: &str = "limits = { time = \"50 ms\" }";
/// Messages of each hostile device, where they are taken; …
const EACH: u32 = 120;
/// … in a flood.
const FLOOD: u32 = 3_000;

/// The healthy tenant gets all of its rows, once, from a gateway that lives; the hostile one's are all accounted for.
fn beside(name: &str) {
    let fixture = Fixture::named(name).unwrap_or_else(|| panic!("there is no fixture {name:?}"));
    let world = World::create().unwrap();
    let fails = fixture.fate == Fate::Fails;
    let lines = if fails { format!("{QUARANTINE}\n{SHORT}") } else { QUARANTINE.to_owned() };
    let evil = fixture.configuration(world.path(), &lines).unwrap();
    let mut both = Neighbours::start(&world, "edge", Some(evil)).unwrap();
    let process = both.gateway.process().unwrap().id();
    let seed = seed();
    let through = !matches!(fixture.fate, Fate::Fails | Fate::Refused(_));
    let each = if fixture.traffic == Traffic::Flood { FLOOD } else { EACH };
    let evil = both.evil_devices(fixture.traffic, through.then_some(each), seed).unwrap();

    let healthy = both.good_devices(1_000.0, Duration::from_millis(1_500), seed).unwrap();
    assert!(healthy.in_time && both.settle(GOOD).unwrap(), "{}", both.gateway.log());
    let account = healthy.account(&both.rows(GOOD, 0).unwrap()).unwrap();
    assert!(account.is_kept(), "{account:#?}");
    assert_eq!((account.landed, both.restarts), (healthy.expected(), 0), "{account:#?}");

    let settled = wait_until("the hostile tenant's fate is sealed", PATIENCE, || {
        let tenant = both.evil()?;
        Ok(fixture.check(&tenant).is_ok() && (!fails || tenant.lane != "running"))
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
        Fate::Recovers | Fate::Passes => {
            assert_exactly(ledger, &landed, |_| true);
            0
        }
        // It rejects a row of each call besides.
        Fate::Nonsense => {
            assert_eq!(landed.len() as u64, ledger.accepted());
            tenant.steps[0].calls
        }
        Fate::Served => {
            let rows = landed.iter().cloned().map(Ok);
            let account = oracle::settle(ledger, |_| Rules::default(), rows).unwrap();
            assert!(account.is_kept(), "{account:#?}");
            0
        }
        Fate::PoisonDevice(nth) => {
            assert_exactly(ledger, &landed, |device| device != nth);
            u64::from(EACH)
        }
    };
    assert_eq!(tenant.dead_letters, dead, "{tenant:#?}");
}

/// Of the devices that are wanted all that was sent landed, once each, and nothing else.
fn assert_exactly(ledger: &Ledger, landed: &[Landed], wanted: impl Fn(usize) -> bool) {
    let mut there: Vec<(&str, u32)> =
        landed.iter().map(|row| (row.device.as_str(), row.seq.unwrap() as u32)).collect();
    there.sort_unstable();
    let devices = ledger.devices.iter().enumerate().filter(|(nth, _)| wanted(*nth));
    let mut due: Vec<(&str, u32)> = devices
        .flat_map(|(_, device)| (1..).take(device.entries.len()).map(|seq| (device.device.as_str(), seq)))
        .collect();
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
    a_plugin_that_loops_in_configure_holds_its_own_tenant_only: "endless loop in configure";
    a_plugin_that_allocates_without_end_costs_its_own_tenant_only: "unbounded allocation";
    a_plugin_that_recurses_without_end_costs_its_own_tenant_only: "deep recursion";
    rows_at_which_an_instance_traps_pass_on_a_fresh_one: "trap on the n-th row";
    a_plugin_that_traps_on_one_devices_rows_costs_those_rows_only: "trap on one device's rows";
    a_plugin_that_returns_too_much_costs_its_own_tenant_only: "oversized output";
    a_plugin_that_calls_the_host_a_million_times_costs_nobody_a_row: "a million host calls";
    a_plugin_that_floods_the_log_costs_its_own_tenant_only: "log flood";
    a_plugin_that_floods_metrics_is_cut_off: "metric flood";
    a_plugin_that_floods_its_state_costs_its_own_tenant_only: "state flood";
    frames_with_lengths_that_do_not_match_go_nowhere: "lengths that do not match";
    frames_with_indices_out_of_range_go_nowhere: "indices out of range";
    frames_with_text_that_is_none_go_nowhere: "invalid UTF-8";
    values_that_are_no_numbers_land_as_such: "NaN";
    times_at_the_ends_of_the_range_land_as_such: "extreme times";
    a_component_of_another_interface_is_refused_and_its_tenant_held: "another interface";
    a_plugin_of_an_old_version_is_refused_and_its_tenant_held: "old version";
    a_plugin_that_imports_wasi_is_refused_and_its_tenant_held: "imports WASI";
    a_truncated_plugin_is_refused_and_its_tenant_held: "truncated file";
    a_plugin_of_100_mb_is_refused_and_its_tenant_held: "file of 100 MB";
    a_plugin_with_the_signature_of_another_is_refused_and_its_tenant_held: "signature of another file";
    a_tenant_that_is_flooded_with_messages_takes_nothing_from_others: "message flood";
}
