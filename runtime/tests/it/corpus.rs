//! Old binaries: components built for a released interface load, are configured and return the same for ever.

use std::path::Path;

use runtime::{
    CallContext, DecodeStep, Kind, Link, Messages, Processed, StateChange, Step, StepConfig, Uplink,
};
use serde_json::{Value, json};
use wire::frame_json::to_json;

use crate::guests::{SECOND, Site, frame, mixed};

const V1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/v1");

struct Old {
    name: &'static str,
    config: &'static str,
    /// The state that it begins with, and the version that wrote it.
    state: Option<(&'static str, &'static [u8], &'static str)>,
}

const OLD: &[Old] = &[
    Old::of(
        "linear",
        r#"{"column": "x", "into": "y", "scale": 1.8, "offset": 32, "unit": "[degF]", "resolution": 0.01}"#,
    ),
    Old::of("deadband", r#"{"column": "x", "absolute": 0.5, "max_silence": "1 min"}"#),
    Old::of("window", r#"{"columns": ["x"], "every": "10 s", "forward": true}"#),
    Old::of("threshold", r#"{"column": "x", "above": 3, "clear": 2.5}"#),
    Old::of("tag", r#"{"column": "site", "value": "north"}"#),
    Old::of("vibration", "{}"),
    Old { name: "migrate", config: "{}", state: Some(("rows", &[41], "0.0.9")) },
];

impl Old {
    const fn of(name: &'static str, config: &'static str) -> Self {
        Old { name, config, state: None }
    }
}

#[test]
fn old_plugins_run_and_return_what_they_always_did() {
    let site = Site::shared();
    let mut files: Vec<String> = std::fs::read_dir(V1)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".wasm").map(str::to_owned))
        .collect();
    files.sort();
    let mut known: Vec<&str> = OLD.iter().map(|old| old.name).collect();
    known.sort_unstable();
    assert_eq!(files, known, "each file is run");
    for old in OLD {
        let path = Path::new(V1).join(format!("{}.wasm", old.name));
        let plugin = site.engine.load(&path).unwrap();
        let config = StepConfig {
            name: old.name.into(),
            config_json: old.config.into(),
            state_version: old.state.map(|(_, _, version)| version.to_owned()),
            ..StepConfig::default()
        };
        let state: Vec<_> =
            old.state.iter().map(|(key, value, _)| ((*key).to_owned(), value.to_vec())).collect();
        let returned = match plugin.kind() {
            Kind::Processor => {
                let mut step = Step::new(&site.engine, &plugin, config, state, &context(0)).unwrap();
                processor(&mut step)
            }
            Kind::Decoder => {
                let mut step = DecodeStep::new(&site.engine, &plugin, config, state, &context(0)).unwrap();
                vec![decoder(&mut step)]
            }
        };
        compare(&path.with_extension("json"), Value::Array(returned));
    }
}

fn processor(step: &mut Step) -> Vec<Value> {
    let mut returned = vec![changes(&step.take_migration())];
    let inputs = [
        vec![frame(&[("a", 1, 1.0), ("b", 2, 3.5), ("a", 3, 1.2), ("b", 4, 2.0)])],
        vec![mixed(7), frame(&[("a", 12, f64::NAN), ("c", 13, -0.0)])],
        vec![frame(&[("a", 75, 9.0), ("b", 76, 2.0), ("ü", 77, f64::INFINITY)])],
    ];
    for (index, input) in inputs.iter().enumerate() {
        returned.push(output(&step.process(input, &context(20 * (index as i64 + 1))).unwrap()));
        returned.push(output(&step.tick(&context(20 * (index as i64 + 1) + 10)).unwrap()));
    }
    returned
}

fn decoder(step: &mut DecodeStep) -> Value {
    let payloads: [&[u8]; 3] = [
        &[1, 2, 0x01, 0xf4, 0xff, 0x38, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0],
        &[1, 1, 0, 0, 0x08, 0x69, 0, 0, 0, 1],
        b"{}",
    ];
    let messages = Messages {
        profile: "",
        devices: &["pump-1".to_owned(), "pump-2".to_owned()],
        device: &[0, 1, 0],
        arrived: &[100 * SECOND; 3],
        topics: &["site/acme/pump-1/raw".to_owned()],
        topic: &[0; 3],
        ends: &[14, 24, 26],
        payloads: &payloads.concat(),
    };
    output(&step.decode(&messages, &context(1)).unwrap())
}

fn context(seconds: i64) -> CallContext {
    let link = Link { backlog_bytes: 7, disk_left_bytes: 11, uplink: Uplink::Up };
    CallContext { now: seconds * SECOND, link }
}

fn output(processed: &Processed) -> Value {
    let frames = processed.frames.iter().map(|routed| {
        let origin = routed.origin.as_ref().map(|origin| json!({"frame": origin.frame, "rows": origin.rows}));
        json!({"route": routed.route.as_str(), "origin": origin, "frame": to_json(&routed.frame)})
    });
    let rejected =
        processed.rejected.iter().map(|rejected| json!([rejected.frame, rejected.rows, rejected.reason]));
    let metrics = processed.metrics.iter().map(|metric| json!([metric.name, format!("{:?}", metric.value)]));
    json!({
        "frames": frames.collect::<Vec<_>>(),
        "rejected": rejected.collect::<Vec<_>>(),
        "state": changes(&processed.state),
        "metrics": metrics.collect::<Vec<_>>(),
    })
}

fn changes(changes: &[StateChange]) -> Value {
    changes.iter().map(|change| json!([change.key, change.value])).collect()
}

/// Holds what was returned against what was written when the plugin was put into the corpus.
fn compare(file: &Path, returned: Value) {
    let write = std::env::var_os("SLUICE_CORPUS").is_some_and(|value| value == "write");
    if write && !file.exists() {
        std::fs::write(file, serde_json::to_string_pretty(&returned).unwrap() + "\n").unwrap();
    }
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let expected: Value = serde_json::from_str(&text).unwrap();
    let (expected, returned) = (expected.as_array().unwrap(), returned.as_array().unwrap());
    for (call, (returned, expected)) in returned.iter().zip(expected).enumerate() {
        assert_eq!(returned, expected, "{}, call {call}", file.display());
    }
    assert_eq!(returned.len(), expected.len());
}
