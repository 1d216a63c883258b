//! The way up alone, in this process: batches that wait in a store through the uplink to a real stamp, and batches into
//! the stamp's landing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stamp::landing::{Arrival, Capacity, Landed, Landing, Outcome};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StreamId, TenantId};
use wire::message::{TenantIndex, TenantStream};

use super::limits;
use super::measure::{Clock, Rate};
use super::report::{Bench, Line};
use super::sender::{Sender, TENANT};
use super::stages::Encoded;
use crate::process::wait_until;
use crate::world::World;

/// Batches that are sent and landed.
const BATCHES: u64 = 20_000;
/// How long a limit is measured.
const LIMIT_TIME: Duration = Duration::from_millis(500);
/// Longest wait for all of them.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches on their way to the landing's answer, as in a session's window.
const IN_FLIGHT: u64 = 256;
const GATEWAY: &str = "bench-gateway";

/// Runs both.
///
/// # Errors
/// When one fails.
pub fn run(bench: &mut Bench, dir: &Path, batch: &Encoded) -> Result<()> {
    uplink(bench, dir, batch)?;
    land(bench, dir, batch)
}

/// Store to stamp. Limit: the same bytes through one bare QUIC stream, both ends in this process.
fn uplink(bench: &mut Bench, dir: &Path, batch: &Encoded) -> Result<()> {
    let world = World::create()?;
    let mut stamp = world.stamp("bench-stamp", &[(GATEWAY, &[TENANT])])?;
    stamp.start()?;
    let sender = Sender::new(&world, GATEWAY, &dir.join("uplink"), ("bench-stamp", stamp.address.port()))?;
    sender.fill(BATCHES, &batch.payload, batch.rows)?;
    let before = stamp.cpu()?;
    let clock = Clock::of_process()?;
    let uplink = sender.start()?;
    wait_until("all batches have landed", PATIENCE, || Ok(sender.store.status().totals.batches() == 0))
        .with_context(|| format!("{:?}\n{}", uplink.view().status(), stamp.log()))?;
    let rate = clock.stop(BATCHES)?;
    let receiver = Rate { cpu: stamp.cpu()? - before, ..rate };
    uplink.stop()?;
    sender.store.close();
    let limit = limits::quic_stream(dir, batch.payload.len(), LIMIT_TIME)?;
    let rows = f64::from(batch.rows);
    bench.line(
        Line::new("uplink: store, QUIC, acknowledged, deleted", "rows", rate.times(rows))
            .limit("bare QUIC stream, both ends", limit.times(rows))
            .note(format!(
                "batches of {rows} rows, {} B; {:.0} batches/s",
                batch.payload.len(),
                rate.per_second()
            )),
    );
    bench.line(Line::new("stamp's side of it: receive and land", "rows", receiver.times(rows)));
    Ok(())
}

/// The landing without network. Limit: the same bytes into a plain file with `fdatasync`.
fn land(bench: &mut Bench, dir: &Path, batch: &Encoded) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (landing, writer) =
        Landing::open(&dir.join("landing"), Capacity { max_devices: 10_000, queue_mib: 64 })?;
    let rate = runtime.block_on(land_all(landing, batch))?;
    writer.join();
    let group = 128;
    let limit = limits::fdatasync(dir, batch.payload.len(), group, LIMIT_TIME)?.times(group as f64);
    let rows = f64::from(batch.rows);
    bench.line(
        Line::new("landing: deduplicate, commit, answer", "rows", rate.times(rows))
            .limit(&format!("fdatasync of a plain file, {group} batches each"), limit.times(rows))
            .note(format!("{:.0} batches/s", rate.per_second())),
    );
    Ok(())
}

async fn land_all(landing: Landing, batch: &Encoded) -> Result<Rate> {
    let gateway = GatewayId::new(GATEWAY)?;
    let stream =
        TenantStream { tenant: TenantId::new(TENANT)?, stream: StreamId(1), next: Sequence(1), epoch: 0 };
    let arrival = Arrival {
        gateway: gateway.clone(),
        installation: InstallationId(1),
        hold: Duration::ZERO,
        tenant_quotas: Vec::new(),
        device_quota: None,
        streams: vec![stream],
        now: 0,
    };
    let key = landing.arrive(arrival).await?.first().context("no stream")?.key;
    let (lane, mut answers) = landing.lane(1, gateway);
    let clock = Clock::of_process()?;
    let start = Instant::now();
    let (mut sent, mut landed) = (0, 0);
    while landed < BATCHES {
        ensure!(start.elapsed() < PATIENCE, "the landing is stuck at {landed}");
        while sent < BATCHES && sent - landed < IN_FLIGHT {
            sent += 1;
            let landed = Landed {
                stream: key,
                seq: Sequence(sent),
                route: RouteName::new(RouteName::TELEMETRY)?,
                created: 0,
                received: 0,
                rows: batch.rows,
                payload: batch.payload.clone(),
                devices: vec![],
            };
            lane.land(TenantIndex(0), landed).await?;
        }
        for answer in answers.recv().await.context("the landing ended")? {
            ensure!(answer.outcome == Outcome::Durable, "{answer:?}");
            landed += answer.to.0 - answer.from.0 + 1;
        }
    }
    clock.stop(BATCHES)
}
