//! What an operator orders for one tenant: dead letters and state.
//!
//! One order after the other, answered when it is on disk. Does not read for people: the command line looks into the
//! store itself (`store::look`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use super::TenantParts;
use crate::admin::Answer;
use crate::admin::question::{DropReply, MOST_LETTERS};
use crate::intake::Custody;
use crate::outbox::Outbox;
use crate::store::{Commit, Store};

/// Longest wait for a commit; a disk that takes no writes is told then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has orders carried out.
#[derive(Default)]
pub(super) struct Operator {
    /// Held while an order is carried out, so that no letter is replayed twice at once, or dropped meanwhile.
    turn: Arc<Mutex<()>>,
}

impl Operator {
    /// Deletes dead letters.
    pub(super) fn drop_letters(&self, tenants: &[TenantParts], tenant: &str, ids: Vec<i64>) -> Answer {
        let store = match tenant_of(tenants, tenant, &ids) {
            Ok(parts) => Arc::clone(&parts.store),
            Err(why) => return Answer::refusal(&why),
        };
        let turn = Arc::clone(&self.turn);
        Answer::later(async move {
            let _turn = turn.lock().await;
            let before = store.totals().dead_dropped;
            let done = committed(&store, Commit { letters_dropped: ids, ..Commit::default() }).await;
            match done {
                Ok(()) => {
                    let dropped = store.totals().dead_dropped.saturating_sub(before);
                    tracing::info!(tenant = %store.tenant(), dropped, "dead letters dropped by an operator");
                    Answer::of(&DropReply { dropped })
                }
                Err(why) => Answer::refusal(&why),
            }
        })
    }
}

fn tenant_of<'a>(tenants: &'a [TenantParts], tenant: &str, ids: &[i64]) -> Result<&'a TenantParts, String> {
    if ids.len() > MOST_LETTERS {
        return Err(format!("{} letters at once, at most {MOST_LETTERS}", ids.len()));
    }
    let found = tenants.iter().find(|parts| parts.id.as_str() == tenant);
    found.ok_or_else(|| format!("this gateway has no tenant {tenant:?}"))
}

/// Waits until the store has this on disk, or says why not.
async fn committed(store: &Arc<Store>, mut commit: Commit) -> Result<(), String> {
    struct Tell(oneshot::Sender<Result<(), String>>);
    impl Custody for Tell {
        fn committed(self: Box<Self>) {
            // Whoever asked may be gone.
            self.0.send(Ok(())).ok();
        }
        fn refused(self: Box<Self>, reason: &str) {
            self.0.send(Err(reason.to_owned())).ok();
        }
    }
    let (tell, told) = oneshot::channel();
    commit.custody.push(Box::new(Tell(tell)));
    let store = Arc::clone(store);
    // The store's queue may be full: that wait is not for this thread.
    tokio::task::spawn_blocking(move || store.commit(commit)).await.map_err(|error| error.to_string())?;
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the store has stopped".to_owned()),
        Err(_) => {
            Err("the disk takes no writes (see `sluice-gateway status`); it is done once it does".to_owned())
        }
    }
}
