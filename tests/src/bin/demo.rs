//! `cargo xtask demo`: what Sluice promises, on the screen, with faults in mid run. Exits 1 when a promise was broken.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use e2e::demo::{cloud, hostile, outage};
use serde::Serialize;

/// Devices, gateway, stamp, faults in mid run, and the account.
#[derive(Parser)]
struct Arguments {
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Scenario::Main)]
    scenario: Scenario,
    /// Print the account as one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// How long the devices publish (main).
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only fixtures with this in their name (hostile).
    #[arg(long)]
    only: Option<String>,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 2)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// The main job: an outage of the stamp, killed gateways, and the account.
    Main,
    /// A healthy tenant beside each hostile plugin.
    Hostile,
    /// Gateways go from test to production, in five steps.
    Promote,
    /// A stamp is emptied under load, while provisioning and the stamp are killed.
    Drain,
    /// A population outgrows its stamp: another one is added, and nobody is moved.
    Grow,
}

fn main() -> Result<ExitCode> {
    let Arguments { scenario, json, seconds, only, seed } = Arguments::parse();
    let of_cloud = |scenario| {
        let outcome = cloud::run(&cloud::Options { scenario, seed })?;
        close(&outcome, &outcome.text(), outcome.is_good(), json)
    };
    match scenario {
        Scenario::Main => {
            let outcome = outage::run(&outage::Options { publish: Duration::from_secs(seconds), seed })?;
            let kept = outcome.account.is_kept() && outcome.account.landed > 0;
            close(&outcome, &outcome.text(), kept, json)
        }
        Scenario::Hostile => {
            let outcome = hostile::run(&hostile::Options { only, seed })?;
            close(&outcome, &outcome.text(), outcome.kept, json)
        }
        Scenario::Promote => of_cloud(cloud::Scenario::Promote),
        Scenario::Drain => of_cloud(cloud::Scenario::Drain),
        Scenario::Grow => of_cloud(cloud::Scenario::Grow),
    }
}

/// The account, the verdict, and the exit code that says the same.
fn close(outcome: &impl Serialize, text: &str, kept: bool, json: bool) -> Result<ExitCode> {
    println!("\n{text}");
    println!("{}", if kept { "Every promise was kept." } else { "A promise was broken." });
    if json {
        println!("{}", serde_json::to_string(outcome)?);
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
