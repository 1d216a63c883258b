//! `sluice-gateway check`: every mistake of a configuration with file, line and key.

use e2e::gateway::Setup;
use e2e::world::workload_chain;

use crate::site::Site;

/// What `check` says of a configuration into which something was put, and whether it passed.
fn check(change: impl Fn(&str) -> String) -> (String, bool) {
    let (said, passed, _) = check_at(change, "");
    (said, passed)
}

/// As [`check`], with the line (from 1) of the changed file on which the text stands.
fn check_at(change: impl Fn(&str) -> String, part: &str) -> (String, bool, usize) {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let site = Site::create(&Setup { tenants, ..Setup::default() });
    let changed = change(&std::fs::read_to_string(&site.gateway.config).unwrap());
    std::fs::write(&site.gateway.config, &changed).unwrap();
    let line = 1 + changed.lines().position(|line| line.contains(part)).unwrap();
    let output = site.gateway.cli("check", &[]).unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (said, output.status.success(), line)
}

#[test]
fn a_good_configuration_passes() {
    let (said, passed) = check(str::to_owned);
    assert!(passed, "{said}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let with_colour =
        |text: &str| text.replace("kind = \"mqtt-listener\"", "kind = \"mqtt-listener\"\ncolour = \"red\"");
    let (said, passed, line) = check_at(with_colour, "colour");
    assert!(
        !passed && said.contains("colour") && said.contains(&format!("edge-1.toml:{line}")),
        "{line}: {said}"
    );
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    let (said, passed) = check(|text| {
        text.replace("unit = \"ms\"", "unit = \"minutes\"").replace("builtin:range", "builtin:ragne")
    });
    assert!(!passed && said.contains("minutes") && said.contains("ragne"), "{said}");
}

#[test]
fn a_duplicate_and_a_missing_plugin_are_told() {
    let (said, passed) = check(|text| format!("{text}\n[gateway]\nid = \"again\"\n"));
    assert!(!passed && said.contains("edge-1.toml:"), "{said}");
    let (said, passed) = check(|text| text.replace("builtin:range", "plugins/not-there.wasm"));
    assert!(!passed && said.contains("not-there.wasm") && said.contains("edge-1.toml:"), "{said}");
    let (said, passed) = check(|text| text.replace("min = -40.0", "minimum = -40.0"));
    assert!(!passed && said.contains("minimum"), "{said}");
}
