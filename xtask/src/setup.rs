//! What a fresh machine lacks beside the WebAssembly target ([`crate::guests`]): Debian's mosquitto. Says what it
//! installs; where it cannot, says the one command to run. Installs nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

/// Installs Debian's mosquitto when it is missing: the broker of the tests that subscribe at one.
pub(crate) fn mosquitto() -> Result<()> {
    const COMMAND: &str = "apt-get update && apt-get install --yes --no-install-recommends mosquitto";
    if has_mosquitto() {
        return Ok(());
    }
    println!("Installing the broker mosquitto, which the tests use ({COMMAND}) …");
    let installed = Command::new("sh")
        .args(["-c", COMMAND])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The tests start a broker of their own: the package shall not start its service.
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null())
        .status();
    ensure!(
        installed.is_ok_and(|status| status.success()) && has_mosquitto(),
        "the tests need the broker mosquitto; install it as root with: {COMMAND}"
    );
    Ok(())
}

fn has_mosquitto() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path).chain(sbin).any(|folder| Path::is_file(&folder.join("mosquitto")))
}
