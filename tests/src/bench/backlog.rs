//! After an hour without a stamp: how fast the backlog goes up while devices go on publishing, and how long what is new takes.
//!
//! The backlog consists of batches as the gateway itself makes them at that rate: a few seconds of them, taken from its outbox
//! and committed again and again through the store's own interface until they are an hour's worth. Nobody waits an hour, and
//! nothing is larger or emptier than it would be. Devices and tenants are the same before and after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use host::outbox::{Outbox, Outgoing, Priority};
use host::store::{Commit, DataFolder, NewBatch, Store, StoreConfig};
use wire::ids::{Sequence, TenantId};

use super::measure::Rate;
use super::report::{Bench, Line};
use crate::gateway::{Gateway, Setup};
use crate::load::{Fleet, Load, Plan};
use crate::process::wait_until;
use crate::world::{World, workload_chain};

/// Messages per second, of all devices together, in the outage and after it.
const RATE: f64 = 5_000.0;
/// Seconds of the outage, and where the whole bench is run.
const OUTAGE: (u64, u64) = (3_600, 360);
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Devices of each tenant.
const DEVICES: usize = 100;
/// How long the gateway makes batches that are then multiplied.
const SAMPLE: Duration = Duration::from_secs(6);
/// Batches that are handed to the store at once.
const GROUP: usize = 64;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(600);
/// So many times faster than it was filled a backlog goes up, at least.
const TIMES: f64 = 10.0;

/// Runs it; `whole`: an hour's backlog, else a tenth of it.
///
/// # Errors
/// When a process fails.
pub fn run(bench: &mut Bench, whole: bool) -> Result<()> {
    let seconds = if whole { OUTAGE.0 } else { OUTAGE.1 };
    let world = World::create()?;
    let chains = TENANTS.map(|tenant| (tenant.to_owned(), workload_chain(tenant))).to_vec();
    let mut stamp = world.stamp("bench-stamp", &[("bench-gateway", &TENANTS)])?;
    let mut gateway =
        world.gateway("bench-gateway", &Setup { tenants: chains, ..Setup::default() }, &stamp)?;
    gateway.start()?;
    let load = publish(&gateway)?;
    std::thread::sleep(SAMPLE);
    load.finish()?;
    gateway.terminate()?;
    let rows = seconds * RATE as u64;
    let (batches, bytes) = fill(&gateway, rows / TENANTS.len() as u64)?;
    println!(
        "a backlog of {} min at {RATE} messages/s: {rows} rows in {batches} batches of {} B",
        seconds / 60,
        bytes / batches
    );

    gateway.start()?;
    let load = publish(&gateway)?;
    // The devices are connected, their first batches wait behind the backlog.
    std::thread::sleep(Duration::from_secs(1));
    let backlog = outbox(&gateway)?;
    stamp.start()?;
    gateway.process().context("the gateway runs")?.signal("HUP")?;
    let before = landed(&gateway)?;
    wait_until("the backlog begins to go up", PATIENCE, || Ok(landed(&gateway)? > before))?;
    let (cpu, start, first) = ((gateway.cpu()?, stamp.cpu()?), Instant::now(), landed(&gateway)?);
    let accepted = load.accepted();
    // What is new is never more than about a second's worth.
    let gone = || Ok(outbox(&gateway)? < 2 * RATE as u64);
    wait_until("the backlog has gone up", PATIENCE, gone)?;
    let wall = start.elapsed();
    let went_up = landed(&gateway)? - first;
    let new = load.accepted() - accepted;
    let spent = (gateway.cpu()? - cpu.0, stamp.cpu()? - cpu.1);
    let age = Instant::now();
    load.finish()?;
    gateway.drain(PATIENCE)?;

    let rate = |cpu| Rate { times: went_up as f64, wall, cpu };
    bench.line(
        Line::new("an hour's backlog goes up: gateway", "rows", rate(spent.0)).note(format!(
            "{backlog} rows waited; {new} new messages meanwhile; {} rows a batch; with its intake of what is new",
            rows / batches
        )),
    );
    bench.line(Line::new("an hour's backlog goes up: stamp", "rows", rate(spent.1)));
    let old = went_up.saturating_sub(new) as f64;
    bench.target("drain_times_faster_than_filled", old / wall.as_secs_f64() / RATE, TIMES, "times", true);
    // What was measured since the first second of the drain, and before its end.
    let since = format!("{} ms", (wall + age.elapsed()).as_millis().saturating_sub(1_000));
    let until = format!("{} ms", age.elapsed().as_millis());
    let mut delays = stamp.delays_between(&since, &until)?;
    delays.sort_unstable();
    ensure!(!delays.is_empty(), "nothing that is new has landed meanwhile");
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!(
        "device to landed meanwhile: p50 {:.0} ms, p99 {:.0} ms, worst {:.0} ms ({} rows)",
        at(0.5),
        at(0.99),
        at(1.0),
        delays.len()
    );
    bench.target("drain_live_p99_ms", at(0.99), 1_000.0, "ms", false);
    Ok(())
}

fn publish(gateway: &Gateway) -> Result<Load> {
    let fleets = TENANTS.map(|tenant| Fleet::new(tenant, DEVICES, 1)).to_vec();
    let address = gateway.mqtt;
    Load::start(Plan { address, fleets, rate: Some(RATE), each: None, window: 32, cut_after: None, seed: 1 })
}

/// Makes the batches in the outboxes so many rows for each tenant; returns batches and payload bytes of all.
fn fill(gateway: &Gateway, rows: u64) -> Result<(u64, u64)> {
    let folder = Arc::new(DataFolder::lock(&gateway.data_dir)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut batches, mut bytes) = (0, 0);
    for tenant in TENANTS {
        let store = Store::open(&folder, &TenantId::new(tenant)?, StoreConfig::default())?.store;
        let sample = runtime.block_on(store.read(Priority::Normal, Sequence(0), usize::MAX))?;
        ensure!(!sample.is_empty(), "no batch of {tenant} waits");
        let mut waiting: u64 = sample.iter().map(|batch| u64::from(batch.rows)).sum();
        let mut again = sample.iter().cycle();
        while waiting < rows {
            let group: Vec<&Outgoing> = again.by_ref().take(GROUP).collect();
            waiting += group.iter().map(|batch| u64::from(batch.rows)).sum::<u64>();
            store.commit(Commit { batches: group.into_iter().map(new_batch).collect(), ..Commit::default() });
        }
        store.settle();
        let totals = store.status().totals;
        ensure!(totals.lost == 0, "the store's quota is too small for the backlog: {totals:?}");
        batches += totals.batches();
        bytes += totals.bytes();
        store.close();
    }
    Ok((batches, bytes))
}

fn new_batch(batch: &Outgoing) -> NewBatch {
    NewBatch {
        route: batch.route.clone(),
        priority: Priority::Normal,
        keep: None,
        rows: batch.rows,
        payload: batch.payload.clone(),
    }
}

fn outbox(gateway: &Gateway) -> Result<u64> {
    Ok(gateway.status()?.tenants.iter().map(|tenant| tenant.outbox.rows).sum())
}

fn landed(gateway: &Gateway) -> Result<u64> {
    Ok(gateway.status()?.tenants.iter().map(|tenant| tenant.landed_rows).sum())
}
