//! What a plugin may: the lower of what its manifest asks for and what the operator grants, at every host call.

use std::time::Duration;

use runtime::{
    Asks, CallContext, ConfigureFault, FaultKind, Import, Imports, Limits, LoadError, Manifest, Step,
    StepConfig, inspect_file, manifest,
};

use crate::guests::{Site, frame, path};

fn granted(guest: &str, config: &str, imports: Imports) -> Step {
    let config =
        StepConfig { name: "s".into(), config_json: config.into(), imports, ..StepConfig::default() };
    Site::shared().configured(guest, config, Vec::new()).unwrap()
}

fn without(import: Import) -> Imports {
    Import::ALL.into_iter().filter(|&other| other != import).collect()
}

#[test]
fn a_host_call_that_is_not_granted_is_a_fault_that_names_it_and_the_key() {
    for (import, of, call) in [
        (Import::Clock, "clock", "clock.now"),
        (Import::Link, "link", "link.get"),
        (Import::Log, "log", "log.write"),
        (Import::Metrics, "metrics", "metrics.gauge"),
        (Import::State, "set", "state.set"),
        (Import::State, "keys", "state.keys"),
    ] {
        let config = format!(r#"{{"of": "{of}", "times": 1}}"#);
        let mut step = granted("fixtures/calls", &config, without(import));
        let fault = step.process(&[frame(&[("a", 1, 1.0)])], &CallContext::default()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Authority, "{fault}");
        assert!(fault.message.contains(call) && fault.message.contains("grant.imports"), "{fault}");
        assert!(!fault.backtrace.is_empty());
        let mut step = granted("fixtures/calls", &config, [import].into_iter().collect());
        assert!(step.process(&[frame(&[("a", 1, 1.0)])], &CallContext::default()).is_ok(), "{import}");
    }
}

#[test]
fn a_panic_without_the_right_to_log_still_says_why() {
    let mut step = granted("fixtures/trap", r#"{"column": "x", "at": 13}"#, without(Import::Log));
    let fault = step.process(&[frame(&[("a", 1, 13.0)])], &CallContext::default()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Authority, "{fault}");
    assert!(fault.message.contains("poison value 13"), "{fault}");
}

#[test]
fn a_plugin_is_held_to_its_own_manifest() {
    let site = Site::new();
    let asks = Asks {
        memory: Some(16 << 20),
        time_ms: Some(50),
        state: Some(100),
        imports: Some(vec![Import::State, Import::Log]),
        ..Asks::default()
    };
    let manifest = Manifest { version: Some("7.1.0".into()), asks, ..Manifest::default() };
    let calls = std::fs::read(path("fixtures/calls")).unwrap();
    let file = site.write("calls.wasm", &manifest::attach(&calls, &manifest).unwrap());
    let plugin = site.engine.load(&file).unwrap();
    assert_eq!((plugin.name(), plugin.version()), ("fixture-calls", "7.1.0"), "the SDK's, and the tool's");

    let step = |of: &str| {
        let config = StepConfig {
            name: "s".into(),
            config_json: format!(r#"{{"of": "{of}", "times": 1000000000}}"#),
            ..StepConfig::default()
        };
        Step::new(&site.engine, &plugin, config, Vec::new(), &CallContext::default()).unwrap()
    };
    let fault = |of: &str| step(of).process(&[frame(&[("a", 1, 1.0)])], &CallContext::default()).unwrap_err();
    let limits = step("log").config().limits;
    assert_eq!((limits.memory, limits.time), (16 << 20, Duration::from_millis(50)));
    assert_eq!(limits.output_bytes, Limits::default().output_bytes);
    assert_eq!(fault("log").kind, FaultKind::Timeout);
    assert_eq!(fault("set").kind, FaultKind::StateQuota);
    let denied = fault("clock");
    assert_eq!(denied.kind, FaultKind::Authority);
    assert!(denied.message.contains("clock.now") && denied.message.contains("asks.imports"), "{denied}");
}

#[test]
fn a_manifest_that_cannot_be_read_is_refused_with_the_place() {
    let site = Site::new();
    let tag = std::fs::read(path("tag")).unwrap();
    let manifest = Manifest { name: Some("x".into()), ..Manifest::default() };
    let whole = manifest::attach(&tag, &manifest).unwrap();
    let broken = [&whole[..whole.len() - 1], b"]"].concat();
    let error = site.engine.load(&site.write("broken.wasm", &broken)).unwrap_err();
    assert!(matches!(error, LoadError::Manifest { .. }), "{error}");
    assert!(error.to_string().contains("broken.wasm"), "{error}");
    let zero = Manifest { asks: Asks { time_ms: Some(0), ..Asks::default() }, ..Manifest::default() };
    assert!(manifest::attach(&tag, &zero).is_err());
}

#[test]
fn an_inspection_says_what_a_file_is_without_compiling_it() {
    let found = inspect_file(&path("fixtures/migrate")).unwrap();
    assert!(found.migrates && found.uses.contains(&Import::State), "{found:?}");
    assert_eq!(found.manifest.name.as_deref(), Some("fixture-migrate"));
    assert_eq!(found.manifest.description.as_deref(), Some("Counts rows in a state whose form it changes"));
    assert!(found.counts.functions > 10 && found.counts.code_bytes > 1_000, "{found:?}");
    assert_eq!(found.digest, Site::shared().load("fixtures/migrate").digest());
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!((&json["kind"], &json["interface"]), (&"processor".into(), &"1.0.0".into()));
    let refused = inspect_file(&path("fixtures/wasi")).unwrap_err();
    assert!(matches!(refused, LoadError::Import { .. }), "{refused}");
}

#[test]
fn memory_that_a_plugin_begins_with_counts_too() {
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    match Site::shared().restored("fixtures/alloc", "{}", limits, Vec::new()) {
        Err(ConfigureFault::Fault(fault)) => assert_eq!(fault.kind, FaultKind::Memory, "{fault}"),
        other => panic!("a Rust guest begins with 17 pages: {:?}", other.err()),
    }
}
