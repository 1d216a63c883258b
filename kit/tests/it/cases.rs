//! `sluice-plugin test`: cases that pass, cases that fail and what is said then, golden files.

use serde_json::json;

use crate::guests::Folder;

const DEADBAND: &str = r#"
with = { column = "temperature_c", absolute = 1.0 }

[[case]]
name = "small changes are dropped"
[[case.batch]]
rows = [
  { device = "press-1", time = "0 s", temperature_c = 21.5, state = "RUN" },
  { device = "press-1", time = "10 s", temperature_c = 21.6, state = "RUN" },
  { device = "press-2", time = "10 s", temperature_c = 60, state = "IDLE" },
  { device = "press-1", time = "20 s", temperature_c = 31.6, state = "RUN" },
]
expect.rows = [
  { device = "press-1", time = "0 s", temperature_c = 21.5, state = "RUN" },
  { device = "press-2", time = "10 s", temperature_c = 60, state = "IDLE" },
  { device = "press-1", time = "20 s", temperature_c = 31.6, state = "RUN" },
]
expect.metrics = { dropped = 1 }
[[case.batch]]
csv = """
device,time,temperature_c,state
press-1,30 s,31.0,RUN
"""
expect.route = {}
"#;

#[test]
fn a_right_plugin_passes_and_unexpected_rows_are_looked_for_too() {
    let folder = Folder::cases("deadband", DEADBAND);
    let said = folder.test(&[]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("ok    small changes are dropped  (2 batches, "), "{}", said.out);
    assert!(said.out.ends_with("\n1 passed\n"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "no colours into a pipe");
}

#[test]
fn a_failing_case_shows_what_differs_where_and_what_to_do() {
    let wrong = DEADBAND.replacen("{ device = \"press-1\", time = \"0 s\", temperature_c = 21.5, state = \"RUN\" },\n  { device = \"press-2\"", "{ device = \"press-1\", time = \"0 s\", temperature_c = 21.4, state = \"RUN\" },\n  { device = \"press-2\"", 1);
    let wrong = wrong.replace(
        "expect.route = {}",
        "expect.rows = [{ device = \"press-1\", time = \"30 s\", temperature_c = 31.0, state = \"RUN\" }]",
    );
    let folder = Folder::cases("deadband", &wrong);
    let said = folder.test(&[]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    let from = said.out.find("FAIL").unwrap();
    assert_eq!(
        &said.out[from..],
        "FAIL  small changes are dropped  cases.toml:5
      batch 1, line 14: 1 of 3 rows on route telemetry differs
                  row  device   time  temperature_c  state
        expected    0  press-1  0 s   [21.4]         RUN
        got         0  press-1  0 s   [21.5]         RUN
        If the plugin is right: correct what is expected at cases.toml:14.
      batch 2, line 25: no row on route telemetry, 1 row expected
                  row  device   time  temperature_c  state
        expected    0  press-1  30 s  31             RUN
        got         –  (missing)
        If the plugin is right: correct what is expected at cases.toml:25.

0 passed, 1 failed
"
    );
}

#[test]
fn the_result_as_json_has_stable_names() {
    let wrong = DEADBAND.replace("dropped = 1", "dropped = 2");
    let said = Folder::cases("deadband", &wrong).test(&["--json"]);
    assert_eq!(said.code, 1);
    let json = said.json();
    assert_eq!((&json["passed"], &json["failed"]), (&json!(0), &json!(1)));
    assert_eq!(json["plugin"]["kind"], "processor");
    let case = &json["cases"][0];
    assert_eq!(
        (&case["name"], &case["line"], &case["passed"]),
        (&json!("small changes are dropped"), &json!(5), &json!(false))
    );
    assert_eq!(case["failures"][0]["details"], json!(["dropped: expected 2, got 1"]));
}

#[test]
fn units_types_profiles_and_status_count_where_they_are_declared() {
    let case = |expect: &str| {
        format!(
            r#"
[[case]]
name = "converted"
with = {{ column = "t", scale = 1.8, offset = 32, unit = "[degF]" }}
[[case.batch]]
profile = "machine"
units = {{ t = "Cel" }}
rows = [{{ device = "d", t = 20, "status:t" = 0x80000000, n = 9007199254740993 }}]
[case.batch.expect]
{expect}
"#
        )
    };
    let good = r#"
profile = "machine"
units = { t = "[degF]" }
types = { t = "f64", n = "i64" }
rows = [{ device = "d", t = 68, "status:t" = 0x80000000, n = 9007199254740993 }]
"#;
    let folder = Folder::cases("linear", &case(good));
    folder.passes();
    for (from, to, marked) in [
        ("\"machine\"\nunits", "\"pump\"\nunits", "[pump]"),
        ("[degF]", "Cel", "[68 Cel]"),
        ("t = \"f64\"", "t = \"i64\"", "[68 [degF] (i64)]"),
        (", \"status:t\" = 0x80000000", "", "[0x80000000]"),
        ("n = 9007199254740993 ", "n = 9007199254740992 ", "[9007199254740992]"),
        ("t = 68", "t = 68.0001", "[68.0001 [degF]]"),
    ] {
        let wrong = good.replace(from, to);
        assert_ne!(wrong, good);
        folder.rewrite("linear", &case(&wrong));
        let said = folder.test(&[]);
        assert_eq!(said.code, 1, "{from}: {}{}", said.out, said.err);
        assert!(said.out.contains(marked), "{marked}: {}", said.out);
    }
    folder.rewrite(
        "linear",
        &case(&good.replace("t = 68", "t = 68.0001")).replace("[[case]]", "tolerance = 1e-3\n[[case]]"),
    );
    folder.passes();
}

#[test]
fn golden_files_are_asked_for_written_and_compared() {
    let cases = DEADBAND
        .split("expect.rows")
        .next()
        .unwrap()
        .replace("[[case.batch]]", "golden = true\n[[case.batch]]");
    let folder = Folder::cases("deadband", &cases);
    let said = folder.test(&[]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("there is no golden file ./cases.golden/small-changes-are-dropped.toml yet")
            || said.out.contains("there is no golden file cases.golden/small-changes-are-dropped.toml yet"),
        "{}",
        said.out
    );
    let said = folder.test(&["--update"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("wrote cases.golden/small-changes-are-dropped.toml"), "{}", said.out);
    let golden = folder.read("cases.golden/small-changes-are-dropped.toml");
    assert!(golden.contains("press-2,10 s,60,IDLE\n"), "{golden}");
    folder.passes();
    let again = folder.test(&["--update"]);
    assert!(!again.out.contains("wrote"), "nothing changed: {}", again.out);
    folder.rewrite("deadband", &cases.replace("31.6", "31.7"));
    let said = folder.test(&[]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("press-1  20 s  [31.7]"), "{}", said.out);
    assert!(
        said.out.contains("run with --update and read the change of cases.golden/small-changes"),
        "{}",
        said.out
    );
}

#[test]
fn golden_files_hold_every_value_to_the_last_bit() {
    let cases = r#"
with = { column = "tag", value = "it's '''quoted''', \\ and\ttabbed" }
[[case]]
name = "all of it"
golden = "all.toml"
[[case.batch]]
types = { n = "i64", raw = "blob", "empty text" = "text" }
units = { x = "m/s" }
rows = [
  { device = "a, b", time = 1, x = nan, n = -9223372036854775808, on = true, raw = "hex:00ff", "empty text" = "" },
  { device = "ü\"", time = 9223372036854775807, x = -inf, n = 7, on = false, raw = "hex:", "empty text" = " x ", "status:x" = 7 },
  { device = "c", time = "-1 s", x = -0.0, n = 7, on = false, raw = "base64:AQ==", "empty text" = "12" },
  { device = "c", x = 0.1 },
]
"#;
    let folder = Folder::cases("tag", cases);
    assert_eq!(folder.test(&["--update"]).code, 0);
    let said = folder.test(&["--json"]);
    assert_eq!(said.code, 0, "{}\n{}", said.out, folder.read("all.toml"));
    folder.rewrite("tag", &cases.replace("m/s", ""));
    assert_eq!(folder.test(&[]).code, 1, "a golden file looks at units too");
}

#[test]
fn only_some_cases_may_be_run_and_an_unknown_name_lists_them() {
    let folder = Folder::cases(
        "deadband",
        &format!("{DEADBAND}\n[[case]]\nname = \"other\"\nrefused = \"column\"\nwith = {{ absolute = 1 }}\n"),
    );
    let said = folder.test(&["--only", "other"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("1 passed") && !said.out.contains("small"), "{}", said.out);
    let said = folder.test(&["--only", "nothing"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("there are:\n  small changes are dropped\n  other"), "{}", said.err);
}

#[test]
fn a_decoder_gets_messages_in_every_form() {
    let cases = r#"
[[case]]
name = "payloads become rows, what is none is rejected"
[[case.batch]]
at = "10 s"
messages = [
  { device = "pump-1", topic = "t", hex = "01 01 01f4 0869 00000001" },
  { device = "pump-2", base64 = "AQEAAP84AAAD6A==" },
  { device = "pump-1", text = "{}" },
  { device = "pump-1", json = { a = 1 } },
]
[case.batch.expect]
csv = """
device, time,  temperature_c, x_mm_s
pump-1, 9.5 s, 21.53, 0.001
pump-2, 10 s,  -2,    1
"""
rejected = [{ message = 2, reason = "at least 6" }, { messages = [3], reason = "version" }]
[[case.batch]]
messages = { profile = "bearing", csv = "device,arrived,hex\npump-1,20 s,010100000869 00000001\n" }
expect = { profile = "bearing", units = { x_mm_s = "mm/s" }, rows = [{ device = "pump-1", time = "20 s", temperature_c = 21.53, x_mm_s = 0.001 }] }
[[case.batch]]
messages = { file = "messages.jsonl" }
expect.rows = [{ device = "pump-9", time = "10 s", temperature_c = 21.53, x_mm_s = 0.001 }]
"#;
    let folder = Folder::cases("examples/vibration", cases);
    folder.write("messages.jsonl", "{\"device\": \"pump-9\", \"hex\": \"0101000008690000 0001\"}\n");
    folder.passes();
    let said = folder.run(&[
        "test",
        &crate::guests::guest("deadband").display().to_string(),
        "--cases",
        "cases.toml",
    ]);
    assert_eq!(said.code, 2, "{}", said.out);
    assert!(said.err.contains("builtin-deadband is a processor: it takes rows"), "{}", said.err);
    folder.rewrite("deadband", "with = {column = \"x\", absolute = 1}\n[[case]]\nname = \"a\"\n[[case.batch]]\nmessages = [{ device = \"d\", text = \"\" }]\n");
    let said = folder.test(&[]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("cases.toml:5: builtin-deadband is a processor: it takes rows, not messages"),
        "{}",
        said.err
    );
}
