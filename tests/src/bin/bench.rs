//! `cargo xtask bench`: each stage and the whole path, beside the limit measured in the same run.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Each stage alone and the whole path, beside the physical limit of the same run.
#[derive(Parser)]
struct Arguments {
    /// Print the results as one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// Only what has this in its name: `stages`, `qos0`, `qos1`, `full`, `latency`, `outage`, `drain` (by name
    /// with an hour's backlog, else with six minutes'), `goodput`, `crowd`, `registrations`, `plugins` (by name only: builds
    /// the examples in four languages).
    only: Option<String>,
    /// Be the bare listener: for the bench itself.
    #[arg(long, hide = true)]
    bare_listener: bool,
    /// Be the gateways of the crowd: for the bench itself.
    #[arg(long, hide = true)]
    crowd_member: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { json, only, bare_listener, crowd_member } = Arguments::parse();
    if bare_listener {
        return e2e::bench::bare::serve();
    }
    if let Some(told) = crowd_member {
        return e2e::bench::crowd::serve(&told);
    }
    let bench = e2e::bench::run(only.as_deref())?;
    if json {
        println!("{}", serde_json::to_string(&bench)?);
    }
    Ok(())
}
