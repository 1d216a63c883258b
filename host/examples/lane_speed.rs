//! CPU time of lane and store per message: `cargo run --release -p host --example lane_speed`.
//!
//! Rows like `{"temperature_c","pressure_kpa","rpm","state"}` of 100 devices through conversion, range filter and tag,
//! into the store on disk, with everything landing at once. First as fast as it goes, then paced: a batch every 20 ms for
//! each of two tenants. Prints the CPU time of the workers ("lane worker …") and of the threads "store …".

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_config::{OnFault, Step, Tenant};
use host::intake::{Decoded, Intake, Nobody, fingerprint};
use host::outbox::Outbox;
use host::store::{DataFolder, Store, StoreConfig, wall_clock};
use host::tenant::{Lane, LaneConfig, LaneHandle, Plugins, Pool, Way};
use runtime::{Engine, EngineConfig};
use wire::frame::{Column, Texts, Values};
use wire::ids::{Sequence, TenantId};

fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("lane-speed-{}", std::process::id()));
    let data = Arc::new(DataFolder::lock(&folder)?);
    let engine = Engine::new(EngineConfig::new(folder.join("cache")))?;
    let with_steps = std::env::args().all(|arg| arg != "--no-steps");
    let qos1 = std::env::args().any(|arg| arg == "--qos1");
    let pool = Arc::new(Pool::start(Pool::processors())?);
    let site = |name| site(&data, &engine, &pool, name, with_steps);
    let sites = [site("one")?, site("two")?];

    let (lane, store) = &sites[0];
    let before = cpu();
    let started = Instant::now();
    for round in 0..1_000 {
        send(lane, intake(lane.tenant(), 1_000, round, qos1))?;
        land(store);
    }
    while store.totals().counts.accepted < 1_000_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    report("as fast as it goes", 1_000_000, started.elapsed(), &before);

    for rows in [50u32, 300, 1_000] {
        let before = cpu();
        let started = Instant::now();
        for round in 0..150u32 {
            for (lane, store) in &sites {
                send(lane, intake(lane.tenant(), rows, i64::from(round) + 5_000, qos1))?;
                land(store);
            }
            let next = started + Duration::from_millis(20) * (round + 1);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        report(&format!("{rows} rows a batch"), u64::from(rows) * 300, started.elapsed(), &before);
    }
    for (lane, store) in sites {
        lane.drain_and_stop(Duration::from_secs(10));
        store.close();
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn site(
    data: &Arc<DataFolder>,
    engine: &Engine,
    pool: &Arc<Pool>,
    name: &str,
    with_steps: bool,
) -> anyhow::Result<(LaneHandle, Arc<Store>)> {
    let step = |name: &str, with: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/dist/{name}.wasm"));
        Step { on_fault: OnFault::Bypass, ..Step::new(name, file, with) }
    };
    let steps = [
        step(
            "linear",
            r#"{"column":"temperature_c","into":"temperature_f","scale":1.8,"offset":32,"resolution":0.01}"#,
        ),
        step("range", r#"{"column":"temperature_c","min":-40,"max":125}"#),
        step("tag", r#"{"column":"site","value":"plant7"}"#),
    ];
    let tenant = Tenant {
        queue: 16,
        steps: if with_steps { steps.into() } else { vec![] },
        ..Tenant::new(TenantId::new(name)?)
    };
    let opened = Store::open(data, &tenant.id, StoreConfig::default())?;
    let plugins = Plugins::load(engine, &tenant);
    let uplink: host::tenant::UplinkState = Arc::new(|| runtime::Uplink::Up);
    let config = LaneConfig { tenant, uplink, clock: wall_clock(), shelf: None, way: Way::On };
    Ok((Lane::start(config, plugins, engine, pool, &opened.store, opened.kept), opened.store))
}

fn send(lane: &LaneHandle, intake: Intake) -> anyhow::Result<()> {
    lane.sender().blocking_send(intake).map_err(|_| anyhow::anyhow!("the lane has stopped"))
}

fn land(store: &Store) {
    let last = store.waiting().borrow().last;
    if last > Sequence(0) {
        store.landed(&[(Sequence(1), last)]);
    }
}

fn intake(tenant: &TenantId, rows: u32, round: i64, qos1: bool) -> Intake {
    let mut decoded = Decoded::default();
    let frame = &mut decoded.frame;
    frame.profile = "machine".to_owned();
    frame.devices = (0..100).map(|n| format!("press-{n}")).collect();
    frame.device = (0..rows).map(|row| row % 100).collect();
    frame.time =
        (0..rows).map(|row| (1_760_000_000_000 + round * 1_000 + i64::from(row)) * 1_000_000).collect();
    let noise = |row: u32, salt: u32| f64::from((row * 7_919 + salt * 104_729 + round as u32 * 31) % 500);
    let floats = |name: &str, base: f64, step: f64| Column {
        name: name.to_owned(),
        unit: String::new(),
        values: Values::F64(
            (0..rows).map(|row| ((base + noise(row, 1) * step) * 100.0).round() / 100.0).collect(),
        ),
        status: vec![],
    };
    let states = Texts {
        dictionary: vec!["RUN".into(), "IDLE".into()],
        index: (0..rows).map(|row| u32::from(row % 50 == 0)).collect(),
    };
    frame.columns = vec![
        floats("temperature_c", 21.0, 0.01),
        floats("pressure_kpa", 101.3, 0.1),
        floats("rpm", 1_480.0, 1.0),
        Column {
            name: "state".to_owned(),
            unit: String::new(),
            values: Values::Text(states),
            status: vec![],
        },
    ];
    for row in 0..rows {
        let message = format!(
            "{{\"ts\":{row},\"temperature_c\":21.53,\"pressure_kpa\":101.3,\"rpm\":1480,\"state\":\"RUN\",\"n\":{round}}}"
        );
        decoded.fingerprints.push(if qos1 { fingerprint("press", message.as_bytes()) } else { 0 });
        decoded.originals.push(message.as_bytes());
    }
    Intake {
        tenant: tenant.clone(),
        source: "floor".into(),
        decoded: vec![decoded],
        raw: vec![],
        undecodable: vec![],
        identifiers: vec![],
        custody: Box::new(Nobody),
    }
}

/// Nanoseconds on a CPU, by the first word of the thread's name.
fn cpu() -> BTreeMap<String, u64> {
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").split_whitespace().next().unwrap_or_default().to_owned();
        let on_cpu = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        *by_name.entry(name).or_default() += on_cpu;
    }
    by_name
}

fn report(what: &str, messages: u64, took: Duration, before: &BTreeMap<String, u64>) {
    let after = cpu();
    let micros = |name: &str| {
        let of = |times: &BTreeMap<String, u64>| times.get(name).copied().unwrap_or(0);
        (of(&after) - of(before)) as f64 / 1e3 / messages as f64
    };
    let (lane, store) = (micros("lane"), micros("store"));
    println!(
        "{what}: lane {lane:.3} + store {store:.3} = {:.3} µs a message; {:.0} messages/s",
        lane + store,
        messages as f64 / took.as_secs_f64()
    );
}
