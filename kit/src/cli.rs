//! The command line `sluice-plugin`: parses, dispatches, and turns errors into words and exit codes.
//!
//! Exit codes: 0 done; 1 failed, told on standard error; 2 wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::new;
use crate::project::{Kind, Language};

const EXAMPLE: &str = "\
From nothing to a plugin that runs:

  sluice-plugin new --lang rust hot-pressure     a project whose test passes
  cd hot-pressure
  sluice-plugin build                            build/hot-pressure.wasm";

/// Write, build, test and sign plugins for the Sluice gateway.
#[derive(Debug, Parser)]
#[command(name = "sluice-plugin", version, about, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a project that builds and whose test passes at once.
    New {
        /// The language to write it in.
        #[arg(long, value_enum)]
        lang: Language,
        /// What it does: transform frames, or decode what devices send.
        #[arg(long, value_enum, default_value = "processor")]
        kind: Kind,
        /// Its name, and the folder's: lower-case letters, digits and dashes.
        name: String,
        /// The folder to write it to, by default NAME here. It must be empty or absent.
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
    },
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::New { lang, kind, name, into } => new::command(lang, kind, &name, into.as_deref()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
