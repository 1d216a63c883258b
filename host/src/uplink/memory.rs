//! What the uplink has found out and need not find out again after a restart: where UDP is blocked.
//!
//! ```text
//! data_dir/uplink-routes: one line each: <stamp> <endpoint> <until, seconds since 1970 UTC>
//! ```
//! Written only when something is found out, at most every few minutes. Without the file, or with a damaged line, it is
//! found out again. Decides nothing: when QUIC is looked for again is [`super::routes`]'s.
//!
//! Invariant: only endpoints of the configuration are remembered, so the file stays small.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

const NANOSECONDS: i64 = 1_000_000_000;

/// What is known of all links.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    /// Seconds since 1970 UTC, by "stamp endpoint".
    blocked: BTreeMap<String, i64>,
}

impl Memory {
    /// What the file says of these (stamp, endpoint).
    pub(super) fn open<'a>(file: Option<PathBuf>, ways: impl Iterator<Item = (&'a str, String)>) -> Self {
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let known: BTreeMap<&str, i64> = text
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(way, until)| Some((way, until.parse().ok()?)))
            .collect();
        let blocked = ways
            .map(|(stamp, endpoint)| key(stamp, &endpoint))
            .filter_map(|way| Some((known.get(way.as_str()).copied()?, way)))
            .map(|(until, way)| (way, until));
        Self { blocked: blocked.collect(), file }
    }

    /// How much longer UDP is taken for blocked there; `now` is nanoseconds since 1970 UTC.
    pub(super) fn blocked_for(&self, stamp: &str, endpoint: &str, now: i64) -> Option<Duration> {
        let until = *self.blocked.get(&key(stamp, endpoint))?;
        Some(Duration::from_secs(until.saturating_sub(now / NANOSECONDS).max(0).unsigned_abs()))
    }

    /// UDP is blocked there until then (nanoseconds since 1970 UTC), or is not.
    pub(super) fn note(&mut self, stamp: &str, endpoint: &str, blocked_until: Option<i64>) {
        let way = key(stamp, endpoint);
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
        Memory::open(Some(file.to_owned()), ways.into_iter())
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
}
