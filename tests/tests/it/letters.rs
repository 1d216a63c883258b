//! Dead letters end to end: a plugin chokes on one device's rows, an operator looks, mends and replays; everything that
//! was acknowledged lands once.

use e2e::client::Client;
use e2e::gateway::{Gateway, Setup};
use e2e::hostile::files::fixture;
use e2e::load::mqtt::Connect;
use e2e::process::wait_until;
use e2e::world::workload_chain;
use serde_json::Value;

use crate::site::{PATIENCE, Site};

/// Messages of each device.
const EACH: u32 = 20;
const POISON: &str = "press-2";
/// What this device measures, and the step in the midst panics at.
const POISONOUS: f64 = 99.5;

/// The workload's chain, with a step before it that panics at what one device measures.
fn site() -> Site {
    let trap = format!("[[tenant.acme.step]]\nuse = {:?}\nwith = {}\n", fixture("trap").unwrap(), with());
    let tenants = vec![("acme".to_owned(), [trap, workload_chain("acme")].concat())];
    Site::start_with(&Setup { tenants, ..Setup::default() })
}

fn with() -> String {
    format!("{{ column = \"temperature_c\", at = {POISONOUS:?} }}")
}

fn topic(device: &str) -> String {
    format!("site/acme/{device}/telemetry")
}

fn payload(device: &str, seq: u32) -> String {
    let at = 1_760_000_000_000 + u64::from(seq) * 1_000;
    let celsius = if device == POISON { POISONOUS } else { 20.5 + f64::from(seq % 7) };
    format!("{{\"ts\":{at},\"seq\":{seq},\"temperature_c\":{celsius:?},\"of\":{device:?}}}")
}

fn connect(site: &Site, client: &str) -> Client {
    Client::connect(site.gateway.mqtt, &Connect { version: 4, client, clean: true, login: None }).unwrap()
}

/// Both devices' messages, acknowledged.
fn publish(site: &Site, seqs: impl Iterator<Item = u32>) {
    let mut devices: Vec<(&str, Client)> = ["press-1", POISON].map(|name| (name, connect(site, name))).into();
    for seq in seqs {
        for (name, device) in &mut devices {
            device.publish(&topic(name), 1, payload(name, seq).as_bytes()).unwrap();
        }
    }
}

/// Runs a command; its output as JSON, line by line, and its exit code.
fn cli(gateway: &Gateway, command: &str, arguments: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = gateway.cli(command, arguments).unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let lines = out.lines().map(|line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{err}\n{}", gateway.log()))
    });
    let lines: Vec<Value> = lines.collect();
    assert!(!lines.is_empty() || err.is_empty(), "{command} {arguments:?}: {err}");
    (lines, output.status.code())
}

fn letters(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let (lines, code) = cli(gateway, "dead-letters", &[&["list", "--json"], arguments].concat());
    assert_eq!(code, Some(0));
    lines[0]["letters"].as_array().unwrap().clone()
}

/// How often each message of a device landed.
fn landed(site: &Site, device: &str) -> Vec<u32> {
    let rows = site.rows();
    let mut times = vec![0; EACH as usize];
    for row in rows.iter().filter(|row| row["device"] == device) {
        assert!(
            (row["temperature_f"].as_f64().unwrap() - (row["temperature_c"].as_f64().unwrap() * 1.8 + 32.0))
                .abs()
                < 1e-9
        );
        times[row["seq"].as_f64().unwrap() as usize] += 1;
    }
    times
}

#[test]
fn poison_rows_are_looked_at_mended_and_replayed_and_land_once() {
    let mut site = site();
    publish(&site, 0..EACH);
    wait_until("the poison rows are dead letters", PATIENCE, || {
        Ok(site.gateway.tenant("acme")?.dead_letters_kept == u64::from(EACH))
    })
    .unwrap();
    site.drain();
    assert_eq!(landed(&site, "press-1"), [1; EACH as usize], "the healthy device's rows passed");
    assert_eq!(landed(&site, POISON), [0; EACH as usize]);

    let listed = letters(&site.gateway, &["--device", POISON, "--kind", "fault"]);
    assert_eq!(listed.len(), EACH as usize);
    assert!(letters(&site.gateway, &["--device", "press-1"]).is_empty());
    assert!(letters(&site.gateway, &["--until", "1 h"]).is_empty(), "none is older than an hour");
    let newest = format!("acme/{}", listed[0]["id"]);
    let (shown, code) = cli(&site.gateway, "dead-letters", &["show", &newest, "--json"]);
    let shown = &shown[0];
    assert_eq!((code, shown["original"].as_str()), (Some(0), Some(payload(POISON, EACH - 1).as_str())));
    assert_eq!((&shown["topic"], &shown["device"]), (&"floor".into(), &POISON.into()));
    assert_eq!(shown["config"], serde_json::json!({ "column": "temperature_c", "at": POISONOUS }));
    assert_eq!(shown["frame"]["rows"][0]["device"], POISON);
    assert!(shown["trace"].as_str().unwrap().contains("fixture_trap::Trap"), "{shown:#}");
    assert_eq!(shown["digest"], site.gateway.tenant("acme").unwrap().steps[0].digest.as_str());
    let text =
        String::from_utf8(site.gateway.cli("dead-letters", &["show", &newest]).unwrap().stdout).unwrap();
    for part in ["fault", POISON, "back trace", "configuration", "dead-letters replay"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }

    // Not mended yet: each row dies again, as a new letter.
    let (replied, code) = cli(&site.gateway, "dead-letters", &["replay", &newest, "--json"]);
    assert_eq!((&replied[0]["dead_again"], code), (&1.into(), Some(1)), "{replied:?}");
    let again = letters(&site.gateway, &[]);
    assert_eq!(again.len(), EACH as usize);
    assert!(again[0]["id"].as_i64() > listed[0]["id"].as_i64(), "{again:?}");

    mend(&mut site);
    let (replied, code) = cli(&site.gateway, "dead-letters", &["replay", "--device", POISON, "--json"]);
    let reply = &replied[0];
    assert_eq!(
        (&reply["replayed"], &reply["dead_again"], code),
        (&EACH.into(), &0.into(), Some(0)),
        "{reply}"
    );
    assert!(letters(&site.gateway, &[]).is_empty());
    let (replied, code) = cli(&site.gateway, "dead-letters", &["replay", &newest, "--json"]);
    assert_eq!((&replied[0]["replayed"], code), (&0.into(), Some(0)));
    site.drain();
    assert_eq!(landed(&site, POISON), [1; EACH as usize], "each row landed once");
    assert_eq!(landed(&site, "press-1"), [1; EACH as usize]);
    let (listed, _) = cli(&site.gateway, "dead-letters", &["list", "--json"]);
    assert_eq!(listed[0]["tenants"][0]["replayed"], EACH + 1, "{listed:?}");
}

/// Takes the poison out of the step's configuration.
fn mend(site: &mut Site) {
    let text = std::fs::read_to_string(&site.gateway.config).unwrap();
    let mended = text.replace(&with(), "{}");
    assert_ne!(text, mended);
    std::fs::write(&site.gateway.config, mended).unwrap();
    let output = site.gateway.cli("reload", &[]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn letters_without_a_row_say_why_they_stay_and_are_exported_and_dropped() {
    let mut site = site();
    let mut device = connect(&site, "press-1");
    let garbage = [&b"{\"ts\": 17, \xff\x1b[2J"[..], b"not json at all"];
    for bytes in garbage {
        device.publish(&topic("press-1"), 1, bytes).unwrap();
    }
    publish(&site, 0..2);
    wait_until("all are dead letters", PATIENCE, || Ok(site.gateway.tenant("acme")?.dead_letters_kept == 4))
        .unwrap();
    let undecodable = ["--kind", "undecodable"];
    let (replied, code) =
        cli(&site.gateway, "dead-letters", &[&["replay", "--json"], &undecodable[..]].concat());
    let stay = replied[0]["stay"].as_array().unwrap();
    assert_eq!((stay.len(), code), (2, Some(1)), "{replied:?}");
    assert!(stay[0]["why"].as_str().unwrap().contains("never became a row"), "{stay:?}");
    let file = site.world.path().join("letters.jsonl");
    let to = ["export", "--to", file.to_str().unwrap()];
    assert!(site.gateway.cli("dead-letters", &to).unwrap().status.success());
    let exported: Vec<Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported.len(), 4);
    assert!(exported[0]["original"].is_null() && exported[0]["original_base64"].is_string(), "{exported:?}");
    assert_eq!(exported[1]["original"], "not json at all");
    assert!(exported[0]["frame"].is_null() && exported[3]["frame"].is_object());

    let usage = site.gateway.cli("dead-letters", &["drop"]).unwrap();
    assert_eq!(usage.status.code(), Some(2), "not all letters by a slip");
    let (dropped, _) = cli(&site.gateway, "dead-letters", &[&["drop", "--json"], &undecodable[..]].concat());
    assert_eq!(dropped[0]["dropped"], 2);
    site.gateway.terminate().unwrap();
    let offline = site.gateway.cli("dead-letters", &["replay", "--all"]).unwrap();
    assert_eq!(offline.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&offline.stderr).contains("needs the running gateway"));
    assert_eq!(letters(&site.gateway, &[]).len(), 2, "the letters are there without the gateway");
    let (dropped, _) = cli(&site.gateway, "dead-letters", &["drop", "--all", "--json"]);
    assert_eq!(dropped[0]["dropped"], 2);
    assert!(letters(&site.gateway, &[]).is_empty());
    site.gateway.start().unwrap();
    assert_eq!(site.gateway.tenant("acme").unwrap().dead_letters_kept, 0);
}

#[test]
fn state_is_shown_exported_and_reset_beside_a_running_gateway_and_without_one() {
    let chain = format!("[[tenant.acme.step]]\nuse = {:?}\n", fixture("counter").unwrap());
    let mut site = Site::start_with(&Setup { tenants: vec![("acme".to_owned(), chain)], ..Setup::default() });
    publish(&site, 0..3);
    site.drain();
    let (listed, code) = cli(&site.gateway, "state", &["list", "--json"]);
    let step = &listed[0]["steps"][0];
    assert_eq!((&step["tenant"], &step["keys"], code), (&"acme".into(), &2.into(), Some(0)), "{listed:?}");
    let name = format!("acme/{}", step["step"].as_str().unwrap());
    let (exported, _) = cli(&site.gateway, "state", &["export"]);
    let keys: Vec<&str> = exported.iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["n/press-1", "n/press-2"]);
    let shown = site.gateway.cli("state", &["show", &name]).unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("n/press-1"));

    let numbers = |site: &Site| -> Vec<u64> {
        let mut rows = site.rows();
        rows.retain(|row| row["device"] == "press-1");
        rows.sort_by_key(|row| row["seq"].as_f64().unwrap() as u64);
        rows.iter().map(|row| row["n"].as_u64().unwrap()).collect()
    };
    let (reset, _) = cli(&site.gateway, "state", &["reset", &name, "--json"]);
    assert_eq!(reset[0]["keys"], 2);
    publish(&site, 3..5);
    site.drain();
    assert_eq!(numbers(&site), [1, 2, 3, 1, 2], "it counts anew from the next batch on");
    site.gateway.terminate().unwrap();
    let (reset, code) = cli(&site.gateway, "state", &["reset", &name, "--json"]);
    assert_eq!((&reset[0]["keys"], code), (&2.into(), Some(0)));
    let wrong = site.gateway.cli("state", &["reset", &name]).unwrap();
    assert_eq!(wrong.status.code(), Some(1), "there is nothing to reset any more");
    site.gateway.start().unwrap();
    publish(&site, 5..6);
    site.drain();
    assert_eq!(numbers(&site), [1, 2, 3, 1, 2, 1]);
}

#[test]
fn what_waits_for_the_stamp_is_exported_as_frames() {
    let mut site = site();
    site.stamp.kill().unwrap();
    publish(&site, 0..EACH);
    wait_until("rows wait", PATIENCE, || Ok(site.gateway.tenant("acme")?.outbox.rows == u64::from(EACH)))
        .unwrap();
    let (frames, code) =
        cli(&site.gateway, "frames", &["export", "--tenant", "acme", "--route", "telemetry"]);
    assert_eq!(code, Some(0));
    let rows = frames.iter().flat_map(|line| {
        assert_eq!((&line["tenant"], &line["route"]), (&"acme".into(), &"telemetry".into()));
        wire::frame_json::from_json(&line["frame"]).unwrap();
        line["frame"]["rows"].as_array().unwrap()
    });
    assert_eq!(rows.count(), EACH as usize);
    assert!(frames.is_sorted_by_key(|line| line["seq"].as_u64()));
    let (few, _) = cli(&site.gateway, "frames", &["export", "--limit", "1"]);
    assert_eq!(few[0]["seq"], frames[0]["seq"]);
    assert!(cli(&site.gateway, "frames", &["export", "--route", "alarms"]).0.is_empty());
    site.stamp.start().unwrap();
    site.drain();
    assert!(cli(&site.gateway, "frames", &["export"]).0.is_empty());
}
