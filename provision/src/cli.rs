//! The command line of `sluice-provision`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::authority::Authority;
use crate::run;

/// Tells each gateway, without anyone touching it, which stamp serves which of its tenants.
#[derive(Parser)]
#[command(
    name = "sluice-provision",
    version,
    after_help = "\
First steps:
  1. sluice-provision authority --folder gateways-ca      the authority of gateways' certificates
  2. Write provision.toml:
       [provision]
       data_dir = \"/var/lib/sluice-provision\"
       listen = \"0.0.0.0:8443\"
       identity = { certificate = \"provision.crt\", key = \"provision.key\" }
       trust = \"ca.crt\"            # operators' and stamps' certificates come from it
       authority = { certificate = \"gateways-ca/ca.crt\", key = \"gateways-ca/ca.key\" }
       operators = [\"ops\"]         # Common Names of operators' certificates
  3. sluice-provision check --config provision.toml
  4. sluice-provision run --config provision.toml

Logs go to standard error; SLUICE_LOG sets their level, e.g. SLUICE_LOG=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check the configuration and the files it names
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make a new authority for gateways' certificates: ca.crt and ca.key in a folder
    Authority {
        /// The folder, which is made
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// Its name
        #[arg(long, default_value = "Sluice gateways")]
        name: String,
    },
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run { config } => {
            let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("cannot start an asynchronous runtime")?;
            runtime.block_on(run::run(&config))?;
        }
        Command::Check { config } => {
            let checked = run::check(&config)?;
            println!("{}: good; would listen on {}", config.display(), checked.listen);
        }
        Command::Authority { folder, name } => {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Authority::create(&folder, &name, i64::try_from(since.as_secs()).unwrap_or(i64::MAX))?;
            println!("made {0}/ca.crt and {0}/ca.key: keep the key secret and safe", folder.display());
        }
    }
    Ok(())
}
