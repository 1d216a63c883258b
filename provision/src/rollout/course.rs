//! What a rollout does next. Pure.

use std::fmt::Write as _;

use wire::ids::StampId;
use wire::provisioning::ReleaseCondition;

use super::{Reached, Rollout};
use crate::allocation::Ring;

/// What is known of the ring that a rollout reached last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Its stamps, but those that are down, that have not said that they tell their gateways of it.
    pub behind: Vec<StampId>,
    /// Gateways connected for the tenant.
    pub connected: u32,
    /// How the release does there.
    pub is: ReleaseCondition,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The release goes to this ring.
    Begin(Ring),
    /// Nothing yet; what is waited for.
    Wait(String),
    /// The ring has passed, for these reasons.
    Pass(String),
    /// The gate has failed: all goes back.
    Stop(String),
    /// All rings have passed.
    Finish,
}

/// Decides. `now` in nanoseconds since 1970 UTC.
#[must_use]
pub fn next(rollout: &Rollout, evidence: &Evidence, now: i64) -> Decision {
    let Some(last) = rollout.reached.last().filter(|last| !last.passed) else {
        return match rollout.rings.get(rollout.reached.len()) {
            Some(ring) => Decision::Begin(*ring),
            None => Decision::Finish,
        };
    };
    judge(rollout, last, evidence, now)
}

fn judge(rollout: &Rollout, last: &Reached, evidence: &Evidence, now: i64) -> Decision {
    let Evidence { behind, connected, is } = evidence;
    let objection = |at_the_end| rollout.gate.objection(is, &last.baseline, at_the_end);
    if let Some(why) = objection(false) {
        return Decision::Stop(why);
    }
    let ring = word(last.ring);
    // What changes all the time is not in it: each text that differs is written down.
    let done = format!("{} of {connected} connected gateways run it", is.applied);
    let seconds = u64::try_from(now.saturating_sub(last.since) / 1_000_000_000).unwrap_or(0);
    if let Some(left) = rollout.soak_seconds.checked_sub(seconds).filter(|left| *left > 0) {
        return Decision::Wait(format!("soaks in ring {ring}, {} left: {done}", roughly(left)));
    }
    if !behind.is_empty() {
        let mut names = String::new();
        for stamp in behind.iter().take(3) {
            let _ = write!(names, " {stamp}");
        }
        return Decision::Wait(format!("ring {ring} waits for {} stamps to follow:{names}", behind.len()));
    }
    let decided = is.applied.saturating_add(is.refused).saturating_add(is.rolled_back);
    if f64::from(decided) < rollout.gate.decided * f64::from(*connected) {
        return Decision::Wait(format!("ring {ring} waits for gateways: {done}"));
    }
    match objection(true) {
        Some(why) => Decision::Stop(why),
        None if *connected > 0 && is.rows < rollout.gate.rows => {
            Decision::Wait(format!("ring {ring} waits until rows have gone through: {done}"))
        }
        None => Decision::Pass(format!("{done}, {} rows", is.rows)),
    }
}

/// A ring's name.
#[must_use]
pub(super) fn word(ring: Ring) -> &'static str {
    match ring {
        Ring::Fast => "fast",
        Ring::Slow => "slow",
    }
}

fn roughly(seconds: u64) -> String {
    match seconds {
        0..=299 => "less than 5 min".to_owned(),
        300..=7_199 => format!("{} min", seconds.div_ceil(60).next_multiple_of(5)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Baseline, Gate, RolloutState};
    use wire::ids::Release;

    const SECOND: i64 = 1_000_000_000;

    fn rollout() -> Rollout {
        Rollout {
            id: 1,
            state: RolloutState::Running,
            step: String::new(),
            tenant: "acme".parse().unwrap(),
            release: Release(2),
            rings: vec![Ring::Fast, Ring::Slow],
            soak_seconds: 60,
            gate: Gate::default(),
            operator: "ops".into(),
            reached: vec![],
            created: 0,
            updated: 0,
        }
    }

    fn in_ring(ring: Ring, passed: bool) -> Reached {
        Reached { ring, since: 0, revision: 1, before: None, baseline: Baseline::default(), passed }
    }

    fn well() -> Evidence {
        let is = ReleaseCondition { applied: 9, rows: 10_000, ..ReleaseCondition::default() };
        Evidence { behind: vec![], connected: 10, is }
    }

    #[test]
    fn rings_come_one_after_the_other_each_after_the_one_before_has_passed() {
        let mut rollout = rollout();
        let none = Evidence::default();
        assert_eq!(next(&rollout, &none, 0), Decision::Begin(Ring::Fast));
        rollout.reached.push(in_ring(Ring::Fast, false));
        assert!(matches!(next(&rollout, &well(), 59 * SECOND), Decision::Wait(_)));
        assert!(matches!(next(&rollout, &well(), 60 * SECOND), Decision::Pass(_)));
        rollout.reached[0].passed = true;
        assert_eq!(next(&rollout, &none, 60 * SECOND), Decision::Begin(Ring::Slow));
        rollout.reached.push(in_ring(Ring::Slow, true));
        assert_eq!(next(&rollout, &none, 60 * SECOND), Decision::Finish);
    }

    #[test]
    fn the_gate_stops_it_at_any_time() {
        let mut rollout = rollout();
        rollout.reached.push(in_ring(Ring::Fast, false));
        let mut evidence = well();
        evidence.is.faults = 1_000;
        assert!(matches!(next(&rollout, &evidence, 0), Decision::Stop(_)));
        evidence.behind.push("eu-1".parse().unwrap());
        assert!(matches!(next(&rollout, &evidence, 90 * SECOND), Decision::Stop(_)));
    }

    #[test]
    fn it_is_not_judged_without_the_stamps_and_the_gateways() {
        let mut rollout = rollout();
        rollout.reached.push(in_ring(Ring::Fast, false));
        let behind = Evidence { behind: vec!["eu-1".parse().unwrap()], ..well() };
        let Decision::Wait(text) = next(&rollout, &behind, 90 * SECOND) else { panic!("it waits") };
        assert!(text.contains("eu-1"), "{text}");
        let mut few = well();
        few.is.applied = 8;
        assert!(matches!(next(&rollout, &few, 90 * SECOND), Decision::Wait(_)));
        few.connected = 0;
        assert!(matches!(next(&rollout, &few, 90 * SECOND), Decision::Pass(_)));
    }

    #[test]
    fn a_release_through_which_nothing_went_does_not_pass_unless_it_may() {
        let mut rollout = rollout();
        rollout.reached.push(in_ring(Ring::Fast, false));
        let mut still = well();
        still.is.rows = 0;
        let Decision::Wait(text) = next(&rollout, &still, 90 * SECOND) else { panic!("it waits") };
        assert!(text.contains("until rows have gone through"), "{text}");
        still.is.faults = 1;
        assert!(matches!(next(&rollout, &still, 90 * SECOND), Decision::Stop(_)));
        still.is.faults = 0;
        rollout.gate.rows = 0;
        assert!(matches!(next(&rollout, &still, 90 * SECOND), Decision::Pass(_)));
    }

    #[test]
    fn a_clock_that_goes_back_lengthens_the_soak_and_nothing_else() {
        let mut rollout = rollout();
        rollout.reached.push(Reached { since: 100 * SECOND, ..in_ring(Ring::Fast, false) });
        assert!(matches!(next(&rollout, &well(), 0), Decision::Wait(_)));
    }
}
