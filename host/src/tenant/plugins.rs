//! A tenant's plugins, loaded: what a lane is started or swapped with. Loading reads files and may compile, so it is done
//! before, by whoever may block; a lane does neither, but for versions on the shelf, on a thread apart.

use std::path::Path;
use std::sync::Arc;

use gateway_config::Tenant;
use runtime::{Engine, LoadError, Plugin};

use super::LaneError;

/// Gives the plugin of a digest (64 hexadecimal digits) that is or was in use. May block.
pub type Shelf = Arc<dyn Fn(&str) -> Result<Plugin, LoadError> + Send + Sync>;

/// The plugins of a tenant's steps and decoders.
#[derive(Clone)]
pub struct Plugins {
    pub(super) steps: Vec<LoadedStep>,
    pub(super) decoders: Vec<Plugin>,
}

#[derive(Clone)]
pub(super) struct LoadedStep {
    pub(super) plugin: Plugin,
    /// The candidate beside it; in words why it cannot be loaded, which harms nobody but itself.
    pub(super) shadow: Option<Result<Plugin, String>>,
}

impl Plugins {
    /// Loads all of them by the engine, with no requirement as to signatures. Blocks.
    ///
    /// # Errors
    /// [`LaneError::Plugin`] of the first that cannot be loaded.
    pub fn load(engine: &Engine, tenant: &Tenant) -> Result<Self, LaneError> {
        Self::load_with(tenant, |_, path| engine.load(path))
    }

    /// Loads all of them by a function of `use` as written and the file.
    ///
    /// # Errors
    /// [`LaneError::Plugin`] of the first that cannot be loaded. A shadow that cannot is no error: see
    /// [`Plugins::shadow_errors`].
    pub fn load_with(
        tenant: &Tenant,
        mut load: impl FnMut(&str, &Path) -> Result<Plugin, LoadError>,
    ) -> Result<Self, LaneError> {
        let mut steps = Vec::with_capacity(tenant.steps.len());
        for step in &tenant.steps {
            let plugin = load(&step.used, &step.plugin)
                .map_err(|cause| LaneError::load(&tenant.id, &step.name, &step.plugin, cause))?;
            let shadow = step.shadow.as_ref().map(|shadow| {
                load(&shadow.name, &shadow.plugin).map_err(|cause| {
                    LaneError::load(&tenant.id, &shadow.name, &shadow.plugin, cause).to_string()
                })
            });
            steps.push(LoadedStep { plugin, shadow });
        }
        let mut decoders = Vec::with_capacity(tenant.decoders.len());
        for decoder in tenant.decoders.values() {
            let plugin = load(&decoder.used, &decoder.plugin)
                .map_err(|cause| LaneError::load(&tenant.id, &decoder.name, &decoder.plugin, cause))?;
            decoders.push(plugin);
        }
        Ok(Self { steps, decoders })
    }

    /// All plugins that were loaded, shadows included.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        let shadows = self.steps.iter().filter_map(|step| step.shadow.as_ref()?.as_ref().ok());
        self.steps.iter().map(|step| &step.plugin).chain(shadows).chain(&self.decoders)
    }

    /// Why shadows cannot be loaded, for a person.
    pub fn shadow_errors(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.shadow.as_ref()?.as_ref().err().map(String::as_str))
    }
}
