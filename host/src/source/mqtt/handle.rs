//! The handle of a subscription: begins it, shows where it stands, ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gateway_config::{Broker, Source};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wire::ids::TenantId;

use super::desk::Counters;
use crate::intake::LaneSender;
use crate::source::listener::Unrouted;

/// Commands that may wait for the task.
const COMMANDS: usize = 4;

/// A subscription that runs. Dropped, it ends at once and the broker delivers again what was not acknowledged.
pub struct Subscription {
    name: Arc<str>,
    counters: Arc<Counters>,
    standing: watch::Receiver<Standing>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// Where a subscription stands, and what it has seen since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the broker has accepted the connection and the subscriptions.
    pub connected: bool,
    /// What it waits for, in one sentence.
    pub why: String,
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Attempts that the broker refused: wrong password, not authorized.
    pub refused: u64,
    /// Messages taken.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Messages delivered again and not taken twice.
    pub repeated: u64,
    /// Messages acknowledged after their commit.
    pub acknowledged: u64,
    /// Messages that became no row.
    pub undecodable: u64,
    /// Messages of no configured tenant or topic.
    pub unrouted: u64,
    /// Of these, those that could not be kept.
    pub unrouted_lost: u64,
}

/// Why a subscription cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The library does not take the options.
    #[error("source {name}: the connection cannot be set up: {cause}")]
    Options {
        /// The source.
        name: Arc<str>,
        /// What the library said.
        cause: String,
    },
}

/// Where the task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) connected: bool,
    pub(super) why: String,
}

/// What the task is told.
pub(super) enum Command {
    RetryNow,
    Stop { until: Instant },
}

/// The task's ends of what it shares with its handle.
pub(super) struct Ends {
    pub(super) counters: Arc<Counters>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) standing: watch::Sender<Standing>,
}

impl Subscription {
    /// Begins to connect, as a task of the present runtime. `lanes` are the tenants this gateway has.
    ///
    /// # Errors
    /// [`StartError::Options`]. A broker that cannot be reached is none: that is retried.
    pub fn start(
        source: &Source,
        broker: &Broker,
        lanes: Vec<(TenantId, LaneSender)>,
        unrouted: Box<dyn Unrouted>,
    ) -> Result<Self, StartError> {
        let counters = Arc::new(Counters::default());
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (standing_sender, standing) =
            watch::channel(Standing { connected: false, why: "connecting".to_owned() });
        let ends =
            Ends { counters: Arc::clone(&counters), commands: command_receiver, standing: standing_sender };
        let task = super::Task::spawn(source, broker, lanes, unrouted, ends)?;
        Ok(Self { name: Arc::clone(&source.name), counters, standing, commands, task })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let standing = self.standing.borrow().clone();
        let Counters { messages, bytes, undecodable, unrouted, unrouted_lost, .. } = &*self.counters;
        let Counters { repeated, acknowledged, connections, refused, .. } = &*self.counters;
        Status {
            connected: standing.connected,
            why: standing.why,
            connections: connections.load(Relaxed),
            refused: refused.load(Relaxed),
            messages: messages.load(Relaxed),
            bytes: bytes.load(Relaxed),
            repeated: repeated.load(Relaxed),
            acknowledged: acknowledged.load(Relaxed),
            undecodable: undecodable.load(Relaxed),
            unrouted: unrouted.load(Relaxed),
            unrouted_lost: unrouted_lost.load(Relaxed),
        }
    }

    /// An operator's word: does not wait any longer for what it waits for.
    pub fn retry_now(&self) {
        // A full channel holds such a word already.
        let _ = self.commands.try_send(Command::RetryNow);
    }

    /// Takes nothing more, waits until what was taken is committed and acknowledged, at most `within`, and says goodbye
    /// to the broker, which keeps the session.
    pub async fn stop(mut self, within: Duration) {
        let until = Instant::now() + within;
        let _ = self.commands.send(Command::Stop { until }).await;
        if let Err(error) = (&mut self.task).await {
            tracing::error!(source = %self.name, %error, "the subscription's task failed");
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}
