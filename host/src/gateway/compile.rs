//! Compiling plugins in a process of its own, before they are loaded.
//!
//! The compiler leaves some ten megabytes behind in the process it ran in, and works longest on code that strangers
//! wrote. So the gateway starts `sluice-gateway compile` for what is not in the cache yet, and then loads machine code
//! only. If that does not succeed, loading compiles after all, and says what is wrong with the plugin.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use gateway_config::Config;
use runtime::{Engine, LoadError};

use super::{GatewayError, engine_config};

/// The plugin files of a configuration, each once.
fn plugins(config: &Config) -> BTreeSet<PathBuf> {
    let tenants = config.tenants.values();
    tenants
        .flat_map(|tenant| {
            let steps = tenant.steps.iter().map(|step| step.plugin.clone());
            steps.chain(tenant.decoders.values().map(|decoder| decoder.plugin.clone()))
        })
        .collect()
}

/// Compiles all plugins of a configuration into its data folder's cache; `done` hears of each.
///
/// # Errors
/// [`GatewayError`] if there is no engine; what is wrong with a plugin is for `done`.
pub fn compile(
    config: &Config,
    mut done: impl FnMut(&Path, Result<f64, LoadError>),
) -> Result<(), GatewayError> {
    let engine = Engine::new(engine_config(config))?;
    for path in plugins(config) {
        let begun = Instant::now();
        let loaded = engine.load(&path).map(|_| begun.elapsed().as_secs_f64());
        done(&path, loaded);
    }
    Ok(())
}

/// Has another process compile what is not in the cache.
pub(super) fn compile_apart(config: &Config, file: &Path, engine: &Engine) {
    let missing = plugins(config).iter().filter(|path| !engine.is_compiled(path)).count();
    if missing == 0 {
        return;
    }
    tracing::info!(plugins = missing, "compiling plugins that are new here");
    let begun = Instant::now();
    let status = std::env::current_exe().and_then(|program| {
        let mut compiler = Command::new(program);
        compiler.arg("compile").arg("--config").arg(file);
        compiler.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    });
    match status {
        Ok(status) if status.success() => {
            tracing::info!(plugins = missing, seconds = begun.elapsed().as_secs_f64(), "plugins compiled");
        }
        Ok(status) => tracing::warn!(%status, "plugins could not be compiled in a process of their own"),
        Err(error) => tracing::warn!(%error, "plugins cannot be compiled in a process of their own"),
    }
}
