//! What a fresh machine lacks beside the WebAssembly target ([`crate::guests`]): packages of Debian's. Says what it
//! installs; where it cannot, says the one command to run. Installs nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

/// Installs what the tests need and is missing: the broker mosquitto, for those that subscribe at one, libfaketime, for
/// the one that sets a gateway's clock, node with npm and Python with pip, for plugins in JavaScript, Python and C.
pub(crate) fn packages() -> Result<()> {
    let missing = || {
        let needed = [
            ("mosquitto", has_mosquitto()),
            ("libfaketime", has_faketime()),
            ("nodejs", runs(&["node", "--version"])),
            ("npm", runs(&["npm", "--version"])),
            ("python3", runs(&["python3", "--version"])),
            ("python3-pip", runs(&["python3", "-m", "pip", "--version"])),
        ];
        needed.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    let names = missing();
    if names.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get update && apt-get install --yes --no-install-recommends {names}");
    println!("Installing what the tests use ({command}) …");
    let installed = Command::new("sh")
        .args(["-c", &command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The tests start a broker of their own: the package shall not start its service.
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null())
        .status();
    ensure!(
        installed.is_ok_and(|status| status.success()) && missing().is_empty(),
        "the tests need {names}; install as root with: {command}"
    );
    Ok(())
}

/// Whether the command is there and works.
fn runs(command: &[&str]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet(Command::new(program).args(arguments)).is_ok_and(|status| status.success())
}

fn has_mosquitto() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path).chain(sbin).any(|folder| Path::is_file(&folder.join("mosquitto")))
}

/// In the folder of libraries of whatever processor.
fn has_faketime() -> bool {
    let Ok(mut folders) = std::fs::read_dir("/usr/lib") else { return false };
    folders.any(|folder| folder.is_ok_and(|folder| folder.path().join("faketime/libfaketime.so.1").is_file()))
}
