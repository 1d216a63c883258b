//! Changes to the store of a gateway that does not run, for the command line.
//!
//! Under the folder's lock, through the same writer as ever; applies no quota, and lets nothing expire that a start would
//! not let expire too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use wire::ids::TenantId;

use super::{Commit, DataFolder, OpenError, Store, StoreConfig, Totals, WhenFull};
use crate::intake::Custody;

/// Longest wait for a disk that takes no writes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    /// The tenant has no store.
    #[error("there is no store of this tenant: {} is missing", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The store cannot be opened, e.g. since a gateway uses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk does not take it.
    #[error("{} cannot be written: {reason}", path.display())]
    Refused {
        /// The store.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Commits this to a tenant's store while no gateway runs. Blocks. Returns the totals before and after.
///
/// # Errors
/// [`ApartError`]; then nothing has been changed.
pub fn change_apart(
    data_dir: &Path,
    tenant: &TenantId,
    mut commit: Commit,
) -> Result<(Totals, Totals), ApartError> {
    struct Tell(std::sync::mpsc::SyncSender<Result<(), String>>);
    impl Custody for Tell {
        fn committed(self: Box<Self>) {
            // Whoever asked has lost patience.
            self.0.try_send(Ok(())).ok();
        }
        fn refused(self: Box<Self>, reason: &str) {
            self.0.try_send(Err(reason.to_owned())).ok();
        }
    }
    let path = data_dir.join("tenants").join(format!("{tenant}.db"));
    if !path.exists() {
        return Err(ApartError::Missing { path });
    }
    let folder = Arc::new(DataFolder::lock(data_dir)?);
    let config = StoreConfig {
        quota: u64::MAX,
        when_full: WhenFull::RejectNew,
        dead_letters: u64::MAX,
        ..StoreConfig::default()
    };
    let store = Store::open(&folder, tenant, config)?.store;
    let before = store.totals();
    let (tell, told) = sync_channel(1);
    commit.custody.push(Box::new(Tell(tell)));
    store.commit(commit);
    let verdict = match told.recv_timeout(PATIENCE) {
        Ok(verdict) => verdict,
        Err(_) => Err("the disk takes no writes".to_owned()),
    };
    store.close();
    match verdict {
        Ok(()) => Ok((before, store.totals())),
        Err(reason) => Err(ApartError::Refused { path, reason }),
    }
}
