//! `sluice-gateway reload`: has the running gateway read its configuration again, and says what became of it.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::Place;
use super::status::NOT_RUNNING;
use super::table::{Set, table};
use super::which::folder;
use crate::admin::reload::{Outcome, ReloadReply, ReloadedStep};
use crate::admin::{AdminError, Question, order_within};

/// How long a reload may take, and whatever waits for one: new plugins are compiled on the way, the largest for minutes.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);
/// Digits of a digest that are shown.
const DIGITS: usize = 12;

pub(super) fn reload(json: bool, of: &Place) -> ExitCode {
    let Some(data_dir) = folder(of) else { return ExitCode::FAILURE };
    let reply: ReloadReply = match order_within(&data_dir, &Question::Reload, PATIENCE) {
        Ok(reply) => reply,
        Err(error) => return failed(&error),
    };
    if json {
        match serde_json::to_string(&reply) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("cannot write this as JSON: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        print!("{}", describe(&reply));
    }
    if reply.applied { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An order that could not be given or was turned down.
pub(super) fn failed(error: &AdminError) -> ExitCode {
    eprintln!("{error}");
    match error {
        AdminError::NotRunning { .. } => ExitCode::from(NOT_RUNNING),
        _ => ExitCode::FAILURE,
    }
}

/// A reload in words.
pub(super) fn describe(reply: &ReloadReply) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for mistake in &reply.mistakes {
        let _ = writeln!(text, "{mistake}");
    }
    if !reply.mistakes.is_empty() {
        let _ = writeln!(
            text,
            "the configuration has mistakes: nothing was changed, the gateway goes on as before"
        );
        return text;
    }
    for warning in &reply.warnings {
        let _ = writeln!(text, "{warning}");
    }
    let heads = [("TENANT", Set::Left), ("STEP", Set::Left), ("IS", Set::Left), ("PLUGIN", Set::Left)];
    let mut rows = Vec::new();
    for tenant in &reply.tenants {
        if tenant.steps.is_empty() {
            let outcome = tenant.outcome.as_str().to_owned();
            rows.push(vec![tenant.tenant.clone(), "-".to_owned(), outcome, String::new()]);
        }
        for step in &tenant.steps {
            let outcome = step.outcome.as_str().to_owned();
            rows.push(vec![tenant.tenant.clone(), step.step.clone(), outcome, plugins(step)]);
        }
    }
    text.push_str(&table(&heads, &rows));
    for tenant in &reply.tenants {
        if let Some(error) = &tenant.error {
            let _ = writeln!(text, "tenant {} goes on as before: {error}", tenant.tenant);
        }
    }
    if !reply.restart.is_empty() {
        let _ = writeln!(text, "waits for a restart: {}", reply.restart.join(", "));
    }
    text
}

/// `3f2a91c07be4 → 77aa01b2c3d4`, or one of them.
fn plugins(step: &ReloadedStep) -> String {
    match (step.from.as_deref().map(short), step.to.as_deref().map(short)) {
        (Some(from), Some(to)) if from == to && step.outcome == Outcome::Swapped => {
            format!("{to}, configured anew")
        }
        (Some(from), Some(to)) if from != to => format!("{from} → {to}"),
        (_, Some(one)) | (Some(one), None) => one.to_owned(),
        (None, None) => String::new(),
    }
}

/// The first digits of a digest.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..DIGITS).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::reload::ReloadedTenant;

    #[test]
    fn a_reload_reads_as_what_became_of_each_step() {
        let step = |step: &str, outcome, from: &str, to: &str| ReloadedStep {
            step: step.to_owned(),
            outcome,
            from: Some(from.repeat(64)),
            to: Some(to.repeat(64)),
        };
        let steps = vec![
            step("builtin:linear", Outcome::Kept, "a", "a"),
            step("mine.wasm", Outcome::Swapped, "a", "b"),
            step("builtin:tag", Outcome::Swapped, "c", "c"),
        ];
        let acme =
            ReloadedTenant { tenant: "acme".to_owned(), outcome: Outcome::Swapped, error: None, steps };
        let globex = ReloadedTenant {
            tenant: "globex".to_owned(),
            outcome: Outcome::Refused,
            error: Some("step x: refused".to_owned()),
            steps: vec![],
        };
        let restart = vec!["gateway.workers".to_owned(), "uplink".to_owned()];
        let reply = ReloadReply { tenants: vec![acme, globex], restart, ..ReloadReply::default() };
        assert_eq!(
            describe(&reply),
            "  TENANT  STEP            IS       PLUGIN\n  \
             acme    builtin:linear  kept     aaaaaaaaaaaa\n  \
             acme    mine.wasm       swapped  aaaaaaaaaaaa → bbbbbbbbbbbb\n  \
             acme    builtin:tag     swapped  cccccccccccc, configured anew\n  \
             globex  -               refused\n\
             tenant globex goes on as before: step x: refused\n\
             waits for a restart: gateway.workers, uplink\n"
        );
    }
}
