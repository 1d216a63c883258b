//! Provisioning says no, or cannot be asked, or need not be: what the gateway does, and what it says.

use std::fs;

use e2e::pki::Pki;
use e2e::process::wait_until;
use e2e::provision::{enrolment, tenant};
use host::provisioning::Asking;
use provision::allocation::Policy;
use provision::attestation;
use provision::model::{Proof, Tenant};
use wire::provisioning::Bytes;

use super::{Cloud, load, status, wait_at, wait_for, wait_landed};
use crate::site::PATIENCE;

const KEY: [u8; 32] = [7; 32];

/// A key in a file, as an operator hands it out.
fn key_file(cloud: &Cloud, name: &str, key: &[u8]) -> String {
    let path = cloud.world.path().join(name);
    fs::write(&path, String::from(Bytes(key.to_vec())) + "\n").unwrap();
    path.to_str().unwrap().to_owned()
}

fn retry_now(gateway: &e2e::gateway::Gateway) -> String {
    let output = gateway.cli("retry-now", &[]).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_enrolled_keeps_its_data_says_what_to_do_and_is_taken_once_it_is_by_either_key() {
    let mut cloud = Cloud::start(&[("a", "production")], &[]).await;
    let alone = key_file(&cloud, "alone.key", &KEY);
    let derived = attestation::derive(&KEY, &"edge-2".parse().unwrap());
    let derived = key_file(&cloud, "derived.key", &derived);
    let mut gateways = [
        cloud.gateway_by("edge-1", &format!("{{ symmetric_key_file = {alone:?} }}"), ""),
        cloud.gateway_by("edge-2", &format!("{{ symmetric_key_file = {derived:?}, group = \"site\" }}"), ""),
    ];
    let mut loads = Vec::new();
    for gateway in &mut gateways {
        gateway.start().unwrap();
        wait_for(gateway, "it is refused", |it| it.state == Asking::Parked);
        let known = status(gateway);
        assert_eq!((known.registered, known.code.as_deref()), (false, Some("not_enrolled")), "{known:#?}");
        assert!(known.remedy.unwrap().contains("enrolment add"));
        let why = gateway.cli("why", &[]).unwrap();
        let why = String::from_utf8(why.stdout).unwrap();
        assert!(why.contains("not registered at https://") && why.contains("parked"), "{why}");
        assert!(why.contains("enrolment add") && why.contains("next try in"), "{why}");
        loads.push(load(gateway, 50.0));
        let taken = || Ok(gateway.tenant("acme").unwrap().accepted_rows > 50);
        wait_until("data is taken all the same", PATIENCE, taken).unwrap();
    }
    assert!(cloud.provision.log().contains("registration refused"), "{}", cloud.provision.log());
    let enrol = |books: &mut provision::registry::Books<'_>| {
        books.add_enrolment(&enrolment("edge-1", Proof::Key(KEY.to_vec()), "production", &[("acme", 10)]))?;
        books.add_enrolment(&enrolment("site", Proof::GroupKey(KEY.to_vec()), "production", &[("acme", 10)]))
    };
    cloud.provision.change_while_down(enrol).await.unwrap();
    for (gateway, load) in gateways.iter_mut().zip(loads) {
        let said = retry_now(gateway);
        assert!(said.contains("provisioning: was parked, is asked now"), "{said}");
        wait_at(gateway, "a");
        wait_landed(gateway, 50);
        let ledger = load.finish().unwrap();
        gateway.drain(PATIENCE).unwrap();
        let landed = gateway.tenant("acme").unwrap().landed_rows;
        let good = ledger
            .devices
            .iter()
            .flat_map(|device| &device.entries)
            .filter(|entry| e2e::oracle::in_range(entry));
        assert_eq!(landed, good.count() as u64, "what came in before it was registered has landed too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_gateway_is_refused_everywhere_keeps_its_data_and_goes_on_once_unblocked() {
    let mut cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let load = load(&gateway, 100.0);
    wait_landed(&gateway, 100);
    let client = cloud.operator();
    let say = async |what: &str| {
        let path = format!("/v1/admin/gateways/edge-1/{what}");
        client.post::<serde_json::Value>(&path, &serde_json::json!({})).await.unwrap()
    };
    say("block").await;
    wait_for(&gateway, "it is told so", |it| it.code.as_deref() == Some("blocked"));
    let known = status(&gateway);
    assert!(known.registered && known.state == Asking::Parked, "{known:#?}");
    assert!(
        known.questions <= 3,
        "asked once, and once more at most where the block came in between: {known:#?}"
    );
    let before = gateway.tenant("acme").unwrap();
    let more = || Ok(gateway.tenant("acme").unwrap().accepted_rows > before.accepted_rows + 50);
    wait_until("data is taken all the same", PATIENCE, more).unwrap();
    assert_eq!(gateway.tenant("acme").unwrap().landed_rows, before.landed_rows);
    say("unblock").await;
    retry_now(&gateway);
    wait_landed(&gateway, 50);
    let ledger = load.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    let account = cloud.settle(&ledger);
    assert!(account.is_kept(), "{account:#?}\n{}", gateway.log());
    assert!(cloud.provision.log().contains("is blocked"), "{}", cloud.provision.log());
    cloud.stamp("a").terminate().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_authority_is_told_nothing_until_the_right_one_is_configured() {
    let cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    let strange = Pki::create(&cloud.world.path().join("strange")).unwrap();
    let trusted = cloud.world.path().join("trusted.crt");
    fs::copy(strange.trust(), &trusted).unwrap();
    let text = fs::read_to_string(&gateway.config).unwrap();
    let trust = |path: &std::path::Path| format!("trust = {path:?}");
    fs::write(&gateway.config, text.replace(&trust(&cloud.provision.trust), &trust(&trusted))).unwrap();
    gateway.start().unwrap();
    wait_for(&gateway, "it does not trust", |it| it.state == Asking::Parked);
    let known = status(&gateway);
    assert!(known.cause.as_ref().unwrap().contains("is not to be trusted"), "{known:#?}");
    assert!(known.code.is_none() && !known.registered, "{known:#?}");
    assert!(!cloud.provision.log().contains("registration"), "nothing was said: {}", cloud.provision.log());
    fs::copy(&cloud.provision.trust, &trusted).unwrap();
    retry_now(&gateway);
    wait_at(&gateway, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_is_away_is_no_reason_to_ask() {
    let mut cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    cloud.stamp("a").kill().unwrap();
    let attempts = || gateway.status().unwrap().uplink.links[0].attempts;
    let before = attempts();
    wait_until("it has tried again", PATIENCE, || Ok(attempts() >= before + 4)).unwrap();
    let known = status(&gateway);
    assert_eq!((known.questions, known.state), (1, Asking::Settled), "{known:#?}");
    cloud.stamp("a").start().unwrap();
    retry_now(&gateway);
    wait_at(&gateway, "a");
    // An operator's "now" was the second question.
    wait_for(&gateway, "it was asked", |it| it.questions == 2 && it.state == Asking::Settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_a_stamp_stays_stored_and_one_without_a_configuration_is_said() {
    let mut cloud = Cloud::start(&[("a", "production")], &[]).await;
    let key = key_file(&cloud, "own.key", &KEY);
    let shares = [("globex", 5)];
    let enrol = move |books: &mut provision::registry::Books<'_>| {
        books.add_enrolment(&enrolment("edge-1", Proof::Key(KEY.to_vec()), "production", &shares))
    };
    cloud.provision.change_while_down(enrol).await.unwrap();
    let mut gateway = cloud.gateway_by("edge-1", &format!("{{ symmetric_key_file = {key:?} }}"), "");
    gateway.start().unwrap();
    wait_for(&gateway, "it is registered", |it| it.registered && it.state == Asking::Settled);
    let known = status(&gateway);
    assert_eq!(known.unassigned, ["acme"]);
    let assigned: Vec<_> = known.assignments.iter().map(|it| (it.tenant.as_str(), it.configured)).collect();
    assert_eq!(assigned, [("globex", false)]);
    let shown = String::from_utf8(gateway.cli("status", &[]).unwrap().stdout).unwrap();
    assert!(shown.contains("no stamp is assigned to acme"), "{shown}");
    assert!(
        shown.contains("tenant globex is assigned to stamp a, but the configuration does not have it"),
        "{shown}"
    );
    // It asks once for what it lacks, at a start; not again and again.
    assert_eq!(known.questions, 1);
    gateway.terminate().unwrap();
    gateway.start().unwrap();
    wait_for(&gateway, "it has asked", |it| it.questions == 1 && it.state == Asking::Settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_tenant_goes_to_the_nearest_stamp_round_trips_are_measured_first() {
    let mut cloud = Cloud::start(&[("a", "production"), ("b", "production")], &[]).await;
    let nearest = |books: &mut provision::registry::Books<'_>| {
        books.put_tenant(&Tenant { policy: Policy::LowestLatency, ..tenant("acme", None) })
    };
    cloud.provision.change_while_down(nearest).await.unwrap();
    // The first by its name, if nobody had measured; it cannot be reached, so the other one is nearer.
    cloud.stamp("a").kill().unwrap();
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "b");
    assert!(
        cloud.provision.log().contains("asked to measure round trips first"),
        "{}",
        cloud.provision.log()
    );
    assert_eq!(status(&gateway).questions, 1);
    // One that may not measure is sent somewhere all the same.
    cloud.stamp("a").start().unwrap();
    let mut other = cloud.gateway("edge-2", "measure = false");
    other.start().unwrap();
    wait_at(&other, "a");
}
