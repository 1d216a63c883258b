//! Who waits for a change of a stamp's roster, and is told after the commit.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use wire::ids::StampId;

/// The revision as of which each stamp's roster last changed, for those that are followed.
#[derive(Default)]
pub(super) struct Changes {
    stamps: Mutex<HashMap<StampId, watch::Sender<u64>>>,
}

impl Changes {
    /// Follows a stamp's roster.
    pub(super) fn follow(&self, stamp: &StampId) -> watch::Receiver<u64> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.entry(stamp.clone()).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// These have changed.
    pub(super) fn tell(&self, touched: &[StampId], revision: u64) {
        if touched.is_empty() {
            return;
        }
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody follows some of them any more.
        stamps.retain(|_, sender| sender.receiver_count() > 0);
        for stamp in touched {
            if let Some(sender) = stamps.get(stamp) {
                sender.send_replace(revision);
            }
        }
    }
}
