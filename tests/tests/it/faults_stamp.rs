//! A stamp that is full, whose disk is full, that lets few in at once, has a small queue, or stands still for a while: the
//! data waits, nothing is lost or repeated, no attempt goes beyond the ledger.

use std::time::Duration;

use e2e::gateway::{Gateway, Setup};
use e2e::load::{Fleet, Ledger, Load};
use e2e::oracle::{self, Rules};
use e2e::process::wait_until;
use e2e::world::{World, workload_chain};
use host::uplink::LinkState;

use crate::site::{PATIENCE, Site, plan, settle_each};

fn setup(tenants: &[&str]) -> Setup {
    let tenants = tenants.iter().map(|tenant| ((*tenant).to_owned(), workload_chain(tenant))).collect();
    Setup { tenants, ..Setup::default() }
}

fn load(gateway: &Gateway, tenant: &str, rate: f64) -> Load {
    Load::start(plan(gateway.mqtt, vec![Fleet::new(tenant, 5, 1)], rate)).unwrap()
}

/// So many messages of each of five devices.
fn messages(gateway: &Gateway, tenant: &str, each: u32) -> Ledger {
    let mut all = plan(gateway.mqtt, vec![Fleet::new(tenant, 5, 1)], 0.0);
    (all.each, all.rate) = (Some(each), None);
    Load::start(all).unwrap().wait().unwrap()
}

/// All attempts were the first one, or paid for.
fn assert_within_ledger(gateway: &Gateway) {
    let uplink = gateway.status().unwrap().uplink;
    let attempts: u64 = uplink.links.iter().map(|link| link.attempts).sum();
    assert!(attempts <= uplink.retries.granted + 1, "{uplink:#?}");
}

#[test]
fn a_full_stamp_takes_the_devices_it_knows_and_the_others_wait_until_there_is_room() {
    let mut site = Site::create(&setup(&["acme", "globex"]));
    site.stamp.configure("max_devices", "5").unwrap();
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let acme = load(&site.gateway, "acme", 500.0);
    site.wait_landed(100);
    let globex = messages(&site.gateway, "globex", 200);
    wait_until("globex is held", PATIENCE, || Ok(site.link().held > 0)).unwrap();
    let landed = |tenant: &str| site.gateway.tenant(tenant).unwrap().landed_rows;
    let before = landed("acme");
    wait_until("acme goes on", PATIENCE, || Ok(landed("acme") > before + 500)).unwrap();
    assert_eq!(landed("globex"), 0);
    let link = site.link();
    assert_eq!((link.state, link.attempts), (LinkState::Connected, 1), "{link:#?}");
    let acme = acme.finish().unwrap();

    site.stamp.terminate().unwrap();
    site.stamp.configure("max_devices", "10").unwrap();
    site.stamp.start().unwrap();
    settle_each(&mut site, &[&acme, &globex]);
    assert_eq!(site.gateway.tenant("globex").unwrap().lost_rows, 0);
    assert_within_ledger(&site.gateway);
}

#[test]
fn a_stamp_whose_disk_is_full_sends_the_gateway_away_and_the_data_waits() {
    let mut site = Site::create(&setup(&["acme", "globex"]));
    site.stamp.limit_files(Some(1_024));
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let ledgers = ["acme", "globex"].map(|tenant| messages(&site.gateway, tenant, 6_000));
    let away = wait_until("the gateway is sent away", PATIENCE, || {
        let link = site.link();
        Ok(link.state != LinkState::Connected && link.cause.is_some_and(|cause| cause.contains("storage")))
    });
    assert!(away.is_ok(), "{:#?}\n{}", site.link(), site.stamp.log());
    let waiting = |tenant: &str| site.gateway.tenant(tenant).unwrap().outbox.rows;
    assert!(waiting("acme") + waiting("globex") > 0);
    // Away until a time that the stamp named: no attempt in between.
    assert!(site.link().until.is_some());
    assert_within_ledger(&site.gateway);

    site.stamp.kill().unwrap();
    site.stamp.limit_files(None);
    site.stamp.start().unwrap();
    assert!(site.gateway.cli("retry-now", &[]).unwrap().status.success());
    settle_each(&mut site, &[&ledgers[0], &ledgers[1]]);
}

#[test]
fn gateways_that_come_at_the_same_moment_are_let_in_each_in_its_slot() {
    const GATEWAYS: usize = 4;
    let world = World::create().unwrap();
    let names: Vec<(String, String)> =
        (0..GATEWAYS).map(|n| (format!("edge-{n}"), format!("tenant{n}"))).collect();
    let tenants: Vec<[&str; 1]> = names.iter().map(|(_, tenant)| [tenant.as_str()]).collect();
    let roster: Vec<(&str, &[&str])> =
        names.iter().zip(&tenants).map(|((gateway, _), tenant)| (gateway.as_str(), &tenant[..])).collect();
    let mut stamp = world.stamp("stamp-1", &roster).unwrap();
    stamp.configure("admit_per_second", "1").unwrap();
    let mut gateways = Vec::new();
    let mut ledgers = Vec::new();
    for (id, tenant) in &names {
        let mut gateway = world.gateway(id, &setup(&[tenant]), &stamp).unwrap();
        gateway.start().unwrap();
        ledgers.push(messages(&gateway, tenant, 100));
        gateway.kill().unwrap();
        gateways.push(gateway);
    }
    stamp.start().unwrap();
    for gateway in &mut gateways {
        gateway.spawn().unwrap();
    }
    let mut attempts = 0;
    for (gateway, ledger) in gateways.iter_mut().zip(&ledgers) {
        wait_until("it runs", PATIENCE, || Ok(gateway.status().is_ok())).unwrap();
        gateway.drain(PATIENCE).unwrap();
        let link = gateway.status().unwrap().uplink.links.remove(0);
        assert!(link.connections == 1 && link.attempts <= 3 && link.parked == 0, "{link:#?}");
        assert_within_ledger(gateway);
        attempts += link.attempts;
        let tenant = &ledger.devices[0].tenant;
        let landed =
            stamp.landed().unwrap().filter(|row| row.as_ref().is_ok_and(|row| row.tenant == *tenant));
        let account = oracle::settle(ledger, |_| Rules::default(), landed).unwrap();
        assert!(account.is_kept(), "{account:#?}");
    }
    assert!(attempts > GATEWAYS as u64, "nobody was told to come later");
}

#[test]
fn a_stamp_with_a_small_queue_takes_a_backlog_in_one_session_and_refuses_nothing() {
    let mut site = Site::create(&setup(&["acme", "globex"]));
    site.stamp.configure("landing_queue_mib", "1").unwrap();
    site.gateway.start().unwrap();
    let ledgers = ["acme", "globex"].map(|tenant| messages(&site.gateway, tenant, 10_000));
    site.stamp.start().unwrap();
    assert!(site.gateway.cli("retry-now", &[]).unwrap().status.success());
    settle_each(&mut site, &[&ledgers[0], &ledgers[1]]);
    let link = site.link();
    assert_eq!((link.connections, link.held, link.given_up), (1, 0, 0), "{link:#?}");
}

/// A stamp that stands still, with all it has received, as under a hypervisor or a debugger.
fn stop(site: &mut Site) {
    site.stamp.process().unwrap().signal("STOP").unwrap();
}

fn go_on(site: &mut Site) {
    site.stamp.process().unwrap().signal("CONT").unwrap();
}

#[test]
fn a_stamp_that_answers_slowly_keeps_its_session_and_gets_nothing_twice() {
    let mut site = Site::start(&["acme"]);
    let load = load(&site.gateway, "acme", 2_000.0);
    for _ in 0..5 {
        site.wait_landed(500);
        stop(&mut site);
        // Less than what is taken for lost.
        std::thread::sleep(Duration::from_millis(1_500));
        go_on(&mut site);
    }
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    let link = site.link();
    assert_eq!((link.connections, link.attempts), (1, 1), "{link:#?}\n{}", site.gateway.log());
}

#[test]
fn a_stamp_that_does_not_answer_at_all_is_left_and_found_again() {
    let mut site = Site::start(&["acme"]);
    let load = load(&site.gateway, "acme", 1_000.0);
    site.wait_landed(500);
    stop(&mut site);
    let left = wait_until("other ways have been tried in vain", PATIENCE, || {
        let link = site.link();
        Ok(link.attempts >= 3 && link.state != LinkState::Connected)
    });
    assert!(left.is_ok(), "{:#?}\n{}", site.link(), site.gateway.log());
    go_on(&mut site);
    site.wait_landed(2_000);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    assert_within_ledger(&site.gateway);
}
