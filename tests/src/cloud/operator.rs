//! The operator of the cloud: everything over the command line of `sluice-provision`, as a person or a script has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::pki::Identity;
use crate::process::binary;
use crate::provision::{OPERATOR, Provision};
use crate::world::World;

/// An operator with a certificate of its own.
pub struct Operator {
    file: PathBuf,
}

impl Operator {
    /// Writes `operator.toml`.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn create(world: &World, service: &Provision) -> Result<Self> {
        let Identity { certificate, key } = world.pki.device(OPERATOR)?;
        let (api, trust) = (format!("https://localhost:{}", service.address.port()), &service.trust);
        let text = format!(
            "[operator]\napi = {api:?}\ncertificate = {certificate:?}\nkey = {key:?}\ntrust = {trust:?}\n"
        );
        let file = world.path().join("operator.toml");
        fs::write(&file, text)?;
        Ok(Self { file })
    }

    /// Runs a command, and says how it went.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("sluice-provision")?);
        Ok(command.args(arguments).arg("--operator").arg(&self.file).output()?)
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// When it does not: with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "sluice-provision {}: {}\n{said}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    /// Runs a command that must succeed, and reads its last line of JSON.
    ///
    /// # Errors
    /// When it does not, or says something else.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.run(&[arguments, &["--json"]].concat())?;
        let last = said.lines().last().with_context(|| format!("{} says nothing", arguments.join(" ")))?;
        serde_json::from_str(last).with_context(|| format!("{}: {last}", arguments.join(" ")))
    }

    /// The key of a gateway of a group, in a file for `symmetric_key_file`.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn key(&self, group: &str, gateway: &str, folder: &Path) -> Result<PathBuf> {
        let into = folder.to_str().context("a folder with a name in UTF-8")?;
        self.run(&["enrolment", "key", group, gateway, "--folder", into])?;
        Ok(folder.join(format!("{gateway}.key")))
    }
}
