//! Measures a plugin: load, calls, memory, each beside what it is held against, in the same run.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::{CallContext, Engine, EngineConfig, Kind, Limits, Plugin, StepConfig};
use serde::Serialize;

use super::input::{self, Calls};
use super::native::{self, Native};
use crate::guest::{Guest, word};
use crate::rows::moment;

/// Most calls of a measurement: times are kept one by one.
const MAX_CALLS: usize = 4 << 20;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Job {
    /// The plugin.
    pub file: PathBuf,
    /// Its configuration as JSON; `None`: that of a known step.
    pub with: Option<String>,
    /// Rows of a call; each is measured.
    pub rows: Vec<usize>,
    /// How long each measurement lasts.
    pub time: Duration,
    /// A file of rows or messages; `None`: made rows.
    pub input: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Processor or decoder.
    pub kind: &'static str,
    /// Size of its file.
    pub bytes: u64,
    /// From file to plugin, compiling it, in milliseconds.
    pub load_cold_ms: f64,
    /// From file to plugin with its machine code in the cache.
    pub load_cached_ms: f64,
    /// From there to the end of the first call: instance, configuration, call.
    pub first_call_ms: f64,
    /// Memory of the instance after all calls, in bytes.
    pub memory_bytes: usize,
    /// Calls of each size.
    pub runs: Vec<Run>,
}

/// Calls of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Rows or messages of a call.
    pub rows: usize,
    /// Per second.
    pub rows_per_s: f64,
    /// Microseconds of a call: the half is faster.
    pub call_us_p50: f64,
    /// 99 of 100 are faster.
    pub call_us_p99: f64,
    /// What it is held against; none for decoders.
    pub beside: Option<Beside>,
}

/// What a plugin is held against.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// What was done instead.
    pub name: &'static str,
    /// Per second.
    pub rows_per_s: f64,
    /// How many times longer the plugin takes.
    pub ratio: f64,
}

/// Measures.
///
/// # Errors
/// Why it cannot be measured, for its author: above all when the plugin fails.
pub fn measure(job: &Job) -> Result<Measured, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let bytes = std::fs::metadata(&job.file)
        .map_err(|error| format!("cannot read {}: {error}", job.file.display()))?
        .len();
    let cache =
        Cache::new().map_err(|error| format!("cannot make a folder for compiled plugins: {error}"))?;
    // The first load of a process also pages the compiler in; that is part of what a cold gateway does.
    let (_, load_cold) = load(&job.file, &cache.0).map_err(|error| told(&error))?;
    let (engine, plugin, load_cached) = {
        let engine = engine(&cache.0).map_err(|error| told(&error))?;
        let started = Instant::now();
        let plugin = engine.load(&job.file).map_err(|error| told(&error))?;
        (engine, plugin, started.elapsed())
    };
    let with = job.with.clone().unwrap_or_else(|| native::default_config(plugin.name()).to_owned());
    let mut first_call = None;
    let mut memory_bytes = 0;
    let mut runs = Vec::new();
    for &rows in &job.rows {
        let calls = calls(job, plugin.kind(), rows)?;
        let started = Instant::now();
        let mut guest = guest(&engine, &plugin, &with)?;
        call(&mut guest, &calls, 0)?;
        first_call.get_or_insert(started.elapsed());
        let timed = run(job.time, &calls, |at| at, |at| call(&mut guest, &calls, at))?;
        memory_bytes = memory_bytes.max(guest.memory_bytes());
        let beside = match &calls {
            Calls::Frames(frames) => {
                let mut native = native::of(plugin.name(), &with);
                if let Some(frame) = frames.first().and_then(|frames| frames.first())
                    && native.name() != native::COPY
                {
                    let mut fresh = self::guest(&engine, &plugin, &with)?;
                    native::agrees(&mut fresh, &mut *native, frame).map_err(|what| {
                        format!("{} does not do what it is held against: {what}", plugin.name())
                    })?;
                }
                Some(beside(job.time, &calls, &mut *native, &timed)?)
            }
            Calls::Messages(_) => None,
        };
        runs.push(Run {
            rows,
            rows_per_s: timed.rows_per_s,
            call_us_p50: timed.percentile(0.5),
            call_us_p99: timed.percentile(0.99),
            beside,
        });
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Measured {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        kind: word(plugin.kind()),
        bytes,
        load_cold_ms: ms(load_cold),
        load_cached_ms: ms(load_cached),
        first_call_ms: first_call.map_or(0.0, ms),
        memory_bytes,
        runs,
    })
}

/// A cache of its own, so that a load can be cold.
struct Cache(PathBuf);

impl Cache {
    fn new() -> std::io::Result<Self> {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        let folder = std::env::temp_dir().join(format!("sluice-plugin-bench-{}-{nanos}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Cache(folder))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // What is left costs some megabytes in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn engine(cache: &Path) -> Result<Engine, runtime::EngineError> {
    Engine::new(EngineConfig { max_instances: 8, ..EngineConfig::new(cache) })
}

fn load(file: &Path, cache: &Path) -> Result<(Plugin, Duration), Box<dyn std::error::Error>> {
    let engine = engine(cache)?;
    let started = Instant::now();
    let plugin = engine.load(file)?;
    Ok((plugin, started.elapsed()))
}

fn calls(job: &Job, kind: Kind, rows: usize) -> Result<Calls, String> {
    match (kind, &job.input) {
        (Kind::Processor, None) => Ok(input::made(rows)),
        (Kind::Processor, Some(path)) => input::frames(path, rows),
        (Kind::Decoder, Some(path)) => input::messages(path, rows),
        (Kind::Decoder, None) => Err(
            "a decoder needs messages to be measured with: --input FILE, of lines such as {\"device\": \"d\", \"hex\": \"01 02\"}".to_owned(),
        ),
    }
}

fn guest(engine: &Engine, plugin: &Plugin, with: &str) -> Result<Guest, String> {
    let config = StepConfig {
        name: plugin.name().to_owned(),
        config_json: with.to_owned(),
        limits: Limits::default(),
        ..StepConfig::default()
    };
    Guest::new(engine, plugin, config, Vec::new(), &context()).map_err(|error| {
        format!("{error}\nconfigure it with --with, e.g. --with 'column = \"temperature_c\"'")
    })
}

fn context() -> CallContext {
    CallContext { now: moment::START, ..CallContext::default() }
}

fn call(guest: &mut Guest, calls: &Calls, at: usize) -> Result<(), String> {
    let done = match calls {
        Calls::Frames(calls) => match calls.get(at) {
            Some(frames) => guest.process(frames, &context()),
            None => return Ok(()),
        },
        Calls::Messages(calls) => match calls.get(at) {
            Some(inbox) => guest.decode(inbox, &context()),
            None => return Ok(()),
        },
    };
    match done {
        Ok(processed) => {
            black_box(&processed);
            Ok(())
        }
        Err(fault) => Err(format!("{fault}\n  in {}", fault.backtrace.join("\n  from "))),
    }
}

/// Calls that were timed.
struct Timed {
    rows_per_s: f64,
    /// Sorted, in microseconds.
    times: Vec<f64>,
}

impl Timed {
    fn percentile(&self, share: f64) -> f64 {
        let at = ((self.times.len() as f64 * share) as usize).min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or(0.0)
    }
}

/// Calls again and again, in turn. `prepare` is not timed.
fn run<T>(
    time: Duration,
    calls: &Calls,
    mut prepare: impl FnMut(usize) -> T,
    mut call: impl FnMut(T) -> Result<(), String>,
) -> Result<Timed, String> {
    // Warm: caches, the guest's own allocations, interpreters that compile as they go.
    let warm = Instant::now();
    let mut at = 0;
    while warm.elapsed() < time / 10 {
        call(prepare(at % calls.len().max(1)))?;
        at += 1;
    }
    let mut times = Vec::new();
    let mut rows = 0;
    let started = Instant::now();
    while started.elapsed() < time && times.len() < MAX_CALLS {
        let turn = at % calls.len().max(1);
        let prepared = prepare(turn);
        let begun = Instant::now();
        call(prepared)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        rows += calls.rows(turn);
        at += 1;
    }
    let took: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    Ok(Timed { rows_per_s: rows as f64 / (took / 1e6), times })
}

fn beside(time: Duration, calls: &Calls, native: &mut dyn Native, guest: &Timed) -> Result<Beside, String> {
    let Calls::Frames(frames) = calls else { return Err("no frames".to_owned()) };
    let prepare = |at: usize| frames.get(at).cloned().unwrap_or_default();
    let timed = run(time, calls, prepare, |frames| {
        for frame in frames {
            black_box(native.call(black_box(frame)));
        }
        Ok(())
    })?;
    Ok(Beside {
        name: native.name(),
        rows_per_s: timed.rows_per_s,
        ratio: timed.rows_per_s / guest.rows_per_s,
    })
}
