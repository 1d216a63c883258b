//! `cargo xtask`: the project's own commands. Each does its whole set-up, so that a fresh machine needs one command.
//!
//! This crate stays light, so that it builds in seconds: what needs the product (demo, bench, certificates) is a binary
//! of the crate `e2e`, which is built and started from here.

mod guests;
mod setup;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run every test. Arguments after `--` go to `cargo test`.
    Test {
        /// For `cargo test`, e.g. `-p e2e tidy`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// The main job on the screen: devices, gateway, stamp, kills in mid run, and the account. Under a minute.
    Demo {
        /// Print the account as one JSON object on the last line.
        #[arg(long)]
        json: bool,
        /// `main`; `hostile`: a healthy tenant beside each hostile plugin, about three minutes; and of the cloud, about a
        /// minute each: `promote` (from test to production), `drain` (a stamp is emptied), `grow` (a stamp is full).
        #[arg(long, value_parser = ["main", "hostile", "promote", "drain", "grow"])]
        scenario: Option<String>,
        /// How long the devices publish (main).
        #[arg(long)]
        seconds: Option<u32>,
        /// Only hostile plugins with this in their name (hostile).
        #[arg(long)]
        only: Option<String>,
    },
    /// Each stage and the whole path, beside the physical limit of the same run. About six minutes.
    Bench {
        /// Print the results as one JSON object on the last line.
        #[arg(long)]
        json: bool,
        /// Only what has this in its name.
        only: Option<String>,
    },
    /// A throwaway certificate authority and certificates, for trying things.
    #[command(disable_help_flag = true)]
    Pki {
        /// See `cargo xtask pki --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A million gateways after an outage of their stamp, in virtual time: how hard they come, how soon they are back. With
    /// `stamps`: a year of ten million devices on a thousand stamps.
    #[command(disable_help_flag = true)]
    Simulate {
        /// See `cargo xtask simulate --help` and `cargo xtask simulate stamps --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the plugins to WebAssembly into `plugins/dist`.
    Guests,
    /// What the continuous integration runs: formatting, lints, dependencies, tests.
    Ci,
}

fn main() -> Result<()> {
    let root = root()?;
    match Options::parse().task {
        Task::Test { arguments } => {
            guests::build()?;
            setup::packages()?;
            // With the tests, so that binaries and tests share every dependency.
            build(root, &["--bins", "--tests"])?;
            let all = ["test", "--release"].map(str::to_owned);
            let whole = if arguments.iter().any(|argument| argument == "-p") {
                None
            } else {
                Some("--workspace".to_owned())
            };
            run(cargo(root).args(all).args(whole).args(arguments))
        }
        Task::Demo { json, scenario, seconds, only } => {
            guests::build()?;
            build(root, &["--bins"])?;
            let mut demo = built("demo")?;
            demo.args(json.then_some("--json"));
            demo.args(scenario.map(|scenario| format!("--scenario={scenario}")));
            demo.args(seconds.map(|seconds| format!("--seconds={seconds}")));
            demo.args(only.map(|only| format!("--only={only}")));
            run(&mut demo)
        }
        Task::Bench { json, only } => {
            guests::build()?;
            build(root, &["--bins"])?;
            run(built("bench")?.args(json.then_some("--json")).args(only))
        }
        Task::Pki { arguments } => {
            build(root, &["--quiet", "--bin", "pki"])?;
            run(built("pki")?.args(arguments))
        }
        Task::Simulate { arguments } => {
            let (package, binary, rest) = match arguments.split_first() {
                Some((what, rest)) if what == "stamps" => ("provision", "simulate-stamps", rest),
                _ => ("backoff", "simulate", arguments.as_slice()),
            };
            run(cargo(root).args(["build", "--quiet", "--release", "--package", package, "--bin", binary]))?;
            run(built(binary)?.args(rest))
        }
        Task::Guests => guests::build(),
        Task::Ci => run(Command::new("bash").arg(root.join(".ci/run"))),
    }
}

/// Builds targets of the whole workspace in one go, so that each dependency is compiled once.
fn build(root: &Path, targets: &[&str]) -> Result<()> {
    run(cargo(root).args(["build", "--release", "--workspace"]).args(targets))
}

/// The workspace's folder.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no workspace")
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// A binary of the workspace, beside this one.
fn built(name: &str) -> Result<Command> {
    let mut path: PathBuf = std::env::current_exe().context("cannot tell where xtask lies")?;
    path.set_file_name(name);
    Ok(Command::new(path))
}

/// Runs a command and fails when it does.
fn run(command: &mut Command) -> Result<()> {
    let name =
        Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).display().to_string();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    match status.code() {
        Some(0) => Ok(()),
        // The command has said why; its code is ours.
        Some(code) => std::process::exit(code),
        None => bail!("{name} was ended by a signal ({status})"),
    }
}
