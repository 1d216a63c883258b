//! What a site does to a plugin, done in a case: power cuts, clocks that jump, reloads, migrations, time that passes.

use crate::guests::{Folder, guest};

#[test]
fn a_counter_counts_each_row_once_through_power_cuts() {
    let cases = r#"
[[case]]
name = "each row once"
[[case.batch]]
rows = [{ device = "d", time = 1 }, { device = "d", time = 2 }]
expect = { types = { n = "i64" }, rows = [{ device = "d", time = 1, n = 1 }, { device = "d", time = 2, n = 2 }] }
power_cut = "after commit"
[[case.batch]]
rows = [{ device = "d", time = 3 }]
power_cut = "before commit"
expect.rows = [{ device = "d", time = 3, n = 3 }]
[[case.batch]]
rows = [{ device = "d", time = 4 }, { device = "e", time = 4 }]
expect = { rows = [{ device = "d", time = 4, n = 4 }, { device = "e", time = 4, n = 1 }], state = { "n/d" = { hex = "08" } } }
"#;
    Folder::cases("fixtures/counter", cases).passes();
}

#[test]
fn what_a_plugin_holds_only_in_memory_is_gone_after_a_power_cut() {
    // The deadband keeps its last values in memory: the first row after the cut passes.
    let cases = |cut: &str| {
        format!(
            r#"
with = {{ column = "x", absolute = 1 }}
[[case]]
name = "first after the cut"
[[case.batch]]
rows = [{{ device = "d", x = 5 }}]
{cut}
[[case.batch]]
at = "1 s"
rows = [{{ device = "d", x = 5 }}]
expect.rows = [{{ device = "d", time = "1 s", x = 5 }}]
"#
        )
    };
    Folder::cases("deadband", &cases("power_cut = \"after commit\"")).passes();
    assert_eq!(Folder::cases("deadband", &cases("")).test(&[]).code, 1);
}

#[test]
fn a_clock_that_jumps_and_time_that_passes_close_windows() {
    let cases = |between: &str| {
        format!(
            r#"
with = {{ every = "10 s", columns = ["x"], aggregates = ["mean"] }}
[[case]]
name = "closed"
[[case.batch]]
rows = [{{ device = "d", time = "0 s", x = 1 }}, {{ device = "d", time = "5 s", x = 3 }}]
expect.rows = []
[[case.batch]]
{between}
[case.batch.expect]
profile = "window"
rows = [{{ device = "d", time = "0 s", x_mean = 2 }}]
"#
        )
    };
    for closes in ["clock_jump = \"1 h\"\ntick = true", "pass = \"1 min\"", "at = \"1 min\"\ntick = true"] {
        Folder::cases("window", &cases(closes)).passes();
    }
    for leaves_open in ["clock_jump = \"-1 h\"\ntick = true", "pass = \"5 s\"", "at = \"1 min\""] {
        let said = Folder::cases("window", &cases(leaves_open)).test(&[]);
        assert_eq!(said.code, 1, "{leaves_open}: {}{}", said.out, said.err);
        assert!(said.out.contains("no row on route telemetry, 1 row expected"), "{}", said.out);
    }
}

#[test]
fn a_reload_takes_over_at_a_batch_boundary_or_is_refused_and_the_old_goes_on() {
    let cases = r#"
with = { column = "x", max = 10 }
[[case]]
name = "reloaded"
[[case.batch]]
rows = [{ device = "d", x = 5 }, { device = "d", x = 50 }]
expect.rows = [{ device = "d", x = 5 }]
[[case.batch]]
reload = { with = { column = 7 }, refused = "invalid type" }
rows = [{ device = "d", x = 5 }, { device = "d", x = 50 }]
expect.rows = [{ device = "d", x = 5 }]
[[case.batch]]
reload = { with = { column = "x", max = 100 } }
rows = [{ device = "d", x = 5 }, { device = "d", x = 50 }]
expect.rows = [{ device = "d", x = 5 }, { device = "d", x = 50 }]
"#;
    let folder = Folder::cases("range", cases);
    folder.passes();
    folder.rewrite("range", &cases.replace("refused = \"invalid type\"", "refused = \"colour\""));
    let said = folder.test(&[]);
    assert!(said.out.contains("batch 2, line 10: expected a refusal with \"colour\", got: "), "{}", said.out);
    folder.rewrite("range", &cases.replace(", refused = \"invalid type\"", ""));
    let said = folder.test(&[]);
    assert!(said.out.contains("batch 2, line 10: the plugin does not start: "), "{}", said.out);
}

#[test]
fn a_reload_of_another_version_migrates_the_state() {
    let folder = Folder::new();
    // The same plugin, but of an earlier version.
    let mut old = std::fs::read(guest("fixtures/trap")).unwrap();
    let label = br#""name":"fixture-trap","version":"0."#;
    let places: Vec<usize> =
        (0..old.len() - label.len()).filter(|at| old[*at..].starts_with(label)).collect();
    assert!(!places.is_empty());
    for at in places {
        old[at + label.len()..at + label.len() + 3].copy_from_slice(b"0.9");
    }
    folder.write("old.wasm", old);
    let new = guest("fixtures/migrate").display().to_string();
    let cases = |refused: &str, state: &str| {
        format!(
            r#"
plugin = "old.wasm"
[[case]]
name = "migrated"
{state}
[[case.batch]]
rows = [{{ device = "d" }}, {{ device = "e" }}]
expect.state = {{ rows = {{ hex = "02" }} }}
[[case.batch]]
reload = {{ plugin = {new:?}{refused} }}
rows = [{{ device = "d" }}]
power_cut = "before commit"
"#
        )
    };
    let expect =
        |state: &str| format!("expect = {{ rows = [{{ device = \"d\" }}], state = {{ {state} }} }}\n");
    let migrated = r#""rows/all" = { hex = "02" }, "rows/d" = { hex = "01" }, rows = false"#;
    folder.write("cases.toml", cases("", "") + &expect(migrated));
    folder.passes();
    // A migration that fails leaves the old version and its state.
    let refusing = "state = { refuse = { hex = \"05302e302e39\" } }";
    let kept = r#"rows = { hex = "03" }, "rows/all" = false"#;
    folder.write(
        "cases.toml",
        cases(", refused = \"the state of 0.0.9 cannot be read\"", refusing) + &expect(kept),
    );
    folder.passes();
}

#[test]
fn state_may_be_given_with_the_version_that_wrote_it() {
    let cases = r#"
[[case]]
name = "old state"
state = { rows = { hex = "05" } }
state_version = "0.0.1"
[[case.batch]]
rows = [{ device = "d" }]
[case.batch.expect]
state = { "rows/all" = { hex = "05" }, rows = false }
"#;
    let folder = Folder::cases("fixtures/migrate", cases);
    folder.passes();
    folder.rewrite(
        "fixtures/migrate",
        &cases.replace("\"rows/all\" = { hex = \"05\" }", "\"rows/all\" = { u64 = 5 }"),
    );
    let said = folder.test(&[]);
    assert!(said.out.contains("rows/all: expected hex:0500000000000000, kept is hex:05"), "{}", said.out);
}

#[test]
fn logs_are_held_against_what_is_expected() {
    let cases = |logs: &str| {
        format!(
            "[[case]]\nname = \"logs\"\nstate_version = \"0.0.1\"\nwith = {{ values = 2000000, bytes = 1000, copes = true }}\n[[case.batch]]\nrows = [{{ device = \"d\" }}]\nexpect.logs = {logs}\n"
        )
    };
    Folder::cases("fixtures/state", &cases("[{ level = \"warn\", message = \"state is full\" }]")).passes();
    let said =
        Folder::cases("fixtures/state", &cases("[{ level = \"info\", message = \"state\" }]")).test(&[]);
    assert!(
        said.out.contains("no info log line with \"state\"\n        warn: state is full\n"),
        "{}",
        said.out
    );
    let said = Folder::cases("fixtures/state", &cases("[]")).test(&[]);
    assert!(said.out.contains("1 log line, none was expected"), "{}", said.out);
}
