//! One stamp as a real process: configured, started, killed, restarted, asked what landed, measured.
//!
//! What landed is read as anybody would: by the command line of `sluice-stamp`, never from its database.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::oracle::Landed;
use crate::pki::Pki;
use crate::process::{Process, Usage, binary, wait_until};

/// Longest wait for a start or an end in good order.
const PATIENCE: Duration = Duration::from_secs(30);
/// Appears in the log when it listens.
const READY: &str = "receiving";

/// A stamp, running or not.
pub struct Stamp {
    /// Its id.
    pub id: String,
    /// Where gateways connect (UDP), the same over restarts.
    pub address: SocketAddr,
    /// Its configuration file.
    pub config: PathBuf,
    /// A program with its arguments that starts it, e.g. with a limit; empty: none.
    pub within: Vec<String>,
    process: Option<Process>,
    spent: Duration,
}

impl Stamp {
    /// Writes configuration and roster; does not start.
    ///
    /// # Errors
    /// When the folder cannot be written or no port is free.
    pub fn create(dir: &Path, id: &str, roster: &[(&str, &[&str])], pki: &Pki) -> Result<Self> {
        let address = free_port()?;
        let stamp = Self {
            id: id.to_owned(),
            address,
            config: dir.join(format!("{id}.toml")),
            within: Vec::new(),
            process: None,
            spent: Duration::ZERO,
        };
        let identity = pki.stamp(id)?;
        stamp.write_roster(roster)?;
        let mut text = String::new();
        writeln!(text, "[stamp]\nid = {id:?}\ndata_dir = {:?}", dir.join(id))?;
        writeln!(text, "listen = \"{address}\"\nmax_devices = 10_000\nroster = {:?}", stamp.roster())?;
        writeln!(
            text,
            "identity = {{ certificate = {:?}, key = {:?}, trust = {:?} }}",
            identity.certificate,
            identity.key,
            pki.trust()
        )?;
        fs::write(&stamp.config, text)?;
        Ok(stamp)
    }

    fn roster(&self) -> PathBuf {
        self.config.with_extension("roster.toml")
    }

    /// Writes the roster: gateways and their tenants.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_roster(&self, roster: &[(&str, &[&str])]) -> Result<()> {
        let mut text = String::new();
        for (gateway, tenants) in roster {
            writeln!(text, "[[gateway]]\nid = {gateway:?}\ntenants = {tenants:?}")?;
        }
        fs::write(self.roster(), text).context("the roster")
    }

    /// Sets a key of `[stamp]` to a value in TOML; from the next start on.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn configure(&self, key: &str, value: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let others = text.lines().filter(|line| line.split_once(" = ").is_none_or(|(of, _)| of != key));
        let mut lines: Vec<String> = others.map(str::to_owned).collect();
        // Other tables may follow: behind the line `[stamp]`.
        lines.insert(1.min(lines.len()), format!("{key} = {value}"));
        let text = lines.join("\n") + "\n";
        fs::write(&self.config, text).context("the stamp's configuration")
    }

    /// From the next start on its roster is followed from provisioning, whose certificate must come from `trust`.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn follow(&self, endpoint: &str, trust: &Path) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let former = text.lines().take_while(|line| *line != "[provisioning]");
        let others = former.filter(|line| !line.starts_with("roster = "));
        let mut text = others.collect::<Vec<_>>().join("\n");
        writeln!(text, "\n[provisioning]\nendpoint = {endpoint:?}\ntrust = {trust:?}")?;
        fs::write(&self.config, text).context("the stamp's configuration")
    }

    /// From the next start on no file of it grows beyond so many KiB, as on a disk that is full; `None`: no limit.
    pub fn limit_files(&mut self, kib: Option<u32>) {
        // In dash's units of 512 bytes. Ignored signals stay ignored: the write fails instead.
        let limit = |kib: u32| format!("ulimit -f {}; trap '' XFSZ; exec \"$0\" \"$@\"", kib * 2);
        self.within = kib.map_or(Vec::new(), |kib| ["sh".to_owned(), "-c".to_owned(), limit(kib)].to_vec());
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not start: with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let log = self.config.with_extension("log");
        let before = fs::metadata(&log).map_or(0, |log| log.len()) as usize;
        let mut command = crate::process::within(&self.within, &binary("sluice-stamp")?);
        command.arg("run").arg("--config").arg(&self.config);
        let process = self.process.insert(Process::start(&self.id, &mut command, &log)?);
        wait_until("the stamp listens", PATIENCE, || {
            process.check_running()?;
            Ok(process.log().get(before..).is_some_and(|log| log.contains(READY)))
        })
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let usage = self.process.take().context("the stamp does not run")?.kill()?;
        self.spent += usage.cpu;
        Ok(())
    }

    /// SIGTERM, and checks that it ends well.
    ///
    /// # Errors
    /// When it does not end in time or not with 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the stamp does not run")?;
        self.spent += process.usage()?.cpu;
        let status = process.terminate(PATIENCE)?;
        ensure!(status.success(), "the stamp ended with {status}\n{}", process.log_end());
        Ok(())
    }

    /// The running process.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// CPU time of all its lives.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn cpu(&self) -> Result<Duration> {
        let now: Usage = self.process.as_ref().map(Process::usage).transpose()?.unwrap_or_default();
        Ok(self.spent + now.cpu)
    }

    /// Its log, of all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.config.with_extension("log")).unwrap_or_default()).into_owned()
    }

    /// Every row that landed, as `sluice-stamp export` writes it.
    ///
    /// # Errors
    /// When the export fails.
    pub fn rows(&self) -> Result<Vec<serde_json::Value>> {
        self.lines()?.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }

    /// Every row that landed, as the oracle needs it.
    ///
    /// # Errors
    /// When the export cannot be started.
    pub fn landed(&self) -> Result<impl Iterator<Item = Result<Landed>>> {
        Ok(self.lines()?.map(|line| Ok(serde_json::from_str::<Row>(&line?)?.into())))
    }

    /// Of every row of telemetry, the device's time and how much later it was received, in nanoseconds.
    ///
    /// # Errors
    /// When the export fails.
    pub fn delays(&self) -> Result<Vec<(i64, i64)>> {
        let rows = self.lines()?.map(|line| {
            let row: Row = serde_json::from_str(&line?)?;
            Ok((row.time_ns, row.received_ns - row.time_ns))
        });
        rows.collect()
    }

    /// How much later than measured each row of telemetry was received, in nanoseconds; of those measured between two times,
    /// both as `sluice-stamp export` takes them.
    ///
    /// # Errors
    /// When the export fails.
    pub fn delays_between(&self, since: &str, until: &str) -> Result<Vec<i64>> {
        let rows = self.export(&["--since", since, "--until", until])?.map(|line| {
            let row: Row = serde_json::from_str(&line?)?;
            Ok(row.received_ns - row.time_ns)
        });
        rows.collect()
    }

    /// Has `sluice-stamp tail` write every row, and says how many lines those were; nothing is made of them.
    ///
    /// # Errors
    /// When it fails.
    pub fn show_all(&self) -> Result<u64> {
        let mut tail = Command::new(binary("sluice-stamp")?);
        tail.arg("tail").arg("--config").arg(&self.config).args(["--from", "start"]);
        let mut child = tail.stdout(Stdio::piped()).spawn()?;
        let mut out = child.stdout.take().context("tail has no output")?;
        let mut piece = vec![0; 1 << 16];
        let mut lines = 0;
        loop {
            let read = std::io::Read::read(&mut out, &mut piece)?;
            if read == 0 {
                break;
            }
            lines += piece[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        ensure!(child.wait()?.success(), "tail failed");
        Ok(lines)
    }

    /// Runs a command of the command line with this configuration.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn cli(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        let mut cli = Command::new(binary("sluice-stamp")?);
        Ok(cli.arg(command).arg("--config").arg(&self.config).args(arguments).output()?)
    }

    fn lines(&self) -> Result<Export> {
        self.export(&[])
    }

    fn export(&self, filters: &[&str]) -> Result<Export> {
        let mut export = Command::new(binary("sluice-stamp")?);
        export.arg("export").arg("--config").arg(&self.config).args(["--format", "json"]).args(filters);
        let mut child = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("the export has no output")?;
        Ok(Export { child, lines: BufReader::with_capacity(1 << 20, out) })
    }
}

/// The lines of a running export; the last item is the error if it failed.
struct Export {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Iterator for Export {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => self.end().err().map(Err),
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error.into())),
        }
    }
}

impl Export {
    fn end(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            let mut why = String::new();
            if let Some(mut errors) = self.child.stderr.take() {
                std::io::Read::read_to_string(&mut errors, &mut why)?;
            }
            bail!("the export ended with {status}: {why}");
        }
        Ok(())
    }
}

/// A row as exported, without what nobody here asks for.
#[derive(Deserialize)]
struct Row {
    tenant: String,
    device: String,
    route: String,
    time_ns: i64,
    received_ns: i64,
    seq: Option<f64>,
    temperature_c: Option<f64>,
    temperature_f: Option<f64>,
    event: Option<String>,
}

impl From<Row> for Landed {
    fn from(row: Row) -> Self {
        Self {
            tenant: row.tenant,
            device: row.device,
            route: row.route,
            time: row.time_ns,
            seq: row.seq,
            celsius: row.temperature_c,
            fahrenheit: row.temperature_f,
            event: row.event,
            received: row.received_ns,
        }
    }
}

/// A port of the loopback that is free for both UDP and TCP: a stamp receives on both.
fn free_port() -> Result<SocketAddr> {
    loop {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
}
