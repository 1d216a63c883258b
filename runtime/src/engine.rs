//! The engine: one per process. Loads plugin files and owns what all instances share: the compiler, the pool of instance
//! slots, the epoch clock, the cache of compiled plugins.
//!
//! Memory: a slot is address space until it is used; an idle engine costs about 2 MiB.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::bindings::exports::sluice::plugin::{decoding, processing};
use crate::cache::Cache;
use crate::host::HostState;
use crate::inspect::{Finding, VERSION, inspect};
use crate::limits::TABLE_ELEMENTS;
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

/// Which world a plugin implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Frames in, frames out.
    Processor,
    /// Messages in, frames out.
    Decoder,
}

/// SHA-256 of a plugin file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::cache::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A plugin, compiled and ready to be instantiated; clones share it.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) shared: Arc<Loaded>,
}

pub(crate) struct Loaded {
    pub(crate) digest: Digest,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) world: World,
}

/// The component with its imports resolved, and where its exports are.
pub(crate) enum World {
    Processor(wasmtime::component::InstancePre<HostState>, processing::GuestIndices),
    Decoder(wasmtime::component::InstancePre<HostState>, decoding::GuestIndices),
}

impl Plugin {
    /// SHA-256 of its file.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.shared.digest
    }

    /// Its name: as its author wrote it into the file, else the file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its version, as its author wrote it into the file; empty if there is none.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// The interface it was built for.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        VERSION
    }

    /// Which world it implements.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.shared.world {
            World::Processor(..) => Kind::Processor,
            World::Decoder(..) => Kind::Decoder,
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({} {}, {:?}, {})", self.name(), self.version(), self.kind(), self.digest())
    }
}

/// Why a file is refused as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the plugin {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than the engine allows.
    #[error("the plugin {path} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not a WebAssembly component.
    #[error("{path} is {what}, not a WebAssembly component{advice}")]
    NotComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
        /// What to do about it; begins with ": ", or is empty.
        advice: &'static str,
    },
    /// It was built for another version of the plugin interface.
    #[error("{path} was built for {found}, this gateway speaks sluice:plugin@{VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The import or export that says so.
        found: String,
    },
    /// It exports neither of the interfaces of a plugin.
    #[error(
        "{path} is a component but no plugin: it exports {exports}, \
         and neither sluice:plugin/processing@{VERSION} nor sluice:plugin/decoding@{VERSION}"
    )]
    NoInterface {
        /// The file.
        path: PathBuf,
        /// What it exports, for a person.
        exports: String,
    },
    /// It imports something that the host does not offer.
    #[error("{path} imports {import}, which no plugin may: {advice}")]
    Import {
        /// The file.
        path: PathBuf,
        /// The import.
        import: String,
        /// The build flag that removes it, or what is allowed.
        advice: &'static str,
    },
    /// It is damaged or uses a feature of WebAssembly that is not supported.
    #[error("{path} cannot be compiled: {cause}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What wasmtime says.
        cause: String,
    },
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

    /// Loads a plugin: reads it, looks at what it says about itself, then compiles it or takes it from the cache.
    ///
    /// # Errors
    /// [`LoadError`] names the file, what is wrong with it and, where there is one, the way out.
    pub fn load(&self, path: &Path) -> Result<Plugin, LoadError> {
        let bytes = self.read(path)?;
        let inspected = inspect(&bytes).map_err(|finding| refusal(path, finding))?;
        let digest = Digest(Sha256::digest(&bytes).into());
        let invalid = |error: wasmtime::Error| LoadError::Invalid {
            path: path.to_owned(),
            cause: format!("{error:#}"),
        };
        let component = self.component(digest, &bytes).map_err(invalid)?;
        let pre = self.shared.linker.instantiate_pre(&component).map_err(invalid)?;
        let world = match inspected.kind {
            Kind::Processor => {
                let indices = processing::GuestIndices::new(&pre).map_err(invalid)?;
                World::Processor(pre, indices)
            }
            Kind::Decoder => {
                let indices = decoding::GuestIndices::new(&pre).map_err(invalid)?;
                World::Decoder(pre, indices)
            }
        };
        let (name, version) = inspected.label.unwrap_or_else(|| (file_name(path), String::new()));
        Ok(Plugin { shared: Arc::new(Loaded { digest, name, version, world }) })
    }

    /// Whether a plugin's machine code is in the cache, so that [`load`](Self::load) need not compile it. False if the file
    /// cannot be read.
    #[must_use]
    pub fn is_compiled(&self, path: &Path) -> bool {
        let digest = self.read(path).map(|bytes| Digest(Sha256::digest(bytes).into()));
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

    fn read(&self, path: &Path) -> Result<Vec<u8>, LoadError> {
        let limit = self.shared.config.max_plugin_bytes;
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > limit {
            return Err(LoadError::TooLarge { path: path.to_owned(), bytes, limit });
        }
        std::fs::read(path).map_err(read)
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
    // What a slot keeps resident for the next instance, and how many slots do: 1 MiB in all.
    const KEEP_RESIDENT: usize = 256 << 10;
    const WARM_SLOTS: u32 = 4;

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

fn refusal(path: &Path, finding: Finding) -> LoadError {
    let path = path.to_owned();
    match finding {
        Finding::NotWasm => LoadError::NotComponent { path, what: "no WebAssembly", advice: "" },
        Finding::Module => LoadError::NotComponent {
            path,
            what: "a core module",
            advice: ": link with wasm-component-ld, or run `wasm-tools component new` on it",
        },
        Finding::Damaged(cause) => LoadError::Invalid { path, cause },
        Finding::Version { found } => LoadError::Version { path, found },
        Finding::NoExport { exports } if exports.is_empty() => {
            LoadError::NoInterface { path, exports: "no interface".into() }
        }
        Finding::NoExport { exports } => LoadError::NoInterface { path, exports: exports.join(", ") },
        Finding::Import { import } => {
            let advice = if import.starts_with("wasi:") {
                "plugins have no WASI. Build without it: Rust with --target wasm32-unknown-unknown, \
                 Python with componentize-py --stub-wasi, JavaScript with jco componentize --backend-qjs-stub-wasi, \
                 C with -mexec-model=reactor and no use of files or clocks"
            } else {
                "it may import the interfaces types, log, metrics, state, clock and link of sluice:plugin alone"
            };
            LoadError::Import { path, import, advice }
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
