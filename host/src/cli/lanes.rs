//! Lanes in the status: the tenants' shares of the workers, steps that are not as they should be, the last reload.

use std::fmt::Write;

use super::reload::{describe, short};
use super::status::seconds;
use super::step::sentence;
use super::table::{Set, count, duration, table};
use crate::admin::reload::Outcome;
use crate::admin::status::{Status, StepStatus, TenantStatus};

/// What each tenant used of the workers.
pub(super) fn shares(tenants: &[TenantStatus]) -> String {
    let heads = [
        ("NAME", Set::Left),
        ("CPU", Set::Right),
        ("SHARE", Set::Right),
        ("WAITED", Set::Right),
        ("THROTTLED", Set::Right),
        ("STEPS", Set::Right),
        ("CALLS", Set::Right),
        ("FAULTS", Set::Right),
    ];
    let row = |tenant: &TenantStatus| {
        vec![
            tenant.name.clone(),
            format!("{:.2} s", tenant.cpu.seconds),
            format!("{:.1} %", tenant.cpu.share * 100.0),
            format!("{:.2} s", tenant.cpu.waited_seconds),
            format!("{:.2} s", tenant.cpu.throttled_seconds),
            count(tenant.steps.len() as u64),
            count(tenant.steps.iter().map(|step| step.calls).sum()),
            count(tenant.steps.iter().map(|step| step.faults).sum()),
        ]
    };
    table(&heads, &tenants.iter().filter(|tenant| tenant.lane != "not running").map(row).collect::<Vec<_>>())
}

/// Steps that are quarantined, on trial, or not as the configuration says.
pub(super) fn unusual(status: &Status) -> String {
    let mut text = String::new();
    for tenant in &status.tenants {
        for step in &tenant.steps {
            // Writing to a string cannot fail.
            let _ = said(&mut text, &format!("{}/{}", tenant.name, step.name), step, status.at);
        }
    }
    text
}

fn said(text: &mut String, name: &str, step: &StepStatus, now: i64) -> std::fmt::Result {
    if let Some(quarantine) = &step.quarantine {
        write!(text, "  {name} is quarantined ({})", quarantine.what)?;
        if let Some(since) = quarantine.since {
            write!(text, " for {}", duration(seconds(now - since)))?;
        }
        match quarantine.next_probe {
            Some(at) => write!(text, ", tried again in {}", duration(seconds(at - now)))?,
            None => write!(text, ", until `sluice-gateway step release {name}`")?,
        }
        writeln!(text, ": {}", quarantine.why)?;
    }
    if !step.as_configured {
        let digest = short(&step.digest);
        writeln!(text, "  {name} runs {digest}, promoted or taken back: not what the configuration says")?;
    }
    if let Some(shadow) = &step.shadow {
        writeln!(text, "  {name} has a shadow: {}", sentence(shadow))?;
    }
    Ok(())
}

/// What became of the last reload.
pub(super) fn reloaded(status: &Status) -> String {
    let Some(reload) = &status.reload else { return String::new() };
    let mut text = String::new();
    let changed = reload.tenants.iter().flat_map(|tenant| &tenant.steps);
    let changed = changed.filter(|step| !matches!(step.outcome, Outcome::Kept | Outcome::Refused)).count();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {} ago, by {}, in {:.2} s: {}",
        duration(seconds(status.at - reload.at)),
        reload.by,
        reload.seconds,
        if reload.applied {
            format!("{changed} steps changed")
        } else {
            "not all of it was taken over".to_owned()
        }
    );
    if !reload.applied || !reload.restart.is_empty() {
        for line in describe(reload).lines().filter(|line| !line.starts_with("  ")) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}
