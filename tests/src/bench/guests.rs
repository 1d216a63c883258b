//! What the boundary to a plugin costs: a call with a reused and with a fresh instance, beside the limit of a core module
//! on raw memory; the memory of a thousand instances; the way from a file to the first call.
//!
//! The plugin that only hands on what it gets has no work of its own, so that all of its call is boundary.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use runtime::bare::Bare;
use runtime::{CallContext, Engine, EngineConfig, Plugin, Step, StepConfig};
use wire::frame::{Column, Frame, Values};

use super::measure::{Rate, repeat};
use super::report::{Bench, Line};
use crate::gateway::plugins_dir;

const TIME: Duration = Duration::from_millis(400);
const COLUMNS: usize = 4;
/// Devices of a batch, and of one of a large site.
const DEVICES: usize = 16;
const MANY_DEVICES: usize = 200;
const SMALL: usize = 256;
const LARGE: usize = 4_096;
const INSTANCES: usize = 1_000;

const PASS: (&str, &str) = ("fixtures/loop", r#"{"within":"nowhere"}"#);
const LINEAR: (&str, &str) = ("linear", r#"{"column":"c0","into":"c0","scale":1.8,"offset":32.0}"#);

/// Runs all of it.
///
/// # Errors
/// When a plugin is missing or a call fails.
pub fn run(bench: &mut Bench, dir: &Path) -> Result<()> {
    let engine = Engine::new(EngineConfig::new(dir.join("guests-cache")))?;
    for devices in [DEVICES, MANY_DEVICES] {
        calls(bench, &engine, devices)?;
    }
    throughput(bench, &engine)?;
    first_call(bench, dir, &engine)?;
    thousand(bench, dir)
}

fn calls(bench: &mut Bench, engine: &Engine, devices: usize) -> Result<()> {
    let input = [frame(SMALL, devices)];
    let plugin = load(engine, PASS.0)?;
    let copied = repeat(TIME / 4, || drop(std::hint::black_box(input.to_vec())));
    let mut step = make(engine, &plugin, PASS.1)?;
    let reused = process(&mut step, &input)?;
    let mut failed = None;
    let fresh = repeat(TIME, || {
        let result = make(engine, &plugin, PASS.1).and_then(|mut step| {
            step.process(&input, &CallContext::default()).map_err(|fault| anyhow!("{fault}"))
        });
        failed = failed.take().or(result.err());
    });
    failed.map_or(Ok(()), Err)?;
    let batch = format!("{SMALL} rows x {COLUMNS} columns of {devices} devices");
    for (name, rate) in [("reused", reused), ("fresh", fresh)] {
        bench.line(
            Line::new(&format!("call, {name}: {batch}"), "calls", rate)
                .limit("copying the frame once, natively", copied)
                .note(format!("{:.1} µs a call", rate.cpu_per_million())),
        );
    }
    if devices == DEVICES {
        bench.target("plugin call, reused instance", reused.cpu_per_million(), 3.0, "µs", false);
        bench.target("plugin call, fresh instance", fresh.cpu_per_million(), 15.0, "µs", false);
    }
    Ok(())
}

fn throughput(bench: &mut Bench, engine: &Engine) -> Result<()> {
    for rows in [SMALL, LARGE] {
        let readings = (rows * COLUMNS) as f64;
        let input = [frame(rows, DEVICES)];
        let mut step = make(engine, &load(engine, LINEAR.0)?, LINEAR.1)?;
        let rate = process(&mut step, &input)?.times(readings);
        let limit = core(&input[0])?.times(readings);
        let share = limit.cpu_per_million() / rate.cpu_per_million();
        bench.line(
            Line::new(&format!("builtin:linear, {rows} rows x {COLUMNS} columns"), "readings", rate)
                .limit("a core module on raw memory", limit)
                .note(format!("{:.0} % of the limit", share * 100.0)),
        );
        if rows == LARGE {
            bench.target("share of the core limit, 4,096 rows", share * 100.0, 60.0, "%", true);
        }
    }
    Ok(())
}

/// The same columns and the same work in a core module.
fn core(frame: &Frame) -> Result<Rate> {
    let mut bare = Bare::new().map_err(|error| anyhow!(error)).context("the core module")?;
    let numbers: Vec<&[f64]> = frame
        .columns
        .iter()
        .filter_map(
            |column| if let Values::F64(values) = &column.values { Some(values.as_slice()) } else { None },
        )
        .collect();
    let mut failed = None;
    let rate = repeat(TIME, || {
        let result = bare.call(&frame.device, &frame.time, &numbers);
        failed = failed.take().or(std::hint::black_box(result).err());
    });
    failed.map_or(Ok(rate), |error| Err(anyhow!(error)))
}

/// Reading the file, finding the compiled code, making and configuring an instance, a call.
fn first_call(bench: &mut Bench, dir: &Path, engine: &Engine) -> Result<()> {
    let source = plugins_dir()?.join("linear.wasm");
    let file = dir.join("first.wasm");
    std::fs::copy(source, &file)?;
    engine.load(&file)?;
    let input = [frame(SMALL, DEVICES)];
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            let plugin = engine.load(&file)?;
            make(engine, &plugin, LINEAR.1)?
                .process(&input, &CallContext::default())
                .map_err(|fault| anyhow!("{fault}"))?;
            Ok(begun.elapsed())
        })
        .collect::<Result<_>>()?;
    times.sort();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    bench.target("file to first call, compiled before", median, 1.0, "ms", false);
    Ok(())
}

/// A thousand instances that have had a call each.
fn thousand(bench: &mut Bench, dir: &Path) -> Result<()> {
    let config =
        EngineConfig { max_instances: INSTANCES as u32, ..EngineConfig::new(dir.join("guests-cache")) };
    let engine = Engine::new(config)?;
    let plugin = load(&engine, LINEAR.0)?;
    let input = [frame(SMALL, DEVICES)];
    let one = || -> Result<Step> {
        let mut step = make(&engine, &plugin, LINEAR.1)?;
        step.process(&input, &CallContext::default()).map_err(|fault| anyhow!("{fault}"))?;
        Ok(step)
    };
    drop(one()?);
    let before = resident()?;
    let steps = (0..INSTANCES).map(|_| one()).collect::<Result<Vec<_>>>()?;
    let mib = resident()?.saturating_sub(before) as f64 / f64::from(1 << 20);
    drop(steps);
    bench.target("1,000 instances after a call of 256 rows", mib, 64.0, "MiB", false);
    Ok(())
}

fn process(step: &mut Step, input: &[Frame]) -> Result<Rate> {
    let context = CallContext::default();
    let mut failed = None;
    let rate = repeat(TIME, || failed = failed.take().or(step.process(input, &context).err()));
    failed.map_or(Ok(rate), |fault| Err(anyhow!("{fault}")))
}

fn load(engine: &Engine, name: &str) -> Result<Plugin> {
    Ok(engine.load(&plugins_dir()?.join(format!("{name}.wasm")))?)
}

fn make(engine: &Engine, plugin: &Plugin, config: &str) -> Result<Step> {
    let config = StepConfig { name: "bench".into(), config_json: config.into(), ..StepConfig::default() };
    Ok(Step::new(engine, plugin, config, Vec::new(), &CallContext::default())?)
}

fn frame(rows: usize, devices: usize) -> Frame {
    let column = |index: usize| Column {
        name: format!("c{index}"),
        unit: String::new(),
        values: Values::F64((0..rows).map(|row| (row * (index + 1)) as f64 / 10.0).collect()),
        status: Vec::new(),
    };
    Frame {
        profile: "machine".into(),
        devices: (0..devices).map(|device| format!("device-{device:04}")).collect(),
        device: (0..rows).map(|row| (row % devices) as u32).collect(),
        time: (0..rows as i64).collect(),
        columns: (0..COLUMNS).map(column).collect(),
    }
}

/// Bytes of memory that this process has (proc(5), statm).
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("statm has no number")? * 4_096)
}
