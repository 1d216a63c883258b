//! The command line of `sluice-stamp`.

mod departed;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, RosterSource};
use crate::landing::{Reader, Selection};
use crate::provisioning::Kept;
use crate::roster::{Roster, RosterStatus};
use crate::show::csv::Csv;
use crate::show::json::Json;
use crate::show::select::Wanted;
use crate::show::{self, Count, Format, ShowError, Window};

/// How often `tail --follow` looks for new batches.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);
/// Output is written in pieces of this size.
const OUTPUT_BUFFER: usize = 256 << 10;

/// Receives what gateways send, lands each batch once, and shows what landed.
#[derive(Parser)]
#[command(
    name = "sluice-stamp",
    version,
    after_help = "\
First steps:
  1. Write stamp.toml:
       [stamp]
       id = \"eu-1\"
       data_dir = \"/var/lib/sluice-stamp\"
       listen = \"0.0.0.0:7443\"
       max_devices = 10000
       identity = { certificate = \"stamp.crt\", key = \"stamp.key\", trust = \"ca.crt\" }
       roster = \"roster.toml\"
       keep = \"30 d\"             # without it, what landed is kept for ever
  2. Write roster.toml, the gateways and tenants it serves (kill -HUP reloads it):
       [[gateway]]
       id = \"plant7-line2\"      # the Common Name of the gateway's certificate
       tenants = [\"acme\"]
     Or follow provisioning: instead of the line with roster, at the end of stamp.toml
       [provisioning]
       endpoint = \"https://provision.example:8443\"
       trust = \"ca.crt\"        # and kill -HUP asks at once, instead of after a while
  3. sluice-stamp check --config stamp.toml
  4. sluice-stamp run --config stamp.toml
  5. In another terminal: sluice-stamp tail --config stamp.toml --follow

Logs go to standard error; SLUICE_LOG sets their level, e.g. SLUICE_LOG=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive from gateways until SIGTERM; SIGHUP reloads the roster, or asks provisioning at once, and takes renewed
    /// certificates, which are also noticed by themselves
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How logs are written
        #[arg(long, value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Check the configuration and the files it names, and say everything that is wrong
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show the rows that landed last, one a line; with --follow also those that land from now on
    #[command(after_help = "Examples:\n  sluice-stamp tail --config stamp.toml --follow --tenant acme\n  \
        sluice-stamp tail --config stamp.toml --from start --format csv")]
    Tail {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filters: Filters,
        /// Go on as rows land, until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Where to begin: "start", "end", or that many of the last rows
        #[arg(long, default_value = "10", value_name = "start|end|ROWS")]
        from: Begin,
        /// How rows are written
        #[arg(long, value_enum, default_value = "json")]
        format: RowFormat,
    },
    /// Show rows that landed, by tenant, gateway, device, route and time
    #[command(
        after_help = "Examples:\n  sluice-stamp query --config stamp.toml --device press-12 --since '15 min'\n  \
        sluice-stamp query --config stamp.toml --tenant acme --route alarms --since 2026-11-24 --count"
    )]
    Query {
        #[command(flatten)]
        from: Source,
        #[command(flatten)]
        filters: Filters,
        /// At most so many rows, the first that landed
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
        /// Only how many rows there are
        #[arg(long)]
        count: bool,
        /// How rows are written
        #[arg(long, value_enum, default_value = "json")]
        format: RowFormat,
    },
    /// Write all rows that landed, or those of some filters, to a file or standard output
    Export {
        #[command(flatten)]
        from: Source,
        #[command(flatten)]
        filters: Filters,
        /// The file to write; without it, standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How rows are written
        #[arg(long, value_enum, default_value = "csv")]
        format: RowFormat,
    },
    /// Show what landed from whom: rows, batches, gaps, losses
    Status {
        #[command(flatten)]
        from: Source,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copies of tenants that have gone to another stamp: list, export, delete, receipts
    #[command(
        subcommand,
        after_help = "Examples:\n  sluice-stamp departed list --config stamp.toml\n  \
        sluice-stamp departed export --config stamp.toml --gateway plant7 --tenant acme -o acme.csv\n  \
        sluice-stamp departed delete --config stamp.toml --gateway plant7 --tenant acme --yes\n\n\
        With stamp.delete_departed_after they are deleted by themselves."
    )]
    Departed(departed::Command),
}

/// Where the landing is.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The stamp's configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Or its data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Which rows.
#[derive(Args, Default)]
struct Filters {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only from this gateway
    #[arg(long)]
    gateway: Option<String>,
    /// Only of this device
    #[arg(long)]
    device: Option<String>,
    /// Only of this route, e.g. "alarms"
    #[arg(long)]
    route: Option<String>,
    /// Only measured since: 2026-11-24T06:30:00Z, 2026-11-24, or "15 min" (ago)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only measured before
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RowFormat {
    /// One JSON object a line
    #[value(alias = "jsonl")]
    Json,
    /// Comma-separated, with a header
    Csv,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Where `tail` begins.
#[derive(Clone, Copy)]
enum Begin {
    Start,
    Last(u64),
}

impl std::str::FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::Last(0)),
            rows => {
                rows.parse().map(Self::Last).map_err(|_| "write start, end, or a number of rows".to_owned())
            }
        }
    }
}

fn parse_time(text: &str) -> Result<i64, String> {
    wire::when::ago(text, now())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Runs the command of the command line.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { config, log_format } => run(&config, log_format),
        Command::Check { config } => return check(&config),
        Command::Tail { source, filters, follow, from, format } => {
            tail(&source, filters, follow, from, format)
        }
        Command::Query { from, filters, limit, count, format } => query(&from, filters, limit, count, format),
        Command::Export { from, filters, output, format } => {
            export(&from, filters, output.as_deref(), format)
        }
        Command::Status { from, json } => status(&from, json),
        Command::Departed(command) => departed::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-stamp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has had enough: `… | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>().or(match error.downcast_ref::<ShowError>() {
        Some(ShowError::Output(io)) => Some(io),
        _ => None,
    });
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(config: &Path, log_format: LogFormat) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    Ok(runtime.block_on(crate::run::run(config))?)
}

fn check(config: &Path) -> ExitCode {
    let problems = crate::run::check(config);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("{} is good", config.display());
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

impl Source {
    fn open(&self) -> Result<Reader> {
        Ok(Reader::open(&self.folder()?)?)
    }

    fn folder(&self) -> Result<PathBuf> {
        Ok(match (&self.config, &self.data_dir) {
            (_, Some(folder)) => folder.clone(),
            (Some(config), None) => Config::load(config)?.data_dir,
            (None, None) => PathBuf::new(),
        })
    }
}

impl Source {
    /// The roster, as far as it is known without asking anybody.
    fn roster(&self) -> Option<RosterStatus> {
        let config = match (&self.config, &self.data_dir) {
            (_, Some(folder)) => return Kept::status(folder),
            (Some(config), None) => Config::load(config).ok()?,
            (None, None) => return None,
        };
        let nothing = |source| RosterStatus { source, revision: None, changed_ns: None, gateways: 0 };
        match config.roster {
            RosterSource::File(path) => Some(RosterStatus {
                gateways: Roster::load(&path).map_or(0, |roster| roster.len()),
                ..nothing(path.display().to_string())
            }),
            RosterSource::Provisioning(provisioning) => {
                Kept::status(&config.data_dir).or_else(|| Some(nothing(provisioning.endpoint)))
            }
        }
    }
}

impl From<Filters> for Wanted {
    fn from(filters: Filters) -> Self {
        let Filters { tenant, gateway, device, route, since, until } = filters;
        Self { selection: Selection { tenant, gateway, route }, device, since, until }
    }
}

fn output() -> BufWriter<std::io::StdoutLock<'static>> {
    BufWriter::with_capacity(OUTPUT_BUFFER, std::io::stdout().lock())
}

fn tail(from: &Source, filters: Filters, follow: bool, begin: Begin, format: RowFormat) -> Result<()> {
    let reader = from.open()?;
    let wanted = Wanted::from(filters);
    let mut format: Box<dyn Format> = match format {
        RowFormat::Json => Box::new(Json::default()),
        RowFormat::Csv => Box::new(Csv::default()),
    };
    let mut out = output();
    let (mut last, mut skip) = match begin {
        Begin::Start => (0, 0),
        Begin::Last(rows) => reader.before_last(&wanted.selection, rows)?,
    };
    if !wanted.takes_whole_batches() {
        // How many of the last batches' rows are wanted is not known: all that are wanted are shown.
        skip = 0;
    }
    let mut window = Window { skip, ..Window::ALL };
    loop {
        last = show::show(&reader, &wanted, (last, i64::MAX), &mut window, format.as_mut(), &mut out)?;
        out.flush()?;
        if !follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

fn query(from: &Source, filters: Filters, limit: u64, count: bool, format: RowFormat) -> Result<()> {
    let reader = from.open()?;
    let wanted = Wanted::from(filters);
    let mut out = output();
    if count {
        let mut window = Window { skip: 0, left: limit };
        show::show(&reader, &wanted, (0, i64::MAX), &mut window, &mut Count, &mut out)?;
        writeln!(out, "{}", limit - window.left)?;
    } else {
        write_all(&reader, &wanted, limit, format, &mut out)?;
    }
    Ok(out.flush()?)
}

fn export(from: &Source, filters: Filters, path: Option<&Path>, format: RowFormat) -> Result<()> {
    let reader = from.open()?;
    let wanted = Wanted::from(filters);
    let Some(path) = path else {
        let mut out = output();
        write_all(&reader, &wanted, u64::MAX, format, &mut out)?;
        return Ok(out.flush()?);
    };
    let file =
        std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER, file);
    write_all(&reader, &wanted, u64::MAX, format, &mut out)?;
    out.flush().with_context(|| format!("{} cannot be written", path.display()))
}

fn write_all(
    reader: &Reader,
    wanted: &Wanted,
    limit: u64,
    format: RowFormat,
    out: &mut dyn Write,
) -> Result<()> {
    let mut window = Window { skip: 0, left: limit };
    match format {
        RowFormat::Json => {
            show::show(reader, wanted, (0, i64::MAX), &mut window, &mut Json::default(), out)?;
        }
        RowFormat::Csv => {
            let (mut csv, last) = Csv::of_all(reader, wanted)?;
            csv.header(out)?;
            // What has landed meanwhile is left for the next time.
            show::show(reader, wanted, (0, last), &mut window, &mut csv, out)?;
        }
    }
    Ok(())
}

fn status(from: &Source, json: bool) -> Result<()> {
    let mut status = from.open()?.status()?;
    status.roster = from.roster();
    let mut out = output();
    if json {
        serde_json::to_writer(&mut out, &status)?;
        writeln!(out)?;
    } else {
        show::status(&status, now(), &mut out)?;
    }
    Ok(out.flush()?)
}
