//! The command line `sluice-provision`: the service itself (`run`, `check`, `authority`, `certificate`, `backup`), and what
//! an operator asks of it over its API: `stamp`, `tenant`, `enrolment`, `gateway`, `move`, `cordon`, `drain`, `promote`,
//! `operation`, `receipt`, `release`, `rollout`, `explain`, `status`, `audit`.
//!
//! Parses, dispatches, and turns answers and errors into words and exit codes. Exit codes: 0 done; 1 refused or failed,
//! told on standard error; 2 wrong usage; 3 the service does not answer. Secrets are read from files or standard input,
//! never from arguments, and shown only by `enrolment key`.

mod enrolment;
mod explain;
mod gateway;
mod moves;
mod operation;
mod receipt;
mod release;
mod reply;
mod rollout;
mod service;
mod show;
mod stamp;
mod status;
mod tenant;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::operator::Client;
use crate::operator::access::{Access, Given, VARIABLE};
use reply::{Failure, Reply};

const EXAMPLES: &str = "\
First steps (docs/provisioning.md is the whole walk, from nothing to a gateway in production):
  1. The authorities, and certificates for the service and for an operator:
       sluice-provision authority --folder gateways-ca
       sluice-provision authority --folder staff-ca --name 'Example staff'
       sluice-provision certificate --authority staff-ca --name provision --host provision.example
       sluice-provision certificate --authority staff-ca --name ops
  2. Write provision.toml:
       [provision]
       data_dir = \"/var/lib/sluice-provision\"
       listen = \"0.0.0.0:8443\"
       identity = { certificate = \"provision.crt\", key = \"provision.key\" }
       trust = \"staff-ca/ca.crt\"   # operators' and stamps' certificates come from it
       authority = { certificate = \"gateways-ca/ca.crt\", key = \"gateways-ca/ca.key\" }
       operators = [\"ops\"]         # Common Names of operators' certificates
  3. sluice-provision check --config provision.toml
  4. sluice-provision run --config provision.toml
  5. Write operator.toml, and name it: export SLUICE_PROVISION=operator.toml
       [operator]
       api = \"https://provision.example:8443\"
       certificate = \"ops.crt\"
       key = \"ops.key\"
       trust = \"staff-ca/ca.crt\"
  6. Say what there is:
       sluice-provision stamp add eu-1 --region eu --environment production \\
           --max-devices 10000 --endpoint quic://eu-1.example:7443
       sluice-provision tenant add acme --region eu
       sluice-provision enrolment add line-gateways --environment production \\
           --tenant acme=50 --by-new-group-key
       sluice-provision enrolment key line-gateways plant7-line2 > plant7-line2.key
       sluice-provision status

Every question about what there is takes --json: one line, with the names of the API.
Logs of the service go to standard error; SLUICE_LOG sets their level, e.g. SLUICE_LOG=debug.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the service does not answer.";

/// Tells each gateway, without anyone touching it, which stamp serves which of its tenants.
#[derive(Debug, Parser)]
#[command(name = "sluice-provision", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Service(service::ServiceCommand),
    /// Stamps: add, list, show, set, remove, lost.
    Stamp(stamp::StampArguments),
    /// Tenants and where their data may go: add, list, show, set, remove.
    Tenant(tenant::TenantArguments),
    /// Which gateways the cloud knows, and how they prove who they are: add, list, show, set, block, unblock, key, remove.
    Enrolment(enrolment::EnrolmentArguments),
    /// Gateways that have registered: list, show, block, unblock, remove.
    Gateway(gateway::GatewayArguments),
    #[command(flatten)]
    Moves(moves::MovesCommand),
    /// What was started and goes on by itself, rollouts among it: list, show, watch, abort.
    Operation(operation::OperationArguments),
    /// What gateways gave up, and what stamps deleted or exported of those that had gone from them: list.
    Receipt(receipt::ReceiptArguments),
    /// What a tenant's gateways are to run, published once and then rolled out: add, list, show, remove, desired.
    Release(release::ReleaseArguments),
    /// A release on its way from ring to ring, stopped and taken back by itself if it does badly: start, list, show, watch,
    /// abort.
    Rollout(rollout::RolloutArguments),
    /// Says where a tenant of a gateway would go now, and why each other stamp is not it. Exit code 1 if there is none.
    Explain(explain::ExplainArguments),
    /// How the service stands: how much there is, how full each stamp is and until when it lasts, what goes on.
    Status(status::StatusArguments),
    /// What operators did, the newest first.
    Audit(status::AuditArguments),
}

/// What every question takes.
#[derive(Debug, Args)]
struct With {
    /// As one line of JSON with stable names: those of the API.
    #[arg(long, global = true)]
    json: bool,
    /// A file with [operator] api, certificate, key, trust; without it the one named by $SLUICE_PROVISION.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which service, and as whom")]
    operator: Option<PathBuf>,
    /// Where the service is.
    #[arg(
        long,
        global = true,
        value_name = "https://HOST:PORT",
        help_heading = "Which service, and as whom"
    )]
    api: Option<String>,
    /// The operator's certificate.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which service, and as whom")]
    certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which service, and as whom")]
    key: Option<PathBuf>,
    /// The authority that the service's certificate comes from.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which service, and as whom")]
    trust: Option<PathBuf>,
}

impl With {
    /// The way to the service.
    fn client(&self) -> Result<Client, Failure> {
        let given = Given {
            api: self.api.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            trust: self.trust.clone(),
        };
        let file = self.operator.clone().or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
        let access = Access::find(given, file.as_deref())?;
        Ok(Client::new(&access)?)
    }
}

/// Which part of a list.
#[derive(Debug, Args)]
struct Part {
    /// At most so many; what `next` says is told with them.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u64,
    /// Go on after this one.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
}

impl Part {
    fn wanted(&self) -> crate::operator::Wanted<'_> {
        crate::operator::Wanted { after: self.after.as_deref(), limit: Some(self.limit) }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let json = match &command {
        Command::Service(_) => false,
        Command::Stamp(arguments) => arguments.with.json,
        Command::Tenant(arguments) => arguments.with.json,
        Command::Enrolment(arguments) => arguments.with.json,
        Command::Gateway(arguments) => arguments.with.json,
        Command::Moves(command) => command.with().json,
        Command::Operation(arguments) => arguments.with.json,
        Command::Receipt(arguments) => arguments.with.json,
        Command::Release(arguments) => arguments.with.json,
        Command::Rollout(arguments) => arguments.with.json,
        Command::Explain(arguments) => arguments.with.json,
        Command::Status(arguments) => arguments.with.json,
        Command::Audit(arguments) => arguments.with.json,
    };
    match execute(command) {
        Ok(code) => code,
        Err(failure) => failure.tell(json),
    }
}

fn execute(command: Command) -> Reply {
    match command {
        Command::Service(command) => service::execute(command),
        Command::Stamp(arguments) => asking(stamp::execute(arguments)),
        Command::Tenant(arguments) => asking(tenant::execute(arguments)),
        Command::Enrolment(arguments) => asking(enrolment::execute(arguments)),
        Command::Gateway(arguments) => asking(gateway::execute(arguments)),
        Command::Moves(command) => asking(moves::execute(command)),
        Command::Operation(arguments) => asking(operation::execute(arguments)),
        Command::Receipt(arguments) => asking(receipt::execute(arguments)),
        Command::Release(arguments) => asking(release::execute(arguments)),
        Command::Rollout(arguments) => asking(rollout::execute(arguments)),
        Command::Explain(arguments) => asking(explain::execute(arguments)),
        Command::Status(arguments) => asking(status::execute(arguments)),
        Command::Audit(arguments) => asking(status::audit(arguments)),
    }
}

/// Runs questions to the service: one after the other, on this thread.
fn asking(questions: impl Future<Output = Reply>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(questions),
        Err(error) => {
            Err(Failure::new("machine", format!("cannot start an asynchronous runtime: {error}"), ""))
        }
    }
}
