//! Which release runs for each tenant, on disk: so that it runs after a restart without any link.
//!
//! ```text
//! <data_dir>/desired/<tenant>.json      running, what ran before it, applying, the last refusal
//! <data_dir>/desired/<tenant>.<digest>.part      a content on its way
//!
//! begun ──► swapped: one commit of the tenant's store ──► on disk, and noted
//!   └ refused: what ran goes on
//! ```
//! Invariant: the lane changes by one commit of the tenant's store. `applying` is on disk before that commit and goes after it;
//! if the power goes in between, the store says which of the two runs: see [`Records::at_start`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use gateway_config::{Config, Tenant};
use serde::{Deserialize, Serialize};
use wire::ids::TenantId;
use wire::message::ContentRef;

use super::super::applied::{Steps, steps};
use super::super::loader::Loader;
use super::super::shelf::Shelf;
use super::overlay::overlay;
use crate::store::StepVersions;
use crate::tenant::Way;

/// The folder in the data folder.
pub(in crate::gateway) const FOLDER: &str = "desired";

/// What a stamp wants run for a tenant, in whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::gateway) struct Release {
    /// Its number; 0: what the gateway's own file says.
    pub(in crate::gateway) number: u64,
    pub(in crate::gateway) document: String,
    pub(in crate::gateway) contents: Vec<ContentRef>,
    /// Whether it comes as the way back to what ran before.
    #[serde(default)]
    pub(in crate::gateway) back: bool,
}

impl Release {
    /// Whether both say the same.
    pub(in crate::gateway) fn says(&self, other: &Self) -> bool {
        (self.number, &self.document, &self.contents) == (other.number, &other.document, &other.contents)
    }

    pub(in crate::gateway) fn way(&self) -> Way {
        if self.back { Way::Back } else { Way::On }
    }

    /// Bytes of its contents.
    pub(in crate::gateway) fn bytes(&self) -> u64 {
        self.contents.iter().map(|content| content.size).sum()
    }
}

/// A tenant's releases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::gateway) struct Record {
    pub(in crate::gateway) running: Release,
    /// Since when: nanoseconds since 1970 UTC.
    pub(in crate::gateway) since: i64,
    /// The number of the release that ran before it, if the way back leads there.
    before: Option<u64>,
    /// Begun, and not known to be on disk.
    pub(in crate::gateway) applying: Option<Release>,
    /// The last that was refused, and why.
    #[serde(default)]
    pub(in crate::gateway) refused: Option<(u64, String)>,
    /// Whether the lane runs `applying`.
    #[serde(skip)]
    swapped: bool,
    /// Why it cannot be read.
    #[serde(skip)]
    damaged: Option<String>,
}

impl Record {
    /// What the lane runs.
    fn now(&self) -> &Release {
        self.applying.as_ref().filter(|_| self.swapped).unwrap_or(&self.running)
    }

    fn applied(&mut self, at: i64) {
        let Some(applied) = self.applying.take() else { return };
        self.swapped = false;
        // Two versions must not bounce.
        self.before = (!applied.back && !applied.says(&self.running)).then_some(self.running.number);
        (self.running, self.since, self.refused) = (applied, at, None);
    }
}

/// All tenants' records.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Records {
    folder: PathBuf,
    tenants: BTreeMap<TenantId, Record>,
}

impl Records {
    /// As they were written down.
    pub(in crate::gateway) fn read(data_dir: &Path) -> Self {
        let folder = data_dir.join(FOLDER);
        let mut tenants = BTreeMap::new();
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            let Ok(id) = TenantId::new(name) else { continue };
            let read = fs::read(entry.path()).map_err(|error| error.to_string());
            let record =
                read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
            let damaged = |error| Record {
                damaged: Some(format!(
                    "which release runs is not known: {} cannot be read: {error}; its stamp will say it again, or remove \
                     the file to run what the configuration says",
                    entry.path().display()
                )),
                ..Record::default()
            };
            tenants.insert(id, record.unwrap_or_else(damaged));
        }
        Self { folder, tenants }
    }

    pub(in crate::gateway) fn of(&self, tenant: &TenantId) -> Option<&Record> {
        self.tenants.get(tenant)
    }

    /// What a tenant runs; nothing if no stamp has ever said.
    pub(in crate::gateway) fn runs(&self, tenant: &TenantId) -> Option<&Release> {
        self.tenants.get(tenant).filter(|record| record.damaged.is_none()).map(Record::now)
    }

    /// Which way its release came.
    pub(in crate::gateway) fn way(&self, tenant: &TenantId) -> Way {
        self.runs(tenant).map(Release::way).unwrap_or_default()
    }

    /// What was begun in an earlier life and is not done.
    pub(in crate::gateway) fn pending(&self, tenant: &TenantId) -> Option<Release> {
        self.tenants.get(tenant).filter(|record| !record.swapped)?.applying.clone()
    }

    /// Digests of contents that must stay.
    pub(in crate::gateway) fn digests(&self) -> BTreeSet<String> {
        let releases =
            self.tenants.values().flat_map(|record| record.applying.iter().chain([&record.running]));
        releases
            .flat_map(|release| release.contents.iter().map(|content| content.digest.to_string()))
            .collect()
    }

    /// A tenant as it is to run: its release over what the gateway's own file says.
    ///
    /// # Errors
    /// What is wrong with the release here, for a person.
    pub(in crate::gateway) fn over(
        &self,
        file: &Tenant,
        builtin: &Path,
        shelf: &Shelf,
    ) -> Result<Tenant, String> {
        match self.tenants.get(&file.id) {
            None => Ok(file.clone()),
            Some(Record { damaged: Some(damaged), .. }) => Err(damaged.clone()),
            Some(record) => overlay(file, record.now(), builtin, shelf),
        }
    }

    /// The configuration with all releases over it, as far as they can be read: what is to be made room for.
    pub(in crate::gateway) fn over_all(&self, file: &Config) -> Config {
        let mut all = file.clone();
        let shelf = Shelf::of(&file.gateway.data_dir);
        for tenant in all.tenants.values_mut() {
            if let Ok(over) = self.over(tenant, &file.gateway.plugins_dir, &shelf) {
                *tenant = over;
            }
        }
        all
    }

    /// A tenant as it runs from the start on. Of a change that was begun in an earlier life, `versions`, which the tenant's store
    /// knows, say whether it is on disk; if not, what ran before runs, and the change is begun again by [`Records::pending`].
    ///
    /// # Errors
    /// Why it cannot run, for a person: the lane is to be held.
    pub(in crate::gateway) fn at_start(
        &mut self,
        file: &Tenant,
        versions: &[StepVersions],
        (builtin, loader): (&Path, &Loader),
    ) -> Result<(Tenant, Way), String> {
        if let Some(record) = self.tenants.get(&file.id)
            && let Some(begun) = &record.applying
        {
            let said = |release: &Release| {
                let tenant = overlay(file, release, builtin, &loader.shelf)?;
                Ok::<_, String>(steps(&tenant, &loader.files(&tenant)))
            };
            let done = said(begun).is_ok_and(|new| is_on_disk(&new, said(&record.running).ok(), versions));
            tracing::info!(tenant = %file.id, release = begun.number, done, "a release was being applied when the gateway ended");
            if done {
                self.noted(&file.id, crate::store::wall_clock()());
            }
        }
        Ok((self.over(file, builtin, &loader.shelf)?, self.way(&file.id)))
    }

    /// A release is about to be applied. It is on disk then.
    ///
    /// # Errors
    /// For a person; nothing may be changed.
    pub(in crate::gateway) fn begin(
        &mut self,
        tenant: &TenantId,
        mut release: Release,
    ) -> Result<Way, String> {
        let record = self.tenants.entry(tenant.clone()).or_default();
        release.back &= record.before == Some(release.number);
        let way = release.way();
        let before = record.clone();
        (record.applying, record.swapped) = (Some(release), false);
        if let Err(error) = self.write(tenant) {
            self.tenants.insert(tenant.clone(), before);
            return Err(format!("it cannot be noted in {}: {error}", self.folder.display()));
        }
        Ok(way)
    }

    /// What was begun is refused: what ran goes on.
    pub(in crate::gateway) fn refused(&mut self, tenant: &TenantId, number: u64, reason: &str) {
        let record = self.tenants.entry(tenant.clone()).or_default();
        (record.applying, record.swapped) = (None, false);
        record.refused = Some((number, reason.to_owned()));
        self.try_write(tenant);
    }

    /// The lane runs what was begun.
    pub(in crate::gateway) fn swapped(&mut self, tenant: &TenantId) {
        if let Some(record) = self.tenants.get_mut(tenant) {
            (record.swapped, record.damaged) = (true, None);
        }
    }

    /// What the lane runs is on disk.
    pub(in crate::gateway) fn settled(&mut self, tenant: &TenantId, at: i64) {
        if self.tenants.get(tenant).is_some_and(|record| record.swapped) {
            self.noted(tenant, at);
        }
    }

    fn noted(&mut self, tenant: &TenantId, at: i64) {
        if let Some(record) = self.tenants.get_mut(tenant) {
            record.applied(at);
        }
        self.try_write(tenant);
    }

    /// What cannot be written now is found out from the store at the next start.
    fn try_write(&self, tenant: &TenantId) {
        if let Err(error) = self.write(tenant) {
            tracing::warn!(%tenant, %error, "which release runs cannot be noted");
        }
    }

    fn write(&self, tenant: &TenantId) -> std::io::Result<()> {
        let Some(record) = self.tenants.get(tenant) else { return Ok(()) };
        fs::create_dir_all(&self.folder)?;
        let file = self.folder.join(format!("{tenant}.json"));
        let beside = file.with_extension("new");
        let mut written = fs::File::create(&beside)?;
        written.write_all(&serde_json::to_vec(record)?)?;
        written.sync_all()?;
        fs::rename(&beside, &file)?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

/// Whether the store runs those versions of `new` that are not of `old`: they change in one commit. If nothing tells them apart,
/// it is begun again, which does no harm.
fn is_on_disk(new: &Steps, old: Option<Steps>, versions: &[StepVersions]) -> bool {
    let old = old.unwrap_or_default();
    let mut differ =
        new.iter().filter(|(key, said)| old.get(*key).is_none_or(|old| old.runs != said.runs)).peekable();
    differ.peek().is_some()
        && differ.all(|(key, said)| {
            let kept =
                versions.iter().find(|versions| *versions.step == **key).map(|versions| &versions.current);
            kept.is_some_and(|kept| kept.digest == said.runs.digest && kept.config == said.runs.with)
        })
}
