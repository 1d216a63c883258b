//! A subscription at an existing broker (`kind = "mqtt"`), by MQTT 5.
//!
//! The session at the broker is persistent (clean start off, session expiry), so the broker keeps what comes while the
//! gateway is away. A message is acknowledged only after its commit; [`desk`] keeps the account. Whether and when a lost
//! connection is made anew is decided by [`backoff`] alone: the library connects when it is polled, and it is polled
//! only when the decision says so.
//!
//! Does not decode and does not commit. Invariants: one task owns the connection; it keeps the connection alive while
//! lanes have no room; what is in flight is bounded by the Receive Maximum that the broker is told, and what waits for
//! room by `MAX_WAITING_BYTES`.
//!
//! Limits worth knowing: acknowledgements are not in the order of the messages when tenants commit at different speed;
//! a tenant whose lane is held takes its share of the Receive Maximum, in the end all of it: where tenants must not
//! wait for each other, give each a source of its own.

mod corked;
mod desk;
mod handle;
mod options;
mod outcome;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use backoff::{Decision, Episode, Ledger, Moment, Outcome};
use gateway_config::{Broker, QualityOfService, Source};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, ManualAck, PubAck, PubRec, Publish, QoS,
    RetainForwardRule, SubAck, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use wire::ids::TenantId;

use self::corked::Cork;
use self::desk::{Ack, Counters, Delivery, Desk, Receipt, Token, Verdicts};
use self::handle::{Command, Ends, Standing};
pub use self::handle::{StartError, Status, Subscription};
use super::listener::Unrouted;
use super::rows::{CustodyOf, Gatherer};
use super::rules::Rule;
use crate::intake::LaneSender;

/// How long a connection may take until the broker has accepted it.
const CONNECT: Duration = Duration::from_secs(10);
/// Acknowledgements written to the socket at once.
const ACK_BATCH: usize = 256;
/// How often the files of secret and trust are looked at while only a change of them helps.
const LOOK_AT_FILES: Duration = Duration::from_secs(15);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// A subscription that nobody has: given up last, for the broker's answer.
const LAST_WORD: &str = "sluice/last-word";

/// The task that owns the connection.
struct Task {
    name: Arc<str>,
    filters: Vec<String>,
    broker: Broker,
    client: AsyncClient,
    desk: Desk,
    counters: Arc<Counters>,
    verdicts: Verdicts,
    commands: mpsc::Receiver<Command>,
    standing: watch::Sender<Standing>,
    episode: Episode,
    ledger: Ledger,
    origin: Instant,
    acks: Vec<Ack>,
    /// Whether the broker has accepted the connection; its answer to the subscriptions may be outstanding.
    online: bool,
    cork: Cork,
}

/// What ended a wait.
#[expect(clippy::large_enum_variant, reason = "passed on once per event, never kept")]
enum Turn {
    /// The library has something.
    Event(Result<Event, ConnectionError>),
    /// The broker must deliver again what a lane has refused.
    Refused(String),
    /// It is time.
    Due,
    Command(Command),
}

impl Task {
    /// Sets the connection up and begins, as a task of the present runtime.
    fn spawn(
        source: &Source,
        broker: &Broker,
        lanes: Vec<(TenantId, LaneSender)>,
        unrouted: Box<dyn Unrouted>,
        ends: Ends,
    ) -> Result<JoinHandle<()>, StartError> {
        let cork = Cork::default();
        let (client, eventloop) = AsyncClient::builder(options::options(broker, cork.clone()))
            .capacity(usize::from(broker.max_in_flight) + ACK_BATCH)
            .try_build()
            .map_err(|error| StartError::Options {
                name: Arc::clone(&source.name),
                cause: error.to_string(),
            })?;
        let (verdict_sender, verdicts) = mpsc::unbounded_channel();
        let custody: CustodyOf<Token> = {
            let verdicts = verdict_sender.clone();
            Box::new(move |_, tokens| Box::new(Receipt { tokens, verdicts: verdicts.clone() }))
        };
        let rules: Arc<[Rule]> = source.topics.iter().map(Rule::from).collect();
        let gatherer = Gatherer::new(Arc::clone(&source.name), rules, lanes, source.gather, custody);
        let Ends { counters, commands, standing } = ends;
        let task = Task {
            name: Arc::clone(&source.name),
            filters: source.topics.iter().map(|topic| topic.filter.as_mqtt()).collect(),
            broker: broker.clone(),
            client,
            desk: Desk::new(gatherer, unrouted, Arc::clone(&counters), verdict_sender),
            counters,
            verdicts,
            commands,
            standing,
            episode: Episode::new(),
            ledger: Ledger::default(),
            origin: Instant::now(),
            acks: Vec::new(),
            online: false,
            cork,
        };
        Ok(tokio::spawn(task.run(eventloop)))
    }

    async fn run(mut self, mut eventloop: EventLoop) {
        let until = loop {
            let outcome = match self.converse(&mut eventloop).await {
                Ok(until) => break until,
                Err(outcome) => outcome,
            };
            self.online = false;
            self.desk.disconnected();
            let now = self.now();
            let random = rand::random();
            let decision =
                self.episode.on_failure(&self.broker.retry, &mut self.ledger, outcome, now, random);
            if let Some(until) = self.wait(decision).await {
                break until;
            }
        };
        self.finish(&mut eventloop, until).await;
        self.stand(false, "stopped".to_owned());
    }

    /// Connects and takes messages until that fails, or until it is told to stop.
    async fn converse(&mut self, eventloop: &mut EventLoop) -> Result<Instant, Outcome> {
        self.prepare(eventloop)?;
        loop {
            match self.turn(Some(eventloop), None).await {
                Turn::Event(Ok(event)) => self.heed(event, eventloop)?,
                Turn::Event(Err(error)) => {
                    if matches!(error, ConnectionError::ConnectionRefused(_)) {
                        self.counters.refused.fetch_add(1, Relaxed);
                    }
                    return Err(outcome::classify(&error));
                }
                Turn::Refused(reason) => {
                    eventloop.clean();
                    return Err(Outcome::transient(format!("a lane did not take its messages: {reason}")));
                }
                Turn::Command(Command::Stop { until }) => return Ok(until),
                Turn::Command(Command::RetryNow) | Turn::Due => {}
            }
        }
    }

    /// Credentials and trust as they are now: they may have been renewed since the last attempt.
    fn prepare(&self, eventloop: &mut EventLoop) -> Result<(), Outcome> {
        if let Some(username) = &self.broker.username {
            let password = match &self.broker.password {
                None => None,
                Some(secret) => Some(secret.read().map_err(|error| Outcome::permanent(error.to_string()))?),
            };
            match password {
                None => eventloop.options.set_username(username.clone()),
                Some(password) => eventloop.options.set_credentials(username.clone(), password),
            };
        }
        if self.broker.tls {
            let ca = match &self.broker.trust {
                None => Vec::new(),
                Some(path) => std::fs::read(path).map_err(|error| {
                    Outcome::permanent(format!("cannot read {}: {error}", path.display()))
                })?,
            };
            let tls = options::tls(ca)
                .map_err(|error| Outcome::permanent(format!("the trust file is not usable: {error}")))?;
            eventloop.options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        }
        Ok(())
    }

    /// Waits for one thing to do; on the way settles what was committed and sends on what has waited long enough.
    async fn turn(&mut self, mut eventloop: Option<&mut EventLoop>, until: Option<Instant>) -> Turn {
        let readable = eventloop.is_some();
        let poll = async {
            match eventloop.as_mut() {
                Some(eventloop) => eventloop.poll().await,
                None => std::future::pending().await,
            }
        };
        // Kept over all other things that happen meanwhile: a connection in the making must not begin anew each time.
        tokio::pin!(poll);
        loop {
            let wake = [self.desk.wake(), until].into_iter().flatten().min();
            let clogged = self.desk.is_clogged();
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    // Without its owner the task is aborted anyway.
                    return Turn::Command(command.unwrap_or(Command::Stop { until: Instant::now() }));
                }
                Some(verdict) = self.verdicts.recv() => {
                    let settled = self.desk.settle(verdict, &mut self.acks);
                    if !self.acks.is_empty() {
                        self.ledger.on_success();
                    }
                    for ack in self.acks.drain(..) {
                        acknowledge(&self.client, ack);
                    }
                    if let Err(reason) = settled {
                        return Turn::Refused(reason);
                    }
                }
                () = sleep_until(wake), if wake.is_some() => {
                    let now = Instant::now();
                    if self.desk.wake().is_some_and(|wake| wake <= now) {
                        self.desk.turn(now);
                    }
                    if until.is_some_and(|until| until <= now) {
                        return Turn::Due;
                    }
                }
                event = &mut poll, if readable && !clogged => return Turn::Event(event),
            }
        }
    }

    /// Does what an event asks for.
    fn heed(&mut self, event: Event, eventloop: &mut EventLoop) -> Result<(), Outcome> {
        match event {
            Event::Incoming(Incoming::Publish(publish)) => {
                if let Some(ack) = self.desk.deliver(delivery(publish)) {
                    acknowledge(&self.client, ack);
                }
                Ok(())
            }
            Event::Incoming(Incoming::PubRel(release)) => {
                self.desk.released(release.pkid);
                Ok(())
            }
            Event::Incoming(Incoming::ConnAck(accepted)) => {
                // From here on the library knows its own state: nothing needs to be saved, message by message.
                eventloop.options.clear_session_store();
                self.online = true;
                self.desk.connected(accepted.session_present);
                self.episode.on_connected(self.now());
                self.counters.connections.fetch_add(1, Relaxed);
                tracing::info!(
                    source = %self.name, broker = %self.broker.host, port = self.broker.port,
                    session_present = accepted.session_present, "connected to the broker"
                );
                self.subscribe()
            }
            Event::Incoming(Incoming::SubAck(answer)) => self.subscribed(&answer),
            _ => Ok(()),
        }
    }

    /// Asks for all filters. Those the session has already stay as they are.
    fn subscribe(&self) -> Result<(), Outcome> {
        let qos = match self.broker.qos {
            QualityOfService::AtMostOnce => QoS::AtMostOnce,
            QualityOfService::AtLeastOnce => QoS::AtLeastOnce,
            QualityOfService::ExactlyOnce => QoS::ExactlyOnce,
        };
        let filters: Vec<SubscribeFilter> = self
            .filters
            .iter()
            .map(|path| {
                let mut filter = SubscribeFilter::new(path.clone(), qos);
                filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
                filter
            })
            .collect();
        let asked = self.client.try_subscribe_many(filters);
        asked.map_err(|error| Outcome::transient(format!("cannot subscribe: {error}")))
    }

    fn subscribed(&self, answer: &SubAck) -> Result<(), Outcome> {
        let mut refused = Vec::new();
        for (filter, code) in self.filters.iter().zip(&answer.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                tracing::error!(source = %self.name, %filter, ?code, "the broker refuses a subscription");
                refused.push(format!("{filter} ({code:?})"));
            }
        }
        if refused.len() == self.filters.len() {
            return Err(Outcome::permanent(format!(
                "the broker refuses all subscriptions: {}",
                refused.join(", ")
            )));
        }
        let why = if refused.is_empty() {
            "connected".to_owned()
        } else {
            format!("connected, but the broker refuses {}", refused.join(", "))
        };
        self.stand(true, why);
        Ok(())
    }

    /// Waits as decided. Returns by when to be finished, if it is told to stop.
    async fn wait(&mut self, decision: Decision) -> Option<Instant> {
        let (moment, end) = match &decision {
            Decision::Retry { at } => (Some(*at), None),
            Decision::Parked { until, because } => (Some(*until), Some(because.to_string())),
            Decision::GiveUp { .. } => (None, None),
        };
        let now = self.now();
        let why = self.episode.why(&self.broker.retry, now);
        let cause = why.cause.as_deref().unwrap_or_default();
        let wait_ms = moment.map_or(0, |moment| moment.since(now).as_millis() as u64);
        match (&end, moment) {
            (_, None) => {
                tracing::error!(source = %self.name, cause, "no way to the broker until someone acts")
            }
            (Some(end), _) => tracing::warn!(source = %self.name, cause, end, wait_ms, "parked"),
            (None, _) => tracing::warn!(
                source = %self.name, cause, wait_ms, attempts_left = why.attempts_left,
                "no connection to the broker; trying again"
            ),
        }
        self.stand(false, why.sentence(now));
        let files = self.files();
        loop {
            let until =
                moment.map_or_else(|| Instant::now() + LOOK_AT_FILES, |moment| self.origin + moment.0);
            match self.turn(None, Some(until)).await {
                Turn::Command(Command::Stop { until }) => return Some(until),
                Turn::Command(Command::RetryNow) => break,
                Turn::Due if moment.is_some() => return None,
                Turn::Due if self.files() != files => break,
                Turn::Due | Turn::Refused(_) | Turn::Event(_) => {}
            }
        }
        let now = self.now();
        self.episode.on_event(backoff::Event::Operator, now);
        None
    }

    /// Commits and acknowledges what was taken, and says goodbye.
    async fn finish(&mut self, eventloop: &mut EventLoop, until: Instant) {
        self.desk.flush();
        if !self.online {
            return;
        }
        // What still comes is left to the broker, which keeps it.
        while self.desk.unsettled() > 0 {
            match self.turn(Some(eventloop), Some(until)).await {
                Turn::Event(Ok(_)) => self.desk.flush(),
                Turn::Command(_) => {}
                Turn::Event(Err(_)) => return,
                Turn::Refused(_) | Turn::Due => break,
            }
        }
        // A broker may drop acknowledgements that it has not read yet when the connection closes while it sends. It
        // answers in order: once it answers this, it has read them all.
        if self.client.try_unsubscribe(LAST_WORD).is_err() {
            return;
        }
        let until = until.max(Instant::now() + GOODBYE);
        loop {
            match self.turn(Some(eventloop), Some(until)).await {
                Turn::Event(Ok(Event::Incoming(Incoming::UnsubAck(_)))) => break,
                Turn::Event(Ok(_)) | Turn::Command(_) | Turn::Refused(_) => {}
                Turn::Event(Err(_)) | Turn::Due => return,
            }
        }
        self.cork.pull();
        if self.client.try_disconnect().is_ok() {
            let goodbye = async { while eventloop.poll().await.is_ok() {} };
            if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
                tracing::debug!(source = %self.name, "the broker did not take the goodbye in time");
            }
        }
    }

    fn stand(&self, connected: bool, why: String) {
        self.standing.send_replace(Standing { connected, why });
    }

    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// When each file that the connection needs was last written.
    fn files(&self) -> [Option<SystemTime>; 2] {
        let secret = match &self.broker.password {
            Some(gateway_config::Secret::File(path)) => Some(path),
            _ => None,
        };
        [secret, self.broker.trust.as_ref()]
            .map(|path| std::fs::metadata(path?).and_then(|data| data.modified()).ok())
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

fn acknowledge(client: &AsyncClient, ack: Ack) {
    let ack = match ack.exactly_once {
        false => ManualAck::PubAck(PubAck::new(ack.packet, None)),
        true => ManualAck::PubRec(PubRec::new(ack.packet, None)),
    };
    // The channel holds as many as can be in flight; if it is closed, so is the connection, and the message comes again.
    if let Err(error) = client.try_manual_ack(ack) {
        tracing::debug!(%error, "an acknowledgement was not taken");
    }
}

fn delivery(publish: Publish) -> Delivery {
    Delivery {
        // A retained message may be one that was delivered when it was new.
        again: publish.dup || publish.retain,
        topic: publish.topic,
        payload: publish.payload,
        packet: publish.pkid,
        exactly_once: publish.qos == QoS::ExactlyOnce,
        arrived: crate::clock::now(),
    }
}
