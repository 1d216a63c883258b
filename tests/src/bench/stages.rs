//! Each stage of the gateway alone, in this process, as thin calls of the functions that the gateway itself calls: parse
//! and gather, one plugin call, the workload's chain, encode, store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use gateway_config::{Format, Gather, TimeField, TimeMissing, TimeUnit, Topic, TopicFilter};
use host::intake::{Custody, Intake, Nobody};
use host::outbox::{Outbox, Priority};
use host::source::rows::{Gatherer, Message, Repeats, Target};
use host::source::rules::Rule;
use host::store::{Commit, Counts, DataFolder, NewBatch, Store, StoreConfig};
use runtime::{CallContext, Engine, EngineConfig, Step, StepConfig};
use wire::codec::Encoder;
use wire::frame::Frame;
use wire::ids::{RouteName, Sequence, TenantId};

use super::limits;
use super::measure::{Clock, repeat};
use super::report::{Bench, Line};
use crate::gateway::plugins_dir;
use crate::load::reading::Walk;

/// Rows of a batch, as in the workload at full speed.
pub const ROWS: usize = 1_000;
/// Devices in a batch.
const DEVICES: usize = 100;
/// Batches that are handed to the store at once: what it commits together.
const GROUP: usize = 16;
/// How long each stage runs.
const TIME: Duration = Duration::from_millis(800);

/// A batch of the workload as it goes to the store: what the range filter left of [`ROWS`] messages.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Rows in it.
    pub rows: u32,
    /// Its bytes.
    pub payload: Bytes,
}

/// A message of the workload.
struct Sent {
    topic: String,
    payload: Vec<u8>,
}

/// Runs all of them; returns the workload's batch, encoded.
///
/// # Errors
/// When a stage fails.
pub fn run(bench: &mut Bench, dir: &Path) -> Result<Encoded> {
    let messages = messages();
    let frame = parse(bench, &messages)?;
    let frame = steps(bench, dir, frame)?;
    let batch = encode(bench, &frame)?;
    store(bench, dir, &batch)?;
    Ok(batch)
}

fn messages() -> Vec<Sent> {
    let mut walks: Vec<Walk> = (0..DEVICES).map(|device| Walk::new(device as u64)).collect();
    let mut now = 1_760_000_000_000;
    let mut messages = vec![];
    for index in 0..ROWS {
        now += 7;
        let device = index % DEVICES;
        let mut payload = vec![];
        walks[device].next(now).render(&mut payload);
        messages.push(Sent { topic: format!("site/acme/acme-{device:03}/telemetry"), payload });
    }
    messages
}

/// JSON into columns, gathered. Limit: copying the same bytes once.
fn parse(bench: &mut Bench, messages: &[Sent]) -> Result<Frame> {
    let (sender, mut lane) = tokio::sync::mpsc::channel::<Intake>(4);
    let acme = TenantId::new("acme")?;
    let gather = Gather { linger: Duration::from_secs(10), max_rows: ROWS };
    let rules: Arc<[Rule]> = Arc::from(vec![Rule::from(&topic()?)]);
    let mut gatherer: Gatherer<u64> =
        Gatherer::new("bench".into(), rules, vec![(acme, sender)], gather, Box::new(|_, _| Box::new(Nobody)));
    let targets: Vec<Target> = messages
        .iter()
        .map(|sent| gatherer.resolve(&sent.topic))
        .collect::<Result<_, _>>()
        .context("a topic")?;
    let mut last = None;
    let mut wrong = 0;
    let rate = repeat(TIME, || {
        for (sent, target) in messages.iter().zip(&targets) {
            let message = Message {
                topic: &sent.topic,
                payload: &sent.payload,
                arrived: ARRIVED,
                repeats: Repeats::Maybe,
            };
            wrong += usize::from(gatherer.push(*target, &message, Some(1)).is_err());
        }
        gatherer.flush_tenant(0);
        last = lane.try_recv().ok();
    });
    let frame =
        last.and_then(|intake| intake.decoded.into_iter().next()).context("nothing was gathered")?.frame;
    ensure!(wrong == 0 && frame.rows() == ROWS, "{wrong} messages were refused, {} rows", frame.rows());
    let bytes: usize = messages.iter().map(|sent| sent.payload.len()).sum();
    bench.line(
        Line::new("parse: JSON to columns, gathered", "messages", rate.times(ROWS as f64))
            .limit("memcpy of the payloads", limits::memcpy(bytes, TIME / 4).times(ROWS as f64))
            .note(format!("{} B a message", bytes / ROWS)),
    );
    Ok(frame)
}

const ARRIVED: i64 = 1_760_000_100_000_000_000;

fn topic() -> Result<Topic> {
    Ok(Topic {
        filter: TopicFilter::parse("site/{tenant}/{device}/telemetry")?,
        tenant: None,
        device: None,
        format: Format::Json,
        profile: "machine".into(),
        time: Some(TimeField {
            field: "ts".into(),
            unit: TimeUnit::Millis,
            max_ahead: Duration::from_secs(86_400),
            max_behind: None,
            missing: TimeMissing::Reject,
        }),
        units: BTreeMap::new(),
    })
}

/// One call of `builtin:linear`, then the workload's chain. Limit: the same arithmetic in a native loop.
fn steps(bench: &mut Bench, dir: &Path, frame: Frame) -> Result<Frame> {
    let engine = Engine::new(EngineConfig::new(dir.join("cache")))?;
    let mut chain = vec![
        step(
            &engine,
            "linear",
            r#"{"column":"temperature_c","into":"temperature_f","scale":1.8,"offset":32.0,"resolution":0.001}"#,
        )?,
        step(&engine, "range", r#"{"column":"temperature_c","min":-40.0,"max":125.0}"#)?,
        step(&engine, "tag", r#"{"column":"plant","value":"acme"}"#)?,
    ];
    let context = CallContext { now: ARRIVED, ..CallContext::default() };
    let frames = [frame];
    let mut failed = None;
    let mut linear = step(
        &engine,
        "linear",
        r#"{"column":"temperature_c","into":"temperature_c","scale":1.8,"offset":32.0}"#,
    )?;
    let rate = repeat(TIME, || {
        failed = failed.take().or(linear.process(&frames, &context).err());
    });
    let limit = limits::native_linear(ROWS, TIME / 4).times(ROWS as f64);
    bench.line(
        Line::new("plugin call: builtin:linear", "rows", rate.times(ROWS as f64))
            .limit("a native loop over the column", limit)
            .note(format!(
                "{:.1} µs a call of {ROWS} rows × {} columns",
                rate.cpu_per_million(),
                frames[0].columns.len()
            )),
    );
    let mut out = None;
    let rate = repeat(TIME, || {
        let mut now: Option<Vec<Frame>> = None;
        for step in &mut chain {
            match step.process(now.as_deref().unwrap_or(&frames), &context) {
                Ok(done) => now = Some(done.frames.into_iter().map(|routed| routed.frame).collect()),
                Err(fault) => failed = Some(fault),
            }
        }
        out = now;
    });
    if let Some(fault) = failed {
        return Err(fault).context("a plugin call");
    }
    bench.line(
        Line::new("plugin chain: linear, range, tag", "rows", rate.times(ROWS as f64))
            .limit("a native loop over the column", limit),
    );
    out.and_then(|frames| frames.into_iter().next()).context("the chain emitted nothing")
}

fn step(engine: &Engine, name: &str, config: &str) -> Result<Step> {
    let plugin = engine.load(&plugins_dir()?.join(format!("{name}.wasm")))?;
    let config = StepConfig { name: name.into(), config_json: config.into(), ..StepConfig::default() };
    Ok(Step::new(engine, &plugin, config, vec![], &CallContext::default())?)
}

/// Frames into a batch. Limit: copying the columns once.
fn encode(bench: &mut Bench, frame: &Frame) -> Result<Encoded> {
    let frames = [frame.clone()];
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let mut failed = None;
    let rate = repeat(TIME, || {
        out.clear();
        failed = failed.take().or(encoder.encode(&frames, &mut out).err());
    });
    if let Some(error) = failed {
        return Err(error).context("encode");
    }
    let rows = frame.rows() as f64;
    let per_reading = out.len() as f64 / frame.readings() as f64;
    bench.line(
        Line::new("encode", "rows", rate.times(rows))
            .limit("memcpy of the columns", limits::memcpy(frame.readings() * 8, TIME / 4).times(rows))
            .note(format!("{per_reading:.2} B a reading, {} columns", frame.columns.len())),
    );
    bench.figure("bytes_per_reading_encoded", per_reading);
    Ok(Encoded { rows: frame.rows() as u32, payload: Bytes::from(out) })
}

/// Counts what has been committed.
struct Counter(Arc<AtomicU64>);

impl Custody for Counter {
    fn committed(self: Box<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
    fn refused(self: Box<Self>, _reason: &str) {}
}

/// Batches into the store and, as landed, out again. Limit: the same bytes into a plain file with `fdatasync`.
fn store(bench: &mut Bench, dir: &Path, batch: &Encoded) -> Result<()> {
    let Encoded { rows, payload } = batch;
    let folder = Arc::new(DataFolder::lock(&dir.join("store"))?);
    let store = Store::open(&folder, &TenantId::new("acme")?, StoreConfig::default())?.store;
    let route = RouteName::new(RouteName::TELEMETRY)?;
    let committed = Arc::new(AtomicU64::new(0));
    let clock = Clock::of_process()?;
    let start = Instant::now();
    let mut batches = 0u64;
    while start.elapsed() < TIME {
        for _ in 0..GROUP {
            store.commit(Commit {
                batches: vec![NewBatch {
                    route: route.clone(),
                    priority: Priority::Normal,
                    keep: None,
                    rows: *rows,
                    payload: payload.clone(),
                }],
                counts: Counts { accepted: u64::from(*rows), ..Counts::default() },
                custody: vec![Box::new(Counter(Arc::clone(&committed)))],
                ..Commit::default()
            });
        }
        batches += GROUP as u64;
        let done = committed.load(Relaxed);
        if done > 0 {
            store.landed(&[(Sequence(1), Sequence(done))]);
        }
    }
    store.settle();
    let rate = clock.stop(batches)?;
    ensure!(committed.load(Relaxed) == batches, "not every batch was committed");
    store.close();
    let limit = limits::fdatasync(dir, payload.len(), GROUP, TIME / 2)?.times(GROUP as f64);
    let rows = f64::from(*rows);
    bench.line(
        Line::new("store: append, commit, delete", "rows", rate.times(rows))
            .limit(&format!("fdatasync of a plain file, {GROUP} batches each"), limit.times(rows))
            .note(format!("batches of {rows} rows, {} B", payload.len())),
    );
    Ok(())
}
