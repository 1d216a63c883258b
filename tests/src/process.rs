//! A process that the harness starts: killed when dropped, measured through /proc.
//!
//! Its output goes to a log file, whose end is part of every error, so that a failed test says why.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// /proc counts CPU time in hundredths of a second on every Linux (USER_HZ, see proc(5)).
const TICK: Duration = Duration::from_millis(10);
/// How often a state that is waited for is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running (or ended) process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory in bytes, now.
    pub resident: u64,
    /// Most resident memory so far, in bytes.
    pub peak: u64,
}

impl Process {
    /// Starts a program; its output is appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            // What a test looks for in a log is not parted by colours.
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, then waits for the end. Returns what it had used.
    ///
    /// # Errors
    /// When it had ended by itself before.
    pub fn kill(&mut self) -> Result<Usage> {
        let usage = self.usage()?;
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(9), "{} had ended before: {status}\n{}", self.name, self.log_end());
        Ok(usage)
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(within)
    }

    /// Sends a signal by its name without SIG.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let kill = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &self.id().to_string()])
            .status()?;
        ensure!(kill.success(), "cannot send SIG{signal} to {}\n{}", self.name, self.log_end());
        Ok(())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > within {
                bail!("{} did not end within {within:?}\n{}", self.name, self.log_end());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether it still runs; an error with the end of its log when it does not.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.log_end()),
        }
    }

    /// CPU time and memory.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.id()).with_context(|| format!("{} is gone\n{}", self.name, self.log_end()))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(30);
        format!("--- end of {} ---\n{}", self.log.display(), lines[from..].join("\n"))
    }

    /// Its whole log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program, or another one (with its arguments) that becomes it.
#[must_use]
pub fn within(within: &[String], program: &Path) -> Command {
    match within.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

/// CPU time and memory of a process, see proc(5).
///
/// # Errors
/// When there is no such process.
pub fn usage(id: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let fields = stat.rsplit_once(')').context("/proc/…/stat has no name")?.1;
    let ticks =
        |nth: usize| fields.split_ascii_whitespace().nth(nth - 3).and_then(|ticks| ticks.parse::<u32>().ok());
    let ticks = ticks(14).zip(ticks(15)).context("/proc/…/stat has no times")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    };
    Ok(Usage { cpu: TICK * (ticks.0 + ticks.1), resident: bytes("VmRSS:"), peak: bytes("VmHWM:") })
}

/// A binary of this workspace, beside the running executable.
///
/// # Errors
/// When it has not been built, with the command that builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = target_dir()?.join(name);
    ensure!(path.exists(), "{} is missing: cargo build --release --workspace --bins", path.display());
    Ok(path)
}

/// The folder of the built binaries.
///
/// # Errors
/// When the running executable is nowhere.
pub fn target_dir() -> Result<PathBuf> {
    let mut dir = std::env::current_exe()?;
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    Ok(dir)
}

/// Waits until `state` is true, and says what was waited for when it does not become so.
///
/// # Errors
/// When it takes longer, or `state` fails.
pub fn wait_until(what: &str, within: Duration, mut state: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !state().with_context(|| format!("while waiting until {what}"))? {
        ensure!(start.elapsed() < within, "waited {within:?} in vain until {what}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
