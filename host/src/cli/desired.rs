//! `sluice-gateway desired`: which release each tenant's stamp wants, which one runs, and why not the one that is wanted.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::status::NOT_RUNNING;
use super::table::{Set, bytes, count, table};
use super::which::folder;
use super::{Place, when};
use crate::admin::desired::DesiredStatus;
use crate::admin::status::TenantStatus;
use crate::admin::{AdminError, ask};

const HEADS: [(&str, Set); 8] = [
    ("TENANT", Set::Left),
    ("RUNS", Set::Left),
    ("SINCE", Set::Left),
    ("WANTED", Set::Left),
    ("STATE", Set::Left),
    ("ROWS", Set::Right),
    ("FAULTS", Set::Right),
    ("DEAD", Set::Right),
];

pub(super) fn desired(json: bool, of: &Place) -> ExitCode {
    let Some(data_dir) = folder(of) else { return ExitCode::FAILURE };
    let (status, code) = match ask(&data_dir) {
        Ok(status) => (status, ExitCode::SUCCESS),
        Err(AdminError::NotRunning { .. }) => {
            (crate::gateway::look_into(&data_dir), ExitCode::from(NOT_RUNNING))
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if json {
        let tenants: Vec<Value> = status
            .tenants
            .iter()
            .map(|tenant| json!({ "tenant": tenant.name, "desired": tenant.desired }))
            .collect();
        println!("{}", json!({ "running": status.running, "tenants": tenants }));
    } else {
        if !status.running {
            println!("no gateway runs with the data folder {}; this is what it ran", data_dir.display());
        }
        print!("{}", describe(&status.tenants));
    }
    code
}

/// In words; nothing of tenants of which no stamp has ever said what should run.
pub(super) fn describe(tenants: &[TenantStatus]) -> String {
    let told: Vec<(&str, &DesiredStatus)> =
        tenants.iter().filter_map(|tenant| Some((tenant.name.as_str(), tenant.desired.as_ref()?))).collect();
    if told.is_empty() {
        return "no stamp has said what should run: all tenants run what the configuration says\n".to_owned();
    }
    let rows: Vec<Vec<String>> = told.iter().map(|(name, desired)| row(name, desired)).collect();
    let mut text = table(&HEADS, &rows);
    for (name, desired) in told.iter().filter(|(_, desired)| !desired.reason.is_empty()) {
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{name}: {} is {}: {}", release(desired.release), desired.state, desired.reason);
    }
    text
}

fn row(name: &str, desired: &DesiredStatus) -> Vec<String> {
    let state = if desired.state == "fetching" && desired.contents_bytes > 0 {
        format!("fetching, {} of {}", bytes(desired.fetched_bytes), bytes(desired.contents_bytes))
    } else if desired.rollback {
        format!("{}, as the way back", desired.state)
    } else {
        desired.state.clone()
    };
    let since = if desired.since == 0 { "-".to_owned() } else { when::show(desired.since) };
    vec![
        name.to_owned(),
        release(desired.runs),
        since,
        release(desired.release),
        state,
        count(desired.rows),
        count(desired.faults),
        count(desired.rejected),
    ]
}

fn release(number: u64) -> String {
    if number == 0 { "the configuration".to_owned() } else { format!("release {number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_what_runs_what_is_wanted_and_why_not() {
        let tenant =
            |name: &str, desired| TenantStatus { name: name.to_owned(), desired, ..TenantStatus::default() };
        let refused = DesiredStatus {
            release: 8,
            runs: 7,
            state: "refused".to_owned(),
            reason: "release 8:5:1: error: tenant.acme.step[0].wiht: unknown key".to_owned(),
            ..DesiredStatus::default()
        };
        let fetching = DesiredStatus {
            release: 7,
            state: "fetching".to_owned(),
            fetched_bytes: 512 << 10,
            contents_bytes: 1 << 20,
            ..DesiredStatus::default()
        };
        let text =
            describe(&[tenant("acme", Some(refused)), tenant("bravo", Some(fetching)), tenant("none", None)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[1].contains("acme") && lines[1].contains("release 7") && lines[1].contains("release 8"),
            "{text}"
        );
        assert!(lines[2].contains("the configuration") && lines[2].contains("fetching, 512"), "{text}");
        assert_eq!(
            lines[3],
            "acme: release 8 is refused: release 8:5:1: error: tenant.acme.step[0].wiht: unknown key"
        );
        assert!(describe(&[tenant("none", None)]).starts_with("no stamp has said"));
    }
}
