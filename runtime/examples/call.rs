//! What a plugin call costs: 1,000 rows of 5 columns and 200 devices through `linear` and `range`, beside the same
//! computation as a native loop. `cargo run --release -p runtime --example call -- plugins/dist`

use std::path::{Path, PathBuf};
use std::time::Instant;

use runtime::{CallContext, Engine, EngineConfig, Limits, Processed, Step, StepConfig};
use wire::frame::{Column, Frame, Texts, Values};

const ROWS: usize = 1_000;
const DEVICES: usize = 200;
const CALLS: u32 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dist = std::env::args().nth(1).map_or_else(|| PathBuf::from("plugins/dist"), PathBuf::from);
    let cache = std::env::temp_dir().join(format!("sluice-call-{}", std::process::id()));
    let engine = Engine::new(EngineConfig::new(&cache))?;
    println!("resident after start: {} KiB", resident());
    let linear = r#"{"column": "temperature_c", "into": "temperature_f", "scale": 1.8, "offset": 32, "resolution": 0.01}"#;
    let range = r#"{"column": "temperature_c", "min": -40, "max": 125}"#;
    let mut steps = [step(&engine, &dist, "linear", linear)?, step(&engine, &dist, "range", range)?];
    println!("resident with two steps: {} KiB", resident());
    let begun = Instant::now();
    drop(step(&engine, &dist, "linear", linear)?);
    println!("load from the cache, instantiate, configure: {:.0} us", begun.elapsed().as_secs_f64() * 1e6);

    let input = [frame()];
    for (step, what) in steps.iter_mut().zip(["linear", "range"]) {
        measure(what, || step.process(&input, &CallContext::default()).map(|_| ()))?;
    }
    measure("both", || {
        let mut frames: Vec<Frame> = Vec::new();
        for (index, step) in steps.iter_mut().enumerate() {
            let input = if index == 0 { &input[..] } else { &frames[..] };
            let Processed { frames: routed, .. } = step.process(input, &CallContext::default())?;
            frames = routed.into_iter().map(|routed| routed.frame).collect();
        }
        Ok(())
    })?;
    measure("copying the frame twice, natively", || {
        std::hint::black_box((input.to_vec(), input.to_vec()));
        Ok(())
    })?;
    println!("resident at the end: {} KiB", resident());
    std::fs::remove_dir_all(cache)?;
    Ok(())
}

fn step(engine: &Engine, dist: &Path, name: &str, config: &str) -> Result<Step, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let plugin = engine.load(&dist.join(format!("{name}.wasm")))?;
    println!("{name}: load {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let config = StepConfig { name: name.into(), config_json: config.into(), limits: Limits::default() };
    Ok(Step::new(engine, &plugin, config, Vec::new(), &CallContext::default())?)
}

fn measure(
    what: &str,
    mut call: impl FnMut() -> Result<(), Box<runtime::StepFault>>,
) -> Result<(), Box<runtime::StepFault>> {
    (0..CALLS / 10).try_for_each(|_| call())?;
    let begun = Instant::now();
    (0..CALLS).try_for_each(|_| call())?;
    let micros = begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
    println!("{what}: {micros:.1} us a call, {:.1} ns a row", micros * 1e3 / ROWS as f64);
    Ok(())
}

fn frame() -> Frame {
    let column =
        |name: &str, values| Column { name: name.into(), unit: String::new(), values, status: Vec::new() };
    let floats = |scale: f64| Values::F64((0..ROWS).map(|row| row as f64 * scale).collect());
    let texts = Texts {
        dictionary: vec!["RUN".into(), "IDLE".into()],
        index: (0..ROWS as u32).map(|row| row % 2).collect(),
    };
    Frame {
        profile: "machine".into(),
        devices: (0..DEVICES).map(|device| format!("device-{device:04}")).collect(),
        device: (0..ROWS as u32).map(|row| row % DEVICES as u32).collect(),
        time: (0..ROWS as i64).collect(),
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
