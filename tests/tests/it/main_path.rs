//! From a device's message to a row at the stamp, nothing failing.

use e2e::client::Client;
use e2e::load::mqtt::Connect;
use e2e::load::{Fleet, Load};
use e2e::oracle;

use crate::site::{Site, plan};

#[test]
fn a_message_becomes_a_row_with_what_its_tenants_plugins_made_of_it() {
    let mut site = Site::start(&["acme", "globex"]);
    let mut device =
        Client::connect(site.gateway.mqtt, &Connect { version: 4, client: "p1", ..Connect::default() })
            .unwrap();
    let payload = br#"{"ts":1760000000123,"seq":1,"temperature_c":21.53,"pressure_kpa":101.3,"rpm":1480,"state":"RUN"}"#;
    device.publish("site/acme/pump-1/telemetry", 1, payload).unwrap();
    site.drain();
    let rows = site.rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    assert_eq!((text("tenant"), text("gateway"), text("device")), ("acme", "edge-1", "pump-1"));
    assert_eq!(row["temperature_c"], 21.53);
    assert_eq!(row["temperature_f"], 70.754);
    assert_eq!(
        (&row["pressure_kpa"], &row["rpm"], &row["state"]),
        (&101.3.into(), &1480.into(), &"RUN".into())
    );
}

#[test]
fn every_quality_of_service_lands_once_and_what_is_out_of_range_does_not() {
    let mut site = Site::start(&["acme", "globex"]);
    let fleets = vec![Fleet::new("acme", 5, 0), Fleet::new("globex", 5, 1)];
    let mut all = plan(site.gateway.mqtt, fleets, 2_000.0);
    all.each = Some(300);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.wait_accepted(3_000);
    let account = site.settle(&ledger);
    // Nothing was killed: QoS 0 arrives as well.
    let in_range = ledger.entries().filter(|(_, entry)| oracle::in_range(entry)).count() as u64;
    assert_eq!(account.landed, in_range, "{account:#?}");
    assert!(account.filtered > 30, "{account:#?}");
    let filtered: u64 =
        ["acme", "globex"].map(|tenant| site.gateway.tenant(tenant).unwrap().filtered_rows).iter().sum();
    assert_eq!(filtered, account.sent - in_range);
}

#[test]
fn tenants_may_send_at_qos_2_and_their_packet_identifiers_are_free_again() {
    let mut site = Site::start(&["acme"]);
    let mut device =
        Client::connect(site.gateway.mqtt, &Connect { version: 4, client: "p2", ..Connect::default() })
            .unwrap();
    for seq in 1..=20 {
        let payload = format!(r#"{{"ts":{},"seq":{seq},"temperature_c":20.0}}"#, 1_760_000_000_000_i64 + seq);
        device.publish("site/acme/p2/telemetry", 2, payload.as_bytes()).unwrap();
    }
    // The same identifier again, released in between: another message.
    device
        .send_as(
            1,
            "site/acme/p2/telemetry",
            2,
            false,
            br#"{"ts":1760000009999,"seq":21,"temperature_c":20.0}"#,
        )
        .unwrap();
    assert!(matches!(device.answer().unwrap(), e2e::load::mqtt::Answer::Pubrec { packet: 1, .. }));
    site.drain();
    assert_eq!(site.rows().len(), 21);
}

#[test]
fn tail_shows_a_row_as_it_lands() {
    use std::io::BufRead;
    let site = Site::start(&["acme"]);
    let mut tail = std::process::Command::new(e2e::process::binary("sluice-stamp").unwrap())
        .args(["tail", "--follow", "--from", "start", "--config"])
        .arg(&site.stamp.config)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut device =
        Client::connect(site.gateway.mqtt, &Connect { version: 5, client: "p3", ..Connect::default() })
            .unwrap();
    for seq in 1..4 {
        let payload = format!(r#"{{"ts":{},"seq":{seq},"temperature_c":20.0}}"#, 1_760_000_000_000_i64 + seq);
        device.publish("site/acme/p3/telemetry", 1, payload.as_bytes()).unwrap();
        let row: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&row["device"], &row["seq"]), (&"p3".into(), &seq.into()));
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
}
