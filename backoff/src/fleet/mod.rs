//! A fleet after an outage, in virtual time: many gateways, one stamp that is gone for a while and then admits so many per
//! second. Answers how hard they come, how soon they are back, and what it cost them.
//!
//! ```text
//! 0 s             the stamp goes: with return slots handed out, or without a word
//! … outage        whoever comes finds nobody, and knows after HANDSHAKE
//! outage          the stamp is back; whoever comes is admitted, or refused within ROUND_TRIP
//! ```
//! The gateways of [`Behaviour::Default`], [`Behaviour::LateSlots`] and [`Behaviour::NoSlots`] run the code of this crate
//! as it ships: [`Circuit`](crate::Circuit), [`Ledger`](crate::Ledger), [`Policy::upstream`](crate::Policy::upstream), and
//! the stamp runs [`Slots`](crate::Slots). What a [`Policy`](crate::Policy) cannot say (no jitter, a regular interval) is
//! modelled in [`crowd`], only to show why.
//!
//! Does not model the network between them, nor what is sent after the welcome: an admission is the scarce thing (a
//! handshake with certificates, ranges to look up). No clock, no I/O; the same seed gives the same run.

mod calendar;
pub mod crowd;
mod disciplined;
mod plot;
mod report;

use std::time::Duration;

pub use plot::{plot, seconds_shown};
pub use report::Report;

/// How long an attempt takes when nobody is there.
pub const HANDSHAKE: Duration = Duration::from_secs(6);
/// How long an attempt takes that is refused.
pub const ROUND_TRIP: Duration = Duration::from_millis(200);
/// Within this time all gateways notice that the stamp is gone, if it said nothing.
pub const NOTICED: Duration = Duration::from_secs(1);
/// A run ends after this many times the ideal time, whoever is not back by then.
pub const PATIENCE: u32 = 200;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// How many gateways.
    pub gateways: u32,
    /// How many of them the stamp admits per second.
    pub rate: u32,
    /// How long it is gone.
    pub outage: Duration,
    /// How long it says it will be gone, where it says anything.
    pub announced: Duration,
    /// For the random numbers.
    pub seed: u64,
}

impl Fleet {
    /// The least time in which all can be admitted: gateways ÷ rate.
    #[must_use]
    pub fn ideal(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.gateways) / f64::from(self.rate.max(1)))
    }

    /// When the run ends at the latest.
    fn horizon(&self) -> Duration {
        self.outage.saturating_add(self.ideal().max(Duration::from_secs(60)).saturating_mul(PATIENCE))
    }
}

/// How gateways and stamp behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// What ships, and a stamp that says goodbye: each gateway is told its slot, at the goodbye or at a refusal.
    Default,
    /// What ships, and a stamp that crashes: slots only at refusals, once it is back.
    LateSlots,
    /// What ships, without slots: a stamp that is gone, and then refuses without naming a time.
    NoSlots,
    /// Forbidden: exponential and endless, without jitter.
    NoJitter,
    /// Forbidden: every ten seconds, endless, without jitter.
    Regular,
}

impl Behaviour {
    /// Those that are shown beside each other.
    pub const COMPARED: [Self; 4] = [Self::Default, Self::NoSlots, Self::NoJitter, Self::Regular];
    /// All.
    pub const ALL: [Self; 5] = [Self::Default, Self::LateSlots, Self::NoSlots, Self::NoJitter, Self::Regular];

    /// As on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::LateSlots => "late-slots",
            Self::NoSlots => "no-slots",
            Self::NoJitter => "no-jitter",
            Self::Regular => "regular",
        }
    }
}

/// Runs one fleet to its end.
#[must_use]
pub fn run(fleet: &Fleet, behaviour: Behaviour) -> Report {
    match behaviour {
        Behaviour::Default | Behaviour::LateSlots | Behaviour::NoSlots => disciplined::run(fleet, behaviour),
        Behaviour::NoJitter | Behaviour::Regular => crowd::run(fleet, behaviour),
    }
}

#[cfg(test)]
mod tests;
