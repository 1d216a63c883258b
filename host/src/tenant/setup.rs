//! What a step or decoder is made of: plugin, configuration, limits, grants; and how it becomes a running one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gateway_config::{Import, Limits, OnFault, Quarantine, Tenant};
use runtime::{CallContext, ConfigureFault, DecodeStep, Engine, Imports, Plugin, Step, StepConfig};

use super::plugins::Plugins;
use super::runner::Runner;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Step,
    Decoder,
}

/// What a step or decoder is made of.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) role: Role,
    /// Under which its state is kept.
    pub(super) key: Arc<str>,
    /// A decoder's name, as sources refer to it.
    pub(super) name: String,
    pub(super) plugin: Plugin,
    pub(super) with: String,
    pub(super) limits: Limits,
    pub(super) imports: BTreeSet<Import>,
    pub(super) on_fault: OnFault,
    pub(super) quarantine: Quarantine,
}

impl Setup {
    /// Those of a tenant: steps in order, then decoders by name.
    pub(super) fn all(tenant: &Tenant, plugins: &Plugins) -> Vec<Setup> {
        let mut keys = step_keys(tenant).into_iter();
        let mut all = Vec::new();
        for (step, loaded) in tenant.steps.iter().zip(&plugins.steps) {
            let Some(key) = keys.next() else { break };
            all.push(Setup {
                role: Role::Step,
                key,
                name: step.name.clone(),
                plugin: loaded.plugin.clone(),
                with: step.with.clone(),
                limits: step.limits,
                imports: step.imports.clone(),
                on_fault: step.on_fault,
                quarantine: step.quarantine,
            });
        }
        for (decoder, plugin) in tenant.decoders.values().zip(&plugins.decoders) {
            let Some(key) = keys.next() else { break };
            all.push(Setup {
                role: Role::Decoder,
                key,
                name: decoder.name.clone(),
                plugin: plugin.clone(),
                with: decoder.with.clone(),
                limits: decoder.limits,
                imports: decoder.imports.clone(),
                on_fault: held(decoder.on_fault),
                quarantine: decoder.quarantine,
            });
        }
        all
    }

    /// Whether a step made of this would be the same one.
    pub(super) fn same(&self, other: &Setup) -> bool {
        self.same_version(other) && self.limits == other.limits && self.imports == other.imports
    }

    /// Whether plugin and configuration are the same.
    pub(super) fn same_version(&self, other: &Setup) -> bool {
        self.role == other.role && self.plugin.digest() == other.plugin.digest() && self.with == other.with
    }

    /// Makes and configures an instance. `state_version`: the plugin version that wrote the state, where known.
    pub(super) async fn make(
        &self,
        engine: &Engine,
        state: Vec<(String, Vec<u8>)>,
        state_version: Option<String>,
        context: &CallContext,
    ) -> Result<Runner, ConfigureFault> {
        let mut config = step_config(&self.key, &self.with, &self.limits);
        config.imports = granted(&self.imports);
        config.state_version = state_version;
        Ok(match self.role {
            Role::Step => Runner::Step(Step::new_async(engine, &self.plugin, config, state, context).await?),
            Role::Decoder => {
                Runner::Decoder(DecodeStep::new_async(engine, &self.plugin, config, state, context).await?)
            }
        })
    }
}

/// Messages cannot go past their decoder.
fn held(on_fault: OnFault) -> OnFault {
    if on_fault == OnFault::Bypass { OnFault::Hold } else { on_fault }
}

/// The names under which a tenant's steps and, behind them, its decoders are known and keep their state.
pub(crate) fn step_keys(tenant: &Tenant) -> Vec<Arc<str>> {
    let decoders: Vec<String> =
        tenant.decoders.values().map(|decoder| format!("decoder {}", decoder.name)).collect();
    let steps = tenant.steps.iter().map(|step| step.name.as_str());
    keys(steps.chain(decoders.iter().map(String::as_str)))
}

/// A step's configuration as the runtime takes it, with everything granted.
pub(crate) fn step_config(name: &str, with: &str, limits: &Limits) -> StepConfig {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    StepConfig {
        name: name.to_owned(),
        config_json: with.to_owned(),
        limits: runtime::Limits {
            memory: bytes(limits.memory),
            time: limits.time,
            output_bytes: bytes(limits.output),
            state_bytes: bytes(limits.state),
            log_lines: limits.log_lines as usize,
            ..runtime::Limits::default()
        },
        ..StepConfig::default()
    }
}

/// What the operator grants, as the runtime takes it.
pub(crate) fn granted(imports: &BTreeSet<Import>) -> Imports {
    imports
        .iter()
        .map(|import| match import {
            Import::Log => runtime::Import::Log,
            Import::Metrics => runtime::Import::Metrics,
            Import::State => runtime::Import::State,
            Import::Clock => runtime::Import::Clock,
            Import::Link => runtime::Import::Link,
        })
        .collect()
}

/// The key under which a step's state is kept, for each name in order: the name, and for one used before its count.
fn keys<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
    let mut before: HashMap<&str, u32> = HashMap::new();
    names
        .map(|name| {
            let count = before.entry(name).or_default();
            *count += 1;
            if *count == 1 { name.into() } else { format!("{name}#{count}").into() }
        })
        .collect()
}
