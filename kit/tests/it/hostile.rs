//! Hostile plugins and hostile files under test: each ends with a word on what it was, soon.

use std::time::{Duration, Instant};

use crate::guests::{Folder, guest};

/// Far longer than any of these takes, far shorter than for ever.
const SOON: Duration = Duration::from_secs(30);

fn case(with: &str, expect: &str) -> String {
    format!(
        "[[case]]\nname = \"hostile\"\nwith = {{ {with} }}\n[[case.batch]]\nrows = [{{ device = \"d\", x = 1, s = \"a\" }}]\n{expect}\n"
    )
}

#[test]
fn a_plugin_that_loops_is_stopped_at_its_time_limit_and_says_where_it_was() {
    let started = Instant::now();
    let said = Folder::cases("fixtures/loop", &case("within = \"process\"", "")).test(&[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.out
            .contains("batch 1, line 5: the plugin was stopped at its time limit: after 500ms (limits.time)"),
        "{}",
        said.out
    );
    assert!(said.out.contains("forever"), "the back trace: {}", said.out);
    assert!(
        said.out.contains("If the plugin is to fail here, write fault = \"timeout\" in expect."),
        "{}",
        said.out
    );
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_limit_may_be_tightened_and_a_loop_while_configuring_is_told() {
    let tight = "limits = { time = \"50 ms\" }\n";
    let folder = Folder::cases(
        "fixtures/loop",
        &(tight.to_owned()
            + &case("within = \"process\"", "expect.fault = { kind = \"timeout\", message = \"50ms\" }")),
    );
    folder.passes();
    folder.rewrite("fixtures/loop", &(tight.to_owned() + &case("within = \"configure\"", "")));
    let said = folder.test(&[]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("line 3: the plugin does not start: ") && said.out.contains("time limit"),
        "{}",
        said.out
    );
}

#[test]
fn faults_are_expected_by_kind() {
    for (name, with, kind) in [
        ("trap", "column = \"x\", at = 1", "trap"),
        ("trap", "column = \"x\", fail_at = 1", "guest"),
        ("lie", "lie = \"length\"", "invalid-output"),
        ("state", "values = 100000, bytes = 1000", "state-quota"),
    ] {
        let name = format!("fixtures/{name}");
        Folder::cases(&name, &case(with, &format!("expect.fault = \"{kind}\""))).passes();
        let said = Folder::cases(&name, &case(with, "expect.fault = \"timeout\"")).test(&[]);
        assert!(
            said.out.contains(&format!("another fault than expected: expected timeout, got {kind}: ")),
            "{}",
            said.out
        );
    }
    let said = Folder::cases("fixtures/trap", &case("column = \"x\"", "expect.fault = \"trap\"")).test(&[]);
    assert!(said.out.contains("the plugin should have failed (trap), it did not"), "{}", said.out);
}

#[test]
fn a_call_of_the_host_that_is_not_granted_is_a_fault_that_names_it() {
    let ungranted = "grant = { imports = [\"log\"] }\n";
    let said = Folder::cases("fixtures/counter", &(ungranted.to_owned() + &case("", ""))).test(&[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.out.contains("state") && said.out.contains("write fault = \"authority\""), "{}", said.out);
    let expected = ungranted.to_owned() + &case("", "expect.fault = \"authority\"");
    Folder::cases("fixtures/counter", &expected).passes();
    let said = Folder::cases("fixtures/counter", &ungranted.replace("log", "lgo")).test(&[]);
    assert!(said.err.contains("there is no import \"lgo\""), "{}", said.err);
}

#[test]
fn a_component_that_no_gateway_takes_is_refused_with_the_reason() {
    let said = Folder::cases("fixtures/wasi", &case("", "")).test(&[]);
    assert_eq!(said.code, 2, "{}", said.out);
    assert!(said.err.contains("wasi:"), "{}", said.err);
    let folder = Folder::cases("deadband", &case("", ""));
    let said = folder.run(&["test", "nowhere.wasm", "--cases", "cases.toml"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (2, "there is no plugin nowhere.wasm; build it: sluice-plugin build\n")
    );
}

#[test]
fn mistakes_in_a_file_of_cases_name_line_key_and_the_nearest_one() {
    let good = case("column = \"x\", absolute = 1", "expect.rows = []");
    for (from, to, told) in [
        ("rows = [{", "row = [{", "cases.toml:6: case[0].batch[0].row: unknown key; did you mean \"rows\"?"),
        ("name = ", "nam = ", "cases.toml:3: case[0].nam: unknown key; did you mean \"name\"?"),
        (
            "expect.rows",
            "expect.rowz",
            "cases.toml:7: case[0].batch[0].expect.rowz: unknown key; did you mean \"rows\"?",
        ),
        (
            "expect.rows = []",
            "at = \"later\"",
            "cases.toml:7: case[0].batch[0].at: \"later\" is no time: write e.g. \"90 s\"",
        ),
        ("expect.rows = []", "tick = true", "cases.toml:5: case[0].batch[0]: a batch has one input"),
        (
            "expect.rows = []",
            "power_cut = \"now\"",
            "cases.toml:7: case[0].batch[0].power_cut: \"now\" is not known",
        ),
        (
            "expect.rows = []",
            "expect.fault = \"tarp\"",
            "\"tarp\" is no kind of fault; did you mean \"trap\"?",
        ),
        ("expect.rows = []", "expect.rejected = [{ reason = \"\" }]", "which row? write row = 0"),
        (
            "expect.rows = []",
            "expect.csv = \"\"\"\ndevice,x\nd,1\nd,1,2\n\"\"\"",
            "cases.toml:10: case[0].batch[0].expect.csv: 3 cells, but the first line names 2 columns",
        ),
        (
            "expect.rows = []",
            "reload = { width = {} }",
            "cases.toml:7: case[0].batch[0].reload.width: unknown key",
        ),
        ("expect.rows = []", "expect.file = \"none.csv\"", "cannot read none.csv"),
        ("expect.rows = []", "expect.file = \"none.xls\"", "must end in .csv, .jsonl or .json"),
        ("expect.rows = []", "limits = {}", "cases.toml:7: case[0].batch[0].limits: unknown key"),
        (
            "x = 1, ",
            "x = [1], ",
            "cases.toml:6: case[0].batch[0].rows[0].x: must be a number, true, false or a text, not a list",
        ),
        ("device = \"d\", ", "", "cases.toml:6: case[0].batch[0].rows[0]: a row needs a device"),
        ("x = 1, ", "x = 1 ", "cases.toml:6: "),
        ("[[case.batch]]\n", "", "cases.toml:5: case[0].rows: unknown key"),
        (good.as_str(), "", "cases.toml:1: case: no case; write one: [[case]]"),
    ] {
        assert!(good.contains(from), "{from}");
        let said = Folder::cases("deadband", &good.replacen(from, to, 1)).test(&[]);
        assert_eq!(said.code, 2, "{from} → {to}: {}{}", said.out, said.err);
        assert!(said.err.contains(told), "{from} → {to}: {}", said.err);
    }
    let twice = format!("{good}\n{good}");
    let said = Folder::cases("deadband", &twice).test(&[]);
    assert!(said.err.contains("there is a case \"hostile\" already"), "{}", said.err);
    let said = Folder::new().test(&[]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("cannot read cases.toml"), "{}", said.err);
}

#[test]
fn every_wrong_case_is_told_at_once() {
    let wrong = case("", "tikc = true") + &case("", "tock = true").replace("hostile", "other");
    let said = Folder::cases("deadband", &wrong).test(&[]);
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn a_million_rows_pass_in_calls_as_large_as_a_gateways_and_more_are_refused() {
    let rows = |count: usize| {
        let mut csv = "device,time,x\n".to_owned();
        (0..count).for_each(|row| csv += &format!("d{},{row} s,{}\n", row % 50, row % 3));
        csv
    };
    let cases = "[[case]]\nname = \"many\"\nwith = { column = \"x\", max = 0.5 }\n[[case.batch]]\nfile = \"rows.csv\"\nexpect.metrics = { dropped = 666666 }\n";
    let folder = Folder::cases("range", cases);
    folder.write("rows.csv", rows(1_000_000));
    let started = Instant::now();
    folder.passes();
    assert!(started.elapsed() < SOON);
    folder.rewrite("range", &cases.replace("expect.metrics = { dropped = 666666 }", "expect.rows = []"));
    let said = folder.test(&["--json"]);
    assert_eq!(said.json()["cases"][0]["failures"][0]["differing_rows"], 333_334);
    assert!(said.out.len() < 10_000, "what is shown is bounded: {} bytes", said.out.len());
    folder.write("rows.csv", rows(1_048_577));
    let said = folder.test(&[]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("rows.csv:1048578: more than 1048576 rows"), "{}", said.err);
}

#[test]
fn a_plugin_is_not_measured_or_replayed_for_ever_either() {
    let folder = Folder::new();
    let looping = guest("fixtures/loop").display().to_string();
    let started = Instant::now();
    let said = folder.run(&["bench", &looping, "--with", "within = \"process\"", "--seconds", "0.1"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("was stopped at its time limit") && said.err.contains("forever"),
        "{}",
        said.err
    );
    folder.write("rows.jsonl", "{\"frame\":{\"profile\":\"p\",\"columns\":[],\"rows\":[{\"device\":\"d\",\"time\":1,\"values\":[]}]}}\n");
    let said = folder.run(&["replay", &looping, "--frames", "rows.jsonl", "--with", "within = \"process\""]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.out.contains("1 faults of plugin (timeout)"), "{}", said.out);
    assert!(started.elapsed() < SOON);
}
