//! `sluice-plugin replay` and `bench`: versions over exported rows, plugins beside native functions.

use serde_json::json;

use crate::guests::{Folder, guest};

/// Batches of ten rows, ten seconds apart, as `sluice-gateway frames export` writes them.
fn exported(batches: i64) -> String {
    let line = |batch: i64| {
        let rows: Vec<_> = (0..10)
            .map(|row| json!({"device": format!("d{}", row % 2), "time": (batch * 10 + row) * 1_000_000_000, "values": [row as f64]}))
            .collect();
        let frame =
            json!({"profile": "p", "columns": [{"name": "x", "type": "f64", "unit": "bar"}], "rows": rows});
        json!({"tenant": "acme", "route": "telemetry", "seq": batch + 1, "frame": frame}).to_string()
    };
    (0..batches).map(|batch| line(batch) + "\n").collect()
}

#[test]
fn two_configurations_are_compared_row_by_row() {
    let folder = Folder::new();
    folder.write("rows.jsonl", exported(3));
    let linear = guest("linear").display().to_string();
    let replay = |with: &str, more: &[&str]| {
        let base = ["replay", &linear, "--against", &linear, "--frames", "rows.jsonl", "--with", with];
        folder.run(&[&base[..], &["--against-with", "column = \"x\", scale = 2"], more].concat())
    };
    let same = replay("{\"column\": \"x\", \"scale\": 2}", &[]);
    assert_eq!(same.code, 0, "{}{}", same.out, same.err);
    assert!(
        same.out.contains("30 rows in 3 calls") && same.out.contains("both gave the same"),
        "{}",
        same.out
    );
    let near = "column = \"x\", scale = 2.0000001";
    assert_eq!(replay(near, &["--tolerance", "1e-6"]).code, 0);
    let differ = replay(near, &["--tolerance", "0"]);
    assert_eq!(differ.code, 1);
    assert!(differ.out.contains("27 rows differ, in 3 of 3 calls"), "{}", differ.out);
    assert!(
        differ.out.contains(
            "line 2, route telemetry\n       row  device  time                  x\n  old    1  d1      1970-01-01T00:00:11Z  [2 bar]\n  new    1  d1      1970-01-01T00:00:11Z  [2.0000001 bar]\n"
        ),
        "{}",
        differ.out
    );
    let json = replay(near, &["--tolerance", "0", "--json"]).json();
    assert_eq!(
        (&json["differing_rows"], &json["differing_calls"], &json["rows"]),
        (&json!(27), &json!(3), &json!(30))
    );
    assert!(json["new"]["memory_bytes"].as_u64().unwrap() >= 65_536);
    assert!(json["old"]["call_us_p50"].as_f64().unwrap() > 0.0);
}

#[test]
fn ticks_come_as_the_rows_time_says() {
    let folder = Folder::new();
    folder.write("rows.jsonl", exported(6));
    let window = guest("window").display().to_string();
    let with = "every = \"20 s\", columns = [\"x\"], aggregates = [\"count\"]";
    let json = folder.run(&["replay", &window, "--frames", "rows.jsonl", "--with", with, "--json"]).json();
    assert_eq!(json["new"]["rows"], 4, "two windows of two devices are closed by later rows: {json}");
}

#[test]
fn dead_letters_are_given_to_the_kind_of_plugin_that_takes_them() {
    let folder = Folder::new();
    let letters = [
        json!({"tenant": "a", "id": 1, "kind": "undecodable", "device": "pump-1", "topic": "t", "time": 5, "reason": "r", "frame": null, "original_base64": "AQEB9AhpAAAAAQ=="}),
        json!({"tenant": "a", "id": 2, "kind": "fault", "device": "d", "topic": "t", "time": 5, "reason": "r", "original": "{}",
               "frame": {"profile": "p", "columns": [{"name": "x", "type": "f64"}], "rows": [{"device": "d", "time": 5, "values": [3]}]}}),
    ];
    folder.write("dead.jsonl", format!("{}\n{}\n", letters[0], letters[1]));
    let replay = |name: &str, with: &str| {
        folder.run(&[
            "replay",
            &guest(name).display().to_string(),
            "--frames",
            "dead.jsonl",
            "--with",
            with,
            "--json",
        ])
    };
    let decoder = replay("examples/vibration", "{}");
    assert_eq!(
        (decoder.code, &decoder.json()["new"]["rows"], &decoder.json()["new"]["rejected"]),
        (0, &json!(1), &json!(1))
    );
    let processor = replay("fixtures/trap", "column = \"x\", at = 3");
    assert_eq!(processor.code, 1, "{}", processor.err);
    let json = processor.json();
    assert_eq!((&json["skipped"], &json["calls"]), (&json!(1), &json!(1)));
    assert_eq!(json["new"]["faults"][0]["kind"], "trap");
    assert!(json["new"]["faults"][0]["message"].as_str().unwrap().contains("poison value 3"), "{json}");
}

#[test]
fn lines_that_are_none_are_named() {
    let folder = Folder::new();
    let linear = guest("linear").display().to_string();
    for (text, told) in [
        ("{\"frame\": {\"profile\": \"p\"}}\n", "rows.jsonl:1: frame: frame: \"columns\" is missing"),
        ("\n{\n", "rows.jsonl:2: not a JSON object"),
        ("{}\n", "rows.jsonl:1: no \"frame\": export lines with sluice-gateway frames export"),
        ("", "rows.jsonl holds nothing for a processor: 0 lines skipped"),
    ] {
        folder.write("rows.jsonl", text);
        let said = folder.run(&["replay", &linear, "--frames", "rows.jsonl", "--with", "column = \"x\""]);
        assert_eq!(said.code, 2, "{text}: {}", said.out);
        assert!(said.err.contains(told), "{text}: {}", said.err);
    }
}

#[test]
fn a_known_step_is_measured_beside_the_same_native_function() {
    let folder = Folder::new();
    let bench = |name: &str, more: &[&str]| {
        let base =
            ["bench", &guest(name).display().to_string(), "--seconds", "0.05", "--rows", "64,256", "--json"];
        folder.run(&[&base[..], more].concat())
    };
    let json = bench("deadband", &[]).json();
    assert_eq!(json["runs"].as_array().unwrap().len(), 2);
    let run = &json["runs"][1];
    assert_eq!(
        (&run["rows"], &run["beside"]["name"]),
        (&json!(256), &json!("the same step as a native function"))
    );
    assert!(run["rows_per_s"].as_f64().unwrap() > 0.0 && run["beside"]["ratio"].as_f64().unwrap() > 0.0);
    assert!(run["call_us_p99"].as_f64() >= run["call_us_p50"].as_f64());
    assert!(json["load_cold_ms"].as_f64() > json["load_cached_ms"].as_f64(), "{json}");
    assert!(json["memory_bytes"].as_u64().unwrap() >= 65_536 && json["bytes"].as_u64().unwrap() > 1_000);
    let json = bench("tag", &[]).json();
    assert_eq!(json["runs"][0]["beside"]["name"], "copying the bytes of the rows in and out");
}

#[test]
fn a_decoder_is_measured_with_messages_of_a_file() {
    let folder = Folder::new();
    let vibration = guest("examples/vibration").display().to_string();
    let said = folder.run(&["bench", &vibration]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--input FILE"), "{}", said.err);
    folder.write("m.csv", format!("device,hex\n{}", "pump-1,01010000086900000001\n".repeat(100)));
    let said =
        folder.run(&["bench", &vibration, "--input", "m.csv", "--rows", "40", "--seconds", "0.05", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let json = said.json();
    assert_eq!((&json["kind"], &json["runs"][0]["beside"]), (&json!("decoder"), &json!(null)));
    assert!(json["runs"][0]["rows_per_s"].as_f64().unwrap() > 0.0);
}
