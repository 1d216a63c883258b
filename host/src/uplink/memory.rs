//! What the uplink has found out and need not find out again after a restart: where UDP is blocked.
//!
//! ```text
//! data_dir/uplink-routes: one line each: <stamp> <endpoint> <until, seconds since 1970 UTC>
//! ```
//! Written only when something is found out, at most every few minutes, or when other endpoints are assigned. Without the
//! file, or with a damaged line, it is found out again. Decides nothing: when QUIC is looked for again is [`super::routes`]'s.
//!
//! Invariant: once it is known which endpoints are served, only those are remembered; before, at most [`MAX_KNOWN`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

const NANOSECONDS: i64 = 1_000_000_000;
/// Most lines of the file that are read.
const MAX_KNOWN: usize = 4_096;

/// What is known of all links.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    /// Seconds since 1970 UTC, by "stamp endpoint".
    blocked: BTreeMap<String, i64>,
    /// What is worth remembering; empty until somebody has said so.
    served: BTreeSet<String>,
}

impl Memory {
    /// What the file says.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let known = text
            .lines()
            .take(MAX_KNOWN)
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(way, until)| Some((way.to_owned(), until.parse().ok()?)));
        Self { blocked: known.collect(), file, served: BTreeSet::new() }
    }

    /// These (stamp, endpoint) are served from now on: what is known of others is forgotten.
    pub(super) fn only<'a>(&mut self, ways: impl Iterator<Item = (&'a str, String)>) {
        self.served = ways.map(|(stamp, endpoint)| key(stamp, &endpoint)).collect();
        let before = self.blocked.len();
        self.blocked.retain(|way, _| self.served.contains(way));
        if self.blocked.len() != before {
            self.keep();
        }
    }

    /// How much longer UDP is taken for blocked there; `now` is nanoseconds since 1970 UTC.
    pub(super) fn blocked_for(&self, stamp: &str, endpoint: &str, now: i64) -> Option<Duration> {
        let until = *self.blocked.get(&key(stamp, endpoint))?;
        Some(Duration::from_secs(until.saturating_sub(now / NANOSECONDS).max(0).unsigned_abs()))
    }

    /// UDP is blocked there until then (nanoseconds since 1970 UTC), or is not.
    pub(super) fn note(&mut self, stamp: &str, endpoint: &str, blocked_until: Option<i64>) {
        let way = key(stamp, endpoint);
        // A link that is leaving may still find something out.
        if !self.served.contains(&way) {
            return;
        }
        let changed = match blocked_until {
            Some(until) => self.blocked.insert(way, until / NANOSECONDS) != Some(until / NANOSECONDS),
            None => self.blocked.remove(&way).is_some(),
        };
        if changed {
            self.keep();
        }
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let mut text = String::new();
        for (way, until) in &self.blocked {
            // Writing to a string does not fail.
            writeln!(text, "{way} {until}").ok();
        }
        let beside = file.with_extension("new");
        if let Err(error) = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file)) {
            tracing::warn!(file = %file.display(), %error, "where UDP is blocked cannot be kept: a restart finds it out again");
        }
    }
}

fn key(stamp: &str, endpoint: &str) -> String {
    format!("{stamp} {endpoint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000 * NANOSECONDS;
    const A: &str = "quic://a:7443";

    fn open(file: &std::path::Path) -> Memory {
        let ways = [("s1", A.to_owned()), ("s1", "quic://b:7443".to_owned())];
        let mut memory = Memory::open(Some(file.to_owned()));
        memory.only(ways.into_iter());
        memory
    }

    #[test]
    fn a_restart_knows_where_udp_is_blocked_and_for_how_much_longer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uplink-routes");
        let mut memory = open(&file);
        assert_eq!(memory.blocked_for("s1", A, NOW), None);
        memory.note("s1", A, Some(NOW + 600 * NANOSECONDS));
        let again = open(&file);
        assert_eq!(again.blocked_for("s1", A, NOW), Some(Duration::from_secs(600)));
        assert_eq!(again.blocked_for("s1", A, NOW + 700 * NANOSECONDS), Some(Duration::ZERO), "look again");
        assert_eq!(again.blocked_for("s2", A, NOW), None);
        memory.note("s1", A, None);
        assert_eq!(open(&file).blocked_for("s1", A, NOW), None);
    }

    #[test]
    fn what_is_damaged_or_no_longer_configured_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uplink-routes");
        std::fs::write(
            &file,
            format!("s1 {A} soon\n\n\u{0}\ns1 quic://gone:1 2000\ns1 quic://b:7443 2000\n"),
        )
        .unwrap();
        let mut memory = open(&file);
        assert_eq!(memory.blocked_for("s1", A, NOW), None);
        assert_eq!(memory.blocked_for("s1", "quic://b:7443", NOW), Some(Duration::from_secs(1_000)));
        memory.note("s1", A, Some(NOW));
        assert!(!std::fs::read_to_string(&file).unwrap().contains("gone"));
    }

    #[test]
    fn other_endpoints_replace_what_was_known_and_what_stays_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uplink-routes");
        let text = || std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("s1 {A} 2000\ns2 {A} 2000\n")).unwrap();
        let mut memory = Memory::open(Some(file.clone()));
        assert!(memory.blocked_for("s2", A, NOW).is_some(), "assignments may come late");
        memory.only([("s1", A.to_owned())].into_iter());
        assert_eq!(text(), format!("s1 {A} 2000\n"));
        memory.note("s2", A, Some(NOW));
        memory.only([("s2", A.to_owned())].into_iter());
        assert_eq!(text(), "", "of a link that was leaving nothing is remembered");
        memory.note("s2", A, Some(3_000 * NANOSECONDS));
        assert_eq!(text(), format!("s2 {A} 3000\n"));
    }
}
