//! What no device should send: none of it stops the gateway, all of it is counted, what can be kept is kept.

use e2e::client::Client;
use e2e::gateway::Setup;
use e2e::load::mqtt::{Answer, Connect};
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site};

fn connect(site: &Site, version: u8) -> Client {
    Client::connect(
        site.gateway.mqtt,
        &Connect { version, client: "tester", clean: true, ..Connect::default() },
    )
    .unwrap()
}

/// A good message, to see that the gateway goes on.
fn good(seq: u32) -> Vec<u8> {
    format!(r#"{{"ts":{},"seq":{seq},"temperature_c":20.5}}"#, 1_760_000_000_000_u64 + u64::from(seq))
        .into_bytes()
}

#[test]
fn what_is_no_row_becomes_a_dead_letter_and_is_acknowledged() {
    let mut site = Site::start(&["acme"]);
    let mut device = connect(&site, 4);
    let far_future = br#"{"ts":99999999999999,"temperature_c":20.0}"#;
    let bad: [&[u8]; 9] = [
        b"",
        b"not json",
        br#"{"ts":1760000000000,"temperature_c":"#,
        b"[1,2,3]",
        b"\xff\xfe\x00",
        br#"{"temperature_c":20.0}"#,
        br#"{"ts":"yesterday","temperature_c":20.0}"#,
        br#"{"ts":1760000000000}"#,
        far_future,
    ];
    for payload in bad {
        device.publish("site/acme/p1/telemetry", 1, payload).unwrap();
    }
    device.publish("site/acme/p1/telemetry", 1, &good(1)).unwrap();
    site.drain();
    assert_eq!(site.rows().len(), 1);
    let tenant = site.gateway.tenant("acme").unwrap();
    assert_eq!((tenant.dead_letters, tenant.dead_letters_kept), (9, 9), "{tenant:?}");
    assert_eq!(tenant.accepted_rows, 10);
}

#[test]
fn a_time_in_the_far_past_is_a_time() {
    let mut site = Site::start(&["acme"]);
    connect(&site, 4)
        .publish("site/acme/p1/telemetry", 1, br#"{"ts":86400000,"seq":1,"temperature_c":20.0}"#)
        .unwrap();
    site.drain();
    assert_eq!(site.stamp.landed().unwrap().next().unwrap().unwrap().time, 86_400_000_000_000);
}

#[test]
fn a_column_that_changes_its_type_lands_as_it_came() {
    let mut site = Site::start(&["acme"]);
    let mut device = connect(&site, 4);
    let versions = ["1480", "\"fast\"", "true", "9007199254740993", "1480.5"];
    for (seq, rpm) in versions.iter().enumerate() {
        let payload =
            format!(r#"{{"ts":{},"seq":{seq},"temperature_c":20.0,"rpm":{rpm}}}"#, 1_760_000_000_000 + seq);
        device.publish("site/acme/p1/telemetry", 1, payload.as_bytes()).unwrap();
    }
    site.drain();
    let mut rows = site.rows();
    rows.sort_by_key(|row| row["seq"].as_f64().unwrap() as i64);
    let values: Vec<String> = rows.iter().map(|row| row["rpm"].to_string()).collect();
    assert_eq!(values, ["1480", "\"fast\"", "true", "9007199254740993", "1480.5"]);
}

#[test]
fn an_unknown_tenant_or_topic_is_kept_or_where_the_protocol_can_say_so_refused() {
    let site = Site::start(&["acme"]);
    let mut old = connect(&site, 4);
    old.publish("site/nobody/p1/telemetry", 1, &good(1)).unwrap();
    old.publish("elsewhere", 1, &good(2)).unwrap();
    old.publish("site/acme/p1/telemetry", 1, &good(3)).unwrap();
    let mut new = connect(&site, 5);
    assert!(new.publish("site/nobody/p1/telemetry", 1, &good(4)).unwrap() >= 0x80);
    assert!(new.publish("elsewhere", 1, &good(5)).unwrap() >= 0x80);
    assert!(new.publish("site/acme/p1/telemetry", 1, &good(6)).unwrap() < 0x80);
    site.wait_accepted(2);
    wait_until("the strays are counted", PATIENCE, || Ok(site.gateway.status()?.sources[0].unrouted == 4))
        .unwrap();
    // The two of MQTT 5 were refused: the device knows, and still has them.
    assert_eq!(site.gateway.status().unwrap().unrouted.kept, 2);
}

#[test]
fn a_message_of_64_mib_ends_its_connection_and_nothing_else() {
    let mut site = Site::start(&["acme"]);
    let (before, _) = site.gateway.memory().unwrap();
    let mut other = connect(&site, 4);
    let mut huge = Client::connect(
        site.gateway.mqtt,
        &Connect { version: 4, client: "huge", clean: true, ..Connect::default() },
    )
    .unwrap();
    let payload = vec![b'x'; 64 << 20];
    let refused = huge.send("site/acme/huge/telemetry", 1, false, &payload).and_then(|_| huge.answer());
    assert!(refused.is_err(), "{refused:?}");
    other.publish("site/acme/p1/telemetry", 1, &good(1)).unwrap();
    site.drain();
    assert_eq!(site.rows().len(), 1);
    let (_, peak) = site.gateway.memory().unwrap();
    assert!(peak < before + (32 << 20), "memory grew from {before} to {peak}");
}

#[test]
fn bytes_that_are_no_mqtt_end_their_connection_and_nothing_else() {
    use std::io::{Read, Write};
    let mut site = Site::start(&["acme"]);
    let mut random = e2e::load::reading::Random(7);
    for _ in 0..50 {
        let mut stream = std::net::TcpStream::connect(site.gateway.mqtt).unwrap();
        let noise: Vec<u8> = (0..300).map(|_| random.draw() as u8).collect();
        let _ = stream.write_all(&noise);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read_to_end(&mut vec![]);
    }
    connect(&site, 4).publish("site/acme/p1/telemetry", 1, &good(1)).unwrap();
    site.drain();
    assert_eq!(site.rows().len(), 1);
}

#[test]
fn a_wrong_password_and_a_foreign_tenant_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "right\n").unwrap();
    let listener =
        format!("[[source.user]]\nname = \"floor\"\npassword = {{ file = {secret:?} }}\ntenant = \"acme\"\n");
    let tenants = ["acme", "globex"].map(|tenant| (tenant.to_owned(), workload_chain(tenant))).to_vec();
    let mut site = Site::start_with(&Setup { tenants, listener, ..Setup::default() });
    let login = |version, login| Connect { version, client: "tester", clean: true, login };
    for (version, code) in [(4, "0x04"), (5, "0x86")] {
        let wrong =
            Client::connect(site.gateway.mqtt, &login(version, Some(("floor", "wrong")))).err().unwrap();
        assert!(wrong.to_string().contains(code) || wrong.to_string().contains("0x05"), "{wrong}");
        let unknown = Client::connect(site.gateway.mqtt, &login(version, Some(("nobody", "right"))));
        assert!(unknown.is_err());
        assert!(Client::connect(site.gateway.mqtt, &login(version, None)).is_err());
    }
    let mut right = Client::connect(site.gateway.mqtt, &login(5, Some(("floor", "right")))).unwrap();
    assert_eq!(right.publish("site/acme/p1/telemetry", 1, &good(1)).unwrap(), 0);
    assert_eq!(right.publish("site/globex/p1/telemetry", 1, &good(2)).unwrap(), 0x87);
    site.drain();
    assert_eq!(site.rows().len(), 1);
    assert_eq!(site.gateway.status().unwrap().sources[0].refused, 6);
}

#[test]
fn a_repetition_flagged_dup_is_taken_once_and_an_equal_message_without_the_flag_twice() {
    let mut site = Site::start(&["acme"]);
    let mut device = connect(&site, 4);
    device.publish("site/acme/p1/telemetry", 1, &good(1)).unwrap();
    for packet in [7, 8] {
        device.send_as(packet, "site/acme/p1/telemetry", 1, true, &good(1)).unwrap();
        assert_eq!(device.answer().unwrap(), Answer::Puback { packet, code: 0 });
    }
    site.drain();
    assert_eq!(site.rows().len(), 1);
    assert_eq!(site.gateway.tenant("acme").unwrap().duplicates, 2);
    device.publish("site/acme/p1/telemetry", 1, &good(1)).unwrap();
    site.drain();
    assert_eq!(site.rows().len(), 2);
}
