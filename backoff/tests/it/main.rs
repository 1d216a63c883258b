//! The binary `simulate`: what it prints, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in what it calls")]

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap()
}

fn last_line(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn one_policy_ends_with_one_object() {
    let output = simulate(&["--gateways", "2000", "--outage", "10m", "--policy", "default", "--json"]);
    let report = last_line(&output);
    assert_eq!((report["policy"].as_str(), report["gateways"].as_u64()), (Some("default"), Some(2_000)));
    assert!(report["peak_over_capacity"].as_f64().unwrap() <= 1.2);
    assert!(report["recovered_99_s"].as_f64().unwrap() <= 1.5 * 1_000.0);
    assert!(report["attempts_per_gateway"].as_f64().unwrap() <= 1.1);
}

#[test]
fn all_policies_are_shown_beside_each_other_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("fleet.svg");
    let plot_argument = format!("--plot={}", plot.display());
    let report =
        last_line(&simulate(&["--gateways=2000", "--rate=20", "--policy=all", "--json", &plot_argument]));
    let policies = report["policies"].as_array().unwrap();
    let names: Vec<_> = policies.iter().map(|report| report["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "no-slots", "no-jitter", "regular"]);
    let number = |at: usize, key: &str| policies[at][key].as_f64().unwrap();
    assert!(number(0, "peak_over_capacity") <= 1.2);
    assert!(number(1, "recovered_99_s") <= 2.0 * 100.0);
    assert!(number(2, "peak_over_capacity") > 10.0 && number(3, "peak_over_capacity") > 10.0);
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("stamp back").count(), 4);
}

#[test]
fn a_wrong_argument_says_what_to_write() {
    for (arguments, says) in [
        (&["--policy", "hope"][..], "default, late-slots, no-slots, no-jitter, regular or all"),
        (&["--gateways", "0"], "a whole number from 1 to 10000000"),
        (&["--outage", "10"], "has no unit"),
        (&["--outage", "2d"], "at most 24 h"),
        (&["--rate"], "--rate needs a value"),
        (&["--speed", "9"], "--speed is not known"),
    ] {
        let output = simulate(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(error.contains(says), "{arguments:?}\n{error}");
    }
}
