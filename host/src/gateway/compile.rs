//! Compiling plugins in a process of its own, one for each plugin that is new here.
//!
//! The compiler leaves some ten megabytes behind in the process it ran in, and works longest on code that strangers
//! wrote. So the gateway starts `sluice-gateway compile-plugin` for what is not in the cache yet, and then loads machine code
//! only. That process takes little from those who have work to do ([`NICE`]), and is bounded in memory ([`MEMORY`]) and time
//! ([`TIME`]); what does not compile within these is refused, and says so.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_config::Config;
use runtime::{Engine, EngineConfig, LoadError};
use rustix::process::{Resource, Rlimit};

use super::{GatewayError, engine_config};

/// Priority of the compiler: only what others leave.
const NICE: i32 = 10;
/// Most bytes of memory the compiler may write to. The largest interpreters take about a quarter.
const MEMORY: u64 = 2 << 30;
/// Longest time for one plugin, by the clock, and of the processor. The largest interpreters take a tenth on an idle machine.
const TIME: Duration = Duration::from_secs(180);
/// How often it is looked whether the compiler has ended.
const LOOK: Duration = Duration::from_millis(10);
/// Most bytes that are read of what the compiler says.
const SAYS: u64 = 16 << 10;

/// The plugin files of a configuration, each once.
fn plugins(config: &Config) -> BTreeSet<PathBuf> {
    let tenants = config.tenants.values();
    tenants
        .flat_map(|tenant| {
            let steps = tenant.steps.iter().map(|step| step.plugin.clone());
            let shadows = tenant.steps.iter().filter_map(|step| Some(step.shadow.as_ref()?.plugin.clone()));
            steps.chain(shadows).chain(tenant.decoders.values().map(|decoder| decoder.plugin.clone()))
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

/// What the compiling process needs to know to make code that fits the gateway's engine.
#[derive(Debug, Clone, clap::Args)]
pub struct Compiler {
    /// Folder of compiled plugins.
    #[arg(long)]
    cache: PathBuf,
    /// Instances of the engine.
    #[arg(long)]
    instances: u32,
    /// Largest memory of an instance.
    #[arg(long)]
    memory: usize,
}

impl Compiler {
    pub(super) fn of(engine: &EngineConfig) -> Self {
        Self { cache: engine.cache_dir.clone(), instances: engine.max_instances, memory: engine.max_memory }
    }

    /// In the compiling process: bounds itself, and compiles a plugin into the cache.
    ///
    /// # Errors
    /// What is wrong with the plugin, or with this process, for a person.
    pub fn run(self, plugin: &Path) -> anyhow::Result<()> {
        rustix::process::nice(NICE)?;
        let bound = |resource, most| {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            rustix::process::setrlimit(resource, limit)
        };
        bound(Resource::Data, MEMORY)?;
        bound(Resource::Cpu, TIME.as_secs())?;
        // A compiler that fails must not fill the disk.
        bound(Resource::Core, 0)?;
        let mut config = EngineConfig::new(self.cache);
        (config.max_instances, config.max_memory) = (self.instances, self.memory);
        Engine::new(config)?.load(plugin)?;
        Ok(())
    }

    /// In the gateway: has another process compile a plugin. Blocks; ends early once `stop` is set, or at `until`.
    ///
    /// # Errors
    /// Why it was not compiled, for a person.
    pub(super) fn compile(
        &self,
        plugin: &Path,
        stop: &AtomicBool,
        until: Option<Instant>,
    ) -> Result<(), String> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("compile-plugin").arg("--cache").arg(&self.cache);
        command.arg("--instances").arg(self.instances.to_string());
        command.arg("--memory").arg(self.memory.to_string()).arg(plugin);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("no process to compile it in: {error}"))?;
        let waited = wait(&mut child, stop, until);
        if waited.is_err() {
            // It may have ended just now.
            child.kill().ok();
            child.wait().ok();
        }
        let status = waited?;
        if status.success() {
            return Ok(());
        }
        let mut says = Vec::new();
        if let Some(stderr) = child.stderr {
            // What it says fits the pipe, and it has ended: this does not wait.
            stderr.take(SAYS).read_to_end(&mut says).ok();
        }
        let says = String::from_utf8_lossy(&says);
        Err(match status.code() {
            Some(1) => says.trim().to_owned(),
            _ => format!(
                "the compiler ended with {status}: it may take {} MiB and {} s",
                MEMORY >> 20,
                TIME.as_secs()
            ),
        })
    }
}

fn wait(child: &mut Child, stop: &AtomicBool, start: Option<Instant>) -> Result<ExitStatus, String> {
    let until = Instant::now() + TIME;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(error) => return Err(format!("the compiler cannot be waited for: {error}")),
        }
        if stop.load(Ordering::Relaxed) {
            return Err("the gateway stops".to_owned());
        }
        if start.is_some_and(|start| Instant::now() > start) {
            return Err("it takes longer than the others wait for at a start; its lane runs once it is done"
                .to_owned());
        }
        if Instant::now() > until {
            return Err(format!("it was not compiled within {} s", TIME.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
}
