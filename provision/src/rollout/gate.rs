//! The gate: whether a release does well enough. Pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::provisioning::ReleaseCondition;

/// Below so many rows a share is judged only at the end: one bad row of ten says little.
const FEW_ROWS: u64 = 1_000;

/// What a release may do. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Most calls of steps that fail, per row that goes in; 0.001 without it.
    pub faults: f64,
    /// Most rows that become dead letters, per row that goes in; 0.001 without it.
    pub rejected: f64,
    /// Most gateways of a ring that refuse the release or go back by themselves; 0 without it.
    pub refused: u32,
    /// Most CPU time a row, per what a row cost in the same ring before; 2 without it. Not judged where nothing is known of
    /// before.
    pub cpu_ratio: f64,
    /// Least share of the connected gateways that have taken or refused it, before it is judged for good; 0.9 without it.
    pub decided: f64,
    /// Least rows that have gone through a ring whose gateways are connected, before it passes; 1 without it, and 0 for a
    /// tenant that may stand still all the while. A release through which nothing went has shown nothing.
    pub rows: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { faults: 0.001, rejected: 0.001, refused: 0, cpu_ratio: 2.0, decided: 0.9, rows: 1 }
    }
}

/// What the ring's gateways did before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Baseline {
    /// Rows that went in.
    pub rows: u64,
    /// CPU time for them, in nanoseconds.
    pub cpu_ns: u64,
}

impl Gate {
    /// Whether it can be one.
    ///
    /// # Errors
    /// The field and what is wrong.
    pub fn check(&self) -> Result<(), String> {
        for (key, share) in [("faults", self.faults), ("rejected", self.rejected), ("decided", self.decided)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("gate.{key} is a share from 0 to 1, not {share}"));
            }
        }
        if self.cpu_ratio.is_finite() && self.cpu_ratio > 0.0 {
            return Ok(());
        }
        Err(format!("gate.cpu_ratio is a number above 0, not {}", self.cpu_ratio))
    }

    /// Why the release does not pass; `None`: nothing speaks against it so far. `at_the_end` also few rows count.
    #[must_use]
    pub fn objection(&self, is: &ReleaseCondition, before: &Baseline, at_the_end: bool) -> Option<String> {
        let unwilling = is.refused.saturating_add(is.rolled_back);
        if unwilling > self.refused {
            let reasons = is.reasons.join("; ");
            return Some(format!("{unwilling} gateways refuse it, {} may: {reasons}", self.refused));
        }
        if is.rows < FEW_ROWS && !at_the_end {
            return None;
        }
        let share = |part: u64| if part == 0 { 0.0 } else { part as f64 / is.rows.max(1) as f64 };
        for (what, part, most) in
            [("faults", is.faults, self.faults), ("rejected rows", is.rejected, self.rejected)]
        {
            if share(part) > most {
                return Some(format!("{part} {what} in {} rows, the share may be {most}", is.rows));
            }
        }
        let per_row = |cpu: u64, rows: u64| (rows > 0 && cpu > 0).then(|| cpu as f64 / rows as f64);
        let (now, then) = (per_row(is.cpu_ns, is.rows)?, per_row(before.cpu_ns, before.rows)?);
        (now / then > self.cpu_ratio).then(|| {
            format!(
                "a row costs {now:.0} ns of CPU time, before it was {then:.0} ns: {:.2} times as much, {} may be",
                now / then,
                self.cpu_ratio
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(rows: u64) -> ReleaseCondition {
        ReleaseCondition { applied: 3, rows, cpu_ns: rows * 100, ..ReleaseCondition::default() }
    }

    const BEFORE: Baseline = Baseline { rows: 1_000, cpu_ns: 100_000 };

    #[test]
    fn a_release_that_does_as_before_passes() {
        assert_eq!(Gate::default().objection(&doing(1_000_000), &BEFORE, true), None);
        assert_eq!(Gate::default().objection(&doing(0), &Baseline::default(), true), None);
    }

    #[test]
    fn each_measure_stops_a_release_by_itself() {
        let gate = Gate::default();
        for (is, said) in [
            (ReleaseCondition { faults: 11, ..doing(10_000) }, "11 faults in 10000 rows"),
            (ReleaseCondition { rejected: 11, ..doing(10_000) }, "11 rejected rows in 10000 rows"),
            (
                ReleaseCondition { refused: 1, reasons: vec!["p7: signature".into()], ..doing(0) },
                "p7: signature",
            ),
            (ReleaseCondition { rolled_back: 1, ..doing(0) }, "1 gateways refuse it"),
            (ReleaseCondition { cpu_ns: 2_100_000, ..doing(10_000) }, "2.10 times as much"),
        ] {
            let objection = gate.objection(&is, &BEFORE, false).unwrap();
            assert!(objection.contains(said), "{said:?} is not in {objection:?}");
        }
        let within = ReleaseCondition { faults: 10, rejected: 10, cpu_ns: 2_000_000, ..doing(10_000) };
        assert_eq!(gate.objection(&within, &BEFORE, true), None);
    }

    #[test]
    fn few_rows_are_judged_at_the_end_alone() {
        let is = ReleaseCondition { faults: 1, ..doing(10) };
        assert_eq!(Gate::default().objection(&is, &BEFORE, false), None);
        assert!(Gate::default().objection(&is, &BEFORE, true).is_some());
        let nothing_comes_through = ReleaseCondition { faults: 1, ..doing(0) };
        assert!(Gate::default().objection(&nothing_comes_through, &BEFORE, true).is_some());
    }

    #[test]
    fn where_nothing_is_known_of_before_the_cost_is_not_judged() {
        let dear = ReleaseCondition { cpu_ns: 1_000_000_000, ..doing(10_000) };
        assert_eq!(Gate::default().objection(&dear, &Baseline::default(), true), None);
    }

    #[test]
    fn a_gate_that_cannot_be_is_refused() {
        for gate in [
            Gate { faults: 1.5, ..Gate::default() },
            Gate { rejected: -0.1, ..Gate::default() },
            Gate { decided: f64::NAN, ..Gate::default() },
            Gate { cpu_ratio: 0.0, ..Gate::default() },
            Gate { cpu_ratio: f64::INFINITY, ..Gate::default() },
        ] {
            assert!(gate.check().is_err(), "{gate:?}");
        }
        assert_eq!(Gate::default().check(), Ok(()));
    }
}
