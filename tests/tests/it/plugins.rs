//! Plugins end to end: state that survives kills without counting twice, and calls that do not return while another
//! tenant's do. Hostile plugins one by one: [`super::hostile`].

use std::time::Duration;

use e2e::gateway::Setup;
use e2e::hostile::files::fixture;
use e2e::load::{Fleet, Load};
use e2e::oracle::in_range;
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan};

#[test]
fn windows_count_every_reading_once_though_the_gateway_is_killed() {
    let windows = "[[tenant.acme.step]]\nuse = \"builtin:window\"\nwith = { every = \"1 s\", lateness = \"4 s\", \
                   columns = [\"temperature_c\"], route = \"windows\", forward = true }\n";
    let tenants = vec![("acme".to_owned(), [workload_chain("acme"), windows.to_owned()].concat())];
    let mut site = Site::start_with(&Setup { tenants, ..Setup::default() });
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 3_000.0);
    all.each = Some(1_200);
    let load = Load::start(all).unwrap();
    for part in 1..4 {
        wait_until("the load goes on", PATIENCE, || Ok(load.accepted() > part * 2_500)).unwrap();
        site.gateway.kill().unwrap();
        site.gateway.start().unwrap();
    }
    let ledger = load.wait().unwrap();
    let expected = ledger.entries().filter(|(_, entry)| in_range(entry)).count() as u64;
    let counted = |site: &Site| -> u64 {
        let rows = site.rows();
        let windows = rows.iter().filter(|row| row["route"] == "windows");
        windows.map(|row| row["temperature_c_count"].as_u64().unwrap()).sum()
    };
    // The last windows close when their devices have been silent.
    let closed = wait_until("every window has closed", PATIENCE, || Ok(counted(&site) >= expected));
    assert!(closed.is_ok(), "{} of {expected} counted", counted(&site));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(counted(&site), expected);
    let mut windows: Vec<String> = site
        .rows()
        .iter()
        .filter(|row| row["route"] == "windows")
        .map(|row| format!("{} {}", row["device"], row["time_ns"]))
        .collect();
    let count = windows.len();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), count, "a window came twice");
}

/// Its devices' messages land while not one call of the others returns: an order, not a time.
#[test]
fn a_tenant_gets_everything_while_as_many_others_loop_as_there_are_workers() {
    let plugin = fixture("loop").unwrap();
    let looping = |tenant: &str| {
        let step = format!(
            "[[tenant.{tenant}.step]]\nuse = {plugin:?}\nlimits = {{ time = \"60 s\" }}\n\
             with = {{ within = \"process\" }}\n"
        );
        (tenant.to_owned(), step)
    };
    let tenants = vec![looping("evil"), looping("worse"), ("good".to_owned(), workload_chain("good"))];
    let site = Site::start_with(&Setup { gateway: "workers = 2".into(), tenants, ..Setup::default() });
    let fleets = vec![Fleet::new("evil", 2, 1), Fleet::new("worse", 2, 1)];
    let _evil = Load::start(plan(site.gateway.mqtt, fleets, 100.0)).unwrap();
    wait_until("the looping plugins have their first messages", PATIENCE, || {
        Ok(site.gateway.status()?.sources[0].messages >= 4)
    })
    .unwrap();
    let mut healthy = plan(site.gateway.mqtt, vec![Fleet::new("good", 10, 1)], 2_000.0);
    healthy.each = Some(800);
    let ledger = Load::start(healthy).unwrap().wait().unwrap();
    wait_until("the good tenant's rows have landed", PATIENCE, || {
        Ok(site.gateway.tenant("good")?.outbox.rows == 0)
    })
    .unwrap();
    let good = site.gateway.tenant("good").unwrap();
    let expected = ledger.entries().filter(|(_, entry)| in_range(entry)).count() as u64;
    assert_eq!((good.accepted_rows, good.landed_rows, good.dead_letters), (8_000, expected, 0));
    let tenants = site.gateway.status().unwrap().tenants;
    for tenant in tenants.iter().filter(|tenant| tenant.name != "good") {
        let step = &tenant.steps[0];
        assert_eq!((tenant.accepted_rows, step.faults), (0, 0), "{tenant:#?}");
        assert!(tenant.cpu.seconds > step.seconds, "no call was at work: {tenant:#?}");
    }
}
