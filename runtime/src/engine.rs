//! The engine: one per process. Loads plugin files and owns what all instances share: the compiler, the pool of instance
//! slots, the epoch clock, the cache of compiled plugins.
//!
//! Memory: a slot is address space until it is used; an idle engine costs about 2 MiB.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::bindings::exports::sluice::plugin::{decoding, migration, processing};
use crate::cache::Cache;
use crate::host::HostState;
use crate::inspect::inspect;
use crate::inspection::read;
use crate::limits::TABLE_ELEMENTS;
use crate::load::{LoadError, refusal};
use crate::plugin::{Digest, Exports, Kind, Loaded, Plugin};
use crate::signature::{Trust, Verdict, verify};
use crate::ticker::{Running, Ticker};

/// What the engine may use up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Folder of compiled plugins; made private to the gateway (see the `cache` module).
    pub cache_dir: PathBuf,
    /// Most steps that can be alive at once, over all tenants (default 256). Another one is refused with a fault.
    pub max_instances: u32,
    /// The most memory any step may be given, in bytes (default 512 MiB). A step's own limit is below.
    pub max_memory: usize,
    /// Largest plugin file, in bytes (default 64 MiB).
    pub max_plugin_bytes: u64,
}

impl EngineConfig {
    /// The defaults, with the cache in that folder.
    #[must_use]
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        EngineConfig {
            cache_dir: cache_dir.into(),
            max_instances: 256,
            max_memory: 512 << 20,
            max_plugin_bytes: 64 << 20,
        }
    }
}

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    // Dropped first: no epoch is advanced after the engine is gone.
    ticker: Ticker,
    wasmtime: wasmtime::Engine,
    linker: Linker<HostState>,
    cache: Cache,
    config: EngineConfig,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refuses the settings or cannot reserve the address space.
    #[error("cannot start the WebAssembly engine ({max_instances} instances): {cause}")]
    Start {
        /// As configured.
        max_instances: u32,
        /// What wasmtime says.
        cause: String,
    },
    /// The epoch clock's thread cannot be started.
    #[error("cannot start the thread that stops guests at their deadline")]
    Ticker(#[from] std::io::Error),
}

impl Engine {
    /// Starts the engine.
    ///
    /// # Errors
    /// [`EngineError`] if the address space cannot be reserved or a thread cannot be started.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let max_instances = config.max_instances;
        let start =
            move |error: wasmtime::Error| EngineError::Start { max_instances, cause: format!("{error:#}") };
        let wasmtime = wasmtime::Engine::new(&settings(&config)).map_err(start)?;
        let mut linker = Linker::new(&wasmtime);
        crate::bindings::Plugin::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)
            .map_err(start)?;
        let cache = Cache::new(&config.cache_dir, &wasmtime);
        let ticker = Ticker::start(wasmtime.clone())?;
        Ok(Engine { shared: Arc::new(Shared { ticker, wasmtime, linker, cache, config }) })
    }

    /// Loads a plugin, signed or not: reads it, looks at what it says about itself, then compiles it or takes it from the
    /// cache.
    ///
    /// # Errors
    /// [`LoadError`] names the file, what is wrong with it and, where there is one, the way out.
    pub fn load(&self, path: &Path) -> Result<Plugin, LoadError> {
        self.load_trusted(path, &Trust::default())
    }

    /// As [`Engine::load`], and looks at its signature: one that does not match is always refused, one that is missing or
    /// of somebody else only where a signature is required.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_trusted(&self, path: &Path, trust: &Trust) -> Result<Plugin, LoadError> {
        let bytes = read(path, self.shared.config.max_plugin_bytes)?;
        let inspected = inspect(&bytes).map_err(|finding| refusal(path, finding))?;
        let signed_by = check_signature(path, &bytes, trust)?;
        let digest = Digest(Sha256::digest(&bytes).into());
        let invalid = |error: wasmtime::Error| LoadError::Invalid {
            path: path.to_owned(),
            cause: format!("{error:#}"),
        };
        let component = self.component(digest, &bytes).map_err(invalid)?;
        let pre = self.shared.linker.instantiate_pre(&component).map_err(invalid)?;
        let exports = match inspected.kind {
            Kind::Processor => Exports::Processor(processing::GuestIndices::new(&pre).map_err(invalid)?),
            Kind::Decoder => Exports::Decoder(decoding::GuestIndices::new(&pre).map_err(invalid)?),
        };
        let migration = inspected.migrates.then(|| migration::GuestIndices::new(&pre));
        let migration = migration.transpose().map_err(invalid)?;
        let mut manifest = inspected.manifest;
        manifest.name = manifest.name.or_else(|| Some(file_name(path)));
        Ok(Plugin { shared: Arc::new(Loaded { digest, manifest, signed_by, pre, exports, migration }) })
    }

    /// Whether a plugin's machine code is in the cache, so that [`load`](Self::load) need not compile it. False if the file
    /// cannot be read.
    #[must_use]
    pub fn is_compiled(&self, path: &Path) -> bool {
        let digest =
            read(path, self.shared.config.max_plugin_bytes).map(|bytes| Digest(Sha256::digest(bytes).into()));
        digest.is_ok_and(|digest| self.shared.cache.has(digest))
    }

    /// To be held while a guest is polled, so that its time slice ends.
    pub(crate) fn guest_runs(&self) -> Running<'_> {
        self.shared.ticker.running()
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.shared.wasmtime
    }

    pub(crate) fn max_memory(&self) -> usize {
        self.shared.config.max_memory
    }

    fn component(&self, digest: Digest, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Shared { wasmtime, cache, .. } = &*self.shared;
        if let Some(checked) = cache.read(digest) {
            match crate::precompiled::load(wasmtime, &checked) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(%digest, %error, "a compiled plugin does not fit: compiling it again")
                }
            }
        }
        let component = Component::from_binary(wasmtime, bytes)?;
        cache.write(digest, &component.serialize()?);
        Ok(component)
    }
}

fn settings(config: &EngineConfig) -> wasmtime::Config {
    // A component of Rust or C has 3 core instances: its own, and two that wire its imports up. The engines of JavaScript
    // (13) and Python (38) are linked from shared libraries.
    const CORE_INSTANCES: u32 = 64;
    // One that is used; the stubs which stand for WASI in a JavaScript guest bring two of no pages.
    const MEMORIES: u32 = 4;
    const TABLES: u32 = 4;
    // What a slot keeps resident for the next instance, and how many slots do: at most 4 MiB in all. Less would cost a
    // fresh instance some page faults and unmappings, i.e. more than all else it does.
    const KEEP_RESIDENT: usize = 1 << 20;
    const WARM_SLOTS: u32 = 4;
    // A few thousand elements; beyond, a table is unmapped when its instance goes.
    const TABLE_KEEP_RESIDENT: usize = 32 << 10;

    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(config.max_instances)
        .total_core_instances(config.max_instances.saturating_mul(CORE_INSTANCES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(config.max_instances)
        .max_memories_per_component(MEMORIES)
        .max_memory_size(config.max_memory)
        .total_tables(config.max_instances.saturating_mul(TABLES))
        .total_stacks(config.max_instances)
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(Enabled::Auto);

    let mut settings = wasmtime::Config::new();
    settings
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        // One call at a time in an instance; this alone takes an empty call from 530 to 180 ns.
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    settings
}

/// Who signed it, if that is known.
fn check_signature(path: &Path, bytes: &[u8], trust: &Trust) -> Result<Option<String>, LoadError> {
    let path = || path.to_owned();
    match verify(bytes, &trust.ring) {
        Verdict::Signed { by } => Ok(Some(by)),
        Verdict::Wrong => Err(LoadError::BadSignature { path: path() }),
        Verdict::Unsigned if trust.required => Err(LoadError::Unsigned { path: path() }),
        Verdict::UnknownKey { key } if trust.required => Err(LoadError::UntrustedKey { path: path(), key }),
        Verdict::Unsigned | Verdict::UnknownKey { .. } => Ok(None),
    }
}

fn file_name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
