//! The plugins of a configuration: whether each loads and takes its settings, whose signature it bears, and what it gets of
//! what it asks for.

use std::path::{Path, PathBuf};

use gateway_config::{Config, Import, Limits, Tenant};
use runtime::signature::{KeyRing, Verdict, verify};
use runtime::{CallContext, DecodeStep, Engine, Imports, Manifest, Plugin, Step, Trust};

use super::Found;
use crate::cli::logging::chain;
use crate::cli::table::{Set, bytes, table};
use crate::gateway::engine_config;
use crate::tenant::{granted, step_config};

/// What there is to say about the plugins.
#[derive(Default)]
pub(super) struct Checked {
    /// Errors by key.
    pub(super) errors: Found,
    /// Doubts by key.
    pub(super) doubts: Found,
    /// What each plugin gets, as a table.
    pub(super) grants: String,
}

/// A use of a plugin in a configuration.
struct Use<'c> {
    tenant: &'c Tenant,
    key: String,
    /// `use` as written.
    name: &'c str,
    path: &'c Path,
    with: &'c str,
    limits: &'c Limits,
    imports: &'c std::collections::BTreeSet<Import>,
    decodes: bool,
}

pub(super) fn check(config: &Config) -> Checked {
    let mut checked = Checked::default();
    let uses: Vec<Use<'_>> = config.tenants.values().flat_map(uses).collect();
    if uses.is_empty() {
        return checked;
    }
    let key = |key: &gateway_config::TrustedKey| match key.key.parse() {
        Ok(public) => Ok((key.name.clone(), public)),
        Err(error) => Err(format!("key {:?}: {error}", key.name)),
    };
    let ring: Result<KeyRing, String> = config.plugins.keys.iter().map(key).collect();
    let ring = match ring {
        Ok(ring) => ring,
        Err(what) => {
            checked.errors.push(("plugins.keys".to_owned(), what));
            return checked;
        }
    };
    // Compiled plugins belong to the gateway's user; whoever checks may be another one.
    let cache = match PrivateFolder::make() {
        Ok(cache) => cache,
        Err(error) => {
            let what = format!("no folder for compiled plugins: {error}");
            checked.errors.push(("tenant".to_owned(), what));
            return checked;
        }
    };
    let mut settings = engine_config(config);
    settings.cache_dir.clone_from(&cache.0);
    let engine = match Engine::new(settings) {
        Ok(engine) => engine,
        Err(error) => {
            checked.errors.push(("tenant".to_owned(), chain(&error)));
            return checked;
        }
    };
    let mut rows = Vec::new();
    for one in &uses {
        let trust = Trust { ring: ring.clone(), required: one.tenant.must_be_signed(one.name) };
        match one.make(&engine, &trust) {
            Ok(plugin) => {
                checked.doubts.extend(one.doubts(plugin.manifest()));
                rows.push(one.row(&plugin, &ring));
            }
            Err(what) => checked.errors.push((format!("{}.use", one.key), what)),
        }
    }
    let heads = [
        ("PLUGIN", Set::Left),
        ("IS", Set::Left),
        ("SIGNED BY", Set::Left),
        ("MEMORY", Set::Right),
        ("TIME", Set::Right),
        ("OUTPUT", Set::Right),
        ("STATE", Set::Right),
        ("MAY USE", Set::Left),
    ];
    checked.grants = table(&heads, &rows);
    checked
}

fn uses(tenant: &Tenant) -> Vec<Use<'_>> {
    let mut uses = Vec::new();
    for (place, step) in tenant.steps.iter().enumerate() {
        let key = format!("tenant.{}.step[{place}]", tenant.id);
        let (limits, imports) = (&step.limits, &step.imports);
        if let Some(shadow) = &step.shadow {
            let key = format!("{key}.shadow");
            let (name, path, with) = (&shadow.name, &shadow.plugin, &shadow.with);
            uses.push(Use { tenant, key, name, path, with, limits, imports, decodes: false });
        }
        let (name, path, with) = (&step.used, &step.plugin, &step.with);
        uses.push(Use { tenant, key, name, path, with, limits, imports, decodes: false });
    }
    for (name, decoder) in &tenant.decoders {
        let key = format!("tenant.{}.decoder.{name}", tenant.id);
        let (name, path, with) = (&decoder.used, &decoder.plugin, &decoder.with);
        let (limits, imports) = (&decoder.limits, &decoder.imports);
        uses.push(Use { tenant, key, name, path, with, limits, imports, decodes: true });
    }
    uses
}

impl Use<'_> {
    /// As at a start.
    fn make(&self, engine: &Engine, trust: &Trust) -> Result<Plugin, String> {
        let plugin = engine.load_trusted(self.path, trust).map_err(|error| chain(&error))?;
        let mut config = step_config(self.name, self.with, self.limits);
        config.imports = granted(self.imports);
        let context = CallContext::default();
        let made = if self.decodes {
            DecodeStep::new(engine, &plugin, config, Vec::new(), &context).map(drop)
        } else {
            Step::new(engine, &plugin, config, Vec::new(), &context).map(drop)
        };
        made.map_err(|error| chain(&error))?;
        Ok(plugin)
    }

    /// What it asks for and does not get.
    fn doubts(&self, manifest: &Manifest) -> Found {
        let asks = &manifest.asks;
        let mut doubts = Found::new();
        let mut less = |key: &str, asked: Option<u64>, granted: u64, write: &dyn Fn(u64) -> String| {
            if let Some(asked) = asked.filter(|asked| *asked > granted) {
                let what = format!(
                    "the plugin asks for {}, granted are {}: that is what it gets",
                    write(asked),
                    write(granted)
                );
                doubts.push((format!("{}.limits.{key}", self.key), what));
            }
        };
        less("memory", asks.memory, self.limits.memory, &bytes);
        let milliseconds = u64::try_from(self.limits.time.as_millis()).unwrap_or(u64::MAX);
        less("time", asks.time_ms, milliseconds, &|time| format!("{time} ms"));
        less("output", asks.output, self.limits.output, &bytes);
        less("state", asks.state, self.limits.state, &bytes);
        let granted = granted(self.imports);
        let asked: &[runtime::Import] = asks.imports.as_deref().unwrap_or_default();
        let missing: Vec<&str> =
            asked.iter().filter(|import| !granted.contains(**import)).map(|import| import.name()).collect();
        if !missing.is_empty() {
            let what =
                format!("the plugin asks for {}, not granted here: such a call fails", missing.join(", "));
            doubts.push((format!("{}.grant.imports", self.key), what));
        }
        doubts
    }

    fn row(&self, plugin: &Plugin, ring: &KeyRing) -> Vec<String> {
        let asks = &plugin.manifest().asks;
        let limits = asks.limits(step_config(self.name, self.with, self.limits).limits);
        let imports: Imports = asks.imports().and(granted(self.imports));
        let signed = match plugin.signed_by() {
            Some(by) => by.to_owned(),
            None => std::fs::read(self.path).map_or("-", |content| words(&verify(&content, ring))).to_owned(),
        };
        let size = |size: usize| bytes(size as u64);
        vec![
            self.key.clone(),
            format!("{} {}", plugin.name(), plugin.version()).trim().to_owned(),
            signed,
            size(limits.memory),
            format!("{} ms", limits.time.as_millis()),
            size(limits.output_bytes),
            size(limits.state_bytes),
            imports.to_string(),
        ]
    }
}

/// A verdict where nobody of the ring has signed.
fn words(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Signed { .. } => "a key of the ring",
        Verdict::Unsigned => "unsigned",
        Verdict::UnknownKey { .. } => "an unknown key",
        Verdict::Wrong => "a wrong signature",
    }
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
