//! What a replay came to: a table of both versions, then the rows that differ.

use serde_json::{Value, json};

use super::version::Version;
use super::{Account, Differing};
use crate::cases::report::difference_json;
use crate::guest::label;
use crate::rows::show::{Colours, Sides, table};

/// Most functions of a back trace that are shown.
const TRACE: usize = 8;

/// For people.
pub(super) fn text(account: &Account, colours: Colours) -> String {
    let mut text =
        format!("{} rows in {} calls, from {}\n", account.rows, account.lines, account.file.display());
    if account.skipped > 0 {
        text.push_str(&format!(
            "{} lines skipped: they hold nothing for this kind of plugin\n",
            account.skipped
        ));
    }
    let versions: Vec<&Version> = account.old.iter().chain([&account.new]).collect();
    let names: &[&str] = if account.old.is_some() { &["old", "new"] } else { &["plugin"] };
    text.push('\n');
    for (name, cells) in lines(&versions, names) {
        text.push_str(&format!("  {name:<22}"));
        for cell in cells {
            text.push_str(&format!("  {cell:>22}"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for (version, name) in versions.iter().zip(names) {
        for (kind, (count, first)) in &version.faults {
            let line = format!("\n{count} faults of {name} ({kind}), the first: {}\n", first.message);
            text.push_str(&colours.bad(&line));
            for function in first.backtrace.iter().take(TRACE) {
                text.push_str(&format!("  in {function}\n"));
            }
        }
    }
    if account.old.is_some() {
        text.push_str(&differences(account, colours));
    }
    text
}

fn lines(versions: &[&Version], names: &[&str]) -> Vec<(&'static str, Vec<String>)> {
    let all =
        |cell: &dyn Fn(&Version) -> String| versions.iter().map(|version| cell(version)).collect::<Vec<_>>();
    vec![
        ("", names.iter().map(|name| (*name).to_owned()).collect()),
        ("plugin", all(&|version| label(&version.plugin))),
        (
            "sha256",
            all(&|version| version.plugin.digest().to_string().get(..12).unwrap_or_default().to_owned()),
        ),
        ("rows given", all(&|version| version.rows.to_string())),
        ("rows rejected", all(&|version| version.rejected.to_string())),
        ("faults", all(&|version| version.fault_count().to_string())),
        ("log lines", all(&|version| version.logs.to_string())),
        ("time of a call, p50", all(&|version| format!("{:.1} µs", version.percentile(0.5)))),
        ("time of a call, p99", all(&|version| format!("{:.1} µs", version.percentile(0.99)))),
        ("time of all calls", all(&|version| format!("{:.1} ms", version.took.as_secs_f64() * 1e3))),
        ("memory", all(&|version| format!("{:.1} MiB", version.memory as f64 / f64::from(1 << 20)))),
    ]
}

fn differences(account: &Account, colours: Colours) -> String {
    if account.differing_lines == 0 {
        return format!("\n{}\n", colours.good("both gave the same"));
    }
    let sum = format!(
        "{} rows differ, in {} of {} calls",
        account.differing_rows, account.differing_lines, account.lines
    );
    let mut text = format!("\n{}\n", colours.bad(&sum));
    for example in &account.examples {
        match &example.what {
            Differing::Said(what) => text.push_str(&format!("\nline {}: {what}\n", example.line)),
            Differing::Rows(route, rows) => {
                text.push_str(&format!("\nline {}, route {route}\n", example.line));
                let sides = Sides { expected: "old", got: "new" };
                text.push_str(&table(rows, i64::MIN, sides, colours));
            }
        }
    }
    text
}

/// With stable names.
pub(super) fn json(account: &Account) -> Value {
    let examples: Vec<Value> = account
        .examples
        .iter()
        .map(|example| match &example.what {
            Differing::Said(what) => json!({"line": example.line, "what": what}),
            Differing::Rows(route, rows) => json!({
                "line": example.line,
                "route": route,
                "differing": rows.differing,
                "rows": rows.first.iter().map(difference_json).collect::<Vec<_>>(),
            }),
        })
        .collect();
    json!({
        "calls": account.lines,
        "rows": account.rows,
        "skipped": account.skipped,
        "new": version(&account.new),
        "old": account.old.as_ref().map(version),
        "differing_rows": account.old.as_ref().map(|_| account.differing_rows),
        "differing_calls": account.old.as_ref().map(|_| account.differing_lines),
        "examples": examples,
    })
}

fn version(version: &Version) -> Value {
    let faults: Vec<Value> = version
        .faults
        .iter()
        .map(|(kind, (count, first))| {
            json!({"kind": kind, "count": count, "message": first.message, "backtrace": first.backtrace})
        })
        .collect();
    json!({
        "name": version.plugin.name(),
        "version": version.plugin.version(),
        "digest": version.plugin.digest().to_string(),
        "rows": version.rows,
        "rejected": version.rejected,
        "logs": version.logs,
        "faults": faults,
        "call_us_p50": version.percentile(0.5),
        "call_us_p99": version.percentile(0.99),
        "total_ms": version.took.as_secs_f64() * 1e3,
        "memory_bytes": version.memory,
    })
}
