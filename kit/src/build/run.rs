//! Runs a command of a tool chain; turns a missing tool into what to install, and a failure into what was run.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Runs it; its output goes to the screen.
///
/// # Errors
/// It is not there, and what `install` says; or it failed.
pub(super) fn loudly(command: &mut Command, install: &str) -> Result<()> {
    let status = command.status().map_err(|error| missing(command, &error, install))?;
    if status.success() {
        return Ok(());
    }
    bail!("{} ({status})", failed(command))
}

/// Runs it; its output is shown only if it fails.
///
/// # Errors
/// As [`loudly`].
pub(super) fn quietly(command: &mut Command, install: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| missing(command, &error, install))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    bail!("{}{}\n{} ({})", said, complained.trim_end(), failed(command), output.status)
}

/// Whether it is there and succeeds.
pub(super) fn works(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn missing(command: &Command, error: &std::io::Error, install: &str) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        return anyhow::anyhow!("{program} is not installed; {install}");
    }
    anyhow::anyhow!("{program} cannot be started: {error}")
}

fn failed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("this command failed: {}", words.join(" "))
}
