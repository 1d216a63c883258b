//! `simulate`: a fleet of gateways after an outage of their stamp, on the screen, as JSON, and as a drawing. Started by
//! `cargo xtask simulate`. All thinking is in [`backoff::fleet`]; here are arguments and printing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use backoff::duration;
use backoff::fleet::{self, Behaviour, Fleet, Report};

const HELP: &str = "\
A fleet of gateways after an outage of their stamp, in virtual time.

Usage: cargo xtask simulate [--gateways N] [--outage TIME] [--rate R] [--policy P] [--json] [--plot FILE]

  --gateways N      how many, from 1 to 10000000 [default: 1000000]
  --outage TIME     how long the stamp is gone, e.g. 10min, up to 24h (here 10m means minutes) [default: 10min]
  --announced TIME  how long it says it will be gone, where it says anything [default: as long as it is gone]
  --rate R          gateways that it admits per second, from 1 to 1000000 [default: gateways / 1000]
  --policy P        default     what ships; the stamp closes and hands out return slots
                    late-slots  what ships; the stamp crashes, and hands out slots to whom it refuses afterwards
                    no-slots    what ships; the stamp crashes, and refuses without naming a time
                    no-jitter   cannot be configured: exponential, but all at the same moment
                    regular     cannot be configured: every ten seconds
                    all         default, no-slots, no-jitter and regular beside each other [default: all]
  --seed S          for the random numbers; the same seed gives the same run [default: 1]
  --plot FILE       draw arrivals per second as SVG
  --json            the last line is one JSON object; with --policy all it has an array `policies` of them
";

struct Options {
    fleet: Fleet,
    behaviours: Vec<Behaviour>,
    all: bool,
    json: bool,
    plot: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match options(&arguments).and_then(|options| simulate(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n\nFor help: cargo xtask simulate --help");
            ExitCode::from(2)
        }
    }
}

fn simulate(options: &Options) -> Result<(), String> {
    let fleet = &options.fleet;
    println!(
        "{} gateways, stamp gone for {}, then admits {}/s: ideally all are back {:.0} s after its return (seed {})\n",
        fleet.gateways,
        duration::format(fleet.outage),
        fleet.rate,
        fleet.ideal().as_secs_f64(),
        fleet.seed
    );
    println!(
        "{:<11}{:>16}{:>16}{:>10}{:>14}{:>14}{:>11}",
        "policy", "peak/capacity", "99 % back, s", "× ideal", "attempts each", "wasted each", "simulated"
    );
    let mut reports = Vec::new();
    for behaviour in &options.behaviours {
        let started = Instant::now();
        let report = fleet::run(fleet, *behaviour);
        println!("{}{:>9.1} s", row(&report), started.elapsed().as_secs_f64());
        reports.push(report);
    }
    println!(
        "\narrivals per second, each column the busiest second of its span; logarithmic, ┆ = the stamp is back"
    );
    let seconds = reports.iter().map(shown).max().unwrap_or(1);
    for report in &reports {
        println!("{:<11}{}", report.behaviour.as_str(), chart(report, seconds));
    }
    println!("{:<11}0 s{:>width$} s", "", seconds, width = COLUMNS - 4);
    if let Some(path) = &options.plot {
        std::fs::write(path, fleet::plot(&reports))
            .map_err(|error| format!("cannot write {path}: {error}"))?;
        println!("\ndrawn: {path}");
    }
    if options.json {
        let each: Vec<String> = reports.iter().map(Report::json).collect();
        match each.as_slice() {
            [only] if !options.all => println!("{only}"),
            _ => println!(
                "{{\"policy\":\"all\",\"gateways\":{},\"rate\":{},\"policies\":[{}]}}",
                fleet.gateways,
                fleet.rate,
                each.join(",")
            ),
        }
    }
    Ok(())
}

fn row(report: &Report) -> String {
    let or = |value: Option<String>| value.unwrap_or_else(|| "never".to_owned());
    format!(
        "{:<11}{:>16.2}{:>16}{:>10}{:>14.2}{:>14.2}",
        report.behaviour.as_str(),
        report.peak_over_capacity(),
        or(report.recovered_99.map(|time| format!("{:.0}", time.as_secs_f64()))),
        or(report.recovered_over_ideal().map(|times| format!("{times:.2}"))),
        report.attempts_per_gateway(),
        report.wasted_per_gateway(),
    )
}

const COLUMNS: usize = 80;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

fn shown(report: &Report) -> usize {
    fleet::seconds_shown(report).max(1)
}

fn chart(report: &Report, seconds: usize) -> String {
    let per_column = seconds.div_ceil(COLUMNS).max(1);
    let back = usize::try_from(report.fleet.outage.as_secs()).unwrap_or(usize::MAX) / per_column;
    let most = f64::from(report.fleet.gateways).log10().max(1.0);
    let mut line = String::new();
    for column in 0..COLUMNS {
        if column == back {
            line.push('┆');
        }
        let span = report.arrivals.iter().skip(column * per_column).take(per_column);
        let busiest = f64::from(span.max().copied().unwrap_or(0));
        let height = if busiest > 0.0 { 1.0 + (busiest.log10() / most * 7.0).round() } else { 0.0 };
        let _ = write!(line, "{}", BARS.get(height as usize).copied().unwrap_or('█'));
    }
    line
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let (mut gateways, mut rate, mut seed) = (1_000_000_u32, None, 1_u64);
    let (mut outage, mut announced) = (Duration::from_secs(600), None);
    let (mut policy, mut json, mut plot) = ("all".to_owned(), false, None);
    let mut rest = arguments.iter().flat_map(|argument| match argument.split_once('=') {
        Some((key, value)) if key.starts_with("--") => vec![key, value],
        _ => vec![argument.as_str()],
    });
    while let Some(argument) = rest.next() {
        if argument == "--json" {
            json = true;
            continue;
        }
        let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
        match argument {
            "--gateways" => gateways = number(argument, value()?, 1..=10_000_000)?,
            "--rate" => rate = Some(number(argument, value()?, 1..=backoff::slots::MAX_RATE)?),
            "--seed" => seed = value()?.parse().map_err(|_| "--seed is a whole number".to_owned())?,
            "--outage" => outage = time(argument, value()?)?,
            "--announced" => announced = Some(time(argument, value()?)?),
            "--policy" => value()?.clone_into(&mut policy),
            "--plot" => plot = Some(value()?.to_owned()),
            _ => return Err(format!("{argument} is not known")),
        }
    }
    let all = policy == "all";
    let named = Behaviour::ALL.into_iter().find(|behaviour| behaviour.as_str() == policy);
    let behaviours = match named {
        Some(behaviour) => vec![behaviour],
        None if all => Behaviour::COMPARED.to_vec(),
        None => {
            let known = Behaviour::ALL.map(Behaviour::as_str).join(", ");
            return Err(format!("--policy {policy} is not known: write {known} or all"));
        }
    };
    let rate = rate.unwrap_or((gateways / 1_000).max(1));
    let announced = announced.unwrap_or(outage);
    Ok(Options { fleet: Fleet { gateways, rate, outage, announced, seed }, behaviours, all, json, plot })
}

fn number(key: &str, text: &str, bounds: std::ops::RangeInclusive<u32>) -> Result<u32, String> {
    match text.replace('_', "").parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("{key} {text}: write a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}

fn time(key: &str, text: &str) -> Result<Duration, String> {
    // Nobody simulates months: what is ambiguous in a configuration is not here.
    let minutes = text.strip_suffix('m').filter(|number| number.ends_with(|c: char| c.is_ascii_digit()));
    let text = minutes.map_or(text.to_owned(), |number| format!("{number} min"));
    match duration::parse(&text) {
        Ok(time) if time <= backoff::policy::MAX_WAIT => Ok(time),
        Ok(_) => Err(format!("{key} {text}: at most 24 h")),
        Err(error) => Err(format!("{key}: {error}")),
    }
}
