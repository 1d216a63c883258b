//! The command line `sluice-plugin`: parses, dispatches, and turns errors into words and exit codes.
//!
//! Exit codes: 0 done; 1 failed, told on standard error; 2 wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::build::Mode;
use crate::project::{Kind, Language};
use crate::{bench, build, cases, inspect, keys, new, reference, replay};

const EXAMPLE: &str = "\
From nothing to a plugin that runs:

  sluice-plugin new --lang rust to-fahrenheit    a project whose test passes
  cd to-fahrenheit
  sluice-plugin build                            build/to-fahrenheit.wasm, with checks
  sluice-plugin test                             what tests/cases.toml says, in the gateway's own runtime
  sluice-plugin build --release                  what goes to a site
  sluice-plugin bench build/to-fahrenheit.wasm --with 'column = \"temperature_c\", deadband = 0.5'
  sluice-plugin keygen acme-build                once, then for each release:
  sluice-plugin sign build/to-fahrenheit.wasm --key acme-build.key

In the gateway's configuration:

  [[tenant.acme.step]]
  use = \"plugins/to-fahrenheit.wasm\"
  with = { column = \"temperature_c\", deadband = 0.5 }

Compilers that come from PyPI or npm are kept in $SLUICE_TOOLS, else in ~/.cache/sluice-plugin/tools.";

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
    /// Builds build/NAME.wasm: a component with its manifest. Fetches the language's compiler once, if it comes from a
    /// package registry.
    Build {
        /// The project's folder, by default the one here.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Small and fast, as for sites. Without it Rust and C are built with checks: an overflow of integers ends the
        /// call. JavaScript and Python are the same in both.
        #[arg(long)]
        release: bool,
    },
    /// Shows what a plugin file is: interface, imports, what it asks for, size, digest, signature.
    Inspect {
        /// The file.
        file: PathBuf,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        /// Checks the signature with these keys: a .pub file, or a gateway's configuration. Several may be given.
        #[arg(long, value_name = "FILE")]
        keys: Vec<PathBuf>,
    },
    /// Prints the reference of the plugin interface, as Markdown.
    Interface,
    /// Makes a pair of keys: NAME.key, which signs and stays secret, and NAME.pub, which gateways trust.
    Keygen {
        /// Whose plugins it signs, e.g. acme-build.
        name: String,
        /// The folder to write them to.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        into: PathBuf,
    },
    /// Signs a plugin file: the signature covers everything in it.
    Sign {
        /// The file, which is changed.
        file: PathBuf,
        /// The secret key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Tells whether a plugin file is signed by one of the keys. Exit code 3 if not.
    Verify {
        /// The file.
        file: PathBuf,
        /// A .pub file, or a gateway's configuration. Several may be given.
        #[arg(long, value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
    },
    /// Tries a plugin against cases, in the runtime of the gateway.
    Test(cases::Options),
    /// Runs a plugin over rows that a gateway exported, and compares it with another version.
    Replay(replay::Options),
    /// Measures a plugin: rows a second, time of a call, memory, load.
    Bench(bench::Options),
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::New { lang, kind, name, into } => new::command(lang, kind, &name, into.as_deref()),
        Command::Build { folder, release } => {
            build::command(&folder, if release { Mode::Release } else { Mode::Checked })
        }
        Command::Inspect { file, json, keys } => inspect::command(&file, json, &keys),
        Command::Interface => reference::command(),
        Command::Keygen { name, into } => keys::generate(&name, &into),
        Command::Sign { file, key } => keys::sign(&file, &key),
        Command::Verify { file, keys } => keys::verify(&file, &keys),
        Command::Test(options) => Ok(cases::command(&options)),
        Command::Replay(options) => Ok(replay::command(&options)),
        Command::Bench(options) => Ok(bench::command(&options)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
