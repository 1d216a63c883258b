//! The last roster on disk: what a stamp works by while provisioning is down.
//!
//! ```text
//! data_dir/roster.jsonl   { version, endpoint, revision, changed_ns, entries }     all, as of a revision
//!                         { revision, changed_ns, entries }                        what has changed since; any number
//! ```
//! A change is appended, so that it costs what it is long, however long the roster. The file is written anew, beside and
//! renamed, with the first change after a start, and when what was appended is longer than the rest. A last line that was cut
//! off counts as not written: what it said is asked for again. What other stamps have landed is not in it: that is the
//! landing's. A file that cannot be read counts as none: all is asked for anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wire::provisioning::{RosterEntry, Treatment};

use crate::roster::{Origin, Roster, RosterStatus};

const FILE: &str = "roster.jsonl";
const VERSION: u32 = 2;
/// Below this the file is not written anew for its length.
const SHORT: u64 = 1 << 20;

/// Where the roster is kept.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    endpoint: String,
    /// The file that was written by this process: it ends whole.
    open: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Bytes of its first line, and of all others.
    whole: u64,
    appended: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    endpoint: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize, Deserialize)]
struct Change {
    revision: u64,
    changed_ns: i64,
    entries: Vec<RosterEntry>,
}

impl Kept {
    /// In this data folder, of provisioning at this endpoint.
    #[must_use]
    pub fn new(data_dir: &Path, endpoint: &str) -> Self {
        Self { path: data_dir.join(FILE), endpoint: endpoint.to_owned(), open: None }
    }

    /// What is kept; one that has said nothing if nothing is, or if it cannot be read.
    #[must_use]
    pub fn roster(&self) -> Roster {
        match read(&self.path) {
            Ok(Some(content)) => content.roster,
            Ok(None) => Roster::provisioned(None, &[]),
            Err(cause) => {
                tracing::warn!(file = %self.path.display(), cause, "the kept roster cannot be read; it is asked for anew");
                Roster::provisioned(None, &[])
            }
        }
    }

    /// Keeps a roster, of which `changed` entries are news. Blocks for the disk.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before is there then.
    pub fn keep(&mut self, roster: &Roster, changed: &[RosterEntry], now: i64) -> io::Result<()> {
        let Origin::Provisioning(Some(revision)) = roster.origin() else { return Ok(()) };
        match &mut self.open {
            Some(log) if log.appended < SHORT.max(log.whole) => {
                let entries = changed.iter().map(without_seed).collect();
                let appended = log.append(&Change { revision, changed_ns: now, entries });
                if appended.is_err() {
                    // How much of it is there is not known.
                    self.open = None;
                }
                appended
            }
            _ => self.write_anew(roster, revision, now),
        }
    }

    fn write_anew(&mut self, roster: &Roster, revision: u64, now: i64) -> io::Result<()> {
        self.open = None;
        let change = Change { revision, changed_ns: now, entries: roster.entries().collect() };
        let head = Head { version: VERSION, endpoint: self.endpoint.clone(), change };
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        let mut line = serde_json::to_vec(&head)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        let file = OpenOptions::new().append(true).open(&self.path)?;
        self.open = Some(Log { file, whole: line.len() as u64, appended: 0 });
        Ok(())
    }

    /// What is kept in a data folder, for people.
    #[must_use]
    pub fn status(data_dir: &Path) -> Option<RosterStatus> {
        let Content { endpoint, changed_ns, roster } = read(&data_dir.join(FILE)).ok().flatten()?;
        let Origin::Provisioning(revision) = roster.origin() else { return None };
        Some(RosterStatus {
            source: endpoint,
            revision,
            changed_ns: Some(changed_ns),
            gateways: roster.len(),
        })
    }
}

impl Log {
    fn append(&mut self, change: &Change) -> io::Result<()> {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.appended += line.len() as u64;
        Ok(())
    }
}

struct Content {
    endpoint: String,
    changed_ns: i64,
    roster: Roster,
}

fn read(path: &Path) -> Result<Option<Content>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // What comes after the last line feed was cut off.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
    let mut lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
    let head: Head =
        serde_json::from_slice(lines.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!("version {} is not known", head.version));
    }
    let Change { revision, mut changed_ns, entries } = head.change;
    let mut roster = Roster::provisioned(Some(revision), &entries);
    for line in lines {
        let change: Change = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        change.entries.iter().for_each(|entry| roster.apply(entry));
        roster.reached(change.revision);
        changed_ns = change.changed_ns;
    }
    Ok(Some(Content { endpoint: head.endpoint, changed_ns, roster }))
}

fn without_seed(entry: &RosterEntry) -> RosterEntry {
    let treatment = match entry.treatment {
        Treatment::Served { devices, .. } => Treatment::Served { devices, landed: Vec::new() },
        ref other => other.clone(),
    };
    RosterEntry {
        gateway: entry.gateway.clone(),
        tenant: entry.tenant.clone(),
        epoch: entry.epoch,
        treatment,
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::{GatewayId, StreamId, TenantId};
    use wire::ranges::RangeSet;

    use super::*;

    fn served(gateway: &str, epoch: u64) -> RosterEntry {
        let landed = vec![(StreamId(1), RangeSet::new())];
        RosterEntry {
            gateway: GatewayId::new(gateway).unwrap(),
            tenant: TenantId::new("t").unwrap(),
            epoch,
            treatment: Treatment::Served { devices: 7, landed },
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(folder.path(), "https://p");
        assert_eq!(kept.roster().origin(), Origin::Provisioning(None));
        assert_eq!(Kept::status(folder.path()), None);
        let mut roster = Roster::provisioned(Some(12), &[served("a", 4)]);
        kept.keep(&roster, &[], 5).unwrap();
        assert_eq!(kept.roster(), roster);
        let status = Kept::status(folder.path()).unwrap();
        assert_eq!((status.revision, status.changed_ns, status.gateways), (Some(12), Some(5), 1));
        // Each change is appended, and one that a crash has cut off is as if it had not been.
        let path = folder.path().join(FILE);
        for (revision, entry) in [(13, served("b", 1)), (14, served("a", 6))] {
            let (before, was) = (fs::read(&path).unwrap(), roster.clone());
            roster.apply(&entry);
            roster.reached(revision);
            kept.keep(&roster, &[entry], 6).unwrap();
            assert_eq!(kept.roster(), roster);
            let whole = fs::read(&path).unwrap();
            assert!(whole.starts_with(&before) && whole.len() > before.len());
            for cut in [before.len(), before.len() + 1, whole.len() - 1] {
                fs::write(&path, &whole[..cut]).unwrap();
                assert_eq!(kept.roster(), was, "cut at {cut} of {}", whole.len());
            }
            fs::write(&path, &whole).unwrap();
        }
        // The next life goes on from there, in a file of its own.
        let mut next = Kept::new(folder.path(), "https://p");
        fs::write(&path, &fs::read(&path).unwrap()[..fs::read(&path).unwrap().len() - 3]).unwrap();
        let mut roster = next.roster();
        roster.apply(&served("c", 1));
        roster.reached(15);
        next.keep(&roster, &[served("c", 1)], 7).unwrap();
        assert_eq!((next.roster(), fs::read_to_string(&path).unwrap().lines().count()), (roster, 1));
        fs::write(&path, b"{}\n").unwrap();
        assert_eq!(kept.roster().origin(), Origin::Provisioning(None));
    }

    #[test]
    fn the_file_is_written_anew_when_what_was_appended_is_longer() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(folder.path(), "https://p");
        let mut roster = Roster::provisioned(Some(0), &[]);
        let mut longest = 0;
        for revision in 1..60 {
            let entries: Vec<_> = (0..500).map(|gateway| served(&format!("g{gateway}"), revision)).collect();
            entries.iter().for_each(|entry| roster.apply(entry));
            roster.reached(revision);
            kept.keep(&roster, &entries, 1).unwrap();
            longest = longest.max(fs::metadata(folder.path().join(FILE)).unwrap().len());
        }
        assert!((SHORT..2 * SHORT).contains(&longest), "{longest}");
        assert_eq!(kept.roster(), roster);
    }
}
