//! What the configuration said of each step when it was last taken over: so that a version that was promoted or taken back
//! since stays, over restarts too, until the configuration or the plugin's file says something new.
//!
//! ```text
//! <data_dir>/applied.json       tenant → step → what the configuration said (plugin, with), its shadow, what ran before
//!
//! says the same as now?  no  → what the configuration says runs
//!                        yes → what the store says runs: it was promoted or taken back
//! ```
//! Written after a change is on disk in the tenant's store. If the two do not fit because the power went in between, the
//! configuration wins.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_config::Tenant;
use serde::{Deserialize, Serialize};
use wire::ids::TenantId;

use super::loader::Files;
use super::shelf::Shelf;
use crate::store::StepVersions;
use crate::tenant::step_keys;

/// A plugin with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// SHA-256 of the file; empty if it could not be read.
    pub(super) digest: String,
    /// `with` as JSON.
    pub(super) with: String,
}

/// What the configuration says of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) runs: Version,
    #[serde(default)]
    shadow: Option<Version>,
    /// What it said before that was another version, and shadows it had; the latest first.
    #[serde(default)]
    before: Vec<Version>,
    /// What runs instead: it was promoted or taken back.
    #[serde(default)]
    instead: Option<Version>,
}

/// Most versions that are remembered of a step: only those the lane can go back to matter.
const BEFORE: usize = 4;

/// By step.
pub(super) type Steps = BTreeMap<Arc<str>, Said>;

/// All tenants' steps, and where they are written down.
#[derive(Debug, Default)]
pub(super) struct Applied {
    file: PathBuf,
    tenants: BTreeMap<TenantId, Steps>,
    /// Versions that run instead of what the configuration says, as found at the start.
    instead: BTreeMap<(TenantId, Arc<str>), (Version, Version)>,
    written: Vec<u8>,
}

impl Applied {
    /// As it was written down; nothing if that cannot be read.
    pub(super) fn read(data_dir: &Path) -> Self {
        let file = data_dir.join("applied.json");
        let read = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, tenants: read.unwrap_or_default(), ..Self::default() }
    }

    /// The tenant with those steps changed that do not run as the configuration says, because they were promoted or taken
    /// back before the start. `versions` is what the tenant's store says.
    pub(super) fn at_start(
        &mut self,
        tenant: &Tenant,
        files: &Files,
        versions: &[StepVersions],
        shelf: &Shelf,
    ) -> Tenant {
        for (key, said) in steps(tenant, files) {
            let Some(before) = self.tenants.get(&tenant.id).and_then(|steps| steps.get(&key)) else {
                continue;
            };
            let Some(versions) = versions.iter().find(|versions| *versions.step == *key) else { continue };
            let digest = &versions.current.digest;
            if before.runs != said.runs || shelf.get(digest).is_err() {
                continue;
            }
            let noted = before.instead.as_ref().filter(|instead| instead.digest == *digest);
            let runs = match noted {
                Some(instead) => instead.clone(),
                None if *digest == said.runs.digest => continue,
                // The power went before it could be noted.
                None => {
                    let mut known = before.shadow.iter().chain(&before.before);
                    let with =
                        known.find(|version| version.digest == *digest).unwrap_or(&said.runs).with.clone();
                    Version { digest: digest.clone(), with }
                }
            };
            tracing::info!(
                tenant = %tenant.id, step = %key, %digest, configured = %said.runs.digest,
                "a step goes on with the version that was promoted or taken back; the configuration says nothing new"
            );
            self.instead.insert((tenant.id.clone(), key), (said.runs, runs));
        }
        self.effective(tenant, files, shelf)
    }

    /// The tenant as it is to run.
    pub(super) fn effective(&mut self, tenant: &Tenant, files: &Files, shelf: &Shelf) -> Tenant {
        let said = steps(tenant, files);
        let mut effective = tenant.clone();
        let names: Vec<&String> = tenant.decoders.keys().collect();
        for (place, key) in step_keys(tenant).into_iter().enumerate() {
            let at = (tenant.id.clone(), Arc::clone(&key));
            let Some((configured, runs)) = self.instead.get(&at) else { continue };
            if said.get(&key).map(|said| &said.runs) != Some(configured) {
                self.instead.remove(&at);
                continue;
            }
            let path = shelf.path(&runs.digest);
            let decoder = place.checked_sub(tenant.steps.len()).and_then(|place| names.get(place));
            if let Some(step) = effective.steps.get_mut(place) {
                (step.plugin, step.with) = (path, runs.with.clone());
            } else if let Some(decoder) = decoder.and_then(|name| effective.decoders.get_mut(*name)) {
                (decoder.plugin, decoder.with) = (path, runs.with.clone());
            }
        }
        effective
    }

    /// A tenant's steps are as the configuration says now.
    pub(super) fn took_over(&mut self, tenant: &Tenant, files: &Files) {
        let mut now = steps(tenant, files);
        let old = self.tenants.remove(&tenant.id).unwrap_or_default();
        for (key, said) in &mut now {
            if let Some(old) = old.get(key) {
                let gone = std::iter::once(&old.runs).chain(&old.shadow).chain(&old.before);
                let gone = gone.filter(|old| **old != said.runs && Some(*old) != said.shadow.as_ref());
                said.before = gone.take(BEFORE).cloned().collect();
            }
        }
        self.tenants.insert(tenant.id.clone(), now);
    }

    /// What a tenant's steps run now, by step.
    pub(super) fn runs<'r>(&mut self, tenant: &TenantId, runs: impl Iterator<Item = (&'r str, Version)>) {
        let Some(steps) = self.tenants.get_mut(tenant) else { return };
        for (step, runs) in runs {
            if let Some(said) = steps.get_mut(step) {
                said.instead = Some(runs).filter(|runs| *runs != said.runs);
            }
        }
    }

    /// Forgets tenants that are gone, and writes everything down. What cannot be written is logged: a promotion would not
    /// outlive a restart.
    pub(super) fn write(&mut self, tenants: &[TenantId]) {
        self.tenants.retain(|id, _| tenants.contains(id));
        if let Err(error) = self.try_write() {
            tracing::warn!(file = %self.file.display(), %error, "what the configuration says cannot be noted");
        }
    }

    fn try_write(&mut self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.tenants)?;
        if text == self.written {
            return Ok(());
        }
        let beside = self.file.with_extension("new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)?;
        self.written = text;
        Ok(())
    }
}

/// What a configuration says of a tenant's steps and decoders.
pub(super) fn steps(tenant: &Tenant, files: &Files) -> Steps {
    let version = |path: &Path, with: &str| {
        let found = files.iter().find(|(file, _)| file == path).and_then(|(_, digest)| *digest);
        Version { digest: found.map(|digest| digest.to_string()).unwrap_or_default(), with: with.to_owned() }
    };
    let steps = tenant.steps.iter().map(|step| Said {
        runs: version(&step.plugin, &step.with),
        shadow: step.shadow.as_ref().map(|shadow| version(&shadow.plugin, &shadow.with)),
        before: Vec::new(),
        instead: None,
    });
    let decoders = tenant.decoders.values().map(|decoder| Said {
        runs: version(&decoder.plugin, &decoder.with),
        shadow: None,
        before: Vec::new(),
        instead: None,
    });
    step_keys(tenant).into_iter().zip(steps.chain(decoders)).collect()
}

#[cfg(test)]
mod tests {
    use gateway_config::Step;

    use super::*;

    struct Site {
        folder: tempfile::TempDir,
        shelf: Shelf,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let shelf = Shelf::of(folder.path());
            Self { folder, shelf }
        }

        fn plugin(&self, name: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        }

        fn tenant(&self, plugin: &str, with: &str) -> (Tenant, Files) {
            let mut tenant = Tenant::new(TenantId::new("acme").unwrap());
            tenant.steps.push(Step::new("mine", self.plugin(plugin), with));
            let files = tenant
                .steps
                .iter()
                .map(|step| (step.plugin.clone(), Some(self.shelf.put(&step.plugin).unwrap().digest)));
            let files = files.collect();
            (tenant, files)
        }

        fn runs(&self, plugin: &str) -> Vec<StepVersions> {
            let digest = self.shelf.put(&self.plugin(plugin)).unwrap().digest.to_string();
            let current = crate::store::Version { digest, ..crate::store::Version::default() };
            vec![StepVersions { step: "mine".to_owned(), current, previous: None }]
        }
    }

    #[test]
    fn a_version_taken_back_stays_over_a_restart_until_the_configuration_says_something_new() {
        let site = Site::new();
        let mut applied = Applied::read(site.folder.path());
        let old = site.tenant("old", "{}");
        applied.took_over(&old.0, &old.1);
        let new = site.tenant("new", r#"{"a":1}"#);
        applied.took_over(&new.0, &new.1);
        applied.write(std::slice::from_ref(&new.0.id));

        let mut applied = Applied::read(site.folder.path());
        let runs = applied.at_start(&new.0, &new.1, &site.runs("old"), &site.shelf);
        assert_eq!(fs::read(&runs.steps[0].plugin).unwrap(), b"old");
        assert_eq!(runs.steps[0].with, "{}", "with the settings it had then");
        assert_eq!(applied.effective(&new.0, &new.1, &site.shelf), runs, "a reload that says nothing new");
        let newer = site.tenant("newer", "{}");
        assert_eq!(applied.effective(&newer.0, &newer.1, &site.shelf), newer.0);
        assert_eq!(applied.effective(&new.0, &new.1, &site.shelf), new.0, "what was said since holds");
    }

    #[test]
    fn a_file_that_was_changed_while_the_gateway_was_away_runs() {
        let site = Site::new();
        let mut applied = Applied::read(site.folder.path());
        let old = site.tenant("old", "{}");
        applied.took_over(&old.0, &old.1);
        let new = site.tenant("new", "{}");
        assert_eq!(applied.at_start(&new.0, &new.1, &site.runs("old"), &site.shelf), new.0);
        let as_said = applied.at_start(&old.0, &old.1, &site.runs("old"), &site.shelf);
        assert_eq!(as_said, old.0);
    }
}
