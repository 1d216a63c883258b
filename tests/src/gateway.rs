//! One gateway as a real process: configured, started, killed, restarted, asked, measured.
//!
//! Its MQTT port is chosen once, so that devices find it again after a restart.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::admin::status::TenantStatus;
use host::admin::{Status, ask};

use crate::process::{Process, Usage, binary, wait_until};

/// Longest wait for a start or an end in good order.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a gateway's configuration says, in the parts that differ between tests.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines for `[gateway]`.
    pub gateway: String,
    /// Lines for the listener's `[[source]]`, before its topics.
    pub listener: String,
    /// Whole further tables, e.g. another source.
    pub more: String,
    /// Tenants, each with the tables of its chain.
    pub tenants: Vec<(String, String)>,
    /// Lines for `[uplink]`, e.g. another retry policy.
    pub uplink: String,
}

/// Where a gateway sends to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The stamp's id.
    pub stamp: String,
    /// `quic`, or `tls` for TCP alone.
    pub transport: &'static str,
    /// Its address.
    pub address: SocketAddr,
    /// Certificate of this gateway.
    pub identity: crate::pki::Identity,
    /// What signed the stamp's.
    pub trust: PathBuf,
}

/// All that a gateway knows that finds its way by itself.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// Where provisioning is.
    pub endpoint: String,
    /// What signed its certificate.
    pub trust: PathBuf,
    /// How the gateway proves who it is, in TOML.
    pub attest: String,
}

/// A gateway, running or not.
pub struct Gateway {
    /// Its identity.
    pub id: String,
    /// Where devices connect.
    pub mqtt: SocketAddr,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Environment of the process.
    pub environment: Vec<(String, String)>,
    /// A program with its arguments that starts it, e.g. in a network namespace; empty: none.
    pub within: Vec<String>,
    process: Option<Process>,
    /// What former lives have used.
    spent: Duration,
    peak: u64,
}

impl Gateway {
    /// Writes the configuration; does not start.
    ///
    /// # Errors
    /// When the folder cannot be written or no port is free.
    pub fn create(dir: &Path, id: &str, setup: &Setup, upstream: &Upstream) -> Result<Self> {
        let tenants: Vec<&str> = setup.tenants.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let Upstream { stamp, transport, address, identity, trust } = upstream;
        let mut way = format!("[uplink]\n{}\n", setup.uplink);
        writeln!(
            way,
            "stamp = [{{ id = {stamp:?}, endpoints = [\"{transport}://localhost:{}\"], tenants = {tenants:?} }}]",
            address.port()
        )?;
        writeln!(
            way,
            "identity = {{ certificate = {:?}, key = {:?}, trust = {trust:?} }}",
            identity.certificate, identity.key
        )?;
        Self::with(dir, id, setup, &way)
    }

    /// Writes the configuration of one that asks provisioning; does not start.
    ///
    /// # Errors
    /// When the folder cannot be written or no port is free.
    pub fn provisioned(dir: &Path, id: &str, setup: &Setup, provisioned: &Provisioned) -> Result<Self> {
        let Provisioned { endpoint, trust, attest } = provisioned;
        let mut way =
            format!("[provisioning]\nendpoint = {endpoint:?}\ntrust = {trust:?}\nattest = {attest}\n");
        if !setup.uplink.is_empty() {
            writeln!(way, "\n[uplink]\n{}", setup.uplink)?;
        }
        Self::with(dir, id, setup, &way)
    }

    fn with(dir: &Path, id: &str, setup: &Setup, way: &str) -> Result<Self> {
        let mqtt = crate::broker::free_tcp_port()?;
        let gateway = Self {
            id: id.to_owned(),
            mqtt,
            data_dir: dir.join(id),
            config: dir.join(format!("{id}.toml")),
            environment: Vec::new(),
            within: Vec::new(),
            process: None,
            spent: Duration::ZERO,
            peak: 0,
        };
        fs::write(&gateway.config, gateway.toml(setup, way)?)?;
        Ok(gateway)
    }

    fn toml(&self, setup: &Setup, way: &str) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "[gateway]\nid = {:?}\ndata_dir = {:?}", self.id, self.data_dir)?;
        writeln!(text, "plugins_dir = {:?}\n{}", plugins_dir()?, setup.gateway)?;
        writeln!(
            text,
            "\n[[source]]\nname = \"floor\"\nkind = \"mqtt-listener\"\nlisten = \"{}\"",
            self.mqtt
        )?;
        writeln!(text, "{}", setup.listener)?;
        writeln!(
            text,
            "[[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}/telemetry\"\nformat = \"json\""
        )?;
        writeln!(text, "time = {{ field = \"ts\", unit = \"ms\" }}\nprofile = \"machine\"")?;
        writeln!(text, "\n{}", setup.more)?;
        for (tenant, chain) in &setup.tenants {
            writeln!(text, "\n[tenant.{tenant}]\n{chain}")?;
        }
        writeln!(text, "\n{way}")?;
        Ok(text)
    }

    /// Starts it and waits until devices can connect.
    ///
    /// # Errors
    /// When it does not start: with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let (mqtt, data_dir) = (self.mqtt, self.data_dir.clone());
        let process = self.process.as_mut().context("just started")?;
        wait_until("the gateway listens", PATIENCE, || {
            process.check_running()?;
            Ok(TcpStream::connect(mqtt).is_ok() && ask(&data_dir).is_ok())
        })
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = crate::process::within(&self.within, &binary("sluice-gateway")?);
        command.arg("run").arg("--config").arg(&self.config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start(&self.id, &mut command, &self.config.with_extension("log"))?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let usage = self.process.take().context("the gateway does not run")?.kill()?;
        self.count(usage);
        Ok(())
    }

    /// SIGTERM, and checks that it ends well.
    ///
    /// # Errors
    /// When it does not end in time or not with 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the gateway does not run")?;
        self.count(process.usage()?);
        let status = process.terminate(PATIENCE)?;
        ensure!(status.success(), "the gateway ended with {status}\n{}", process.log_end());
        Ok(())
    }

    /// What it tells over its admin socket.
    ///
    /// # Errors
    /// When it does not run.
    pub fn status(&self) -> Result<Status> {
        ask(&self.data_dir).with_context(|| self.process.as_ref().map_or(String::new(), Process::log_end))
    }

    /// One tenant's part of the status.
    ///
    /// # Errors
    /// When it does not run, or does not know the tenant.
    pub fn tenant(&self, name: &str) -> Result<TenantStatus> {
        let status = self.status()?;
        status
            .tenants
            .into_iter()
            .find(|tenant| tenant.name == name)
            .with_context(|| format!("no tenant {name}"))
    }

    /// Waits until everything it holds has landed.
    ///
    /// # Errors
    /// When it takes longer.
    pub fn drain(&mut self, within: Duration) -> Result<()> {
        let mut last = String::new();
        let drained = wait_until("the outboxes are empty", within, || {
            let status = self.status()?;
            let waiting = status.tenants.iter().map(|tenant| tenant.outbox);
            last = format!(
                "{} {:?}",
                status.uplink.state,
                status.uplink.links.first().and_then(|link| link.cause.clone())
            );
            Ok(waiting.fold(0, |sum, outbox| sum + outbox.batches + outbox.receipts) == 0)
        });
        drained.with_context(|| format!("uplink {last}\n{}", self.log()))
    }

    /// CPU time of all its lives.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn cpu(&self) -> Result<Duration> {
        let now = self.process.as_ref().map(Process::usage).transpose()?.unwrap_or_default();
        Ok(self.spent + now.cpu)
    }

    /// Memory now, and the most in any of its lives, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let now = self.process.as_ref().context("the gateway does not run")?.usage()?;
        Ok((now.resident, now.peak.max(self.peak)))
    }

    /// The running process.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Its log, of all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.config.with_extension("log")).unwrap_or_default()).into_owned()
    }

    /// Runs a command of the command line with this configuration.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn cli(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        let mut cli = Command::new(binary("sluice-gateway")?);
        // At the end, for commands that have commands of their own.
        Ok(cli.arg(command).args(arguments).arg("--config").arg(&self.config).output()?)
    }

    fn count(&mut self, usage: Usage) {
        self.spent += usage.cpu;
        self.peak = self.peak.max(usage.peak);
    }
}

/// Where `cargo xtask guests` puts the built-in plugins.
///
/// # Errors
/// When they have not been built.
pub fn plugins_dir() -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("plugins").join("dist");
    ensure!(dir.join("linear.wasm").exists(), "no plugins in {}: cargo xtask guests", dir.display());
    Ok(dir)
}
