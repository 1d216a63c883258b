//! What must last: SIGKILLs at any moment of a registration, certificates that end, promotions that were missed.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::process::wait_until;
use host::provisioning::Asking;
use serde_json::json;

use super::{Cloud, load, status, wait_at, wait_for, wait_landed};
use crate::site::{PATIENCE, seed};

/// In the log when provisioning is asked.
const ASKS: &str = "asking provisioning";

fn asked(gateway: &Gateway) -> usize {
    gateway.log().matches(ASKS).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_at_any_moment_of_its_registration_is_registered_by_the_next_start() {
    let cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    let folder = gateway.data_dir.join("provisioned");
    let mut random = seed();
    let mut states = HashSet::new();
    for _ in 0..30 {
        let before = asked(&gateway);
        gateway.spawn().unwrap();
        let asks = || Ok(asked(&gateway) > before || folder.join("registration.json").exists());
        wait_until("it asks", PATIENCE, asks).unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A registration takes about ten milliseconds.
        std::thread::sleep(Duration::from_micros((random >> 33) % 16_000));
        gateway.kill().unwrap();
        let mut there: Vec<String> = fs::read_dir(&folder)
            .map(|all| all.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        there.sort();
        if there.iter().any(|name| name == "registration.json") {
            // Done: from the beginning again, as after the loss of the folder.
            fs::remove_dir_all(&folder).unwrap();
        }
        states.insert(there);
    }
    // At which moments the kills came is the machine's affair; each order of writing has a test of its own in the gateway.
    println!("found after a SIGKILL: {states:#?}");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let known = status(&gateway);
    let assigned: Vec<_> = known.assignments.iter().map(|it| (it.stamp.as_str(), it.epoch)).collect();
    assert_eq!(assigned, [("a", 1)], "one assignment, however often it asked");
    let load = load(&gateway, 200.0);
    wait_landed(&gateway, 100);
    let ledger = load.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    assert!(cloud.settle(&ledger).is_kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_from_half_of_its_life_on_and_traffic_does_not_notice() {
    let cloud = Cloud::start(&[("a", "production")], &["certificate_life = \"1 min\""]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let load = load(&gateway, 100.0);
    let session = || {
        let link = gateway.status().unwrap().uplink.links.remove(0);
        (link.connections, link.attempts, link.state)
    };
    let before_renewal = session();
    let first = status(&gateway).certificate_ends.unwrap();
    let identity = gateway.data_dir.join("provisioned/identity.pem");
    let before = fs::read_to_string(&identity).unwrap();
    wait_for(&gateway, "it is renewed", |it| it.certificate_ends.unwrap() > first);
    let known = status(&gateway);
    assert_eq!(known.questions, 2, "{known:#?}");
    let renewed = fs::read_to_string(&identity).unwrap();
    let key = |pem: &str| pem.split("PRIVATE KEY").nth(1).unwrap().to_owned();
    assert_ne!(key(&before), key(&renewed), "another key with each certificate");
    wait_landed(&gateway, 100);
    assert_eq!(session(), before_renewal, "the session goes on");
    assert!(cloud.provision.log().contains("certificate renewed"));
    // The new one is good at the stamp.
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let ledger = load.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    assert!(cloud.settle(&ledger).is_kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_while_provisioning_was_away_is_replaced_by_proving_anew() {
    let mut cloud = Cloud::start(&[("a", "production")], &["certificate_life = \"1 min\""]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let load = load(&gateway, 50.0);
    cloud.provision.kill().unwrap();
    wait_for(&gateway, "it would renew", |it| it.cause.is_some());
    let ended = |it: &host::provisioning::ProvisioningStatus| {
        it.need.as_deref() == Some("its certificate has expired")
            || it.cause.is_some() && it.certificate_ends.unwrap() < now_ns()
    };
    let reached = wait_until("it has ended", Duration::from_secs(90), || Ok(ended(&status(&gateway))));
    assert!(reached.is_ok(), "{:#?}", status(&gateway));
    // The session that stands goes on.
    wait_landed(&gateway, 50);
    assert_eq!(gateway.status().unwrap().uplink.links[0].connections, 1);
    cloud.provision.start().unwrap();
    gateway.cli("retry-now", &[]).unwrap();
    wait_for(&gateway, "it has another one", |it| {
        it.certificate_ends.unwrap() > now_ns() && it.state == Asking::Settled
    });
    assert!(cloud.provision.log().matches("registered").count() >= 2, "{}", cloud.provision.log());
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let ledger = load.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    assert!(cloud.settle(&ledger).is_kept());
}

fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_was_missed_gives_the_backlog_up_with_receipts_though_it_was_moved_again_since() {
    let stamps = [("t", "test"), ("p", "production"), ("q", "production")];
    let mut cloud = Cloud::start(&stamps, &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "t");
    let test = load(&gateway, 200.0);
    wait_landed(&gateway, 100);
    // A backlog: the test stamp is away, and devices go on.
    cloud.stamp("t").kill().unwrap();
    let waiting = || gateway.tenant("acme").unwrap().outbox.rows;
    wait_until("a backlog", PATIENCE, || Ok(waiting() > 300)).unwrap();
    let test = test.finish().unwrap();
    let accepted = gateway.tenant("acme").unwrap().accepted_rows;
    gateway.kill().unwrap();
    cloud.stamp("t").start().unwrap();
    // Two operations while it is away: it will hear of the second one only.
    let promote =
        json!({ "kind": "promote", "gateways": ["edge-1"], "environment": "production", "backlog": "drop" });
    finished(&cloud, promote).await;
    let at = assigned_to(&cloud).await;
    let other = if at == "p" { "q" } else { "p" };
    finished(&cloud, json!({ "kind": "move", "gateways": ["edge-1"], "to": other, "backlog": "carry" }))
        .await;
    gateway.start().unwrap();
    wait_at(&gateway, other);
    let known = status(&gateway);
    assert_eq!((known.environment.as_deref(), known.assignments[0].epoch), (Some("production"), 3));
    let production = load(&gateway, 200.0);
    wait_landed(&gateway, 200);
    let production = production.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    let tenant = gateway.tenant("acme").unwrap();
    assert!(tenant.lost_rows > 0 && tenant.outbox.receipts == 0, "{tenant:#?}");
    // What production has is of production alone, and what is nowhere has a receipt.
    for id in ["p", "q"] {
        let rows = cloud.stamp(id).landed().unwrap();
        let account = e2e::oracle::settle(&production, |_| e2e::oracle::Rules::default(), rows).unwrap();
        assert_eq!((account.duplicated, account.wrong), (0, 0), "{id}: {account:#?}");
        assert!(id != other || account.is_kept(), "{id}: {account:#?}");
    }
    let landed = cloud.stamp("t").rows().unwrap().len() as u64;
    let filtered = test
        .devices
        .iter()
        .flat_map(|device| &device.entries)
        .filter(|entry| !e2e::oracle::in_range(entry))
        .count() as u64;
    assert_eq!(landed + tenant.lost_rows, accepted - filtered, "{tenant:#?}");
    assert!(cloud.stamp(other).log().contains("moved: not carried"), "{}", cloud.stamp(other).log());
}

/// Starts an operation and waits for its end.
async fn finished(cloud: &Cloud, task: serde_json::Value) {
    let id = cloud.operate(task).await["operation"]["id"].clone();
    let client = cloud.operator();
    for _ in 0..500 {
        let shown: serde_json::Value = client.get(&format!("/v1/admin/operations/{id}")).await.unwrap();
        match shown["operation"]["state"].as_str() {
            Some("finished") => return,
            Some("running") => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => panic!("{shown}"),
        }
    }
    panic!("operation {id} does not end\n{}", cloud.provision.log());
}

/// The stamp of the gateway's tenant, as provisioning knows it.
async fn assigned_to(cloud: &Cloud) -> String {
    let shown: serde_json::Value = cloud.operator().get("/v1/admin/gateways/edge-1").await.unwrap();
    let stamp = shown["assignments"][0]["stamp"].as_str();
    stamp.unwrap_or_else(|| panic!("{shown}")).to_owned()
}
