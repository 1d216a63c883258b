//! The bare listener in a process of its own, so that its CPU time is its own: accepts MQTT connections, reads,
//! acknowledges, and does nothing else. What any gateway that takes messages over TCP costs at least.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use host::source::listener::bare::Bare;

use crate::gateway::PATIENCE;
use crate::process::{Process, wait_until};

/// Argument that makes the bench binary the bare listener.
const ARGUMENT: &str = "--bare-listener";

/// Is the bare listener until it is killed; says its address first.
///
/// # Errors
/// When it cannot listen.
pub fn serve() -> Result<()> {
    let bare = Bare::start().context("the bare listener")?;
    println!("{}", bare.address());
    loop {
        std::thread::park();
    }
}

/// Starts one from the bench binary.
///
/// # Errors
/// When it does not start.
pub fn start(dir: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = Process::start("bare listener", command.arg(ARGUMENT), &dir.join("bare.log"))?;
    let mut address = None;
    wait_until("the bare listener listens", PATIENCE, || {
        process.check_running()?;
        address = process.log().lines().next().and_then(|line| line.parse().ok());
        Ok(address.is_some_and(|address: SocketAddr| TcpStream::connect(address).is_ok()))
    })?;
    Ok((process, address.context("it has said its address")?))
}
