//! `sluice-gateway check`: everything that can be known about a configuration without running it.
//!
//! First the file itself, then what it names: secrets, certificates, and each plugin, loaded and given its own settings
//! as at a start. Touches no data folder, opens no port.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway_config::{Config, Severity, SourceKind};
use runtime::{CallContext, DecodeStep, Engine, EngineConfig, Step};

use super::logging::chain;
use crate::uplink::identity;

pub(super) fn check(path: &Path) -> ExitCode {
    let report = gateway_config::check(path);
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    let mut errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if let Some(config) = &report.config {
        let mut found = Vec::new();
        check_secrets(config, &mut found);
        check_identity(config, &mut found);
        check_plugins(config, &mut found);
        for (key, what) in &found {
            eprintln!("{}", gateway_config::problem_at(path, key, what, ""));
        }
        errors += found.len();
    }
    if errors > 0 {
        eprintln!("{}: {errors} {}", path.display(), if errors == 1 { "error" } else { "errors" });
        return ExitCode::FAILURE;
    }
    if let Some(config) = &report.config {
        println!("{}", summary(path, config));
    }
    ExitCode::SUCCESS
}

/// Key and what is wrong with it.
type Found = Vec<(String, String)>;

fn check_secrets(config: &Config, found: &mut Found) {
    for (place, source) in config.sources.iter().enumerate() {
        let mut look = |key: String, secret: Option<&gateway_config::Secret>| {
            if let Some(Err(error)) = secret.map(gateway_config::Secret::read) {
                found.push((key, error.to_string()));
            }
        };
        match &source.kind {
            SourceKind::MqttListener(listener) => {
                for user in listener.users.values() {
                    look(format!("source[{place}].user"), user.password.as_ref());
                }
            }
            SourceKind::Mqtt(broker) => look(format!("source[{place}].password"), broker.password.as_ref()),
        }
    }
}

fn check_identity(config: &Config, found: &mut Found) {
    let Some(uplink) = &config.uplink else { return };
    let now = (crate::store::wall_clock())() / 1_000_000_000;
    if let Err(error) = identity::load(&uplink.identity, &config.gateway.id, now, wire::message::ALPN) {
        found.push(("uplink.identity".to_owned(), error.to_string()));
    }
}

fn check_plugins(config: &Config, found: &mut Found) {
    if config.tenants.values().all(|tenant| tenant.steps.is_empty() && tenant.decoders.is_empty()) {
        return;
    }
    // Compiled plugins belong to the gateway's user; whoever checks may be another one.
    let cache = match PrivateFolder::make() {
        Ok(cache) => cache,
        Err(error) => {
            return found.push(("tenant".to_owned(), format!("no folder for compiled plugins: {error}")));
        }
    };
    let engine = match Engine::new(EngineConfig::new(&cache.0)) {
        Ok(engine) => engine,
        Err(error) => return found.push(("tenant".to_owned(), chain(&error))),
    };
    for (id, tenant) in &config.tenants {
        for (place, step) in tenant.steps.iter().enumerate() {
            let key = format!("tenant.{id}.step[{place}].use");
            let made = load(&engine, &step.plugin).and_then(|plugin| {
                let config = crate::tenant::step_config(&step.name, &step.with, &step.limits);
                Step::new(&engine, &plugin, config, Vec::new(), &CallContext::default())
                    .map(drop)
                    .map_err(|error| chain(&error))
            });
            found.extend(made.err().map(|what| (key, what)));
        }
        for (name, decoder) in &tenant.decoders {
            let key = format!("tenant.{id}.decoder.{name}.use");
            let made = load(&engine, &decoder.plugin).and_then(|plugin| {
                let config = crate::tenant::step_config(name, &decoder.with, &decoder.limits);
                DecodeStep::new(&engine, &plugin, config, Vec::new(), &CallContext::default())
                    .map(drop)
                    .map_err(|error| chain(&error))
            });
            found.extend(made.err().map(|what| (key, what)));
        }
    }
}

fn load(engine: &Engine, path: &Path) -> Result<runtime::Plugin, String> {
    engine.load(path).map_err(|error| chain(&error))
}

fn summary(path: &Path, config: &Config) -> String {
    let steps: usize = config.tenants.values().map(|tenant| tenant.steps.len() + tenant.decoders.len()).sum();
    let stamps = config.uplink.as_ref().map_or(0, |uplink| uplink.stamps.len());
    format!(
        "{}: good: gateway {}, {} sources, {} tenants, {steps} plugins, {stamps} stamps",
        path.display(),
        config.gateway.id,
        config.sources.len(),
        config.tenants.len()
    )
}

/// A folder of our own, gone when we are done.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn make() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("sluice-check-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        // Fails if it exists: nobody can prepare it for us.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What cannot be removed is a few kilobytes in the folder for such things.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
