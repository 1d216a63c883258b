//! The service itself: run, check, and what is made before it runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;

use super::reply::{Failure, Reply, print};
use super::show;
use crate::authority::Authority;
use crate::run;

/// How long a certificate of [`ServiceCommand::Certificate`] is good for, unless said otherwise.
const CERTIFICATE_LIFE: &str = "365 d";

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Serves until SIGTERM or Ctrl-C.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Checks the configuration and the files it names.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Makes a new authority, ca.crt and ca.key in a folder: one for gateways' certificates, one for staff's and stamps'.
    Authority {
        /// The folder, which is made.
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// Its name.
        #[arg(long, default_value = "Sluice gateways")]
        name: String,
    },
    /// Makes a key and a certificate of an authority: for the service itself, an operator, a stamp.
    #[command(after_help = "Examples:\n  \
        sluice-provision certificate --authority staff-ca --name provision --host provision.example\n  \
        sluice-provision certificate --authority staff-ca --name ops --life '90 d'\n  \
        sluice-provision certificate --authority staff-ca --name eu-1 --host eu-1.example\n\n\
        Whoever has a public-key infrastructure of their own uses that instead: what counts is the Common Name.")]
    Certificate {
        /// The authority's folder: ca.crt and ca.key.
        #[arg(long, value_name = "FOLDER")]
        authority: PathBuf,
        /// The Common Name: a stamp's id, an operator's name; also that of the files, NAME.crt and NAME.key.
        #[arg(long)]
        name: String,
        /// A host name or address that it is reached by, if it serves; may be repeated.
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// How long it is good for.
        #[arg(long, value_name = "SPAN", default_value = CERTIFICATE_LIFE, value_parser = backoff::duration::parse)]
        life: Duration,
        /// Where the files go.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        folder: PathBuf,
    },
    /// Writes a copy of the registry, whole and as of one moment, while the service runs or not.
    ///
    /// The file holds enrolments' keys: only its owner may read it. To restore: stop the service, put the file into
    /// `data_dir` as `registry.db`, remove `registry.db-wal` and `registry.db-shm`, and start.
    Backup {
        /// The file to write; nothing that is there is overwritten.
        file: PathBuf,
        /// The configuration file of the service.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Prints the OpenAPI document of the service's API.
    Openapi,
}

pub(super) fn execute(command: ServiceCommand) -> Reply {
    let failed = |error: &dyn std::error::Error| Failure::new("failed", error.to_string(), "");
    match command {
        ServiceCommand::Run { config } => {
            let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
                    Failure::new("machine", format!("cannot start an asynchronous runtime: {error}"), "")
                })?;
            runtime.block_on(run::run(&config)).map_err(|error| failed(&error))?;
        }
        ServiceCommand::Check { config } => {
            let checked = run::check(&config).map_err(|error| failed(&error))?;
            print(&format!("{}: good; would listen on {}\n", config.display(), checked.listen))?;
        }
        ServiceCommand::Authority { folder, name } => {
            Authority::create(&folder, &name, show::now()).map_err(|error| failed(&error))?;
            print(&format!(
                "made {0}/ca.crt and {0}/ca.key: keep the key secret and safe\n",
                folder.display()
            ))?;
        }
        ServiceCommand::Certificate { authority, name, hosts, life, folder } => {
            let loaded = Authority::load(&authority.join("ca.crt"), &authority.join("ca.key"))
                .map_err(|error| failed(&error))?;
            let made =
                loaded.certify(&name, &hosts, life, show::now(), &folder).map_err(|error| failed(&error))?;
            print(&format!(
                "made {} and {}, good until {}: keep the key secret\n",
                plain(&made.certificate),
                plain(&made.key),
                show::date(made.not_after)
            ))?;
        }
        ServiceCommand::Openapi => print(&crate::api::openapi::document())?,
        ServiceCommand::Backup { file, config } => {
            let data_dir = crate::config::Config::load(&config).map_err(|error| failed(&error))?.data_dir;
            let begun = SystemTime::now();
            let bytes = crate::registry::backup::write(&data_dir, &file).map_err(|error| failed(&error))?;
            let took = begun.elapsed().unwrap_or_default();
            print(&format!(
                "{}: {} of the registry as it is now, in {:.1} s\n",
                file.display(),
                wire::table::bytes(bytes),
                took.as_secs_f64()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Without the `./` of the folder that one is in.
fn plain(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(".").unwrap_or(path).display()
}
