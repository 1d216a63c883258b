//! What is said of each hostile plugin and its neighbour: figures, a sentence, and what was promised and not kept.

use anyhow::Result;
use host::admin::status::TenantStatus;
use serde::Serialize;

use super::{Other, Phase};
use crate::hostile::Fixture;

/// A promise of its own: when nothing else is broken, the machine may have been busy.
const SLOW: &str = "p99 beside is over what is allowed";
/// Characters of a sentence on the screen; JSON has all.
const SHOWN: usize = 130;
/// Cores used by others from which a row on the screen says so.
const BUSY: f64 = 0.3;

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
    /// Cores that processes other than the demo's kept busy meanwhile: from a few tenths on, times say little.
    pub cores_elsewhere: f64,
    /// The longest.
    pub worst_beside_ms: f64,
    /// Times that the gateway ended and was started again.
    pub gateway_restarts: u32,
    /// What became of the hostile tenant, for people.
    pub became: String,
    /// Messages of its devices that are on the gateway's disk or beyond.
    pub hostile_accepted: u64,
    /// Messages that its devices still keep.
    pub hostile_waiting: u64,
    /// Its rows in the dead letters.
    pub hostile_dead_letters: u64,
    /// Its rows that were sent on.
    pub hostile_emitted: u64,
    /// Calls of its plugin that failed.
    pub hostile_faults: u64,
    /// What was promised and not kept; empty if all was.
    pub broken: Vec<String>,
}

/// The value that this share of all does not exceed; infinite if there is none.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * share).ceil() as usize;
    values.get(at).copied().unwrap_or(f64::INFINITY)
}

impl Line {
    pub(super) fn new(fixture: &Fixture, p99_alone_ms: f64, phase: &Phase, other: &Other) -> Result<Self> {
        let account = phase.healthy.account(&phase.rows)?;
        let tenant = &other.tenant;
        let mut line = Self {
            healthy_expected: phase.healthy.expected(),
            healthy_landed: account.landed,
            healthy_twice: account.duplicated,
            healthy_wrong: account.wrong,
            p99_beside_ms: phase.p99(),
            worst_beside_ms: quantile(phase.delays(), 1.0),
            cores_elsewhere: other.elsewhere,
            gateway_restarts: other.restarts,
            became: became(tenant, other.waiting),
            hostile_accepted: tenant.accepted_rows,
            hostile_waiting: other.waiting,
            hostile_dead_letters: tenant.dead_letters,
            hostile_emitted: tenant.emitted_rows,
            hostile_faults: faults(tenant),
            ..Self::nothing(fixture, p99_alone_ms)
        };
        let missing = line.healthy_expected.saturating_sub(account.landed);
        line.promise(phase.healthy.in_time, "healthy devices were not acknowledged in time".into());
        line.promise(missing == 0, format!("{missing} healthy rows are missing"));
        line.promise(account.duplicated == 0, format!("{} healthy rows landed twice", account.duplicated));
        line.promise(account.wrong == 0, format!("{} healthy rows are wrong", account.wrong));
        line.promise(other.restarts == 0, format!("the gateway ended {} times", other.restarts));
        line.promise(line.p99_beside_ms <= line.p99_bound_ms, SLOW.into());
        if let Err(otherwise) = fixture.check(tenant) {
            line.promise(false, format!("the hostile tenant: {otherwise}"));
        }
        Ok(line)
    }

    /// When the gateway did not even start, or not again.
    pub(super) fn failed(fixture: &Fixture, p99_alone_ms: f64, error: &anyhow::Error) -> Self {
        let broken = vec![format!("the gateway does not run: {error:#}")];
        Self { gateway_restarts: 1, became: "unknown".into(), broken, ..Self::nothing(fixture, p99_alone_ms) }
    }

    /// Nothing landed, and the wait was endless.
    fn nothing(fixture: &Fixture, p99_alone_ms: f64) -> Self {
        Self {
            name: fixture.name,
            healthy_expected: (super::RATE * super::BESIDE.as_secs_f64()) as u64,
            healthy_landed: 0,
            healthy_twice: 0,
            healthy_wrong: 0,
            p99_alone_ms,
            p99_beside_ms: f64::INFINITY,
            p99_bound_ms: 2.0 * p99_alone_ms + 20.0,
            p99_beside_tries_ms: vec![],
            cores_elsewhere: 0.0,
            worst_beside_ms: f64::INFINITY,
            gateway_restarts: 0,
            became: String::new(),
            hostile_accepted: 0,
            hostile_waiting: 0,
            hostile_dead_letters: 0,
            hostile_emitted: 0,
            hostile_faults: 0,
            broken: vec![],
        }
    }

    fn promise(&mut self, kept: bool, otherwise: String) {
        if !kept {
            self.broken.push(otherwise);
        }
    }
}

fn faults(tenant: &TenantStatus) -> u64 {
    tenant.steps.iter().map(|step| step.faults).sum()
}

/// What became of the hostile tenant, in a sentence. Paths are cut to names.
fn became(tenant: &TenantStatus, waiting: u64) -> String {
    let TenantStatus { accepted_rows, dead_letters, emitted_rows, lane, .. } = tenant;
    let name = |word: &str| match word.rsplit_once('/') {
        Some((path, name)) if path.is_empty() || path.starts_with('/') => name.to_owned(),
        _ => word.to_owned(),
    };
    let step = tenant.steps.first().map_or("", |step| step.state.as_str());
    let state = if step.starts_with("quarantined") || lane == "running" { step } else { lane };
    let state = state.split(' ').map(name).collect::<Vec<_>>().join(" ");
    let faults = faults(tenant);
    if *accepted_rows == 0 && faults == 0 {
        return state;
    }
    let rows =
        [(dead_letters, "dead letters"), (emitted_rows, "passed"), (&waiting, "wait with their devices")];
    let rows = rows.iter().filter(|(rows, _)| **rows > 0).map(|(rows, what)| format!("{rows} {what}"));
    let rows = rows.collect::<Vec<_>>().join(", ");
    match (faults, state.as_str()) {
        (0, _) => format!("kept within its limits; rows: {rows}"),
        (_, "running") => format!("{faults} calls failed; rows: {rows}"),
        _ => format!("{faults} calls failed; rows: {rows}; {state}"),
    }
}

impl Line {
    pub(super) fn is_only_slow(&self) -> bool {
        self.broken == [SLOW]
    }

    /// A row of the table, with what was broken below it.
    pub(super) fn text(&self) -> String {
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
        if let [earlier @ .., _] = &*self.p99_beside_tries_ms
            && !earlier.is_empty()
        {
            let earlier: Vec<String> = earlier.iter().map(|ms| format!("{ms:.1} ms")).collect();
            text.push_str(&format!("\n    measured again after {}", earlier.join(" and ")));
        }
        if self.cores_elsewhere > BUSY {
            text.push_str(&format!("\n    other processes kept {:.1} cores busy", self.cores_elsewhere));
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
