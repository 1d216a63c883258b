//! What this process costs: CPU seconds, resident memory, threads, as Linux tells in `/proc/self`.
//!
//! Elsewhere, or where `/proc` is not mounted, all figures are zero.

use serde::{Deserialize, Serialize};

/// Ticks per second in `/proc/*/stat`: 100 on every Linux a program can see (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process costs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Process {
    /// User and system time since the start, in seconds, to 10 ms.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Highest resident memory so far, in bytes.
    pub rss_peak_bytes: u64,
    /// Threads.
    pub threads: u64,
}

impl Process {
    /// Measures now.
    #[must_use]
    pub fn measure() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&stat),
            rss_bytes: field(&status, "VmRSS:") * 1024,
            rss_peak_bytes: field(&status, "VmHWM:") * 1024,
            threads: field(&status, "Threads:"),
        }
    }
}

/// Fields 14 and 15 of proc(5) stat, counted behind the command's name, which may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> f64 {
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// The number behind a name in `/proc/self/status`, e.g. kibibytes behind `VmRSS:`.
fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 75 9 9 20 0 3 0 1 1 1";
        assert!((cpu_seconds(stat) - 3.25).abs() < 1e-9);
    }

    #[test]
    fn a_running_process_has_memory_and_a_thread() {
        let now = Process::measure();
        assert!(now.rss_bytes > 0 && now.rss_peak_bytes >= now.rss_bytes && now.threads > 0, "{now:?}");
    }
}
