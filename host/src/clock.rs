//! What time it is: the machine's clock, unless it is known to be wrong.
//!
//! Many industrial computers have no battery for their clock and begin in 1970, or where they were switched off. So:
//!
//! - *Floor*: no time before [`EARLIEST`], nor before the newest time that provisioning has told and that was kept, is
//!   believed. A machine's clock below that is wrong: time goes on from the floor, and is *uncertain*.
//! - *Told*: an answer of provisioning, whose certificate was good by the time that was believed then, says the time. If the
//!   machine's clock differs by more than [`TOLERANCE`], what was told counts, going on by the monotonic clock (which also
//!   runs while the machine sleeps). The machine's clock itself is never set: that is the system's.
//! - *Mended*: once the machine's clock agrees with the time that is believed, it counts again.
//!
//! What a device says of its own time is believed whatever it is while time is uncertain; a reading that brings none gets the
//! time that is believed, and is marked: status `Uncertain` ([`UNCERTAIN_READING`]).
//!
//! A clock that is ahead cannot be told from one that is right until a certificate seems expired: that fails closed, and says
//! so. One per process, as is the machine's clock.
//!
//! Invariant: reading the time takes no lock and no more than two calls of the system.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// No gateway of this version was built before (2026-11-18): nanoseconds since 1970 UTC. Raised with each release: a test holds it
/// against the newest date in `CHANGELOG.md`. A constant and not the time of the build, which no one could build again.
pub const EARLIEST: i64 = 1_795_000_000 * SECOND;
/// So far the machine's clock may be from what provisioning says. Certificates and readings are not in doubt by that.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// OPC UA status code `Uncertain` (OPC 10000-4, 7.39): of readings whose time is made up.
pub const UNCERTAIN_READING: u32 = 0x4000_0000;

const SECOND: i64 = 1_000_000_000;

/// The believed time less the monotonic one; 0: the machine's clock counts.
static CORRECTION: AtomicI64 = AtomicI64::new(0);
/// The time is made up from the floor: it is after that, nothing more is known.
static UNCERTAIN: AtomicBool = AtomicBool::new(false);
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// How often another time was believed since the start: who keeps a reading of the clock takes another one then.
#[must_use]
pub fn changes() -> u32 {
    CHANGES.load(Ordering::Relaxed)
}

/// The time that is believed: nanoseconds since 1970 UTC.
#[must_use]
pub fn now() -> i64 {
    match CORRECTION.load(Ordering::Relaxed) {
        0 => machine(),
        correction => monotonic().saturating_add(correction),
    }
}

/// Whether the time is only known to be after the floor.
#[must_use]
pub fn is_uncertain() -> bool {
    UNCERTAIN.load(Ordering::Relaxed)
}

/// How much later the believed time is than the machine's clock, in nanoseconds; `None`: that one counts.
#[must_use]
pub fn correction() -> Option<i64> {
    (CORRECTION.load(Ordering::Relaxed) != 0).then(|| now().saturating_sub(machine()))
}

/// It is known to be this late at least (nanoseconds since 1970 UTC), or [`EARLIEST`]. True if the machine's clock is wrong.
pub fn not_before(known: i64) -> bool {
    let floor = known.max(EARLIEST);
    let behind = now() < floor;
    if behind {
        believe(floor);
        UNCERTAIN.store(true, Ordering::Relaxed);
        let (clock, believed) = (shown_of(machine()), shown_of(floor));
        tracing::warn!(
            clock,
            believed,
            "the machine's clock is behind a time that has passed: times are uncertain until provisioning tells it"
        );
    }
    behind
}

/// Provisioning has said that it is so late (nanoseconds since 1970 UTC). Returns how much later that is than the machine's
/// clock if that is not to be believed.
pub fn told(time: i64) -> Option<i64> {
    let ahead = time.saturating_sub(machine());
    let wrong = !within(ahead);
    let was = is_uncertain();
    let corrected = CORRECTION.load(Ordering::Relaxed) != 0;
    if wrong {
        believe(time);
        if was || !corrected {
            let (clock, believed) = (shown_of(machine()), shown_of(time));
            tracing::warn!(
                clock,
                believed,
                "the machine's clock is wrong: what provisioning says counts; set the clock"
            );
        }
    } else {
        CORRECTION.store(0, Ordering::Relaxed);
        CHANGES.fetch_add(1, Ordering::Relaxed);
    }
    // Last: what was taken by the time before is marked.
    UNCERTAIN.store(false, Ordering::Release);
    wrong.then_some(ahead)
}

/// To be called now and then: takes the machine's clock again once it agrees with what is believed.
pub fn look() {
    if !is_uncertain() && correction().is_some_and(within) {
        CORRECTION.store(0, Ordering::Relaxed);
        tracing::info!("the machine's clock is right again");
    }
}

/// The machine's clock, for people.
#[must_use]
pub fn shown() -> String {
    shown_of(machine())
}

/// Has TLS judge certificates by the time that is believed.
#[derive(Debug)]
pub struct Judged;

impl TimeProvider for Judged {
    fn current_time(&self) -> Option<UnixTime> {
        let nanoseconds = u64::try_from(now()).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanoseconds)))
    }
}

fn believe(time: i64) {
    // Nobody means 1970 by it: 0 is taken for "none".
    CORRECTION.store(time.saturating_sub(monotonic()).max(1), Ordering::Relaxed);
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

fn within(difference: i64) -> bool {
    Duration::from_nanos(difference.unsigned_abs()) <= TOLERANCE
}

fn machine() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// Nanoseconds since the machine was started, those asleep included.
fn monotonic() -> i64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.saturating_mul(SECOND).saturating_add(since.tv_nsec)
}

fn shown_of(nanoseconds: i64) -> String {
    wire::when::show(nanoseconds.div_euclid(SECOND) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_write_them() {
        assert_eq!(shown_of(EARLIEST), "2026-11-18T11:06:40Z");
    }

    /// The date of the newest release of a changelog, as `## 1.2.0 - 2027-01-31`.
    fn newest(changelog: &str) -> Option<&str> {
        changelog
            .lines()
            .filter(|line| line.starts_with("## "))
            .filter_map(|line| line.split_whitespace().next_back())
            .find(|word| word.len() == 10 && word.split('-').all(|part| part.parse::<u32>().is_ok()))
    }

    #[test]
    fn no_release_believes_a_time_before_the_one_it_was_made_at() {
        assert_eq!(
            newest("## Unreleased\n\n## 1.2.0 - 2027-01-31\n## 1.1.0 - 2026-12-24\n"),
            Some("2027-01-31")
        );
        assert_eq!(newest("## Unreleased\n### 2026-12-24\n"), None);
        if let Some(released) = newest(include_str!("../../CHANGELOG.md")) {
            let earliest = shown_of(EARLIEST);
            assert!(
                *earliest >= *released,
                "raise EARLIEST ({earliest}) to the day of the release, {released}"
            );
        }
    }

    #[test]
    fn a_machine_that_is_right_is_believed() {
        // Whatever other tests of this process have told, the machine's clock agrees with itself.
        assert_eq!(told(machine()), None);
        assert!(!is_uncertain() && correction().is_none());
        assert!(!not_before(machine() - SECOND));
        assert!((now() - machine()).abs() < SECOND);
    }
}
