//! One stamp's link: connect, converse, and after each end do what the retry rules say.
//!
//! Whether, when and by which way it tries again is decided by [`super::course`], i.e. by `backoff` and [`super::routes`]; see
//! [`super::ended`] for what the ends mean. Does not speak the protocol.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use backoff::{Fallback, Ledger, Moment, Policy, Step};
use gateway_config::{Endpoint, Identity};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::session::gateway::Closed;

use super::astray::{self, Astray, Strays};
use super::course::Course;
use super::ended::{Ended, News, said};
use super::exchange::{self, Farewell, Subject};
use super::identity;
use super::locked;
use super::memory::Memory;
use super::network::Comings;
use super::routes::Routes;
use super::status::{Board, LinkState, wall_clock};
use super::transport::{self, Connected, LinkError};

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
    /// Where UDP is blocked, how long until QUIC is looked for again.
    pub(super) look_for_quic: Duration,
    /// Shared by all links: when all fail at once, they all slow down.
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) board: Arc<Board>,
    /// Time zero of the retry rules.
    pub(super) origin: Instant,
    /// Holds last words once it is to end.
    pub(super) stop: watch::Receiver<Option<Farewell>>,
    /// Changes when the operator says "now".
    pub(super) operator: watch::Receiver<u64>,
    /// Ways out that appear on this machine.
    pub(super) network: Comings,
    /// What outlives the process.
    pub(super) memory: Arc<Mutex<Memory>>,
    /// Where it is told that a stamp does not serve what it was taken for.
    pub(super) strays: Strays,
    /// Whether there is somebody to ask for another stamp.
    pub(super) provisioning: bool,
}

/// What changes from attempt to attempt.
struct Way {
    course: Course,
    /// A better connection than the one that was just ended for it.
    found: Option<(Endpoint, Connected)>,
}

impl Link {
    /// Runs until told to end.
    pub(super) async fn run(mut self) {
        let course = Course::new(&self.policy, &self.endpoints, self.look_for_quic, self.provisioning);
        let mut way = Way { course, found: None };
        self.recall(&mut way.course.routes);
        while self.stop.borrow_and_update().is_none() {
            let connections = self.board.connections.load(Ordering::Relaxed);
            self.network.forget();
            let ended = self.attempt(&mut way).await;
            if matches!(ended, Ended::Again) || (way.found.is_some() && self.stop.borrow().is_none()) {
                continue;
            }
            if let Ended::Closed(Closed::Refused(refused)) = &ended
                && astray::is_astray(refused.reason)
            {
                self.stray(said(&refused.reason.to_string(), &refused.text));
            }
            let stood = self.board.connections.load(Ordering::Relaxed) != connections;
            let now = self.now();
            let step = {
                let mut ledger = locked(&self.ledger);
                way.course.ended(&self.policy, &mut ledger, (ended, stood), now, rand::random())
            };
            let Some(mut step) = step else { break };
            if matches!(step, Step::Fallback { to: Fallback::Provisioning }) {
                let why = way.course.circuit.why(&self.policy, now);
                self.stray(why.cause.unwrap_or_default().into_owned());
                step = way.course.asking(&self.policy, now, rand::random());
            }
            self.tell(&way.course, &step, now);
            self.wait(&mut way, step).await;
        }
        self.board.change(|standing| {
            standing.state = LinkState::Stopped;
            standing.since = wall_clock();
            standing.until = None;
        });
    }

    /// One attempt, from files to goodbye.
    async fn attempt(&mut self, way: &mut Way) -> Ended {
        let routes = &mut way.course.routes;
        let (endpoint, connected) = match way.found.take() {
            Some(found) => found,
            None => {
                let Some(endpoint) = routes.next(self.now()).cloned() else {
                    let cause = "no endpoint".to_owned();
                    return Ended::Lost(LinkError::Address { host: String::new(), cause });
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
                    _ = stop.wait_for(Option::is_some) => return Ended::Stopped,
                };
                match connected {
                    Ok(connected) => (endpoint, connected),
                    Err(error) => return Ended::Lost(error),
                }
            }
        };
        routes.opened(endpoint.transport, self.now(), rand::random());
        self.keep(routes);
        self.converse(way, &endpoint, connected).await
    }

    /// A session, until it ends or is ended: because the gateway goes down, or because there is a better connection.
    async fn converse(&self, way: &mut Way, endpoint: &Endpoint, connected: Connected) -> Ended {
        let Way { course: Course { circuit, routes, left_out }, found, .. } = way;
        let (connection, outbound, inbound) = connected;
        let quic_again = routes.better().map(|(_, due)| self.at_wall_clock(due));
        let (board, ledger) = (&self.board, &self.ledger);
        let news = |news| match news {
            News::Welcomed => {
                let round_trip_us = connection.round_trip().as_micros();
                tracing::info!(stamp = %board.stamp(), %endpoint, peer = %connection.peer(), round_trip_us, "connected to the stamp");
                circuit.on_connected(self.now());
                self.strays.settled(board.stamp());
                board.connections.fetch_add(1, Ordering::Relaxed);
                board.change(|standing| {
                    standing.endpoint = endpoint.to_string();
                    standing.state = LinkState::Connected;
                    standing.since = wall_clock();
                    standing.cause = None;
                    standing.attempts_left = None;
                    standing.episode_left = None;
                    standing.next = None;
                    standing.then = None;
                    standing.parked_because = None;
                    standing.quic_again = quic_again;
                });
                None
            }
            News::Complete => {
                left_out.taken();
                None
            }
            News::LeftOut(cause) => {
                let again =
                    left_out.ask_again(&self.policy, &mut locked(ledger), cause, self.now(), rand::random());
                Some(self.origin + again.0)
            }
            News::Astray(tenants, reason) => {
                self.strays.note(Astray { stamp: board.stamp().clone(), tenants, reason });
                None
            }
            News::Acknowledged => {
                locked(ledger).on_success();
                None
            }
        };
        let ended = {
            let (end, ending) = watch::channel(None);
            let session = exchange::run(&self.subject, board, &connection, (outbound, inbound), ending, news);
            let better = self.look_for_better(routes);
            tokio::pin!(session, better);
            let mut stop = self.stop.clone();
            let mut going_on = true;
            loop {
                tokio::select! {
                    ended = &mut session => break ended,
                    stopped = stop.wait_for(Option::is_some), if going_on => {
                        let told = stopped.ok().and_then(|told| *told);
                        end.send_replace(Some(told.unwrap_or(Farewell::GOING_DOWN)));
                        going_on = false;
                    }
                    connected = &mut better, if going_on => {
                        *found = Some(connected);
                        end.send_replace(Some(Farewell::BETTER_WAY));
                        going_on = false;
                    }
                }
            }
        };
        connection.close(CLOSE).await;
        ended
    }

    /// Where data goes over TCP because UDP was blocked: opens a QUIC connection once that is possible. Each look costs what a
    /// retry costs; if there are no tokens, it waits for the next one. Never ends where there is nothing better.
    async fn look_for_better(&self, routes: &mut Routes) -> (Endpoint, Connected) {
        while let Some((endpoint, due)) = routes.better() {
            tokio::time::sleep_until(self.origin + due.0).await;
            if locked(&self.ledger).spend() {
                match self.connect(&endpoint).await {
                    Ok(connected) => return (endpoint, connected),
                    Err(error) => {
                        tracing::debug!(stamp = %self.board.stamp(), %endpoint, %error, "QUIC is still blocked");
                    }
                }
            }
            routes.still_blocked(self.now(), rand::random());
            self.keep(routes);
            let quic_again = routes.better().map(|(_, due)| self.at_wall_clock(due));
            self.board.change(|standing| standing.quic_again = quic_again);
        }
        std::future::pending().await
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connected, LinkError> {
        self.board.attempts.fetch_add(1, Ordering::Relaxed);
        let seconds = wall_clock() / 1_000_000_000;
        // Three small local files, once per attempt: not worth a thread.
        let tls = identity::load(&self.identity, &self.subject.gateway, seconds, wire::message::ALPN)?;
        transport::connect(endpoint, tls, self.subject.window.min(SEND_WINDOW)).await
    }

    /// All that it serves has nowhere to go.
    fn stray(&self, reason: String) {
        let tenants = self.subject.outboxes.iter().map(|outbox| outbox.tenant().clone()).collect();
        self.strays.note(Astray { stamp: self.board.stamp().clone(), tenants, reason });
    }

    /// Shows and logs where the link stands after a failure.
    fn tell(&self, course: &Course, step: &Step, now: Moment) {
        let why = course.circuit.why(&self.policy, now);
        let state = match step {
            Step::Retry { .. } => LinkState::Waiting,
            Step::Fallback { .. } => LinkState::Connecting,
            Step::Parked { .. } => LinkState::Parked,
            Step::GiveUp { .. } => LinkState::GivenUp,
        };
        let until = why.until.filter(|_| state != LinkState::Connecting);
        let next = until
            .and_then(|until| course.routes.next(until))
            .or_else(|| course.routes.next(now))
            .map(ToString::to_string);
        let cause = why.cause.as_deref().unwrap_or_default();
        let wait_ms = until.map_or(0, |until| until.since(now).as_millis() as i64);
        let (stamp, by) = (self.board.stamp(), next.as_deref().unwrap_or_default());
        match state {
            LinkState::GivenUp => tracing::error!(
                %stamp, cause, "no way to the stamp until someone acts; data stays stored"
            ),
            LinkState::Parked => tracing::warn!(
                %stamp, cause, wait_ms, "the stamp cannot be reached; data stays stored until the next episode"
            ),
            LinkState::Connecting => tracing::warn!(
                %stamp, cause, next = by, "no way to the stamp here; trying another one"
            ),
            _ => tracing::warn!(
                %stamp, cause, wait_ms, next = by, attempts_left = why.attempts_left, "no connection to the stamp; trying again"
            ),
        }
        if state == LinkState::Parked {
            self.board.parked.fetch_add(1, Ordering::Relaxed);
        }
        let then = (state == LinkState::Waiting || state == LinkState::Connecting).then(|| why.then.as_str());
        self.board.change(|standing| {
            standing.state = state;
            standing.since = wall_clock();
            standing.until = until.map(|until| self.at_wall_clock(until));
            standing.cause = Some(cause.to_owned());
            standing.attempts_left = Some(why.attempts_left);
            standing.episode_left = Some(why.elapsed_left);
            standing.next = next.clone();
            standing.then = then;
            standing.parked_because = match step {
                Step::Parked { because, .. } => Some(*because),
                _ => None,
            };
            standing.quic_again = course.routes.better().map(|(_, due)| self.at_wall_clock(due));
            for link in &mut standing.tenants {
                link.admitted = false;
            }
        });
    }

    /// Waits as decided, or until the gateway goes down, the operator says "now", or a way out has appeared.
    async fn wait(&mut self, way: &mut Way, step: Step) {
        let until = match step {
            Step::Retry { at } => Some(at),
            Step::Parked { until, .. } => Some(until),
            Step::GiveUp { .. } => None,
            Step::Fallback { .. } => return,
        };
        let before = files(&self.identity);
        let mut stop = self.stop.clone();
        let waited = sleep_until(self.origin, until);
        let mended = changed(&self.identity, before);
        tokio::pin!(waited, mended);
        loop {
            tokio::select! {
                _ = stop.wait_for(Option::is_some) => return,
                () = &mut waited => return,
                _ = self.operator.changed() => break,
                () = &mut mended, if until.is_none() => {
                    tracing::info!(stamp = %self.board.stamp(), "the identity files have changed; trying again");
                    break;
                }
                () = self.network.come(), if until.is_some() => {
                    if way.course.circuit.on_event(backoff::Event::LinkUp, self.now()) {
                        self.network.tried();
                        tracing::info!(stamp = %self.board.stamp(), "a network has come up; trying it");
                        return;
                    }
                }
            }
        }
        way.course.circuit.on_event(backoff::Event::Operator, self.now());
    }

    /// Takes over what a former life has found out.
    fn recall(&self, routes: &mut Routes) {
        let (memory, wall_clock) = (locked(&self.memory), wall_clock());
        for endpoint in &self.endpoints {
            let stamp = self.board.stamp().as_str();
            if let Some(left) = memory.blocked_for(stamp, &endpoint.to_string(), wall_clock) {
                routes.remember(endpoint, left, self.now());
            }
        }
    }

    /// Keeps what was found out for the next life.
    fn keep(&self, routes: &Routes) {
        let mut memory = locked(&self.memory);
        for (endpoint, blocked_until) in routes.known() {
            let until = blocked_until.map(|until| self.at_wall_clock(until));
            memory.note(self.board.stamp().as_str(), &endpoint.to_string(), until);
        }
    }

    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// A moment as nanoseconds since 1970 UTC, as the wall clock is set now.
    fn at_wall_clock(&self, moment: Moment) -> i64 {
        let ahead = moment.since(self.now());
        wall_clock().saturating_add(i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX))
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
