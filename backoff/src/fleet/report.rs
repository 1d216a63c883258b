//! What a run has shown.

use std::time::Duration;

use super::{Behaviour, Fleet};
use crate::episode::Moment;

/// One run's counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Who behaved so.
    pub behaviour: Behaviour,
    /// What was simulated.
    pub fleet: Fleet,
    /// Attempts that reached the stamp, or the place where it was, in each second.
    pub arrivals: Vec<u32>,
    /// How many were admitted in each second.
    pub admitted: Vec<u32>,
    /// Attempts of all gateways.
    pub attempts: u64,
    /// Gateways that are back.
    pub back: u32,
    /// How long after the stamp's return 99 % of them were back; `None` if it took longer than the run.
    pub recovered_99: Option<Duration>,
}

impl Report {
    pub(super) fn new(behaviour: Behaviour, fleet: &Fleet) -> Self {
        Self {
            behaviour,
            fleet: *fleet,
            arrivals: vec![],
            admitted: vec![],
            attempts: 0,
            back: 0,
            recovered_99: None,
        }
    }

    /// So many arrive, and of them so many are let in.
    pub(super) fn count(&mut self, at: Moment, arrived: u32, admitted: u32) {
        let second = usize::try_from(at.0.as_secs()).unwrap_or(usize::MAX);
        if self.arrivals.len() <= second {
            self.arrivals.resize(second + 1, 0);
            self.admitted.resize(second + 1, 0);
        }
        if let (Some(arrivals), Some(admissions)) =
            (self.arrivals.get_mut(second), self.admitted.get_mut(second))
        {
            *arrivals = arrivals.saturating_add(arrived);
            *admissions = admissions.saturating_add(admitted);
        }
        self.attempts = self.attempts.saturating_add(u64::from(arrived));
        self.back = self.back.saturating_add(admitted);
        let enough = u64::from(self.back) * 100 >= u64::from(self.fleet.gateways) * 99;
        if admitted > 0 && enough && self.recovered_99.is_none() {
            self.recovered_99 = Some(at.0.saturating_sub(self.fleet.outage));
        }
    }

    /// The most arrivals in a second once the stamp is back, as a multiple of what it admits.
    #[must_use]
    pub fn peak_over_capacity(&self) -> f64 {
        self.peak(self.arrivals.get(self.returned()..))
    }

    /// The same while it is gone: what hits the network, or a stamp that returns sooner.
    #[must_use]
    pub fn peak_while_gone(&self) -> f64 {
        self.peak(self.arrivals.get(..self.returned().min(self.arrivals.len())))
    }

    /// How much longer than the ideal it took until 99 % were back.
    #[must_use]
    pub fn recovered_over_ideal(&self) -> Option<f64> {
        Some(self.recovered_99?.as_secs_f64() / self.fleet.ideal().as_secs_f64())
    }

    /// Attempts per gateway, the one that succeeded included.
    #[must_use]
    pub fn attempts_per_gateway(&self) -> f64 {
        self.attempts as f64 / f64::from(self.fleet.gateways.max(1))
    }

    /// Attempts per gateway that were for nothing.
    #[must_use]
    pub fn wasted_per_gateway(&self) -> f64 {
        self.attempts.saturating_sub(u64::from(self.back)) as f64 / f64::from(self.fleet.gateways.max(1))
    }

    /// As one JSON object. What did not happen within the run is `null`.
    #[must_use]
    pub fn json(&self) -> String {
        let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:.4}"));
        format!(
            "{{\"policy\":\"{}\",\"gateways\":{},\"rate\":{},\"outage_s\":{},\"ideal_s\":{:.3},\
             \"peak_over_capacity\":{:.4},\"peak_over_capacity_while_gone\":{:.4},\"recovered_99_s\":{},\
             \"recovered_99_over_ideal\":{},\"attempts_per_gateway\":{:.4},\"wasted_per_gateway\":{:.4},\"seed\":{}}}",
            self.behaviour.as_str(),
            self.fleet.gateways,
            self.fleet.rate,
            self.fleet.outage.as_secs_f64(),
            self.fleet.ideal().as_secs_f64(),
            self.peak_over_capacity(),
            self.peak_while_gone(),
            number(self.recovered_99.map(|time| time.as_secs_f64())),
            number(self.recovered_over_ideal()),
            self.attempts_per_gateway(),
            self.wasted_per_gateway(),
            self.fleet.seed,
        )
    }

    /// The second in which the stamp is back.
    fn returned(&self) -> usize {
        usize::try_from(self.fleet.outage.as_secs()).unwrap_or(usize::MAX)
    }

    fn peak(&self, arrivals: Option<&[u32]>) -> f64 {
        let most = arrivals.unwrap_or_default().iter().max().copied().unwrap_or(0);
        f64::from(most) / f64::from(self.fleet.rate.max(1))
    }
}
