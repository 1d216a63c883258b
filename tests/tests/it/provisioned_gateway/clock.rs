//! A gateway on a machine whose clock is wrong when it starts.

use std::fs;
use std::path::Path;

use e2e::client::Client;
use e2e::gateway::Gateway;
use e2e::load::mqtt::Connect;
use host::provisioning::Asking;

use super::{Cloud, status, wait_at, wait_for};
use crate::faults_clock::{library, set_clock};
use crate::site::PATIENCE;

/// The gateway's clock is what the file says; its monotonic clock is right.
fn with_clock(gateway: &mut Gateway, file: &Path, ahead: &str) {
    set_clock(file, ahead);
    let fake = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    gateway.environment = vec![
        fake("LD_PRELOAD", library().to_str().unwrap()),
        fake("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        fake("FAKETIME_NO_CACHE", "1"),
        fake("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        fake("FAKETIME_DONT_RESET", "1"),
    ];
}

fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

fn publish(gateway: &Gateway, seq: u32, ts: Option<i64>) {
    let mut device = Client::connect(
        gateway.mqtt,
        &Connect { version: 4, client: "tester", clean: true, ..Connect::default() },
    )
    .unwrap();
    let ts = ts.map_or(String::new(), |ts| format!("\"ts\":{},", ts / 1_000_000));
    let payload = format!("{{{ts}\"seq\":{seq},\"temperature_c\":20.5}}");
    device.publish("site/acme/p1/telemetry", 1, payload.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_behind_is_corrected_by_what_provisioning_says_and_readings_before_are_marked() {
    let mut cloud = Cloud::start(&[("a", "production")], &[]).await;
    cloud.provision.kill().unwrap();
    let mut gateway = cloud.gateway("edge-1", "");
    let text = fs::read_to_string(&gateway.config).unwrap();
    let time = "time = { field = \"ts\", unit = \"ms\" }";
    assert!(text.contains(time));
    fs::write(
        &gateway.config,
        text.replace(time, "time = { field = \"ts\", unit = \"ms\", missing = \"arrival\" }"),
    )
    .unwrap();
    let clock = cloud.world.path().join("clock");
    with_clock(&mut gateway, &clock, "-20y");
    gateway.start().unwrap();
    wait_for(&gateway, "it cannot ask", |it| it.cause.is_some());
    assert!(status(&gateway).clock_uncertain);
    let real = now_ns();
    publish(&gateway, 1, None);
    // Twenty years ahead of the machine's clock, and right.
    publish(&gateway, 2, Some(real));
    cloud.provision.start().unwrap();
    gateway.cli("retry-now", &[]).unwrap();
    wait_at(&gateway, "a");
    let known = status(&gateway);
    assert!(!known.clock_uncertain, "{known:#?}");
    let behind = known.clock_behind_s.unwrap() / 86_400.0 / 365.25;
    assert!((19.9..20.1).contains(&behind), "{behind} years");
    let shown = String::from_utf8(gateway.cli("why", &[]).unwrap().stdout).unwrap();
    assert!(
        shown.contains("this machine's clock is") && shown.contains("behind: what provisioning says counts"),
        "{shown}"
    );
    publish(&gateway, 3, None);
    gateway.drain(PATIENCE).unwrap();
    let tenant = gateway.tenant("acme").unwrap();
    assert_eq!((tenant.dead_letters, tenant.accepted_rows), (0, 3), "{tenant:#?}");
    let mut rows = cloud.stamps[0].rows().unwrap();
    rows.sort_by_key(|row| row["seq"].as_i64());
    let uncertain = |at: usize| rows[at]["temperature_c.status"].as_i64().unwrap_or_default() == 0x4000_0000;
    assert_eq!([uncertain(0), uncertain(1), uncertain(2)], [true, false, false], "{rows:#?}");
    let off = |at: usize| (rows[at]["time_ns"].as_i64().unwrap() - real).abs() / 1_000_000_000;
    assert_eq!(off(1), 0);
    assert!(off(2) < 60, "by the corrected clock: {rows:#?}");
    // A restart begins with the time that was told last, and asks what it is now.
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    wait_for(&gateway, "it has asked", |it| it.questions == 1 && !it.clock_uncertain);
    // Somebody sets the clock.
    set_clock(&clock, "+0");
    gateway.cli("retry-now", &[]).unwrap();
    wait_for(&gateway, "the machine's clock counts again", |it| {
        !it.clock_uncertain && it.clock_behind_s.is_none()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_far_ahead_trusts_nobody_and_says_that_it_may_be_the_clock() {
    let cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    let clock = cloud.world.path().join("clock");
    with_clock(&mut gateway, &clock, "+4y");
    gateway.start().unwrap();
    wait_for(&gateway, "it trusts nobody", |it| it.state == Asking::Parked);
    let cause = status(&gateway).cause.unwrap();
    assert!(cause.contains("if this machine's clock is wrong (20"), "{cause}");
    set_clock(&clock, "+0");
    gateway.cli("retry-now", &[]).unwrap();
    wait_at(&gateway, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_some_days_ahead_is_corrected_and_certificates_are_judged_by_the_right_time() {
    let cloud = Cloud::start(&[("a", "production")], &[]).await;
    let mut gateway = cloud.gateway("edge-1", "");
    let clock = cloud.world.path().join("clock");
    // Longer than the life of an operational certificate.
    with_clock(&mut gateway, &clock, "+9d");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let days = status(&gateway).clock_behind_s.unwrap() / 86_400.0;
    assert!((-9.1..-8.9).contains(&days), "{days}");
    assert_eq!(status(&gateway).questions, 1);
}
