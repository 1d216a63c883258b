//! Debian's mosquitto on a port of its own, for the tests that subscribe at an existing broker.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, wait_until};

/// A broker that runs.
pub struct Broker {
    process: Process,
    config: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Broker {
    /// Starts a broker that keeps its sessions in the folder.
    ///
    /// # Errors
    /// When mosquitto is not installed or does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        let address = free_tcp_port()?;
        let config = dir.join("mosquitto.conf");
        let mut text = String::new();
        writeln!(text, "listener {} {}", address.port(), address.ip())?;
        writeln!(text, "allow_anonymous true\nset_tcp_nodelay true")?;
        writeln!(text, "max_queued_messages 0\nmax_inflight_messages 0\nmax_packet_size 134217728")?;
        writeln!(text, "persistence true\npersistence_location {}/", dir.display())?;
        if rooted() {
            writeln!(text, "user root")?;
        }
        std::fs::write(&config, text)?;
        let process = start(&config)?;
        let mut broker = Self { process, config, address };
        broker.wait_ready()?;
        Ok(broker)
    }

    /// Ends it in good order (it saves its sessions) and starts it again.
    ///
    /// # Errors
    /// When it does not end or start.
    pub fn restart(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(10))?;
        self.process = start(&self.config)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let address = self.address;
        let process = &mut self.process;
        wait_until("mosquitto listens", Duration::from_secs(10), || {
            process.check_running()?;
            Ok(TcpStream::connect(address).is_ok())
        })
    }
}

/// A TCP port on the loopback that is free now. Another process may take it before it is used; for programs that
/// cannot be told to choose one themselves.
///
/// # Errors
/// When there is none.
pub fn free_tcp_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn start(config: &Path) -> Result<Process> {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("mosquitto is missing: cargo xtask test installs it, or: apt-get install mosquitto")?;
    Process::start("mosquitto", Command::new(program).arg("-c").arg(config), &config.with_extension("log"))
}

/// Whether this process runs as root: mosquitto would drop its rights and could not write its folder.
fn rooted() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
