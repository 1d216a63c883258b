//! What a tenant's steps have come to since a release was applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Store, Totals};
use crate::tenant::{LaneStatus, LaneWatch};

/// What the gate of a rollout looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) faults: u64,
    pub(super) rejected: u64,
    pub(super) cpu: Duration,
    pub(super) memory: u64,
}

/// Where counting began.
pub(super) struct Since {
    accepted: u64,
    dead: u64,
    cpu: Duration,
    /// By step: those that stay keep their counters when others change.
    faults: BTreeMap<String, u64>,
}

impl Since {
    /// From now on.
    pub(super) fn now(store: &Arc<Store>, watch: &LaneWatch) -> Self {
        let (totals, status) = (store.totals(), watch.status());
        let (accepted, dead) = of(&totals);
        let faults = status.steps.iter().map(|step| (step.name.clone(), step.faults)).collect();
        Self { accepted, dead, cpu: status.cpu.cpu, faults }
    }

    /// What has come since.
    pub(super) fn counts(&self, store: &Arc<Store>, status: &LaneStatus) -> Counts {
        let (accepted, dead) = of(&store.totals());
        let faults = status.steps.iter().map(|step| {
            let before = self.faults.get(&step.name).copied().unwrap_or_default();
            step.faults.saturating_sub(before)
        });
        Counts {
            rows: accepted.saturating_sub(self.accepted),
            faults: faults.sum(),
            rejected: dead.saturating_sub(self.dead),
            cpu: status.cpu.cpu.saturating_sub(self.cpu),
            memory: status.steps.iter().map(|step| step.memory).sum(),
        }
    }
}

fn of(totals: &Totals) -> (u64, u64) {
    (totals.counts.accepted, totals.counts.dead)
}
