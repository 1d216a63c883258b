//! What a plugin call costs: rows of 5 columns and up to 200 devices through built-in plugins, beside the copies that
//! the boundary cannot do without.
//! `cargo run --release -p runtime --example call -- plugins/dist [only what has this in its name [calls]]`

use std::path::PathBuf;
use std::time::Instant;

use runtime::{CallContext, Engine, EngineConfig, Plugin, Step, StepConfig};
use wire::frame::{Column, Frame, Texts, Values};

const DEVICES: usize = 200;
const CALLS: u32 = 5_000;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let dist = std::env::args().nth(1).map_or_else(|| PathBuf::from("plugins/dist"), PathBuf::from);
    let cache = std::env::temp_dir().join(format!("sluice-call-{}", std::process::id()));
    let engine = Engine::new(EngineConfig::new(&cache))?;
    println!("resident after start: {} KiB", resident());
    let site = Site { engine, dist };
    site.load("linear")?;
    let plugin = site.load("linear")?;
    measure("instantiate and configure", 1, || site.step(&plugin, LINEAR).map(drop))?;
    site.boundary()?;
    for rows in [10, 100, 1_000] {
        println!("{rows} rows, {} devices:", rows.min(DEVICES));
        site.calls(rows)?;
    }
    println!("resident at the end: {} KiB", resident());
    std::fs::remove_dir_all(cache)?;
    Ok(())
}

const LINEAR: &str =
    r#"{"column": "temperature_c", "into": "temperature_f", "scale": 1.8, "offset": 32, "resolution": 0.01}"#;
const RANGE: &str = r#"{"column": "temperature_c", "min": -40, "max": 125}"#;
const WINDOW: &str = r#"{"columns": ["temperature_c", "pressure_kpa"], "every": "10 s"}"#;

const PASS: &str = r#"{"within": "nowhere"}"#;

struct Site {
    engine: Engine,
    dist: PathBuf,
}

impl Site {
    fn load(&self, name: &str) -> Result<Plugin, Box<dyn std::error::Error>> {
        let begun = Instant::now();
        let plugin = self.engine.load(&self.dist.join(format!("{name}.wasm")))?;
        println!("{name}: loaded in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        Ok(plugin)
    }

    fn step(&self, plugin: &Plugin, config: &str) -> Result<Step, Box<dyn std::error::Error>> {
        let config = StepConfig { name: "step".into(), config_json: config.into(), ..StepConfig::default() };
        Ok(Step::new(&self.engine, plugin, config, Vec::new(), &CallContext::default())?)
    }

    /// A plugin that only hands on what it gets: all of the call is boundary.
    fn boundary(&self) -> Done {
        let plugin = self.load("fixtures/loop")?;
        let context = CallContext { now: 1_000_000_000_000, ..CallContext::default() };
        for (rows, devices) in [(256, 16), (256, 200), (4_096, 16), (4_096, 200)] {
            let mut input = frame_of(rows, devices);
            input.columns.truncate(4);
            let input = [input];
            let mut step = self.step(&plugin, PASS)?;
            measure(&format!("pass {rows}, {devices} devices, reused"), rows, || {
                step.process(&input, &context)?;
                Ok(())
            })?;
            measure(&format!("pass {rows}, {devices} devices, fresh"), rows, || {
                self.step(&plugin, PASS)?.process(&input, &context)?;
                Ok(())
            })?;
            measure("the frame copied once, natively", rows, || {
                std::hint::black_box(input.to_vec());
                Ok(())
            })?;
        }
        measure("tick", 1, {
            let mut step = self.step(&plugin, PASS)?;
            move || {
                step.tick(&context)?;
                Ok(())
            }
        })?;
        measure("instantiate and configure", 1, || self.step(&plugin, PASS).map(drop))?;
        measure("load from the cache", 1, || {
            self.engine.load(&self.dist.join("fixtures/loop.wasm"))?;
            Ok(())
        })
    }

    fn calls(&self, rows: usize) -> Done {
        let input = [frame(rows)];
        let context = CallContext { now: 1_000_000_000_000, ..CallContext::default() };
        for (name, config) in [("linear", LINEAR), ("range", RANGE), ("window", WINDOW)] {
            let mut step = self.step(&self.load(name)?, config)?;
            measure(name, rows, || {
                step.process(&input, &context)?;
                Ok(())
            })?;
        }
        let mut steps = [self.step(&self.load("linear")?, LINEAR)?, self.step(&self.load("range")?, RANGE)?];
        measure("linear, then range", rows, || {
            let mut frames: Vec<Frame> = Vec::new();
            for (index, step) in steps.iter_mut().enumerate() {
                let input = if index == 0 { &input[..] } else { &frames[..] };
                frames =
                    step.process(input, &context)?.frames.into_iter().map(|routed| routed.frame).collect();
            }
            Ok(())
        })?;
        measure("the frame copied twice, natively", rows, || {
            std::hint::black_box((input.to_vec(), input.to_vec()));
            Ok(())
        })
    }
}

/// Microseconds of processor time of a call; the machine may be busy with other things.
fn measure(what: &str, rows: usize, mut call: impl FnMut() -> Done) -> Done {
    if std::env::args().nth(2).is_some_and(|only| !what.contains(&only)) {
        return Ok(());
    }
    let calls = std::env::args().nth(3).and_then(|calls| calls.parse().ok()).unwrap_or(CALLS);
    (0..calls / 10).try_for_each(|_| call())?;
    let begun = processor_time();
    (0..calls).try_for_each(|_| call())?;
    let micros = (processor_time() - begun) as f64 / 1e3 / f64::from(calls);
    println!("{what}: {micros:.1} us a call, {:.1} ns a row", micros * 1e3 / rows as f64);
    Ok(())
}

/// Nanoseconds of this thread on a processor: the first number of its schedstat (proc(5)).
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

fn frame(rows: usize) -> Frame {
    frame_of(rows, DEVICES)
}

fn frame_of(rows: usize, devices: usize) -> Frame {
    let column =
        |name: &str, values| Column { name: name.into(), unit: String::new(), values, status: Vec::new() };
    let floats = |scale: f64| Values::F64((0..rows).map(|row| row as f64 * scale).collect());
    let texts = Texts {
        dictionary: vec!["RUN".into(), "IDLE".into()],
        index: (0..rows as u32).map(|row| row % 2).collect(),
    };
    Frame {
        profile: "machine".into(),
        devices: (0..devices.min(rows)).map(|device| format!("device-{device:04}")).collect(),
        device: (0..rows as u32).map(|row| row % devices as u32).collect(),
        time: (0..rows as i64).collect(),
        columns: vec![
            column("temperature_c", floats(0.01)),
            column("pressure_kpa", floats(0.1)),
            column("rpm", floats(1.0)),
            column("seq", floats(1.0)),
            column("state", Values::Text(texts)),
        ],
    }
}

/// KiB, where the system tells it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}
