//! One stamp's link: connect, converse, and after each end do what the retry rules say.
//!
//! Whether, when and how often it tries again is decided by [`backoff`] alone; see [`super::ended`] for what the
//! ends mean to it. Does not speak the protocol.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backoff::{Decision, Episode, Ledger, Moment, Policy};
use gateway_config::{Endpoint, Identity};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ended::{Ended, News, classify};
use super::exchange::{self, Subject};
use super::identity;
use super::quic::{self, LinkError};
use super::status::{Board, LinkState};

/// Most bytes that wait in memory for QUIC's own acknowledgement, whatever the window is.
const SEND_WINDOW: usize = 4 << 20;
/// How often the identity files are looked at while the link waits for someone to change them.
const LOOK_AT_FILES: Duration = Duration::from_secs(15);
/// A connection is closed within this time; the stamp finds out by itself if it must.
const CLOSE: Duration = Duration::from_secs(1);

/// All that a link needs.
pub(super) struct Link {
    pub(super) subject: Subject,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) identity: Identity,
    pub(super) policy: Policy,
    /// Shared by all links: when all fail at once, they all slow down.
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) board: Arc<Board>,
    /// Time zero of the retry rules.
    pub(super) origin: Instant,
    /// Becomes true when the gateway goes down.
    pub(super) stop: watch::Receiver<bool>,
    /// Changes when the operator says "now".
    pub(super) operator: watch::Receiver<u64>,
}

impl Link {
    /// Runs until told to stop.
    pub(super) async fn run(mut self) {
        let mut episode = Episode::new();
        let mut attempt = 0;
        while !*self.stop.borrow_and_update() {
            let connections = self.board.connections.load(Ordering::Relaxed);
            let ended = self.attempt(&mut episode, attempt).await;
            let Some(outcome) = classify(ended) else { break };
            // A connection that was lost is sought where it was; an attempt that failed goes to the next endpoint.
            if self.board.connections.load(Ordering::Relaxed) == connections {
                attempt += 1;
            }
            let now = self.now();
            let decision = {
                let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
                episode.on_failure(&self.policy, &mut ledger, outcome, now, rand::random())
            };
            self.tell(&episode, &decision, now);
            self.wait(&mut episode, decision).await;
        }
        self.board.change(|standing| {
            standing.state = LinkState::Stopped;
            standing.since = wall_clock();
            standing.until = None;
        });
    }

    /// One attempt, from files to goodbye.
    async fn attempt(&mut self, episode: &mut Episode, attempt: usize) -> Ended {
        let Some(endpoint) = self.endpoints.get(attempt % self.endpoints.len().max(1)).cloned() else {
            return Ended::Lost(LinkError::Address { host: String::new(), cause: "no endpoint".to_owned() });
        };
        self.board.change(|standing| {
            standing.endpoint = endpoint.to_string();
            standing.state = LinkState::Connecting;
            standing.since = wall_clock();
            standing.until = None;
        });
        let mut stop = self.stop.clone();
        let connected = tokio::select! {
            connected = self.connect(&endpoint) => connected,
            _ = stop.wait_for(|stop| *stop) => return Ended::Stopped,
        };
        let (connection, outbound, inbound) = match connected {
            Ok(connected) => connected,
            Err(error) => return Ended::Lost(error),
        };
        let (board, ledger, origin) = (&self.board, &self.ledger, self.origin);
        let news = |news| match news {
            News::Welcomed => {
                let round_trip_us = connection.round_trip().as_micros();
                tracing::info!(stamp = %board.stamp(), endpoint = %endpoint, peer = %connection.peer(), round_trip_us, "connected to the stamp");
                episode.on_connected(Moment(origin.elapsed()));
                board.connections.fetch_add(1, Ordering::Relaxed);
                board.change(|standing| {
                    standing.state = LinkState::Connected;
                    standing.since = wall_clock();
                    standing.cause = None;
                    standing.attempts_left = None;
                });
            }
            News::Acknowledged => ledger.lock().unwrap_or_else(PoisonError::into_inner).on_success(),
        };
        let ended =
            exchange::run(&self.subject, board, &connection, (outbound, inbound), self.stop.clone(), news)
                .await;
        connection.close(0, "", CLOSE).await;
        ended
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(quic::Connection, quic::Outbound, quic::Inbound), LinkError> {
        let seconds = wall_clock() / 1_000_000_000;
        // Three small local files, once per attempt: not worth a thread.
        let tls = identity::load(&self.identity, &self.subject.gateway, seconds, wire::message::ALPN)?;
        quic::connect(&endpoint.host, endpoint.port, tls, self.subject.window.min(SEND_WINDOW)).await
    }

    /// Shows and logs where the link stands after a failure.
    fn tell(&self, episode: &Episode, decision: &Decision, now: Moment) {
        let why = episode.why(&self.policy, now);
        let state = match decision {
            Decision::Retry { .. } => LinkState::Waiting,
            Decision::Parked { .. } => LinkState::Parked,
            Decision::GiveUp { .. } => LinkState::GivenUp,
        };
        let cause = why.cause.as_deref().unwrap_or_default();
        let wait_ms = why.until.map_or(0, |until| until.since(now).as_millis() as i64);
        let stamp = self.board.stamp();
        match state {
            LinkState::GivenUp => tracing::error!(
                %stamp, cause, "no way to the stamp until someone acts; data stays stored"
            ),
            LinkState::Parked => tracing::warn!(
                %stamp, cause, wait_ms, "the stamp cannot be reached; data stays stored until the next episode"
            ),
            _ => tracing::warn!(
                %stamp, cause, wait_ms, attempts_left = why.attempts_left, "no connection to the stamp; trying again"
            ),
        }
        let wall = wall_clock();
        self.board.change(|standing| {
            standing.state = state;
            standing.since = wall;
            standing.until = why.until.map(|_| wall.saturating_add(wait_ms.saturating_mul(1_000_000)));
            standing.cause = Some(cause.to_owned());
            standing.attempts_left = Some(why.attempts_left);
            for link in &mut standing.tenants {
                link.admitted = false;
            }
        });
    }

    /// Waits as decided, or until the gateway goes down or the operator says "now".
    async fn wait(&mut self, episode: &mut Episode, decision: Decision) {
        let until = match decision {
            Decision::Retry { at } => Some(at),
            Decision::Parked { until, .. } => Some(until),
            Decision::GiveUp { .. } => None,
        };
        let before = files(&self.identity);
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep_until(self.origin, until) => return,
            _ = self.operator.changed() => {}
            () = changed(&self.identity, before), if until.is_none() => {
                tracing::info!(stamp = %self.board.stamp(), "the identity files have changed; trying again");
            }
        }
        episode.on_event(backoff::Event::Operator, self.now());
    }

    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }
}

/// When each identity file was last written, where it exists.
fn files(identity: &Identity) -> [Option<SystemTime>; 3] {
    let written = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    [&identity.certificate, &identity.key, &identity.trust].map(|path| written(path))
}

async fn changed(identity: &Identity, before: [Option<SystemTime>; 3]) {
    while files(identity) == before {
        tokio::time::sleep(LOOK_AT_FILES).await;
    }
}

async fn sleep_until(origin: Instant, until: Option<Moment>) {
    match until {
        Some(until) => tokio::time::sleep_until(origin + until.0).await,
        None => std::future::pending().await,
    }
}

/// Nanoseconds since 1970 UTC.
pub(super) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
