//! Wall and CPU time of a stretch of work, in this thread or this process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often something was done, and what it took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// How often.
    pub times: f64,
    /// Wall time.
    pub wall: Duration,
    /// User and system time.
    pub cpu: Duration,
}

impl Rate {
    /// Times per second of wall time.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.times / self.wall.as_secs_f64()
    }

    /// CPU seconds for a million times.
    #[must_use]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() / self.times * 1e6
    }

    /// The same stretch of work in another unit, of which `factor` are in one of this.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { times: self.times * factor, ..self }
    }
}

/// A running measurement.
pub struct Clock {
    start: Instant,
    cpu: Duration,
    process: bool,
}

impl Clock {
    /// Counts the CPU time of this thread, to the nanosecond.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn of_thread() -> Result<Self> {
        Ok(Self { start: Instant::now(), cpu: thread_cpu()?, process: false })
    }

    /// Counts the CPU time of all threads of this process, to 10 ms.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn of_process() -> Result<Self> {
        let cpu = crate::process::usage(std::process::id())?.cpu;
        Ok(Self { start: Instant::now(), cpu, process: true })
    }

    /// Wall time so far.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the measurement.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn stop(self, times: u64) -> Result<Rate> {
        let wall = self.start.elapsed();
        let cpu = if self.process { crate::process::usage(std::process::id())?.cpu } else { thread_cpu()? };
        Ok(Rate { times: times as f64, wall, cpu: cpu.saturating_sub(self.cpu) })
    }
}

/// Does the work again and again for about that time, in this thread.
pub fn repeat(time: Duration, mut work: impl FnMut()) -> Rate {
    work();
    let clock = Clock::of_thread().unwrap();
    let mut times = 0;
    while clock.wall() < time {
        work();
        times += 1;
    }
    clock.stop(times).unwrap()
}

/// CPU time of this thread: the first number of its schedstat is nanoseconds on a CPU (proc(5)).
fn thread_cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Ok(Duration::from_nanos(nanos.context("schedstat has no number")?))
}
