//! A healthy tenant beside each hostile plugin: what it gets, how long its messages take, and what becomes of the other.
//!
//! ```text
//! alone │ beside 1 │ alone │ beside 2 │ alone …       a fresh gateway and stamp for each "beside"
//! ```
//! The healthy tenant publishes 1,000 messages/s (QoS 1) in every phase. Its p99 alone (from the device's clock as it sends
//! to the stamp's as the row's batch arrives) is the lower one of the phases before and after. The hostile tenant's devices
//! publish all the time, and its quarantine begins so late that the plugin is at it for most of a phase. The bound: p99
//! beside ≤ 2 × p99 alone + 20 ms.

mod elsewhere;
mod line;

use std::time::{Duration, Instant};

use anyhow::Result;
use elsewhere::Elsewhere;
use host::admin::status::TenantStatus;
pub use line::{Line, Outcome};

use super::say;
use crate::hostile::neighbours::{EVIL_DEVICES, EVIL_RATE, GOOD, GOOD_DEVICES, Healthy};
use crate::hostile::{FIXTURES, Fixture, Neighbours};
use crate::load::Load;
use crate::oracle::Landed;
use crate::world::World;

/// Messages per second of the healthy tenant.
const RATE: f64 = 1_000.0;
/// How long the healthy tenant publishes alone, between two hostile neighbours.
const ALONE: Duration = Duration::from_millis(1_800);
/// How long it publishes beside each.
const BESIDE: Duration = Duration::from_millis(3_000);
/// The beginning of each phase does not count for its p99: connections, first calls, empty caches.
const WARM_UP: Duration = Duration::from_millis(500);
/// The hostile plugin is at it so long before the healthy devices begin.
const HEAD_START: Duration = Duration::from_millis(300);
/// For the hostile step: faulty batches until its quarantine. At a batch every 40 ms it begins as the phase ends.
const LATE: &str = "quarantine = { faults = 70, within = \"1 min\", probe = \"never\" }";
/// One that is slow, and nothing worse, is measured so often at most: what else the machine does passes, a neighbour that
/// takes too much stays.
const TRIES: usize = 3;

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only fixtures with this in their name.
    pub only: Option<String>,
    /// Everything random follows from it.
    pub seed: u64,
}

/// A phase of the healthy tenant.
struct Phase {
    healthy: Healthy,
    rows: Vec<Landed>,
}

/// Runs it, with a row on standard output as each fixture is done.
///
/// # Errors
/// When the harness fails. A gateway that does not start is a broken promise, not an error.
pub fn run(options: &Options) -> Result<Outcome> {
    let start = Instant::now();
    say(&format!(
        "{GOOD_DEVICES} devices of a healthy tenant publish {RATE:.0} messages/s over MQTT (QoS 1); {EVIL_DEVICES} devices \
         of a hostile one up to {EVIL_RATE:.0}/s.\n\
         ms from a device to the stamp, of 99 in 100 messages: alone (before or after), beside, and what is allowed.\n"
    ));
    say(&format!(
        "{:<32} {:>14} {:>7} {:>7} {:>7}   {}",
        "BESIDE", "HEALTHY LANDED", "ALONE", "BESIDE", "ALLOWED", "THE HOSTILE TENANT"
    ));
    let mut rounds = Rounds::start(options.seed)?;
    let mut fixtures = Vec::new();
    for fixture in FIXTURES.iter().filter(|fixture| options.wants(fixture)) {
        let mut line = rounds.measure(fixture)?;
        let mut tries = vec![line.p99_beside_ms];
        while line.is_only_slow() && tries.len() < TRIES {
            line = rounds.measure(fixture)?;
            tries.push(line.p99_beside_ms);
        }
        line.p99_beside_tries_ms = tries;
        say(&line.text());
        fixtures.push(line);
    }
    let kept = !fixtures.is_empty() && fixtures.iter().all(|line| line.broken.is_empty());
    Ok(Outcome { fixtures, kept, seconds: start.elapsed().as_secs_f64(), seed: options.seed })
}

/// Alone, beside, alone, beside …
struct Rounds {
    world: World,
    /// With the healthy tenant alone.
    quiet: Neighbours,
    /// p99 of its latest phase.
    before: f64,
    seed: u64,
    nth: u64,
}

impl Rounds {
    fn start(seed: u64) -> Result<Self> {
        let world = World::create()?;
        let mut quiet = Neighbours::start(&world, "alone", None)?;
        let before = phase(&mut quiet, ALONE, seed)?.p99();
        Ok(Self { world, quiet, before, seed, nth: 0 })
    }

    fn measure(&mut self, fixture: &Fixture) -> Result<Line> {
        self.nth += 1;
        let seed = self.seed.wrapping_add(self.nth);
        let beside = beside(&self.world, &format!("n{}", self.nth), fixture, seed);
        let after = phase(&mut self.quiet, ALONE, seed)?.p99();
        let alone = std::mem::replace(&mut self.before, after).min(after);
        match beside {
            Ok((phase, other)) => Line::new(fixture, alone, &phase, &other),
            Err(error) => Ok(Line::failed(fixture, alone, &error)),
        }
    }
}

impl Options {
    fn wants(&self, fixture: &Fixture) -> bool {
        self.only.as_ref().is_none_or(|only| fixture.name.contains(only.as_str()))
    }
}

/// What is known of the other side of a phase.
struct Other {
    tenant: TenantStatus,
    /// Messages that its devices keep: sent, not acknowledged.
    waiting: u64,
    restarts: u32,
    /// Cores kept busy by processes that are not the demo's.
    elsewhere: f64,
}

/// The healthy tenant beside a hostile one, in a gateway of their own.
fn beside(world: &World, name: &str, fixture: &Fixture, seed: u64) -> Result<(Phase, Other)> {
    let evil = fixture.configuration(world.path(), LATE)?;
    let mut both = Neighbours::start(world, name, Some(evil))?;
    let evil: Load = both.evil_devices(fixture.traffic, None, seed)?;
    std::thread::sleep(HEAD_START);
    let then = Elsewhere::look(&both)?;
    let phase = phase(&mut both, BESIDE, seed)?;
    let elsewhere = Elsewhere::cores(&then, &Elsewhere::look(&both)?);
    let tenant = both.evil()?;
    let ledger = evil.abandon()?;
    let waiting = ledger.sent() - ledger.accepted();
    Ok((phase, Other { tenant, waiting, restarts: both.restarts, elsewhere }))
}

fn phase(at: &mut Neighbours, time: Duration, seed: u64) -> Result<Phase> {
    let healthy = at.good_devices(RATE, time, seed)?;
    at.settle(GOOD)?;
    let rows = at.rows(GOOD, healthy.since)?;
    Ok(Phase { healthy, rows })
}

impl Phase {
    fn p99(&self) -> f64 {
        line::quantile(self.delays(), 0.99)
    }

    /// Milliseconds from device to stamp, without the warming up.
    fn delays(&self) -> Vec<f64> {
        let from = self.healthy.since + WARM_UP.as_nanos() as i64;
        let counted = self.rows.iter().filter(|row| row.time >= from);
        counted.map(|row| (row.received - row.time) as f64 / 1e6).collect()
    }
}
