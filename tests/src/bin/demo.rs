//! `cargo xtask demo`: the main job on the screen, with kills in mid run. Exits 1 when a promise was broken.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use e2e::demo::{Options, run};

/// Devices, gateway, stamp, kills in mid run, and the account.
#[derive(Parser)]
struct Arguments {
    /// Print the account as one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// How long the devices publish.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 2)]
    seed: u64,
}

fn main() -> Result<ExitCode> {
    let Arguments { json, seconds, seed } = Arguments::parse();
    let outcome = run(&Options { publish: Duration::from_secs(seconds), seed })?;
    let kept = outcome.account.is_kept() && outcome.account.landed > 0;
    println!("\n{}", outcome.text());
    println!("{}", if kept { "Every promise was kept." } else { "A promise was broken." });
    if json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
