//! What the commands show, and what they say when something is wrong.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use wire::frame::{Blobs, Column, Frame, Values};

use crate::gateway::{ACME, PLANT7, UMBRA, frame, rows};
use crate::site::Site;

/// Two tenants, some devices, a special frame.
async fn filled() -> (Site, crate::site::Stamp) {
    let site = Site::new();
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["press-1", "press-2", "with \"quotes\", and commas"], 1)]).await;
    gateway.send(UMBRA, 1, &[frame(&["press-1"], 100)]).await;
    let column =
        |name: &str, values, status| Column { name: name.into(), unit: String::new(), values, status };
    let special = Frame {
        profile: "special".into(),
        devices: vec!["s".into()],
        device: vec![0, 0],
        time: vec![1_760_000_001_000_000_001, 1_760_000_002_000_000_000],
        columns: vec![
            column("device", Values::Bool(vec![true, false]), vec![]),
            column("big", Values::I64(vec![i64::MIN, i64::MAX]), vec![0, 0x8000_0000]),
            column("odd", Values::F64(vec![f64::NAN, 0.1 + 0.2]), vec![]),
            column("raw", Values::Blob(Blobs { ends: vec![2, 2], bytes: vec![0xab, 0x01] }), vec![]),
        ],
    };
    gateway.send(ACME, 2, &[special]).await;
    gateway.landed_up_to(ACME, 2).await;
    gateway.landed_up_to(UMBRA, 1).await;
    gateway.bye().await;
    (site, stamp)
}

#[tokio::test]
async fn a_json_line_has_whose_it_is_when_it_was_and_all_columns() {
    let (site, _stamp) = filled().await;
    let rows = site.rows();
    assert_eq!(rows.len(), 6);
    let first = rows.iter().find(|row| row["device"] == "press-1" && row["tenant"] == "acme").unwrap();
    assert_eq!(first["gateway"], "plant7");
    assert_eq!(first["time"], "2025-10-09T08:53:20.123000000Z");
    assert_eq!(first["time_ns"], 1_760_000_000_123_000_000i64);
    assert_eq!(first["route"], "telemetry");
    assert_eq!(first["profile"], "machine");
    assert_eq!(first["batch"], 1);
    assert!(first["received_ns"].as_i64().unwrap() > 1_760_000_000_123_000_000);
    assert_eq!(first["temperature_c"], 21.5);
    assert_eq!(first["state"], "RUN");
    assert!(rows.iter().any(|row| row["device"] == "with \"quotes\", and commas"));
    let special: Vec<_> = rows.iter().filter(|row| row["profile"] == "special").collect();
    assert_eq!(special[0]["columns.device"], true, "a column called like a fixed part is told apart");
    assert_eq!(special[0]["device"], "s");
    assert_eq!(special[0]["big"], i64::MIN);
    assert_eq!(special[1]["big.status"], 0x8000_0000u32);
    assert!(special[0]["odd"].is_null());
    assert_eq!(special[1]["odd"].as_f64().unwrap().to_bits(), (0.1f64 + 0.2).to_bits());
    assert_eq!(special[0]["raw"], "ab01");
}

#[tokio::test]
async fn filters_limit_and_count_choose_rows() {
    let (site, _stamp) = filled().await;
    let count = |filters: &[&str]| {
        let arguments = [&["query", "--count"], filters].concat();
        site.output(&arguments).trim().parse::<u64>().unwrap()
    };
    assert_eq!(count(&[]), 6);
    assert_eq!(count(&["--tenant", "umbra"]), 1);
    assert_eq!(count(&["--device", "press-1"]), 2);
    assert_eq!(count(&["--device", "press-1", "--tenant", "acme"]), 1);
    assert_eq!(count(&["--device", "press"]), 0);
    assert_eq!(count(&["--gateway", "plant8"]), 0);
    assert_eq!(count(&["--route", "telemetry"]), 6);
    assert_eq!(count(&["--route", "alarms"]), 0);
    assert_eq!(count(&["--since", "2025-10-09T08:53:21Z"]), 2);
    assert_eq!(count(&["--until", "2025-10-09T08:53:21Z"]), 4);
    assert_eq!(count(&["--since", "2025-10-09T08:53:21.000000001Z", "--until", "2025-10-09T08:53:22Z"]), 1);
    assert_eq!(count(&["--since", "1 h"]), 0);
    assert_eq!(count(&["--limit", "4"]), 4);
    assert_eq!(site.output(&["query", "--limit", "4"]).lines().count(), 4);
    assert_eq!(site.output(&["query", "--device", "s"]).lines().count(), 2);
}

#[tokio::test]
async fn csv_has_one_header_with_all_columns() {
    let (site, _stamp) = filled().await;
    let file = site.path("out.csv");
    site.output(&["export", "--format", "csv", "--output", file.to_str().unwrap()]);
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(
        lines[0],
        "tenant,gateway,device,time,time_ns,route,profile,received_ns,batch,\
         id,temperature_c,state,columns.device,big.status,big,odd,raw"
    );
    assert!(lines.iter().skip(1).all(|line| line.starts_with("acme,") || line.starts_with("umbra,")));
    let quoted = lines.iter().find(|line| line.contains("quotes")).unwrap();
    assert!(
        quoted.starts_with("acme,plant7,\"with \"\"quotes\"\", and commas\",2025-10-09T08:53:20.125000000Z,")
    );
    assert!(quoted.ends_with(",3,21.52,RUN,,,,,"), "{quoted}");
    assert!(text.contains(",false,2147483648,9223372036854775807,0.30000000000000004,\n"), "{text}");
}

#[tokio::test]
async fn tail_shows_the_last_rows_and_follows_what_lands() {
    let (site, _stamp) = filled().await;
    assert_eq!(site.output(&["tail"]).lines().count(), 6);
    assert_eq!(site.output(&["tail", "--from", "3"]).lines().count(), 3);
    assert_eq!(site.output(&["tail", "--from", "end"]), "");
    assert_eq!(site.output(&["tail", "--from", "start", "--tenant", "umbra"]).lines().count(), 1);
    let mut tail = Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
        .args(["tail", "--follow", "--from", "1", "--config"])
        .arg(site.config())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("special"));
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 3, &[rows(1_000, 5_000)]).await;
    gateway.landed_up_to(ACME, 3).await;
    let ids: Vec<u64> = lines
        .by_ref()
        .take(1_000)
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["id"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(ids, (5_000..6_000).collect::<Vec<_>>(), "by time");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_error() {
    let (site, _stamp) = filled().await;
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 3, &[rows(20_000, 0)]).await;
    gateway.landed_up_to(ACME, 3).await;
    let mut query = Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
        .args(["query", "--config"])
        .arg(site.config())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, query.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = query.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn the_commands_also_work_without_a_running_stamp_and_status_adds_up() {
    let (site, mut stamp) = filled().await;
    assert!(stamp.terminate().success());
    assert_eq!(site.rows().len(), 6);
    let status: serde_json::Value = serde_json::from_str(&site.output(&["status", "--json"])).unwrap();
    assert_eq!((status["rows"].as_u64(), status["batches"].as_u64()), (Some(6), Some(3)));
    assert_eq!(status["devices"], 5);
    assert_eq!(status["gateways"][0]["gateway"], "plant7");
    let text = site.output(&["status"]);
    assert!(text.contains("6 rows in 3 batches") && text.contains("tenant umbra"), "{text}");
}

#[test]
fn check_says_everything_that_is_wrong() {
    let site = Site::new();
    assert!(site.output(&["check"]).contains("is good"));
    std::fs::write(site.path("stamp.key"), "no key").unwrap();
    site.write_roster("[[gateway]]\nid = \"UPPER\"\ntenants = []\n");
    let output = site.run(&["check"]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("roster.toml:2: ") && said.contains("gateway id must not contain"), "{said}");
    assert!(said.contains("stamp.identity.key") && said.contains("stamp.key"), "{said}");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace("max_devices", "max_device").replace("id = \"eu-1\"", "id = \"EU 1\"");
    std::fs::write(site.config(), text).unwrap();
    let said = String::from_utf8(site.run(&["check"]).stderr).unwrap();
    assert!(said.contains("stamp.toml:7: ") && said.contains("unknown field `max_device`"), "{said}");
    // All of it, and also what the other files have, as far as these are known.
    assert!(said.contains("stamp.toml:2: ") && said.contains("stamp id must not contain"), "{said}");
    assert!(said.contains("missing field `max_devices`"), "{said}");
    assert!(said.contains("roster.toml:2: ") && said.contains("stamp.identity.key"), "{said}");
}

#[test]
fn what_cannot_be_opened_is_said_with_its_path() {
    let site = Site::new();
    let said = String::from_utf8(site.run(&["tail"]).stderr).unwrap();
    assert!(said.contains("there is no landing database") && said.contains("landing.db"), "{said}");
    // A file where the folder should be: no permission to ignore as root.
    std::fs::write(site.path("data"), "").unwrap();
    let mut stamp = site.spawn();
    assert!(!stamp.wait().success());
    assert!(stamp.log().contains("landing.db"), "{}", stamp.log());
}
