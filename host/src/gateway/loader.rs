//! Loads plugins for lanes: from the configured file, by way of the shelf, compiled apart, as far as signatures allow.
//!
//! Blocks, and may take minutes; never called on a thread that has other work. Does not start or swap lanes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use gateway_config::Tenant;
use runtime::signature::{KeyRing, Verdict, verify};
use runtime::{Digest, Engine, EngineConfig, LoadError, Plugin, Trust};

use super::compile::Compiler;
use super::shelf::Shelf;
use crate::tenant::{self, LaneError, Plugins};

/// Times that a file is looked at again because it changed while it was looked at.
const LOOKS: usize = 3;

/// Loads plugins; clones share it.
#[derive(Clone)]
pub(super) struct Loader {
    engine: Engine,
    compiler: Compiler,
    pub(super) shelf: Shelf,
    /// What was loaded since [`Loader::forget`]: many tenants use the same plugins.
    loaded: Arc<Mutex<HashMap<Known, Plugin>>>,
    ring: Arc<RwLock<KeyRing>>,
    stop: Arc<AtomicBool>,
}

/// A file with its content, and whether it had to be signed.
type Known = (PathBuf, Digest, bool);

/// The plugin files of a tenant as they are, in the order in which they are loaded.
pub(super) type Files = Vec<(PathBuf, Option<Digest>)>;

impl Loader {
    pub(super) fn new(engine: Engine, config: &EngineConfig, data_dir: &Path) -> Self {
        Self {
            engine,
            compiler: Compiler::of(config),
            shelf: Shelf::of(data_dir),
            loaded: Arc::default(),
            ring: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Trusts the keys of this ring, and no others, from now on.
    ///
    /// # Errors
    /// A key that is none, for a person.
    pub(super) fn trust(&self, plugins: &gateway_config::Plugins) -> Result<(), String> {
        let key = |key: &gateway_config::TrustedKey| match key.key.parse() {
            Ok(public) => Ok((key.name.clone(), public)),
            Err(error) => Err(format!("plugins.keys: key {:?}: {error}", key.name)),
        };
        let ring: KeyRing = plugins.keys.iter().map(key).collect::<Result<_, _>>()?;
        let mut trusted = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if *trusted != ring {
            *trusted = ring;
            self.forget();
        }
        Ok(())
    }

    /// Where a lane finds versions again that were in use.
    pub(super) fn as_shelf(&self) -> tenant::Shelf {
        let this = self.clone();
        Arc::new(move |digest| this.by_digest(digest))
    }

    /// Loads the plugins of a tenant. What is not compiled by `until` is given up.
    ///
    /// # Errors
    /// [`LaneError::Plugin`] of the first that cannot be loaded.
    pub(super) fn plugins(&self, tenant: &Tenant, until: Option<Instant>) -> Result<Plugins, LaneError> {
        Plugins::load_with(tenant, |used, path| self.load(path, tenant.must_be_signed(used), until))
    }

    /// The files of a tenant's plugins, with what is in them; nothing for those that cannot be read.
    pub(super) fn files(&self, tenant: &Tenant) -> Files {
        let steps = tenant.steps.iter().flat_map(|step| {
            let shadow = step.shadow.as_ref().map(|shadow| &shadow.plugin);
            std::iter::once(&step.plugin).chain(shadow)
        });
        let all = steps.chain(tenant.decoders.values().map(|decoder| &decoder.plugin));
        all.map(|path| (path.clone(), self.shelf.put(path).ok().map(|shelved| shelved.digest))).collect()
    }

    /// Loads the plugin of a digest that is or was in use.
    ///
    /// # Errors
    /// [`LoadError`]: it is not on the shelf any more, or no longer loads.
    pub(super) fn by_digest(&self, digest: &str) -> Result<Plugin, LoadError> {
        let path = self.shelf.get(digest)?.path;
        self.compile(&path, None)?;
        self.engine.load(&path)
    }

    /// Ends what takes long, for good.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets plugins go that no lane uses.
    pub(super) fn forget(&self) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn load(&self, path: &Path, required: bool, until: Option<Instant>) -> Result<Plugin, LoadError> {
        let trust =
            Trust { ring: self.ring.read().unwrap_or_else(PoisonError::into_inner).clone(), required };
        for _ in 0..LOOKS {
            let shelved = self.shelf.put(path)?;
            let key = (path.to_owned(), shelved.digest, required);
            if let Some(plugin) = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
                return Ok(plugin.clone());
            }
            // What is refused anyway is not compiled: the engine says why, and looks at that first.
            if !refused(&verify(&shelved.bytes, &trust.ring), required) {
                self.compile(path, until)?;
            }
            let plugin = self.engine.load_trusted(path, &trust)?;
            if plugin.digest() == shelved.digest {
                tracing::debug!(plugin = %path.display(), digest = %plugin.digest(), signed_by = plugin.signed_by(), "plugin loaded");
                self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(key, plugin.clone());
                return Ok(plugin);
            }
        }
        Err(LoadError::Invalid {
            path: path.to_owned(),
            cause: "it changes while it is loaded: put a new version beside it and rename it".to_owned(),
        })
    }

    /// Has a plugin compiled that is not yet.
    fn compile(&self, path: &Path, until: Option<Instant>) -> Result<(), LoadError> {
        if self.engine.is_compiled(path) {
            return Ok(());
        }
        runtime::inspect_file(path)?;
        tracing::info!(plugin = %path.display(), "compiling a plugin that is new here");
        let begun = Instant::now();
        self.compiler.compile(path, &self.stop, until).map_err(|cause| {
            // The compiler's process says where by itself.
            let place = format!("{} cannot be compiled: ", path.display());
            let cause = cause.strip_prefix(&place).unwrap_or(&cause).to_owned();
            LoadError::Invalid { path: path.to_owned(), cause }
        })?;
        tracing::info!(plugin = %path.display(), seconds = begun.elapsed().as_secs_f64(), "plugin compiled");
        Ok(())
    }
}

fn refused(verdict: &Verdict, required: bool) -> bool {
    match verdict {
        Verdict::Signed { .. } => false,
        Verdict::Unsigned | Verdict::UnknownKey { .. } => required,
        Verdict::Wrong => true,
    }
}
