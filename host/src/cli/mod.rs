//! The command line `sluice-gateway`: `run`, `check`, `compile`, `status`, `why`, `retry-now`, `reload`,
//! `step`, `dead-letters`, `state`, `frames`.
//!
//! Parses, dispatches, and turns errors into words and exit codes. Exit codes: 0 done; 1 failed, told on standard error;
//! 2 wrong usage; 3 (of those that ask it) the gateway does not run.

mod check;
mod desired;
mod frames;
mod lanes;
mod letters;
mod logging;
mod out;
mod provisioned;
mod reload;
mod state;
mod status;
mod step;
mod when;
mod which;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wire::table;

pub use logging::LogFormat;

const EXAMPLE: &str = "\
A first configuration, say gateway.toml:

  [gateway]
  id = \"plant7-line2\"                    # also the Common Name of its certificate
  data_dir = \"/var/lib/sluice\"

  [[source]]
  name = \"floor\"
  kind = \"mqtt-listener\"
  listen = \"0.0.0.0:1883\"
  [[source.topic]]
  filter = \"site/{tenant}/{device}/telemetry\"
  format = \"json\"
  time = { field = \"ts\", unit = \"ms\" }

  [[tenant.acme.step]]
  use = \"builtin:linear\"
  with = { column = \"temperature_c\", into = \"temperature_f\", scale = 1.8, offset = 32.0 }

  [uplink]
  stamp = [{ id = \"eu-1\", endpoints = [\"quic://stamp.example:7443\"], tenants = [\"acme\"] }]
  identity = { certificate = \"gateway.crt\", key = \"gateway.key\", trust = \"ca.crt\" }

Or, instead of [uplink], with provisioning, which gives stamps and certificates by itself:

  [provisioning]
  endpoint = \"https://provision.example:8443\"
  trust = \"ca.crt\"
  attest = { certificate = \"bootstrap.crt\", key = \"bootstrap.key\" }

Then:

  sluice-gateway check --config gateway.toml     every mistake, with its line and what to do
  sluice-gateway run --config gateway.toml       until Ctrl-C or SIGTERM; data on its way is safe
  sluice-gateway status --config gateway.toml    what came, what waits, how long an outage is covered
  sluice-gateway why --config gateway.toml       what the uplink waits for, until when, why, and what comes then
  sluice-gateway retry-now --config gateway.toml you have mended something: do not wait for the next attempt
  sluice-gateway reload --config gateway.toml    you have changed the file or a plugin: take it over, without a gap
  sluice-gateway dead-letters list --config gateway.toml   what could not be processed, and why

Try it with any MQTT client:

  mosquitto_pub -p 1883 -t site/acme/press-1/telemetry -m '{\"ts\":1760000000123,\"temperature_c\":21.5}'";

/// The gateway of a site: takes what devices say, runs each tenant's plugins over it, keeps it safe on disk, and sends
/// it to the tenants' stamps.
#[derive(Debug, Parser)]
#[command(name = "sluice-gateway", version, about, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until SIGTERM or Ctrl-C.
    ///
    /// SIGHUP has the configuration read again, as `reload` does, and makes links that wait for a stamp try again at once.
    /// What only a restart applies is named in the log; nothing that was acknowledged is lost by one.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to write the log, which goes to standard error.
        #[arg(long, value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Checks a configuration without running it: all mistakes at once, certificates, and each plugin with its own
    /// settings. Exit code 1 if there is an error.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Compiles the plugins of a configuration into its data folder, as a start does for those that are new.
    Compile {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Compiles one plugin within bounds: what the gateway starts for a plugin that is new.
    #[command(hide = true)]
    CompilePlugin {
        #[command(flatten)]
        compiler: crate::gateway::Compiler,
        /// The plugin.
        plugin: PathBuf,
    },
    /// Shows what came, what waits and how the uplink stands; from the stores on disk if the gateway does not run (exit
    /// code 3).
    Status {
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Says what each uplink waits for: since when, until when, why, how many retries and tokens are left, and what comes
    /// then. Exit code 3 if the gateway does not run.
    ///
    /// A link "waits" between the attempts of an episode, is "parked" between episodes, and has "given up" when only a
    /// changed file or `retry-now` helps. All retries of a gateway together are bounded by tokens, which acknowledged data
    /// earns back.
    Why {
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Makes waiting, parked and given-up links try again at once, whatever they wait for; those connected go on. Without
    /// --stamp also sources that wait for a broker.
    RetryNow {
        /// Only the link to this stamp, by its id in the configuration.
        #[arg(long, value_name = "ID")]
        stamp: Option<String>,
        #[command(flatten)]
        of: Place,
    },
    /// Has the running gateway read its configuration again, and shows what became of each step. What cannot be taken over
    /// leaves its tenant as it was. Exit code 1 if something was refused, 3 if the gateway does not run.
    ///
    /// Applied at once, at a batch boundary, without losing or repeating anything: steps and their settings, plugin files
    /// that changed in place, decoders, routes, CPU shares, signatures. All else that differs is named, and waits for a
    /// restart. A plugin that does not load, or refuses its settings, changes nothing: the tenant goes on as before.
    Reload {
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Shows which release of its steps and plugins each tenant's stamp wants, which one runs, and why not the one that is
    /// wanted. Exit code 3 if the gateway does not run.
    ///
    /// A release lies over the tenant's part of the configuration: its list of steps takes the place of the list there, its
    /// decoders and routes that of those of the same name. `reload` does not undo it, and after a restart it runs with or
    /// without a stamp. One that cannot run here is refused, and what ran before goes on.
    Desired {
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Versions of plugins in the lanes: list, release from quarantine, promote a shadow, rollback, compare with a shadow.
    #[command(subcommand)]
    Step(step::StepCommand),
    /// Messages and rows that could not be processed: list, show, replay, export, drop.
    #[command(subcommand)]
    DeadLetters(letters::LettersCommand),
    /// What plugins keep: list, show, export, reset.
    #[command(subcommand)]
    State(state::StateCommand),
    /// What waits for the stamp: export.
    #[command(subcommand)]
    Frames(frames::FramesCommand),
}

/// Which gateway.
#[derive(Debug, clap::Args)]
struct Place {
    /// The configuration file, for its data folder.
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config, log_format } => run(&config, log_format),
        Command::Check { config } => check::check(&config),
        Command::Compile { config } => compile(&config),
        Command::CompilePlugin { compiler, plugin } => told(match compiler.run(&plugin) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(logging::chain(&*error)),
        }),
        Command::Status { json, of } => status::status(json, of.config.as_deref(), of.data_dir.as_deref()),
        Command::Why { json, of } => why::why(json, of.config.as_deref(), of.data_dir.as_deref()),
        Command::RetryNow { stamp, of } => {
            why::retry_now(stamp.as_deref(), of.config.as_deref(), of.data_dir.as_deref())
        }
        Command::Reload { json, of } => reload::reload(json, &of),
        Command::Desired { json, of } => desired::desired(json, &of),
        Command::Step(command) => step::steps(command),
        Command::DeadLetters(command) => letters::letters(command),
        Command::State(command) => state::state(command),
        Command::Frames(command) => frames::frames(command),
    }
}

/// The code, or the error on standard error.
fn told(done: Result<ExitCode, String>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(config: &std::path::Path, log_format: LogFormat) -> ExitCode {
    let loaded = match gateway_config::load(config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            eprintln!("{}: the gateway does not start with this configuration", config.display());
            return ExitCode::FAILURE;
        }
    };
    logging::start(loaded.config.gateway.log, log_format);
    for warning in &loaded.warnings {
        tracing::warn!(file = %warning.file.display(), line = warning.line, key = %warning.key, "{}", warning.what);
    }
    match crate::gateway::run(&loaded.config, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %logging::chain(&error), "the gateway ends");
            ExitCode::FAILURE
        }
    }
}

fn compile(file: &std::path::Path) -> ExitCode {
    let loaded = match gateway_config::load(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    let compiled = crate::gateway::compile(&loaded.config, |path, result| match result {
        Ok(seconds) => println!("{}: ready after {seconds:.3} s", path.display()),
        Err(error) => {
            eprintln!("{}", logging::chain(&error));
            code = ExitCode::FAILURE;
        }
    });
    if let Err(error) = compiled {
        eprintln!("{}", logging::chain(&error));
        return ExitCode::FAILURE;
    }
    code
}
