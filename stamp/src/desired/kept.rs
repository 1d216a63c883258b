//! What provisioning has said, on disk: what a stamp works by while provisioning is down.
//!
//! ```text
//! data_dir/desired.json   { version, ring, revision, states }
//! ```
//! Written beside and renamed, so that it is whole at any time. A file that cannot be read counts as none: all is asked for
//! anew, and gateways go on with what they run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wire::ids::TenantId;
use wire::provisioning::{DesiredState, DesiredStates};

const FILE: &str = "desired.json";
const VERSION: u32 = 1;

/// What provisioning has said, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    path: PathBuf,
    /// Of which ring.
    pub ring: String,
    /// Up to which revision.
    pub revision: u64,
    /// Per tenant.
    pub states: BTreeMap<TenantId, DesiredState>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    ring: String,
    revision: u64,
    states: Vec<DesiredState>,
}

impl Kept {
    /// What is kept in a data folder; nothing if nothing is, or if it cannot be read. Blocks for the disk.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let content = read(&path).unwrap_or_else(|cause| {
            tracing::warn!(file = %path.display(), cause, "what is desired cannot be read; it is asked for anew");
            None
        });
        let (ring, revision, states) =
            content.map_or_else(Default::default, |it| (it.ring, it.revision, it.states));
        let states = states.into_iter().map(|state| (state.tenant.clone(), state)).collect();
        Self { path, ring, revision, states }
    }

    /// Takes what provisioning says.
    pub fn take(&mut self, said: DesiredStates) {
        if said.full {
            self.states.clear();
        }
        self.states.extend(said.states.into_iter().map(|state| (state.tenant.clone(), state)));
        (self.ring, self.revision) = (said.ring, said.revision);
    }

    /// Makes it durable. Blocks for the disk.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before is there then.
    pub fn keep(&self) -> io::Result<()> {
        let states = self.states.values().cloned().collect();
        let content = Content { version: VERSION, ring: self.ring.clone(), revision: self.revision, states };
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

fn read(path: &Path) -> Result<Option<Content>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if content.version == VERSION {
        Ok(Some(content))
    } else {
        Err(format!("version {} is not known", content.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::Release;

    fn said(revision: u64, full: bool, states: &[(&str, u64)]) -> DesiredStates {
        let state = |(tenant, release): &(&str, u64)| DesiredState {
            tenant: tenant.parse().unwrap(),
            release: Release(*release),
            rollback: false,
            document: None,
            contents: vec![],
        };
        let states = states.iter().map(state).collect();
        DesiredStates { ring: "fast".into(), revision, more: false, full, states }
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(folder.path());
        assert_eq!((kept.revision, kept.states.len()), (0, 0));
        kept.take(said(3, true, &[("acme", 1), ("umbra", 2)]));
        kept.take(said(5, false, &[("acme", 4)]));
        kept.keep().unwrap();
        let again = Kept::open(folder.path());
        assert_eq!(again, kept);
        let releases: Vec<u64> = again.states.values().map(|state| state.release.0).collect();
        assert_eq!(releases, [4, 2]);
        kept.take(said(9, true, &[("umbra", 2)]));
        assert_eq!(kept.states.len(), 1, "what a full answer does not name is not desired");
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(Kept::open(folder.path()).revision, 0);
    }
}
