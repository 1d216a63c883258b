//! Built guests, engines and frames for the tests.

use std::path::PathBuf;
use std::sync::OnceLock;

use runtime::{
    CallContext, ConfigureFault, Engine, EngineConfig, Limits, Plugin, Processed, Step, StepConfig,
};
use wire::frame::{Column, Frame, Texts, Values};

/// A guest by its path in `plugins/dist` (or the folder that `SLUICE_GUESTS` names), without `.wasm`.
pub(crate) fn path(guest: &str) -> PathBuf {
    let folder = std::env::var_os("SLUICE_GUESTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist")),
        PathBuf::from,
    );
    let path = folder.join(format!("{guest}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

/// An engine with a cache folder of its own.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) cache: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::of(8)
    }

    fn of(max_instances: u32) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let config = EngineConfig { max_instances, ..EngineConfig::new(cache.path().join("cache")) };
        Site { engine: Engine::new(config).unwrap(), cache }
    }

    /// One for all tests that do not look at the engine itself: each plugin is compiled once.
    pub(crate) fn shared() -> &'static Self {
        static SITE: OnceLock<Site> = OnceLock::new();
        SITE.get_or_init(|| Site::of(256))
    }

    pub(crate) fn load(&self, guest: &str) -> Plugin {
        self.engine.load(&path(guest)).unwrap()
    }

    /// Makes a step as the configuration says.
    pub(crate) fn configured(
        &self,
        guest: &str,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
    ) -> Result<Step, ConfigureFault> {
        Step::new(&self.engine, &self.load(guest), config, state, &CallContext::default())
    }

    /// Writes a file beside the cache.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.cache.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn step(&self, guest: &str, config: &str) -> Step {
        self.limited(guest, config, Limits::default())
    }

    pub(crate) fn limited(&self, guest: &str, config: &str, limits: Limits) -> Step {
        self.restored(guest, config, limits, Vec::new()).unwrap()
    }

    pub(crate) fn restored(
        &self,
        guest: &str,
        config: &str,
        limits: Limits,
        state: Vec<(String, Vec<u8>)>,
    ) -> Result<Step, ConfigureFault> {
        let config =
            StepConfig { name: "step-1".into(), config_json: config.into(), limits, ..StepConfig::default() };
        Step::new(&self.engine, &self.load(guest), config, state, &CallContext::default())
    }
}

/// What the tests keep of a step's state, as a store would.
#[derive(Default)]
pub(crate) struct Kept(std::collections::BTreeMap<String, Vec<u8>>);

impl Kept {
    pub(crate) fn commit(&mut self, processed: &Processed) {
        for change in &processed.state {
            match &change.value {
                Some(value) => drop(self.0.insert(change.key.clone(), value.clone())),
                None => drop(self.0.remove(&change.key)),
            }
        }
    }

    pub(crate) fn entries(&self) -> Vec<(String, Vec<u8>)> {
        self.0.clone().into_iter().collect()
    }
}

pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) fn at(now: i64) -> CallContext {
    CallContext { now, ..CallContext::default() }
}

/// Rows (device, seconds, value of "x").
pub(crate) fn frame(rows: &[(&str, i64, f64)]) -> Frame {
    let mut frame = Frame { profile: "machine".into(), ..Frame::default() };
    for (device, time, _) in rows {
        let index = frame.devices.iter().position(|known| known == device).unwrap_or_else(|| {
            frame.devices.push((*device).to_owned());
            frame.devices.len() - 1
        });
        frame.device.push(index as u32);
        frame.time.push(time * SECOND);
    }
    frame.columns.push(floats("x", rows.iter().map(|row| row.2).collect()));
    frame.check().unwrap();
    frame
}

pub(crate) fn floats(name: &str, values: Vec<f64>) -> Column {
    Column { name: name.into(), unit: String::new(), values: Values::F64(values), status: Vec::new() }
}

/// A frame with a column of every type, `rows` rows of 3 devices.
pub(crate) fn mixed(rows: usize) -> Frame {
    let blobs = (0..rows).fold(wire::frame::Blobs::default(), |mut blobs, row| {
        blobs.push(&vec![7; row % 3]);
        blobs
    });
    let column =
        |name: &str, values| Column { name: name.into(), unit: "u".into(), values, status: Vec::new() };
    let mut frame = Frame {
        profile: "machine".into(),
        devices: vec!["a".into(), "b".into(), "ü".into()],
        device: (0..rows as u32).map(|row| row % 3).collect(),
        time: (0..rows as i64).map(|row| row * SECOND).collect(),
        columns: vec![
            column("x", Values::F64((0..rows).map(|row| row as f64 / 10.0).collect())),
            column("big", Values::I64((0..rows as i64).map(|row| i64::MAX - row).collect())),
            column("on", Values::Bool((0..rows).map(|row| row % 2 == 0).collect())),
            column(
                "state",
                Values::Text(Texts {
                    dictionary: vec!["RUN".into(), "STOP".into()],
                    index: (0..rows as u32).map(|row| row % 2).collect(),
                }),
            ),
            column("raw", Values::Blob(blobs)),
        ],
    };
    frame.columns[0].status = vec![0x8000_0000; rows];
    frame.check().unwrap();
    frame
}

pub(crate) fn f64s<'a>(frame: &'a Frame, name: &str) -> &'a [f64] {
    match &frame.column(name).unwrap_or_else(|| panic!("no column {name}: {frame:?}")).values {
        Values::F64(values) => values,
        other => panic!("{name} is {}", other.type_name()),
    }
}

pub(crate) fn texts<'a>(frame: &'a Frame, name: &str) -> Vec<&'a str> {
    match &frame.column(name).unwrap_or_else(|| panic!("no column {name}: {frame:?}")).values {
        Values::Text(texts) => (0..frame.rows()).map(|row| texts.get(row).unwrap()).collect(),
        other => panic!("{name} is {}", other.type_name()),
    }
}

/// The rows of the frames on a route, as (device, seconds, value of a column), in order of the frames.
pub(crate) fn rows(processed: &Processed, route: &str, column: &str) -> Vec<(String, i64, f64)> {
    let frames = processed.frames.iter().filter(|routed| routed.route.as_str() == route);
    frames
        .flat_map(|routed| {
            let values = f64s(&routed.frame, column);
            (0..routed.frame.rows()).map(move |row| {
                let device = routed.frame.device_of(row).unwrap().to_owned();
                (device, routed.frame.time[row] / SECOND, values[row])
            })
        })
        .collect()
}

pub(crate) fn row(device: &str, time: i64, value: f64) -> (String, i64, f64) {
    (device.to_owned(), time, value)
}
