//! The last roster on disk: what a stamp works by while provisioning is down.
//!
//! ```text
//! data_dir/roster.json   { version, endpoint, revision, changed_ns, entries }
//! ```
//! Written beside and renamed, so that it is whole at any time. What other stamps have landed is not in it: that is the
//! landing's. A file that cannot be read counts as none: all is asked for anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wire::provisioning::RosterEntry;

use crate::roster::{Origin, Roster, RosterStatus};

const FILE: &str = "roster.json";
const VERSION: u32 = 1;

/// Where the roster is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    path: PathBuf,
    endpoint: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    endpoint: String,
    revision: u64,
    changed_ns: i64,
    entries: Vec<RosterEntry>,
}

impl Kept {
    /// In this data folder, of provisioning at this endpoint.
    #[must_use]
    pub fn new(data_dir: &Path, endpoint: &str) -> Self {
        Self { path: data_dir.join(FILE), endpoint: endpoint.to_owned() }
    }

    /// What is kept; one that has said nothing if nothing is, or if it cannot be read.
    #[must_use]
    pub fn roster(&self) -> Roster {
        match read(&self.path) {
            Ok(Some(content)) => Roster::provisioned(Some(content.revision), &content.entries),
            Ok(None) => Roster::provisioned(None, &[]),
            Err(cause) => {
                tracing::warn!(file = %self.path.display(), cause, "the kept roster cannot be read; it is asked for anew");
                Roster::provisioned(None, &[])
            }
        }
    }

    /// Keeps a roster. Blocks for the disk.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before is there then.
    pub fn keep(&self, roster: &Roster, now: i64) -> io::Result<()> {
        let Origin::Provisioning(Some(revision)) = roster.origin() else { return Ok(()) };
        let content = Content {
            version: VERSION,
            endpoint: self.endpoint.clone(),
            revision,
            changed_ns: now,
            entries: roster.entries().collect(),
        };
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// What is kept in a data folder, for people.
    #[must_use]
    pub fn status(data_dir: &Path) -> Option<RosterStatus> {
        let content = read(&data_dir.join(FILE)).ok().flatten()?;
        Some(RosterStatus {
            source: content.endpoint,
            revision: Some(content.revision),
            changed_ns: Some(content.changed_ns),
            gateways: Roster::provisioned(None, &content.entries).len(),
        })
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
    use wire::ids::{GatewayId, TenantId};
    use wire::provisioning::Treatment;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path(), "https://p");
        assert_eq!(kept.roster().origin(), Origin::Provisioning(None));
        assert_eq!(Kept::status(folder.path()), None);
        let entry = RosterEntry {
            gateway: GatewayId::new("a").unwrap(),
            tenant: TenantId::new("t").unwrap(),
            epoch: 4,
            treatment: Treatment::Served { devices: 7, landed: Vec::new() },
        };
        let roster = Roster::provisioned(Some(12), &[entry]);
        kept.keep(&roster, 5).unwrap();
        assert_eq!(kept.roster(), roster);
        let status = Kept::status(folder.path()).unwrap();
        assert_eq!((status.revision, status.changed_ns, status.gateways), (Some(12), Some(5), 1));
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(kept.roster().origin(), Origin::Provisioning(None));
    }
}
