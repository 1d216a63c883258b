//! What an operator orders for one tenant: dead letters and state.
//!
//! One order after the other, answered when it is on disk. Does not read for people: the command line looks into the
//! store itself (`store::look`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use super::TenantParts;
use crate::admin::Answer;
use crate::admin::question::{DropReply, MOST_LETTERS, ReplayReply, ResetReply, Stays};
use crate::intake::Custody;
use crate::outbox::Outbox;
use crate::store::{Commit, KeptLetter, OpenError, StateSum, Store};
use crate::tenant::{LaneError, ReplayReport};

/// Longest wait for a commit; a disk that takes no writes is told then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for a lane.
const REPLAY: Duration = Duration::from_secs(60);

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

    /// Runs dead letters through the step they failed in, and those behind it.
    pub(super) fn replay_letters(&self, tenants: &[TenantParts], tenant: &str, ids: Vec<i64>) -> Answer {
        let (store, lane) = match tenant_of(tenants, tenant, &ids) {
            Ok(parts) => (Arc::clone(&parts.store), parts.lane.control()),
            Err(why) => return Answer::refusal(&why),
        };
        let turn = Arc::clone(&self.turn);
        Answer::later(async move {
            let _turn = turn.lock().await;
            let letters = match apart(&store, move |store| store.letters(&ids)).await {
                Ok(letters) => letters,
                Err(why) => return Answer::refusal(&why),
            };
            let mut stay = Vec::new();
            let mut replayable = Vec::new();
            for KeptLetter { id, letter, .. } in letters {
                match letter.replays() {
                    Ok(()) => replayable.push((id, letter)),
                    Err(why) => stay.push(Stays { id, why: why.to_owned() }),
                }
            }
            if replayable.is_empty() {
                return Answer::of(&ReplayReply { stay, ..ReplayReply::default() });
            }
            // Later, the lane refuses another replay as long as it has rows of this one in hand.
            match tokio::time::timeout(REPLAY, lane.replay(replayable)).await {
                Ok(Ok(ReplayReport { replayed, dead_again, left })) => {
                    stay.extend(left.into_iter().map(|(id, why)| Stays { id, why }));
                    tracing::info!(tenant = %store.tenant(), replayed, dead_again, "dead letters replayed");
                    Answer::of(&ReplayReply { replayed, dead_again, stay })
                }
                Ok(Err(error)) => Answer::refusal(&error.to_string()),
                Err(_) => {
                    Answer::refusal("the lane has not come to its end yet; see `sluice-gateway status`")
                }
            }
        })
    }

    /// Lets a step begin again without any state; also one that is no longer configured.
    pub(super) fn reset_state(&self, tenants: &[TenantParts], tenant: &str, step: String) -> Answer {
        let (store, lane) = match tenant_of(tenants, tenant, &[]) {
            Ok(parts) => (Arc::clone(&parts.store), parts.lane.control()),
            Err(why) => return Answer::refusal(&why),
        };
        let turn = Arc::clone(&self.turn);
        Answer::later(async move {
            let _turn = turn.lock().await;
            let name = step.clone();
            let StateSum { keys, bytes, .. } = match apart(&store, move |store| store.state_sum(&name)).await
            {
                Ok(sum) => sum,
                Err(why) => return Answer::refusal(&why),
            };
            let done = match tokio::time::timeout(REPLAY, lane.reset_state(&step)).await {
                Ok(Err(LaneError::NoStep { .. })) if keys > 0 => {
                    let commit = Commit { state_reset: vec![step.into()], ..Commit::default() };
                    committed(&store, commit).await
                }
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(_) => Err("the lane has not come to it yet; see `sluice-gateway status`".to_owned()),
            };
            match done {
                Ok(()) => Answer::of(&ResetReply { keys, bytes }),
                Err(why) => Answer::refusal(&why),
            }
        })
    }
}

/// Reads from the store on a thread that may wait for the disk.
async fn apart<T: Send + 'static>(
    store: &Arc<Store>,
    read: impl FnOnce(&Store) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, String> {
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || read(&store)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
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
