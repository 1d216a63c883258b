//! From test to production in five steps, each asserted, with nobody touching the gateway; and a site that goes on while
//! provisioning is away.

use std::fs;

use e2e::cloud::Cloud;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::stamp::Stamp;
use host::provisioning::Asking;
use serde_json::Value;

use crate::site::{PATIENCE, plan};

fn load(cloud: &mut Cloud, gateway: &str, tenant: &str, rate: f64) -> Load {
    let mqtt = cloud.gateway(gateway).unwrap().mqtt;
    Load::start(plan(mqtt, vec![Fleet::new(tenant, 5, 1)], rate)).unwrap()
}

fn rows(stamp: &Stamp) -> u64 {
    let output = stamp.cli("status", &["--json"]).unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["rows"].as_u64().unwrap()
}

/// Waits until so many rows have landed at a stamp.
fn wait_rows(stamp: &Stamp, more: u64) {
    let before = rows(stamp);
    let landed = wait_until("rows land", PATIENCE, || Ok(rows(stamp) >= before + more));
    assert!(landed.is_ok(), "{landed:?} at {}: {} rows\n{}", stamp.id, rows(stamp), stamp.log());
}

#[test]
fn a_gateway_goes_from_test_to_production_in_five_steps_and_no_test_data_comes_along() {
    // 1. Both environments are linked to provisioning.
    let mut cloud = Cloud::start().unwrap();
    cloud.add_stamp("test-1", "test", 100, &[]).unwrap();
    cloud.add_stamp("prod-1", "production", 100, &[]).unwrap();
    cloud.add_tenant("acme", &[]).unwrap();
    for id in ["test-1", "prod-1"] {
        let stamp = cloud.stamp(id).unwrap();
        let linked = wait_until("it follows", PATIENCE, || Ok(stamp.log().contains("provisioning answers")));
        assert!(linked.is_ok(), "{}", stamp.log());
    }
    let listed = cloud.operator.ask(&["stamp", "list"]).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed:#}");

    // 2. A gateway that is not provisioned asks, and is sent to test.
    cloud.enrol("lines", "test", &["acme=10"]).unwrap();
    assert_eq!(cloud.place("edge-1", "acme").unwrap(), None);
    cloud.add_gateway("edge-1", "lines", &["acme"]).unwrap();
    let place = cloud.wait_at("edge-1", "acme", "test-1").unwrap();
    assert_eq!(place.epoch, 1);
    let as_installed = fs::read_to_string(&cloud.gateway("edge-1").unwrap().config).unwrap();

    // 3. It connects there, testing happens; at last with a backlog, because the test stamp is away.
    let load = load(&mut cloud, "edge-1", "acme", 200.0);
    wait_rows(cloud.stamp("test-1").unwrap(), 300);
    assert_eq!(rows(cloud.stamp("prod-1").unwrap()), 0);
    cloud.stamp("test-1").unwrap().kill().unwrap();
    let waiting = || Ok(cloud.gateways[0].tenant("acme")?.outbox.rows > 200);
    wait_until("test data waits at the gateway", PATIENCE, waiting).unwrap();

    // 4. The operator re-provisions it to production; test rejects it the next time it connects.
    let promoted_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let operation = cloud.operate(&["promote", "edge-1", "--to", "production"]).unwrap();
    cloud.stamp("test-1").unwrap().start().unwrap();
    let operation = cloud.wait_operation(operation).unwrap();
    assert_eq!(
        (operation["total"].as_u64(), operation["done"].as_u64()),
        (Some(1), Some(1)),
        "{operation:#}"
    );
    let rejects = || {
        let log = cloud.stamps[0].log();
        Ok(log.lines().any(|line| line.contains("gateway refused") && line.contains("has moved")))
    };
    let rejected = wait_until("test rejects it", PATIENCE, rejects);
    assert!(rejected.is_ok(), "{}\n{}", cloud.stamps[0].log(), cloud.gateways[0].log());

    // 5. It renegotiates, is directed to production, connects and authenticates there.
    let place = cloud.wait_at("edge-1", "acme", "prod-1").unwrap();
    assert_eq!(place.epoch, 2);
    wait_rows(cloud.stamp("prod-1").unwrap(), 300);
    let gateway = cloud.gateway("edge-1").unwrap();
    assert_eq!(gateway.status().unwrap().provisioning.unwrap().environment.as_deref(), Some("production"));
    assert_eq!(fs::read_to_string(&gateway.config).unwrap(), as_installed, "nobody has touched it");
    let connected = cloud.stamps[1].log();
    assert!(connected.contains("gateway connected") && connected.contains("edge-1"), "{connected}");

    let ledger = load.finish().unwrap();
    cloud.drain(PATIENCE).unwrap();
    // No test data in production: nothing there is older than the promotion.
    let oldest = cloud.stamps[1].landed().unwrap().map(|row| row.unwrap().time).min().unwrap();
    assert!(oldest / 1_000_000 >= i64::try_from(promoted_ms).unwrap(), "{oldest} is before {promoted_ms} ms");
    // What was given up is named in receipts, and everything else is there once.
    let (account, given_up) = cloud.settle(vec![ledger]).unwrap();
    println!("{given_up} rows of test data were given up: {account:?}");
    assert!(given_up > 0, "{account:#?}");
    assert!(account.is_kept(), "{account:#?}\n{}", cloud.gateways[0].log());
    let output = cloud.stamps[1].cli("status", &["--json"]).unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(status.contains("moved: not carried"), "{status}");
}

/// Receipts as provisioning lists them.
fn receipts(cloud: &Cloud, filter: &[&str]) -> Vec<Value> {
    let listed =
        cloud.operator.ask(&[&["receipt", "list", "--gateway", "edge-1"][..], filter].concat()).unwrap();
    listed["items"].as_array().unwrap().clone()
}

/// Kills a stamp again and again, wherever it is by then, until what becomes of its one copy is done. It runs after that.
fn kill_until_done(cloud: &mut Cloud, id: &str) {
    let mut pause = 20;
    let done = wait_until("the copy is dealt with", PATIENCE, || {
        let stamp = cloud.stamp(id)?;
        stamp.start()?;
        std::thread::sleep(std::time::Duration::from_millis(pause));
        stamp.kill()?;
        pause += 40;
        let status: Value = serde_json::from_slice(&stamp.cli("status", &["--json"])?.stdout)?;
        Ok(status["fences"][0]["copy_done"] == true)
    });
    let stamp = cloud.stamp(id).unwrap();
    assert!(done.is_ok(), "{done:?}\n{}", stamp.log());
    stamp.start().unwrap();
}

#[test]
fn a_copy_that_is_to_be_exported_is_whole_over_sigkills_and_stays() {
    let mut cloud = Cloud::start().unwrap();
    cloud.add_stamp("prod-1", "production", 100, &[]).unwrap();
    cloud.add_tenant("acme", &[]).unwrap();
    cloud.enrol("lines", "production", &["acme=10"]).unwrap();
    cloud.add_gateway("edge-1", "lines", &["acme"]).unwrap();
    cloud.wait_at("edge-1", "acme", "prod-1").unwrap();
    let load = load(&mut cloud, "edge-1", "acme", 400.0);
    wait_rows(cloud.stamp("prod-1").unwrap(), 2_000);
    cloud.add_stamp("prod-2", "production", 100, &[]).unwrap();
    cloud.stamp("prod-1").unwrap().kill().unwrap();
    let to = ["move", "gateway", "edge-1", "--tenant", "acme", "--to", "prod-2", "--copy", "export"];
    let operation = cloud.operate(&to).unwrap();
    kill_until_done(&mut cloud, "prod-1");
    cloud.wait_operation(operation).unwrap();
    drop(load.finish().unwrap());
    let told = || Ok(!receipts(&cloud, &["--kind", "export"]).is_empty());
    let told = wait_until("the export is known", PATIENCE, told);
    assert!(told.is_ok(), "{}\n{}", cloud.stamps[0].log(), cloud.provision.log());
    let exports = receipts(&cloud, &["--kind", "export"]);
    assert_eq!(exports.len(), 1, "{exports:#?}");

    let stamp = &cloud.stamps[0];
    let folder = stamp.config.with_file_name("prod-1").join("departed/edge-1");
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["acme-2.csv"], "and nothing that did not become whole");
    let bytes = fs::read(folder.join("acme-2.csv")).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    let export = &exports[0];
    assert_eq!(export["rows"].as_u64(), Some(lines - 1), "all but the header: {export:#}");
    assert!(export.to_string().contains(&digest), "{digest}: {export:#}");
    assert_eq!(stamp.landed().unwrap().count() as u64, lines - 1, "the copy stays");
}

#[test]
fn a_copy_that_is_to_go_goes_over_sigkills_and_its_receipts_outlive_the_stamp() {
    let mut cloud = Cloud::start().unwrap();
    cloud.add_stamp("test-1", "test", 100, &[]).unwrap();
    cloud.add_stamp("prod-1", "production", 100, &[]).unwrap();
    cloud.add_tenant("acme", &[]).unwrap();
    cloud.enrol("lines", "test", &["acme=10"]).unwrap();
    cloud.add_gateway("edge-1", "lines", &["acme"]).unwrap();
    cloud.wait_at("edge-1", "acme", "test-1").unwrap();
    let load = load(&mut cloud, "edge-1", "acme", 400.0);
    wait_rows(cloud.stamp("test-1").unwrap(), 2_000);
    cloud.stamp("test-1").unwrap().kill().unwrap();
    let waiting = || Ok(cloud.gateways[0].tenant("acme")?.outbox.rows > 200);
    wait_until("test data waits at the gateway", PATIENCE, waiting).unwrap();
    let operation = cloud.operate(&["promote", "edge-1", "--to", "production", "--copy", "delete"]).unwrap();
    kill_until_done(&mut cloud, "test-1");
    cloud.wait_operation(operation).unwrap();
    cloud.wait_at("edge-1", "acme", "prod-1").unwrap();
    wait_rows(cloud.stamp("prod-1").unwrap(), 300);
    drop(load.finish().unwrap());
    let deleted = || Ok(!receipts(&cloud, &["--kind", "deletion"]).is_empty());
    let told = wait_until("the deletion is known", PATIENCE, deleted);
    assert!(told.is_ok(), "{}\n{}", cloud.stamps[0].log(), cloud.provision.log());
    let lost = || Ok(!receipts(&cloud, &["--kind", "loss", "--stamp", "prod-1"]).is_empty());
    let told = wait_until("what was given up is known", PATIENCE, lost);
    assert!(told.is_ok(), "{}\n{}", cloud.stamps[1].log(), cloud.provision.log());
    assert_eq!(cloud.stamps[0].landed().unwrap().count(), 0);

    // The stamp is lost for good, and provisioning killed: what they said stays.
    cloud.stamp("test-1").unwrap().kill().unwrap();
    cloud.operator.run(&["stamp", "lost", "test-1", "--yes"]).unwrap();
    cloud.operator.run(&["stamp", "remove", "test-1"]).unwrap();
    cloud.provision.kill().unwrap();
    cloud.provision.start().unwrap();
    let deletions = receipts(&cloud, &["--tenant", "acme", "--kind", "deletion"]);
    assert_eq!(deletions.len(), 1, "{deletions:#?}");
    let deletion = &deletions[0];
    assert_eq!((&deletion["stamp"], &deletion["operation"]), (&"test-1".into(), &operation.into()));
    assert!(deletion["rows"].as_u64().unwrap() >= 2_000, "{deletion:#}");
    let shown = cloud.operator.ask(&["operation", "show", &operation.to_string()]).unwrap();
    assert_eq!((&shown["receipts"], &shown["operation"]["task"]["copy"]), (&1.into(), &"delete".into()));
    let given_up = receipts(&cloud, &["--kind", "loss"]);
    assert!(
        given_up.iter().any(|loss| loss["reason"].as_str().unwrap().contains("moved: not carried")),
        "{given_up:#?}"
    );
}

#[test]
fn stamps_and_gateways_go_on_while_provisioning_is_away_and_a_new_gateway_waits_for_it() {
    let mut cloud = Cloud::start().unwrap();
    cloud.add_stamp("prod-1", "production", 100, &[]).unwrap();
    cloud.add_tenant("acme", &[]).unwrap();
    cloud.add_tenant("globex", &[]).unwrap();
    cloud.enrol("lines", "production", &["acme=10"]).unwrap();
    cloud.enrol("others", "production", &["globex=10"]).unwrap();
    cloud.add_gateway("edge-1", "lines", &["acme"]).unwrap();
    cloud.wait_at("edge-1", "acme", "prod-1").unwrap();
    let first = load(&mut cloud, "edge-1", "acme", 100.0);
    // The newcomer's key was handed out before.
    cloud.operator.key("others", "edge-2", cloud.world.path()).unwrap();

    cloud.provision.kill().unwrap();
    for _ in 0..3 {
        cloud.stamp("prod-1").unwrap().kill().unwrap();
        cloud.stamp("prod-1").unwrap().start().unwrap();
        cloud.gateway("edge-1").unwrap().kill().unwrap();
        cloud.gateway("edge-1").unwrap().start().unwrap();
        wait_rows(cloud.stamp("prod-1").unwrap(), 50);
    }
    let known = cloud.gateways[0].status().unwrap().provisioning.unwrap();
    assert_eq!((known.questions, known.state), (0, Asking::Settled), "{known:#?}");
    cloud.add_gateway_by("edge-2", "others", &["globex"], cloud.world.path().join("edge-2.key")).unwrap();
    let second = load(&mut cloud, "edge-2", "globex", 100.0);
    let stored = || {
        let gateway = &cloud.gateways[1];
        let known = gateway.status()?.provisioning.unwrap();
        Ok(known.cause.is_some() && gateway.tenant("globex")?.outbox.rows > 100)
    };
    wait_until("the newcomer keeps its data and says why", PATIENCE, stored).unwrap();
    // In this order: rows go on landing.
    let counted = rows(&cloud.stamps[0]);
    assert!(counted > 150 && counted <= cloud.stamps[0].landed().unwrap().count() as u64, "{counted}");

    cloud.provision.start().unwrap();
    let told = cloud.gateway("edge-2").unwrap().cli("retry-now", &[]).unwrap();
    assert!(told.status.success(), "{told:?}");
    cloud.wait_at("edge-2", "globex", "prod-1").unwrap();
    let ledgers = vec![first.finish().unwrap(), second.finish().unwrap()];
    cloud.drain(PATIENCE).unwrap();
    let (account, given_up) = cloud.settle(ledgers).unwrap();
    assert!(account.is_kept() && given_up == 0, "{given_up} {account:#?}");
}
