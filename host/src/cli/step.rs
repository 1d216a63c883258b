//! `sluice-gateway step`: the versions of plugins in the lanes, and orders to them.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Subcommand;
use wire::ids::TenantId;

use super::Place;
use super::reload::{PATIENCE, failed, short};
use super::table::{Set, bytes, count, duration, table};
use super::which::{folder, step};
use crate::admin::reload::{StepOrder, StepReply};
use crate::admin::status::{ShadowStatus, Status, StepStatus};
use crate::admin::{AdminError, Question, ask, order_within};

#[derive(Debug, Subcommand)]
pub(super) enum StepCommand {
    /// Shows every step: its version and since when, the version before, its quarantine, its shadow.
    List {
        /// Only of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Ends the quarantine of a step: the next batch goes to a fresh instance.
    Release(Order),
    /// Lets the shadow of a step take over, with the state of the step; what ran before stays for a rollback.
    Promote(Order),
    /// Goes back to the version that ran before, with its configuration and the state it had then.
    ///
    /// It holds, over restarts too, until the configuration says something new for this step.
    Rollback(Order),
    /// Shows how the shadow of a step compares with it: rows that differ with examples, faults, time, memory.
    Shadow(Order),
}

/// Which step.
#[derive(Debug, clap::Args)]
pub(super) struct Order {
    /// The step, as `list` shows it, e.g. acme/builtin:window.
    #[arg(value_name = "TENANT/STEP", value_parser = step)]
    step: (TenantId, String),
    /// As one line of JSON with stable names.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: Place,
}

pub(super) fn steps(command: StepCommand) -> ExitCode {
    match command {
        StepCommand::List { tenant, json, of } => list(tenant.as_ref(), json, &of),
        StepCommand::Release(order) => give(order, StepOrder::Release),
        StepCommand::Promote(order) => give(order, StepOrder::Promote),
        StepCommand::Rollback(order) => give(order, StepOrder::Rollback),
        StepCommand::Shadow(order) => shadow(&order),
    }
}

fn asked(of: &Place) -> Result<Status, ExitCode> {
    let Some(data_dir) = folder(of) else { return Err(ExitCode::FAILURE) };
    ask(&data_dir).map_err(|error| failed(&error))
}

fn as_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot write this as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(tenant: Option<&TenantId>, json: bool, of: &Place) -> ExitCode {
    let status = match asked(of) {
        Ok(status) => status,
        Err(code) => return code,
    };
    let tenants: Vec<_> =
        status.tenants.iter().filter(|one| tenant.is_none_or(|tenant| tenant.as_str() == one.name)).collect();
    if let (Some(tenant), true) = (tenant, tenants.is_empty()) {
        return failed(&AdminError::Refused { why: format!("this gateway has no tenant {tenant}") });
    }
    if json {
        let steps: Vec<_> = tenants
            .iter()
            .map(|tenant| serde_json::json!({ "tenant": tenant.name, "lane": tenant.lane, "steps": tenant.steps }))
            .collect();
        return as_json(&steps);
    }
    let heads = [
        ("STEP", Set::Left),
        ("PLUGIN", Set::Left),
        ("VERSION", Set::Left),
        ("BEFORE", Set::Left),
        ("STATE", Set::Left),
    ];
    let mut rows = Vec::new();
    let mut shadows = String::new();
    for tenant in tenants {
        for step in &tenant.steps {
            let name = format!("{}/{}", tenant.name, step.name);
            if let Some(shadow) = &step.shadow {
                // Writing to a string cannot fail.
                let _ = writeln!(shadows, "{name} has a shadow: {}", sentence(shadow));
            }
            rows.push(row(name, step));
        }
    }
    print!("{}{shadows}", table(&heads, &rows));
    ExitCode::SUCCESS
}

fn row(name: String, step: &StepStatus) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let previous = step.previous.as_ref();
    vec![
        name,
        short(&step.digest).to_owned(),
        or_dash(&step.version),
        previous.map_or("-".to_owned(), |previous| {
            format!("{} {}", short(&previous.digest), previous.version).trim().to_owned()
        }),
        if step.as_configured { step.state.clone() } else { format!("{}, not as configured", step.state) },
    ]
}

fn give(to: Order, what: StepOrder) -> ExitCode {
    let Some(data_dir) = folder(&to.of) else { return ExitCode::FAILURE };
    let (tenant, step) = to.step;
    let question = Question::Step { tenant: tenant.to_string(), step: step.clone(), order: what };
    let reply: StepReply = match order_within(&data_dir, &question, PATIENCE) {
        Ok(reply) => reply,
        Err(error) => return failed(&error),
    };
    if to.json {
        return as_json(&reply);
    }
    let (from, now) = (short(&reply.from), short(&reply.to));
    let version = if reply.version.is_empty() { String::new() } else { format!(" ({})", reply.version) };
    match what {
        StepOrder::Release => {
            println!("{tenant}/{step} is released: the next batch goes to a fresh instance")
        }
        StepOrder::Promote => println!("{tenant}/{step}: {from} → {now}{version}; `step rollback` goes back"),
        StepOrder::Rollback => {
            println!("{tenant}/{step}: {from} → {now}{version}, with the state it had then")
        }
    }
    ExitCode::SUCCESS
}

fn shadow(of: &Order) -> ExitCode {
    let status = match asked(&of.of) {
        Ok(status) => status,
        Err(code) => return code,
    };
    let (tenant, name) = &of.step;
    let found = status.tenants.iter().find(|one| one.name == tenant.as_str());
    let Some(step) = found.and_then(|tenant| tenant.steps.iter().find(|step| step.name == *name)) else {
        return failed(&AdminError::Refused {
            why: format!("there is no step {tenant}/{name}: see `step list`"),
        });
    };
    let Some(shadow) = &step.shadow else {
        let why = format!(
            "step {tenant}/{name} has no shadow: give it one, `shadow = {{ use = \"…\" }}`, and `reload`"
        );
        return failed(&AdminError::Refused { why });
    };
    if of.json {
        return as_json(shadow);
    }
    print!("{}", report(&format!("{tenant}/{name}"), shadow, step));
    ExitCode::SUCCESS
}

/// How a shadow does, in a line.
pub(super) fn sentence(shadow: &ShadowStatus) -> String {
    let mut text = format!("{} {}", short(&shadow.digest), shadow.plugin);
    // Writing to a string cannot fail.
    let _ = match shadow.state.as_str() {
        "runs" => write!(
            text,
            ": {} of {} rows differ, {} faults{}",
            count(shadow.rows_differing),
            count(shadow.rows),
            count(shadow.faults),
            if shadow.step_seconds > 0.0 {
                format!(", {:.2} times the time", shadow.seconds / shadow.step_seconds)
            } else {
                String::new()
            }
        ),
        other => write!(text, ": {other}"),
    };
    text.trim_start().to_owned()
}

fn report(name: &str, shadow: &ShadowStatus, step: &StepStatus) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name}: {} {}", short(&step.digest), step.version);
    let _ = writeln!(text, "its shadow: {}", sentence(shadow));
    let heads = [("", Set::Left), ("THE STEP", Set::Right), ("ITS SHADOW", Set::Right)];
    let batches = count(shadow.batches);
    let rows = [
        vec!["batches".to_owned(), batches.clone(), batches],
        vec!["seconds".to_owned(), format!("{:.3}", shadow.step_seconds), format!("{:.3}", shadow.seconds)],
        vec!["memory".to_owned(), bytes(shadow.step_memory_bytes), bytes(shadow.memory_bytes)],
    ];
    text.push_str(&table(&heads, &rows));
    if let Some(fault) = &shadow.last_fault {
        let _ = writeln!(text, "its latest fault: {fault}");
    }
    let _ = match (shadow.budget_held_s, shadow.budget_needs_s) {
        (Some(held), Some(needs)) => writeln!(
            text,
            "it takes over when its budget has held for {}; it has for {}",
            duration(needs),
            duration(held)
        ),
        _ => writeln!(text, "it takes over by `sluice-gateway step promote {name}`"),
    };
    for example in &shadow.examples {
        let _ = writeln!(text, "  {example}");
    }
    text
}
