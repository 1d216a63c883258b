//! The whole path with real processes: 200 devices of two tenants, the workload's chain, the store, QUIC, the stamp's
//! landing; and the bare listener under the same load, which is what the gateway cannot be cheaper than.
//!
//! CPU time is user and system time of the processes from an idle start until everything has landed, for a million
//! messages. Rates count until the last row has landed, not until the last message was sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::measure::Rate;
use super::report::{Bench, Line};
use crate::gateway::{Gateway, Setup};
use crate::load::{Fleet, Ledger, Load, Plan};
use crate::oracle::{self, Rules};
use crate::process::wait_until;
use crate::stamp::Stamp;
use crate::world::{World, workload_chain};

/// Devices of each of the two tenants.
const DEVICES: usize = 100;
/// How long devices publish where they are paced.
const TIME: Duration = Duration::from_secs(6);
/// How long they publish as fast as they can: what lands has to be read back and checked, row by row.
const FULL_TIME: Duration = Duration::from_secs(4);
/// Readings of a row: five measured, one computed, one tag.
const READINGS: f64 = 7.0;
/// Longest wait until everything has landed.
const DRAIN: Duration = Duration::from_secs(60);

/// How devices publish. At a rate, each message is a read of its own, which is most of what it costs (100 and 250
/// messages/s a device); as fast as they are taken, a read brings many.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    qos: u8,
    rate: Option<f64>,
    window: usize,
    time: Duration,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "qos0_20k", qos: 0, rate: Some(20_000.0), window: 1, time: TIME },
    Scenario { name: "qos1_20k", qos: 1, rate: Some(20_000.0), window: 32, time: TIME },
    Scenario { name: "qos0_50k", qos: 0, rate: Some(50_000.0), window: 1, time: TIME },
    Scenario { name: "qos1_50k", qos: 1, rate: Some(50_000.0), window: 32, time: TIME },
    Scenario { name: "qos0_full", qos: 0, rate: None, window: 1, time: FULL_TIME },
    Scenario { name: "qos1_full", qos: 1, rate: None, window: 32, time: FULL_TIME },
];

/// What one run took.
struct Run {
    gateway: Rate,
    stamp: Rate,
    load: Rate,
    peak: u64,
    ledger: Ledger,
}

/// Runs what the name selects.
///
/// # Errors
/// When a process fails or a promise is broken.
pub fn run(bench: &mut Bench, selected: impl Fn(&str) -> bool) -> Result<()> {
    for scenario in SCENARIOS.iter().filter(|scenario| selected(scenario.name)) {
        measure(bench, scenario)?;
    }
    if selected("latency") {
        latency(bench)?;
    }
    if selected("outage") {
        drain(bench)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, scenario: &Scenario) -> Result<()> {
    let Scenario { name, .. } = *scenario;
    let bare = bare(scenario)?;
    let mut site = Site::start()?;
    let idle = site.gateway.memory()?.0;
    let run = site.run(scenario)?;
    let account = oracle::settle(&run.ledger, |_| Rules::default(), site.stamp.landed()?)?;
    ensure!(account.is_kept(), "{name}: a promise was broken: {account:#?}");
    let (gateway, floor) = (run.gateway.cpu_per_million(), bare.cpu_per_million());
    bench.line(
        Line::new(&format!("whole path, {name}"), "messages", run.gateway)
            .limit("bare listener: reads at once, PUBACK", bare)
            .note(format!(
                "stamp {:.2}, load generator {:.2} CPU-s/M; memory {:.0} MiB idle, {:.0} MiB at its peak; {} landed",
                run.stamp.cpu_per_million(),
                run.load.cpu_per_million(),
                mib(idle),
                mib(run.peak),
                account.landed,
            )),
    );
    let target = if scenario.qos == 0 { 5.0 } else { 8.0 };
    bench.target(&format!("{name}_gateway_cpu_s_per_million"), gateway, target, "CPU-s/M", false);
    bench.target(
        &format!("{name}_stamp_cpu_s_per_million"),
        run.stamp.cpu_per_million(),
        5.0,
        "CPU-s/M",
        false,
    );
    bench.target(
        &format!("{name}_gateway_beyond_bare"),
        gateway - 1.5 * floor,
        1.5,
        "CPU-s/M over 1.5 × bare",
        false,
    );
    bench.target(&format!("{name}_memory_peak_mib"), mib(run.peak), 64.0, "MiB", false);
    if scenario.rate.is_none() && scenario.qos == 1 {
        bench.target(
            "qos1_sustained_messages_per_second",
            run.gateway.per_second(),
            30_000.0,
            "messages/s",
            true,
        );
    }
    Ok(())
}

/// Device to landed at 5,000 messages/s, QoS 1.
fn latency(bench: &mut Bench) -> Result<()> {
    let mut site = Site::start()?;
    let idle = site.gateway.memory()?.0;
    let scenario = Scenario { name: "latency", qos: 1, rate: Some(5_000.0), window: 32, time: TIME };
    let run = site.run(&scenario)?;
    let mut delays = site.stamp.delays()?;
    // The first second is the warming up: connections, compiled plugins, empty caches.
    let start = run.ledger.entries().map(|(_, entry)| entry.ts).min().context("nothing was sent")? + 1_000;
    delays.retain(|(time, _)| *time >= start * 1_000_000);
    delays.sort_unstable_by_key(|(_, delay)| *delay);
    ensure!(!delays.is_empty(), "nothing landed");
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].1 as f64 / 1e6;
    println!(
        "device to landed at 5,000 messages/s, QoS 1: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms ({} rows)",
        at(0.5),
        at(0.99),
        at(1.0),
        delays.len()
    );
    bench.target("memory_idle_mib", mib(idle), 32.0, "MiB", false);
    bench.target("latency_p50_ms", at(0.5), 50.0, "ms", false);
    bench.target("latency_p99_ms", at(0.99), 250.0, "ms", false);
    bench.figure("latency_gateway_cpu_s_per_million", run.gateway.cpu_per_million());
    Ok(())
}

/// A backlog of an outage goes up: uplink, receiver and landing at full speed.
fn drain(bench: &mut Bench) -> Result<()> {
    let mut site = Site::start()?;
    site.stamp.kill()?;
    let load = site.load(&Scenario { name: "outage", qos: 1, rate: None, window: 32, time: FULL_TIME })?;
    std::thread::sleep(FULL_TIME);
    load.finish()?;
    let status = site.gateway.status()?;
    let waiting = status
        .tenants
        .iter()
        .fold((0, 0), |(rows, bytes), tenant| (rows + tenant.outbox.rows, bytes + tenant.outbox.bytes));
    let (gateway, stamp) = (site.gateway.cpu()?, site.stamp.cpu()?);
    let before = landed(&site.gateway)?;
    site.stamp.start()?;
    // Try now: the back-off is not what is measured.
    site.gateway.process().context("the gateway runs")?.signal("HUP")?;
    wait_until("the backlog begins to go up", DRAIN, || Ok(landed(&site.gateway)? > before))?;
    let (first, start) = (landed(&site.gateway)?, Instant::now());
    site.gateway.drain(DRAIN)?;
    let last = landed(&site.gateway)?;
    // The rate is that of the rows after the first look, the CPU time that of all.
    let times = (last - before) as f64;
    let wall = start.elapsed().mul_f64(times / (last - first).max(1) as f64);
    let rate = |cpu| Rate { times, wall, cpu };
    let (rows, bytes) = waiting;
    let per_reading = bytes as f64 / rows as f64 / READINGS;
    bench.line(
        Line::new("backlog goes up: gateway", "rows", rate(site.gateway.cpu()? - gateway))
            .note(format!("{rows} rows, {per_reading:.2} B a reading on disk and on the wire")),
    );
    bench.line(Line::new("backlog goes up: stamp, start included", "rows", rate(site.stamp.cpu()? - stamp)));
    bench.target("bytes_per_reading", per_reading, 4.0, "B", false);
    let start = Instant::now();
    let shown = site.stamp.show_all()?;
    bench.target(
        "rows_shown_per_second",
        shown as f64 / start.elapsed().as_secs_f64(),
        50_000.0,
        "rows/s",
        true,
    );
    Ok(())
}

/// Rows of all tenants that the stamp has acknowledged.
fn landed(gateway: &Gateway) -> Result<u64> {
    Ok(gateway.status()?.tenants.iter().map(|tenant| tenant.landed_rows).sum())
}

/// A stamp and a gateway with the workload.
struct Site {
    gateway: Gateway,
    stamp: Stamp,
    _world: World,
}

impl Site {
    fn start() -> Result<Self> {
        let world = World::create()?;
        let tenants = ["acme", "globex"].map(|tenant| (tenant.to_owned(), workload_chain(tenant))).to_vec();
        let mut stamp = world.stamp("bench-stamp", &[("bench-gateway", &["acme", "globex"])])?;
        let mut gateway = world.gateway("bench-gateway", &Setup { tenants, ..Setup::default() }, &stamp)?;
        stamp.start()?;
        gateway.start()?;
        wait_until("the uplink is connected", DRAIN, || Ok(gateway.status()?.uplink.state == "connected"))?;
        Ok(Self { gateway, stamp, _world: world })
    }

    fn load(&self, scenario: &Scenario) -> Result<Load> {
        Load::start(plan(self.gateway.mqtt, scenario))
    }

    /// Devices publish; ends when everything has landed.
    fn run(&mut self, scenario: &Scenario) -> Result<Run> {
        let before = (self.gateway.cpu()?, self.stamp.cpu()?, own_cpu()?);
        let start = Instant::now();
        let load = self.load(scenario)?;
        std::thread::sleep(scenario.time);
        let ledger = load.finish()?;
        let load_cpu = own_cpu()? - before.2;
        let sent = ledger.sent();
        let taken = || Ok(self.gateway.status()?.sources[0].messages >= sent);
        wait_until("the gateway has taken every message", DRAIN, taken)?;
        self.gateway.drain(DRAIN)?;
        let wall = start.elapsed();
        let rate = |cpu| Rate { times: sent as f64, wall, cpu };
        Ok(Run {
            gateway: rate(self.gateway.cpu()? - before.0),
            stamp: rate(self.stamp.cpu()? - before.1),
            load: rate(load_cpu),
            peak: self.gateway.memory()?.1,
            ledger,
        })
    }
}

/// The bare listener in a process of its own, under the same load.
fn bare(scenario: &Scenario) -> Result<Rate> {
    let dir = tempfile::tempdir()?;
    let (process, address) = super::bare::start(dir.path())?;
    let before = process.usage()?.cpu;
    let start = Instant::now();
    let load = Load::start(plan(address, scenario))?;
    std::thread::sleep(scenario.time);
    let sent = load.finish()?.sent();
    // What is in the sockets' buffers is read within moments; then its CPU time stands still.
    let mut last = process.usage()?.cpu;
    wait_until("the bare listener has read everything", DRAIN, || {
        std::thread::sleep(Duration::from_millis(100));
        let now = process.usage()?.cpu;
        Ok(std::mem::replace(&mut last, now) == now)
    })?;
    Ok(Rate { times: sent as f64, wall: start.elapsed(), cpu: process.usage()?.cpu - before })
}

fn plan(address: SocketAddr, scenario: &Scenario) -> Plan {
    let Scenario { qos, rate, window, .. } = *scenario;
    let fleets = vec![Fleet::new("acme", DEVICES, qos), Fleet::new("globex", DEVICES, qos)];
    Plan { address, fleets, rate, each: None, window, cut_after: None, seed: 1 }
}

fn own_cpu() -> Result<Duration> {
    Ok(crate::process::usage(std::process::id())?.cpu)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
