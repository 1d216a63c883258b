//! `sluice-plugin bench`: what a plugin costs on this machine, beside the same step as a native function.
//!
//! [`input`] makes rows, [`measure`] times loads and calls in the runtime of the gateway, [`native`] is what they are held
//! against. Read the ratios: absolute times are those of this machine at this moment.

pub mod input;
pub mod measure;
pub mod native;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::guest;
use measure::{Job, Measured, measure};

/// Most rows of a call, as in [`wire::frame::MAX_ROWS`].
const MAX_ROWS: u64 = 1 << 20;

const EXAMPLE: &str = "\
  sluice-plugin bench build/hot-pressure.wasm --with 'column = \"pressure_kpa\", above = 320'

Without --input it gets made rows of 200 machines with temperature_c, pressure_kpa, rpm and state.
A ratio of 2 says: twice the time of the same step as a native function (or, for a step the tool does not
know, of copying the rows in and out).";

/// Measures a plugin: rows a second, time of a call, memory, load.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Options {
    /// The plugin.
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The step's configuration: TOML (column = "x"), JSON, or the path of a .toml or .json file.
    #[arg(long, value_name = "CONFIG")]
    with: Option<String>,
    /// Rows of a call, several with commas.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "256,4096",
          value_parser = clap::value_parser!(u64).range(1..=MAX_ROWS))]
    rows: Vec<u64>,
    /// How long each measurement lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Rows (.csv, .jsonl, also exported ones) or, for a decoder, messages to feed it with.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The command.
#[must_use]
pub fn command(options: &Options) -> ExitCode {
    match bench(options) {
        Ok(measured) => {
            match serde_json::to_string(&measured) {
                Ok(line) if options.json => println!("{line}"),
                _ => print!("{}", text(&measured)),
            }
            ExitCode::SUCCESS
        }
        Err(told) => {
            eprintln!("{told}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<Measured, String> {
    let time =
        Duration::try_from_secs_f64(options.seconds.clamp(0.01, 600.0)).unwrap_or(Duration::from_secs(1));
    measure(&Job {
        file: options.file.clone(),
        with: options.with.as_deref().map(guest::config).transpose()?,
        rows: options.rows.iter().map(|rows| usize::try_from(*rows).unwrap_or(1)).collect(),
        time,
        input: options.input.clone(),
    })
}

fn text(measured: &Measured) -> String {
    let mut text = format!(
        "{} {}, {}, {:.1} KiB\n\n  load        {:.1} ms compiling, {:.2} ms from the cache, then {:.2} ms to the end of the first call\n  memory      {:.1} MiB\n",
        measured.name,
        measured.version,
        measured.kind,
        measured.bytes as f64 / 1024.0,
        measured.load_cold_ms,
        measured.load_cached_ms,
        measured.first_call_ms,
        measured.memory_bytes as f64 / f64::from(1 << 20),
    );
    for run in &measured.runs {
        text.push_str(&format!(
            "\n  {} rows a call\n    plugin      {:>9} rows/s   p50 {:.1} µs, p99 {:.1} µs a call\n",
            run.rows,
            rate(run.rows_per_s),
            run.call_us_p50,
            run.call_us_p99
        ));
        if let Some(beside) = &run.beside {
            text.push_str(&format!(
                "    beside      {:>9} rows/s   {}\n    ratio       {:>9.1}\n",
                rate(beside.rows_per_s),
                beside.name,
                beside.ratio
            ));
        }
    }
    text
}

/// A rate as people read it.
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2} G", value / 1e9),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}
