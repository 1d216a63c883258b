//! Over a bad line: what the uplink carries of batches, beside a bare QUIC stream over the same line at the same time.
//!
//! The line is the proxy of the tests: datagrams are lost at random in both directions and take their time. Several of each
//! run side by side, since one alone depends on when it loses what.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;

use super::limits;
use super::report::Bench;
use super::sender::{Sender, TENANT};
use crate::process::wait_until;
use crate::proxy::{Faults, Proxy};
use crate::stamp::Stamp;
use crate::world::World;

/// Of each so many at the same time.
const PAIRS: usize = 4;
/// Loses 2 % each way, 100 ms there and back.
const LINE: Faults = Faults {
    udp_silent: false,
    tcp_silent: false,
    loss: 0.02,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    rate: None,
};
/// How long it is measured, from when the first byte has arrived.
const TIME: Duration = Duration::from_secs(40);
/// Bytes of a batch: some hundred rows of the workload.
const BATCH: usize = 3_000;
/// Bytes that wait at the beginning: more than goes over the line.
const WAITING: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it.
///
/// # Errors
/// When a process fails.
pub fn run(bench: &mut Bench) -> Result<()> {
    let world = World::create()?;
    let names: Vec<String> = (0..PAIRS).map(|n| format!("bench-{n}")).collect();
    let roster: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[TENANT][..])).collect();
    let mut stamp = world.stamp("bench-stamp", &roster)?;
    stamp.start()?;
    let (ours, bare) = std::thread::scope(|scope| {
        let (world, stamp) = (&world, &stamp);
        let ours: Vec<_> = (1..)
            .zip(&names)
            .map(|(seed, name)| scope.spawn(move || uplink(world, stamp, name, seed)))
            .collect();
        let bare: Vec<_> =
            (1..).zip(&names).map(|(seed, name)| scope.spawn(move || stream(world, name, seed))).collect();
        let sum = |all: Vec<std::thread::ScopedJoinHandle<'_, Result<f64>>>| {
            all.into_iter()
                .map(|one| one.join().map_err(|_| anyhow::anyhow!("a thread failed"))?)
                .sum::<Result<f64>>()
        };
        (sum(ours), sum(bare))
    });
    let (ours, bare) = (ours? / PAIRS as f64, bare? / PAIRS as f64);
    println!(
        "over 2 % loss and 100 ms: uplink {:.1} kB/s, bare QUIC stream {:.1} kB/s",
        ours / 1e3,
        bare / 1e3
    );
    bench.figure("goodput_uplink_bytes_per_second", ours);
    bench.figure("goodput_bare_bytes_per_second", bare);
    bench.target("goodput_of_bare_quic", ours / bare, 0.9, "", true);
    Ok(())
}

/// Payload bytes per second that the stamp has acknowledged.
fn uplink(world: &World, stamp: &Stamp, name: &str, seed: u64) -> Result<f64> {
    let proxy = Proxy::start(stamp.address, seed)?;
    proxy.set(LINE);
    let sender = Sender::new(world, name, &world.path().join(name), (&stamp.id, proxy.address.port()))?;
    let payload = payload()?;
    sender.fill((WAITING / BATCH) as u64, &payload, 1)?;
    let uplink = sender.start()?;
    let acked = || uplink.view().status().first().map_or(0, |link| link.acked);
    wait_until("the first batch has landed", PATIENCE, || Ok(acked() > 0))
        .with_context(|| format!("{:?}", uplink.view().status()))?;
    let (start, before) = (Instant::now(), acked());
    std::thread::sleep(TIME);
    let batches = acked() - before;
    let rate = batches as f64 * payload.len() as f64 / start.elapsed().as_secs_f64();
    uplink.stop()?;
    sender.store.close();
    Ok(rate)
}

/// The same over a bare stream, until it has arrived.
fn stream(world: &World, name: &str, seed: u64) -> Result<f64> {
    limits::quic_stream_over(&world.path().join(format!("{name}-bare")), seed, LINE, TIME)
}

/// One row, with a text so long that the batch has its size: it neither compresses nor repeats itself.
fn payload() -> Result<Bytes> {
    use wire::frame::{Column, Frame, Texts, Values};
    let mut random = crate::load::reading::Random(7);
    let letters: String = (0..BATCH).map(|_| char::from(b' ' + random.below(90) as u8)).collect();
    let values = Values::Text(Texts { dictionary: vec![letters], index: vec![0] });
    let frame = Frame {
        profile: "machine".into(),
        devices: vec!["press-1".into()],
        device: vec![0],
        time: vec![1_760_000_000_000_000_000],
        columns: vec![Column { name: "text".into(), unit: String::new(), values, status: vec![] }],
    };
    let mut payload = Vec::new();
    wire::codec::Encoder::new().encode(&[frame], &mut payload)?;
    Ok(payload.into())
}
