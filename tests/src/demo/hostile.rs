//! A healthy tenant beside each hostile plugin: what it gets, how long its messages take, and what becomes of the other.
//!
//! ```text
//! alone │ beside 1 │ alone │ beside 2 │ alone …       a fresh gateway and stamp for each "beside"
//! ```
//! The healthy tenant publishes 1,000 messages/s (QoS 1) in every phase. Its p99 (from the device's clock as it sends to
//! the stamp's as the row's batch arrives) alone is taken from the phases before and after, so that whatever else the
//! machine does meets both. The hostile tenant's devices publish too, and its quarantine is set so far away that the
//! plugin is at it all the time. The bound: p99 beside ≤ 2 × p99 alone + 20 ms.

use std::time::{Duration, Instant};

use anyhow::Result;
use host::admin::status::TenantStatus;
use serde::Serialize;

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
/// For the hostile step: never quarantined while it is measured.
const RELENTLESS: &str = "quarantine = { faults = 10_000, within = \"1 s\" }";
/// One that is slow, and nothing worse, is measured so often at most: what else the machine does passes, a neighbour that
/// takes too much stays.
const TRIES: usize = 2;
const SLOW: &str = "p99 beside is over what is allowed";
/// Characters of an account on the screen; JSON has all.
const SHOWN: usize = 110;

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only fixtures with this in their name.
    pub only: Option<String>,
    /// Everything random follows from it.
    pub seed: u64,
}

/// What the demo ends with. The names are those of its JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// One after the other.
    pub fixtures: Vec<Line>,
    /// Whether every promise was kept.
    pub kept: bool,
    /// Of the whole run.
    pub seconds: f64,
    /// What everything random followed from.
    pub seed: u64,
}

/// The healthy tenant beside one hostile plugin.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The misbehaviour.
    pub name: &'static str,
    /// Rows that must have landed.
    pub healthy_expected: u64,
    /// Rows that have, once and right.
    pub healthy_landed: u64,
    /// Rows that landed more than once.
    pub healthy_twice: u64,
    /// Rows that are not as they were sent.
    pub healthy_wrong: u64,
    /// Milliseconds within which 99 of 100 messages landed, without a hostile neighbour.
    pub p99_alone_ms: f64,
    /// … and beside it.
    pub p99_beside_ms: f64,
    /// What it may be.
    pub p99_bound_ms: f64,
    /// Of each try; the last one counts.
    pub p99_beside_tries_ms: Vec<f64>,
    /// The longest.
    pub worst_beside_ms: f64,
    /// Times that the gateway ended and was started again.
    pub gateway_restarts: u32,
    /// What became of the hostile tenant, for people.
    pub became: String,
    /// Messages of its devices that were acknowledged.
    pub hostile_accepted: u64,
    /// Its rows in the dead letters.
    pub hostile_dead_letters: u64,
    /// Its rows that were sent on.
    pub hostile_emitted: u64,
    /// Calls of its plugin that failed.
    pub hostile_faults: u64,
    /// What was promised and not kept; empty if all was.
    pub broken: Vec<String>,
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
         ms from a device to the stamp, of 99 in 100 messages: alone (before and after), beside, and what is allowed.\n"
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
    /// Delays of its latest phase.
    before: Vec<f64>,
    seed: u64,
    nth: u64,
}

impl Rounds {
    fn start(seed: u64) -> Result<Self> {
        let world = World::create()?;
        let mut quiet = Neighbours::start(&world, "alone", None)?;
        let before = phase(&mut quiet, ALONE, seed)?.delays();
        Ok(Self { world, quiet, before, seed, nth: 0 })
    }

    fn measure(&mut self, fixture: &Fixture) -> Result<Line> {
        self.nth += 1;
        let seed = self.seed.wrapping_add(self.nth);
        let beside = beside(&self.world, &format!("n{}", self.nth), fixture, seed);
        let after = phase(&mut self.quiet, ALONE, seed)?.delays();
        let alone = [std::mem::take(&mut self.before), after.clone()].concat();
        self.before = after;
        match beside {
            Ok((phase, other)) => line(fixture, &alone, &phase, &other),
            Err(error) => Ok(failed(fixture, &alone, &error)),
        }
    }
}

impl Options {
    fn wants(&self, fixture: &Fixture) -> bool {
        self.only.as_ref().is_none_or(|only| fixture.name.contains(only.as_str()))
    }
}

/// What is left of a gateway with a hostile tenant.
struct Other {
    tenant: TenantStatus,
    accepted: u64,
    restarts: u32,
}

/// The healthy tenant beside a hostile one, in a gateway of their own.
fn beside(world: &World, name: &str, fixture: &Fixture, seed: u64) -> Result<(Phase, Other)> {
    let evil = fixture.configuration(world.path(), RELENTLESS)?;
    let mut both = Neighbours::start(world, name, Some(evil))?;
    let evil: Load = both.evil_devices(fixture.traffic, None, seed)?;
    std::thread::sleep(HEAD_START);
    let phase = phase(&mut both, BESIDE, seed)?;
    let accepted = evil.abandon()?.accepted();
    let tenant = both.evil()?;
    Ok((phase, Other { tenant, accepted, restarts: both.restarts }))
}

fn phase(at: &mut Neighbours, time: Duration, seed: u64) -> Result<Phase> {
    let healthy = at.good_devices(RATE, time, seed)?;
    at.settle(GOOD)?;
    let rows = at.rows(GOOD, healthy.since)?;
    Ok(Phase { healthy, rows })
}

impl Phase {
    /// Milliseconds from device to stamp, without the warming up.
    fn delays(&self) -> Vec<f64> {
        let from = self.healthy.since + WARM_UP.as_nanos() as i64;
        let counted = self.rows.iter().filter(|row| row.time >= from);
        counted.map(|row| (row.received - row.time) as f64 / 1e6).collect()
    }
}

/// The value that this share of all does not exceed; infinite if there is none.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).ceil() as usize;
    values.get(at).copied().unwrap_or(f64::INFINITY)
}

fn bound(alone: f64) -> f64 {
    2.0 * alone + 20.0
}

fn line(fixture: &Fixture, alone: &[f64], phase: &Phase, other: &Other) -> Result<Line> {
    let account = phase.healthy.account(&phase.rows)?;
    let expected = phase.healthy.expected();
    let p99_alone_ms = quantile(alone.to_vec(), 0.99);
    let delays = phase.delays();
    let (p99_beside_ms, p99_bound_ms) = (quantile(delays.clone(), 0.99), bound(p99_alone_ms));
    let mut broken = Vec::new();
    let mut promise = |kept: bool, text: String| {
        if !kept {
            broken.push(text);
        }
    };
    promise(phase.healthy.in_time, "healthy devices were not acknowledged in time".into());
    promise(account.landed == expected, format!("{} healthy rows are missing", expected - account.landed));
    promise(account.duplicated == 0, format!("{} healthy rows landed twice", account.duplicated));
    promise(account.wrong == 0, format!("{} healthy rows are wrong", account.wrong));
    promise(other.restarts == 0, format!("the gateway ended {} times", other.restarts));
    promise(p99_beside_ms <= p99_bound_ms, SLOW.into());
    if let Err(otherwise) = fixture.check(&other.tenant) {
        promise(false, format!("the hostile tenant: {otherwise}"));
    }
    Ok(Line {
        name: fixture.name,
        healthy_expected: expected,
        healthy_landed: account.landed,
        healthy_twice: account.duplicated,
        healthy_wrong: account.wrong,
        p99_alone_ms,
        p99_beside_ms,
        p99_bound_ms,
        p99_beside_tries_ms: vec![],
        worst_beside_ms: quantile(delays, 1.0),
        gateway_restarts: other.restarts,
        became: became(&other.tenant),
        hostile_accepted: other.accepted,
        hostile_dead_letters: other.tenant.dead_letters,
        hostile_emitted: other.tenant.emitted_rows,
        hostile_faults: faults(&other.tenant),
        broken,
    })
}

/// When the gateway did not even start, or not again.
fn failed(fixture: &Fixture, alone: &[f64], error: &anyhow::Error) -> Line {
    let p99_alone_ms = quantile(alone.to_vec(), 0.99);
    Line {
        name: fixture.name,
        healthy_expected: (RATE * BESIDE.as_secs_f64()) as u64,
        healthy_landed: 0,
        healthy_twice: 0,
        healthy_wrong: 0,
        p99_alone_ms,
        p99_beside_ms: f64::INFINITY,
        p99_bound_ms: bound(p99_alone_ms),
        p99_beside_tries_ms: vec![],
        worst_beside_ms: f64::INFINITY,
        gateway_restarts: 1,
        became: "unknown".into(),
        hostile_accepted: 0,
        hostile_dead_letters: 0,
        hostile_emitted: 0,
        hostile_faults: 0,
        broken: vec![format!("the gateway does not run: {error:#}")],
    }
}

fn faults(tenant: &TenantStatus) -> u64 {
    tenant.steps.iter().map(|step| step.faults).sum()
}

/// What became of the hostile tenant, in a sentence.
fn became(tenant: &TenantStatus) -> String {
    if tenant.lane != "running" {
        return tenant.lane.clone();
    }
    let TenantStatus { dead_letters, emitted_rows, .. } = tenant;
    let state = tenant.steps.first().map_or("", |step| step.state.as_str());
    match faults(tenant) {
        0 => format!("{emitted_rows} rows passed, kept within its limits"),
        faults => {
            format!("{faults} calls failed, {dead_letters} rows dead letters, {emitted_rows} passed: {state}")
        }
    }
}

impl Line {
    fn is_only_slow(&self) -> bool {
        self.broken == [SLOW]
    }

    /// A row of the table, with what was broken below it.
    fn text(&self) -> String {
        let mut became: String = self.became.chars().take(SHOWN).collect();
        if became.len() < self.became.len() {
            became.push('…');
        }
        let mut text = format!(
            "{} {:<30} {:>14} {:>7.1} {:>7.1} {:>7.1}   {became}",
            if self.broken.is_empty() { '✓' } else { '✗' },
            self.name,
            format!("{}/{}", self.healthy_landed, self.healthy_expected),
            self.p99_alone_ms,
            self.p99_beside_ms,
            self.p99_bound_ms,
        );
        if let [first, _, ..] = *self.p99_beside_tries_ms {
            text.push_str(&format!("\n    measured again: {first:.1} ms at first"));
        }
        for broken in &self.broken {
            text.push_str(&format!("\n    {broken}"));
        }
        text
    }
}

impl Outcome {
    /// The verdict, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { fixtures, seconds, .. } = self;
        let sum = |of: fn(&Line) -> u64| fixtures.iter().map(of).sum::<u64>();
        let broken = fixtures.iter().filter(|line| !line.broken.is_empty()).count();
        format!(
            "  beside {} hostile plugins the healthy tenant got {} of {} records; {} came twice, {} wrong\n  \
             the gateway ended {} times; {broken} rows above break a promise; {seconds:.0} s\n",
            fixtures.len(),
            sum(|line| line.healthy_landed),
            sum(|line| line.healthy_expected),
            sum(|line| line.healthy_twice),
            sum(|line| line.healthy_wrong),
            sum(|line| u64::from(line.gateway_restarts)),
        )
    }
}
