//! `simulate-stamps`: a year of a growing population on stamps, on the screen, as JSON, and as a drawing. Started by
//! `cargo xtask simulate stamps`. All thinking is in [`provision::population`]; here are arguments and printing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use provision::population::{Population, Report, Sample, plot, run};

/// A year in which a population of devices grows tenfold over stamps, through the real registry in virtual days: when
/// stamps are added, what is lost and moved, how full they are, what a registration costs.
#[derive(Parser)]
#[command(name = "cargo xtask simulate stamps", bin_name = "cargo xtask simulate stamps")]
struct Options {
    /// Devices at the end of the year; a tenth of them at its beginning
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    devices: u64,
    /// Stamps that these are to be spread over at the end; their size follows
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stamps: u32,
    /// Days of the year
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(15..=3_650))]
    days: u32,
    /// Stamps lost for good over the year
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    losses: u32,
    /// For the random numbers; the same seed gives the same year
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the year as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The last line is one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match simulate(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(options: &Options) -> Result<()> {
    let population = Population {
        devices: options.devices,
        stamps: options.stamps,
        days: options.days,
        losses: options.losses,
        seed: options.seed,
    };
    println!(
        "{} devices at the end of {} days, stamps of {} devices, {} of them lost on the way (seed {})\n",
        population.devices,
        population.days,
        population.stamp_devices(),
        population.losses,
        population.seed
    );
    println!(
        "{:>5}{:>12}{:>10}{:>8}{:>12}{:>10}{:>8}{:>18}",
        "day", "devices", "gateways", "stamps", "used", "fullest", "moves", "µs/registration"
    );
    let folder = Scratch::new()?;
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(&population, &folder.0, show))?;
    println!("\n{}", summary(&report, started.elapsed().as_secs_f64()));
    if let Some(path) = &options.plot {
        std::fs::write(path, plot(&report)).with_context(|| format!("cannot write {}", path.display()))?;
        println!("drawn: {}", path.display());
    }
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    ensure!(
        report.caps_exceeded == 0,
        "{} stamps had more devices than they were built for",
        report.caps_exceeded
    );
    ensure!(
        report.outside_rules == 0,
        "{} assignments are outside their tenant's rules",
        report.outside_rules
    );
    Ok(())
}

fn show(sample: &Sample) {
    println!(
        "{:>5}{:>12}{:>10}{:>8}{:>10.1} %{:>8.1} %{:>8}{:>18.0}",
        sample.day,
        sample.devices,
        sample.gateways,
        sample.stamps,
        sample.utilisation * 100.0,
        sample.fullest * 100.0,
        sample.moves,
        sample.registration_us
    );
}

fn summary(report: &Report, seconds: f64) -> String {
    format!(
        "{} devices of {} tenants behind {} gateways on {} stamps ({} added, {} lost): {:.1} % used, {} moves, {} gateways \
         waited a day or more for room, {} caps exceeded, {} assignments outside their rules; {seconds:.0} s",
        report.devices,
        report.tenants,
        report.gateways,
        report.stamps,
        report.stamps_added,
        report.lost_stamps,
        report.utilisation * 100.0,
        report.moves,
        report.waited,
        report.caps_exceeded,
        report.outside_rules
    )
}

/// The registry's folder, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("sluice-population-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it lies where temporary files do.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
