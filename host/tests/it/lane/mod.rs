//! Lanes with real plugins, real workers and a real store. The plugins are built by `cargo xtask guests`.

mod accounts;
mod poison;
mod quarantine;
mod replay;
mod shadow;
mod shares;
mod versions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gateway_config::{Limits, OnFault, Priority, Route, Step, Tenant};
use host::intake::{Decoded, Intake, fingerprint};
use host::store::{Counts, DataFolder, DeadLetter, Store, StoreConfig, wall_clock};
use host::tenant::{
    Lane, LaneConfig, LaneControl, LaneHandle, LaneState, Plugins, Pool, Shelf, StepStatus, Way,
};
use runtime::{Engine, EngineConfig};
use wire::frame::{Column, Frame, Values};
use wire::ids::{RouteName, TenantId};

use crate::store::{Verdict, read, told};
use crate::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lane-plugins");
    Engine::new(EngineConfig::new(cache)).unwrap()
});

/// The workers of all lanes but those whose shares are compared.
static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::start(2).unwrap()));

fn plugin(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

fn step(name: &str, with: &str) -> Step {
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    Step { limits, on_fault: OnFault::Bypass, ..Step::new(name, plugin(name), with) }
}

fn tenant(name: &str, steps: Vec<Step>) -> Tenant {
    Tenant {
        queue: 16,
        steps,
        routes: BTreeMap::from([(
            RouteName::new("alarms").unwrap(),
            Route { priority: Priority::High, keep: None },
        )]),
        ..Tenant::new(TenantId::new(name).unwrap())
    }
}

/// A lane over its store in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    tenant: Tenant,
    lane: Option<LaneHandle>,
    store: Arc<Store>,
}

impl Site {
    fn start(tenant: Tenant) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), tenant, Arc::new(|| runtime::Uplink::Up))
    }

    fn start_in(folder: tempfile::TempDir, tenant: Tenant, uplink: host::tenant::UplinkState) -> Self {
        Self::start_on(&POOL, folder, tenant, (uplink, Way::On))
    }

    fn start_on(
        pool: &Arc<Pool>,
        folder: tempfile::TempDir,
        tenant: Tenant,
        (uplink, way): (host::tenant::UplinkState, Way),
    ) -> Self {
        let lock = Arc::new(DataFolder::lock(folder.path()).unwrap());
        let config = StoreConfig {
            quota: tenant.store.quota,
            when_full: host::store::WhenFull::RejectNew,
            ..StoreConfig::default()
        };
        let opened = Store::open(&lock, &tenant.id, config).unwrap();
        let shelf: Shelf = Arc::new(shelf);
        let (tenant_of, shelf) = (tenant.clone(), Some(shelf));
        let config = LaneConfig { tenant: tenant_of, uplink, clock: wall_clock(), shelf, way };
        let plugins = Plugins::load(&ENGINE, &tenant);
        let lane = Lane::start(config, plugins, &ENGINE, pool, &opened.store, opened.kept);
        Self { folder, tenant, lane: Some(lane), store: opened.store }
    }

    fn lane(&self) -> &LaneHandle {
        self.lane.as_ref().unwrap()
    }

    fn send(&self, mut intake: Intake) -> Receiver<Verdict> {
        let (custody, told) = told();
        intake.custody = custody;
        intake.tenant = self.tenant.id.clone();
        self.lane().sender().blocking_send(intake).unwrap();
        told
    }

    fn control(&self) -> LaneControl {
        self.lane().control()
    }

    fn swap(&mut self, tenant: Tenant) -> Result<host::tenant::SwapReport, host::tenant::LaneError> {
        let plugins = Plugins::load(&ENGINE, &tenant)?;
        let report = wait(self.control().swap(tenant.clone(), plugins))?;
        self.tenant = tenant;
        Ok(report)
    }

    fn swap_back(&mut self, tenant: Tenant) -> Result<host::tenant::SwapReport, host::tenant::LaneError> {
        let plugins = Plugins::load(&ENGINE, &tenant)?;
        wait(self.control().swap_back(tenant, plugins))
    }

    fn step(&self, place: usize) -> StepStatus {
        self.lane().status().steps[place].clone()
    }

    fn is_held(&self) -> bool {
        matches!(self.lane().status().state, LaneState::Held { .. })
    }

    /// What a step keeps under a key, as a number that plugins write by postcard.
    fn kept(&self, step: &str, key: &str) -> Option<u64> {
        self.store.settle();
        let state = self.store.kept().unwrap().state;
        let entry = state.into_iter().find(|entry| entry.step == step && entry.key == key)?;
        let bits = entry.value.iter().enumerate().map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at));
        Some(bits.sum())
    }

    fn put(&self, intake: Intake) {
        self.send(intake).recv_timeout(PATIENCE).unwrap().unwrap();
    }

    /// Stops everything and starts again in the same folder.
    fn restart(self) -> Self {
        self.restart_by(Way::On)
    }

    fn restart_by(mut self, way: Way) -> Self {
        assert!(self.lane.take().unwrap().drain_and_stop(PATIENCE));
        self.store.close();
        let Self { folder, tenant, lane: _, store } = self;
        drop(store);
        Self::start_on(&POOL, folder, tenant, (Arc::new(|| runtime::Uplink::Up), way))
    }

    fn counts(&self) -> Counts {
        self.store.settle();
        let totals = self.store.totals();
        let counts = totals.counts;
        let taken = counts.accepted + counts.derived + totals.dead_replayed;
        let out = counts.duplicates + counts.dead + counts.filtered + totals.emitted;
        assert_eq!(taken, out, "the account must balance: {totals:?}");
        counts
    }

    /// Rows of a priority's routes, by time, with their numbers.
    fn rows(&self, priority: host::outbox::Priority) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in read(&self.store, priority, 0) {
            let frames = wire::codec::decode(&batch.payload, &wire::codec::Limits::default()).unwrap();
            assert_eq!(frames.iter().map(Frame::rows).sum::<usize>(), batch.rows as usize);
            for frame in frames {
                for row in 0..frame.rows() {
                    let values = frame.columns.iter().filter_map(|column| match &column.values {
                        Values::F64(values) => Some((column.name.clone(), values[row])),
                        Values::I64(values) => Some((column.name.clone(), values[row] as f64)),
                        _ => None,
                    });
                    rows.push(Row {
                        device: frame.device_of(row).unwrap().to_owned(),
                        time: frame.time[row],
                        values: values.collect(),
                    });
                }
            }
        }
        rows.sort_by_key(|row| row.time);
        rows
    }

    /// Dead letters with their ids.
    fn letters(&self) -> Vec<(i64, DeadLetter)> {
        self.store.settle();
        let ids: Vec<i64> = (1..200).collect();
        let letters = self.store.letters(&ids).unwrap();
        letters.into_iter().map(|letter| (letter.id, letter.letter)).collect()
    }
}

/// A plugin that says of itself that it is of this version.
fn version(name: &str, version: &str) -> PathBuf {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = versions().join(format!("{}-{version}.wasm", name.replace('/', "-")));
    let manifest = runtime::Manifest { version: Some(version.to_owned()), ..runtime::Manifest::default() };
    let bytes = runtime::manifest::attach(&std::fs::read(plugin(name)).unwrap(), &manifest).unwrap();
    std::fs::create_dir_all(versions()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn versions() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lane-versions-{}", std::process::id()))
}

/// Versions by digest, as the gateway's shelf finds them: among all plugins that were built.
fn shelf(digest: &str) -> Result<runtime::Plugin, runtime::LoadError> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist");
    let folders = [dist.clone(), dist.join("fixtures"), dist.join("examples"), versions()];
    let files = folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let files = files.flatten().flatten().map(|file| file.path());
    let plugins = files.filter(|file| file.extension().is_some_and(|it| it == "wasm"));
    let found =
        plugins.filter_map(|file| ENGINE.load(&file).ok()).find(|it| it.digest().to_string() == digest);
    found.map_or_else(|| ENGINE.load(Path::new("/none/on-the-shelf.wasm")), Ok)
}

/// Waits for a command's answer.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.expect("no answer in time") })
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    device: String,
    time: i64,
    values: BTreeMap<String, f64>,
}

const NORMAL: host::outbox::Priority = host::outbox::Priority::Normal;
const HIGH: host::outbox::Priority = host::outbox::Priority::High;

fn intake() -> Intake {
    Intake {
        tenant: TenantId::new("x").unwrap(),
        source: "floor".into(),
        decoded: vec![],
        raw: vec![],
        undecodable: vec![],
        identifiers: vec![],
        custody: Box::new(host::intake::Nobody),
    }
}

/// Rows of `column`, one per (device, time, value), each with its message and fingerprint; `again` marks repetitions.
fn rows_of(column: &str, rows: &[(&str, i64, f64)], again: bool) -> Intake {
    let mut decoded = Decoded::default();
    let frame = &mut decoded.frame;
    frame.profile = "machine".into();
    let mut values = Vec::new();
    for (n, (device, time, value)) in (0..).zip(rows) {
        let place = frame.devices.iter().position(|known| known == device).unwrap_or_else(|| {
            frame.devices.push((*device).to_owned());
            frame.devices.len() - 1
        });
        frame.device.push(place as u32);
        frame.time.push(*time);
        values.push(*value);
        let message = message(*time, column, *value);
        decoded.fingerprints.push(fingerprint(device, &message));
        decoded.originals.push(&message);
        if again {
            decoded.suspects.push(n);
        }
    }
    let (name, unit) = (column.to_owned(), String::new());
    frame.columns = vec![Column { name, unit, values: Values::F64(values), status: vec![] }];
    Intake { decoded: vec![decoded], ..intake() }
}

fn message(time: i64, column: &str, value: f64) -> Vec<u8> {
    format!("{{\"ts\":{time},\"{column}\":{value}}}").into_bytes()
}
