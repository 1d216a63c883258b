//! Drives one session: bytes in, batches to the landing, answers out.
//!
//! Knows no transport: it reads and writes a stream whose other end is known by the name in its certificate. Reads on
//! only while the landing takes what was read, so a slow disk slows the gateways down and nothing piles up.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};
use wire::codec;
use wire::ids::TenantId;
use wire::message::{
    Admission, Batch, BatchRefusal, CloseReason, Hello, Loss, MAX_RANGES, MAX_WELCOME_RANGES, RefusalReason,
};
use wire::session::stamp::{Closed, Event, Session};

use super::admission::{self, Allowed, Declined};
use super::presence::Place;
use super::reading::read;
use super::serving::Serving;
use super::standing::limits;
use super::{Receiver, now};
use crate::landing::{
    Answer, Answers, Arrival, ArrivalError, Known, Landed, LandingError, Lane, Limits, MAX_PENDING, Outcome,
    Receipt, StreamKey,
};
use crate::roster::Roster;

/// A gateway says hello within this time after its connection is there.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// At the end, what was received is landed and acknowledged within this time; what is not will be sent again.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Unacknowledged payload bytes of a tenant: enough for 1 Gbit/s over 30 ms; what one gateway may have queued here.
const WINDOW: u32 = 4 << 20;
/// The window while the landing's queue is crowded, so that what the landing is behind waits at the gateways.
const SLOW_WINDOW: u32 = WINDOW / 16;
/// The queue is crowded from the first level on, until it is below the second.
const CROWDED: (f64, f64) = (0.75, 0.25);
/// What a batch may cost to decode: a payload's largest size, and room for its rows as columns.
const LIMITS: codec::Limits = codec::Limits { frames: 4_096, rows: 1 << 18, bytes: 64 << 20 };
/// What we say is read by the other end within this time.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// After storage has failed: time for an operator, or for a full disk to be noticed. Gateways come back from then on, each
/// in its slot.
const RETURN_AFTER_STORAGE: Duration = Duration::from_secs(30);
/// A gateway for which there is no capacity asks again after this time, and up to half as much more.
const RETRY_FULL: Duration = Duration::from_secs(300);
/// A stamp that shuts down is expected back not before this; from then on gateways come back, each in its slot.
const RETURN_AFTER_SHUTDOWN: Duration = Duration::from_secs(1);
/// A gateway that knows of an assignment before this stamp does asks again after this time, and up to twice it.
const RETRY_NOT_YET: Duration = Duration::from_secs(1);
const UNWRITABLE: &str = "the landing cannot be written";
/// Devices of one tenant that a connection remembers as landed; beyond, it forgets them all and asks the landing again.
const MAX_REMEMBERED_DEVICES: usize = 100_000;

/// Why a session ended without a word.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Landing(#[from] LandingError),
    #[error("no hello within {} s", HELLO_WITHIN.as_secs())]
    NoHello,
    #[error("the gateway reads nothing for {} s", WRITTEN_WITHIN.as_secs())]
    Unread,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The Common Name of its certificate.
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// "quic" or "tcp", for logs.
    pub(super) transport: &'static str,
}

/// A connection on which no hello was heard yet.
pub(super) struct Greeting<R, W> {
    pub(super) receiver: Arc<Receiver>,
    pub(super) peer: Peer,
    pub(super) reader: R,
    pub(super) writer: W,
}

pub(super) struct Connection<R, W> {
    pub(super) receiver: Arc<Receiver>,
    pub(super) peer: Peer,
    pub(super) session: Session,
    reader: R,
    writer: W,
}

/// What holds while a session is open.
pub(super) struct Open {
    pub(super) hello: Hello,
    /// The roster it was let in by, or has looked at since.
    pub(super) roster: Arc<Roster>,
    /// The quotas that hold.
    pub(super) limits: Limits,
    /// Whether devices were refused.
    pub(super) refused_devices: bool,
    /// When that was last said.
    pub(super) said_refused: Option<Instant>,
    /// In the order of the hello; `None`: not served, or no longer.
    pub(super) tenants: Vec<Option<Tenant>>,
    lane: Lane,
    answers: Answers,
    /// Batches and receipts the landing has not answered.
    pending: usize,
    /// Whether the gateway was told to go slowly.
    slow: bool,
    place: Place,
    /// What the gateway should run.
    serving: Serving,
    stopping: watch::Receiver<bool>,
}

/// How a session is ended.
pub(super) struct Close {
    pub(super) reason: CloseReason,
    pub(super) text: &'static str,
    pub(super) return_after: Option<Duration>,
}

pub(super) struct Tenant {
    key: StreamKey,
    pub(super) name: TenantId,
    pub(super) devices: HashSet<Box<str>>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Greeting<R, W> {
    /// Speaks with the gateway until the session ends.
    pub(super) async fn serve(self) -> Result<(), ConnectionError> {
        let Self { receiver, peer, reader, writer } = self;
        let session = Session::new(receiver.stamp.clone());
        let mut connection = Connection { receiver, peer, session, reader, writer };
        let hello = timeout(HELLO_WITHIN, connection.hello()).await.map_err(|_| ConnectionError::NoHello)?;
        let result = match hello? {
            None => connection.flush().await,
            Some(hello) => match connection.admit(hello).await {
                Ok(open) => connection.exchange(open).await,
                Err((declined, retry_after)) => {
                    let Declined { reason, text } = declined;
                    warn!(gateway = %connection.peer.name, address = %connection.peer.address, %reason, text, "gateway refused");
                    connection.session.refuse(reason, &text, retry_after);
                    connection.flush().await
                }
            },
        };
        // Tells the other end that nothing follows, whatever has happened.
        let _ = connection.writer.shutdown().await;
        result
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    /// The hello; `None` if the session has ended before.
    async fn hello(&mut self) -> Result<Option<Hello>, ConnectionError> {
        loop {
            let ended = !self.read().await?;
            match self.session.poll_event() {
                Some(Event::Hello(hello)) => return Ok(Some(hello)),
                Some(Event::Closed(closed)) => {
                    warn!(peer = %self.peer.name, address = %self.peer.address, ?closed, "no session");
                    return Ok(None);
                }
                _ if ended => return Ok(None),
                _ => {}
            }
        }
    }

    /// Reads once; `false` at the end of the stream.
    async fn read(&mut self) -> Result<bool, ConnectionError> {
        let count = read(&mut self.reader, |bytes| self.session.receive(bytes)).await?;
        if count == 0 {
            self.session.receive_end();
        }
        Ok(count > 0)
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        let written = async {
            while let Some(mut bytes) = self.session.poll_transmit() {
                self.writer.write_all_buf(&mut bytes).await?;
            }
            self.writer.flush().await
        };
        Ok(timeout(WRITTEN_WITHIN, written).await.map_err(|_| ConnectionError::Unread)??)
    }

    async fn admit(&mut self, hello: Hello) -> Result<Open, (Declined, Option<Duration>)> {
        let receiver = Arc::clone(&self.receiver);
        let stopping = receiver.stopping.clone();
        if *stopping.borrow() {
            let declined =
                Declined { reason: RefusalReason::ShuttingDown, text: "the stamp goes down".to_owned() };
            return Err((declined, Some(receiver.door.slot(&hello.gateway, RETURN_AFTER_SHUTDOWN))));
        }
        let roster = receiver.roster();
        let allowed = admission::decide(&hello, &self.peer.name, &roster).map_err(|declined| {
            let again = || RETRY_NOT_YET + receiver.door.spread(RETRY_NOT_YET);
            let retry_after = (declined.reason == RefusalReason::NotYet).then(again);
            (declined, retry_after)
        })?;
        receiver.door.enter(&hello.gateway).map_err(|slot| {
            let text = "more gateways come at once than this stamp admits".to_owned();
            (Declined { reason: RefusalReason::Throttled, text }, Some(slot))
        })?;
        let connection = receiver.next_connection();
        let place =
            receiver.presence.claim(&hello.gateway, hello.installation, connection).map_err(|other| {
                let text = format!("installation {other} is connected under this identity");
                let declined = Declined { reason: RefusalReason::IdentityInUse, text };
                (declined, Some(receiver.identity_hold))
            })?;
        let arrival = Arrival {
            gateway: hello.gateway.clone(),
            installation: hello.installation,
            hold: receiver.identity_hold,
            device_quota: allowed.entry.device_quota,
            tenant_quotas: allowed.streams(&hello).map(|(_, quota)| quota).collect(),
            streams: allowed.streams(&hello).map(|(stream, _)| stream.clone()).collect(),
            now: now(),
        };
        let known = receiver.landing.arrive(arrival).await.map_err(|error| self.decline(&hello, error))?;
        let (lane, answers) = receiver.landing.lane(connection, hello.gateway.clone());
        let tenants = self.welcome(&hello, &allowed, known);
        info!(
            gateway = %hello.gateway, address = %self.peer.address, transport = self.peer.transport,
            installation = %hello.installation, software = hello.software, tenants = tenants.iter().flatten().count(), "gateway connected"
        );
        let limits = limits(&hello, &allowed);
        let served = tenants.iter().map(|tenant| tenant.as_ref().map(|it| &it.name));
        let serving = Serving::new(&receiver.desires, &hello.gateway, served);
        let (refused_devices, said_refused) = (false, None);
        let (pending, slow) = (0, false);
        Ok(Open {
            hello,
            roster,
            limits,
            refused_devices,
            said_refused,
            tenants,
            lane,
            answers,
            pending,
            slow,
            place,
            serving,
            stopping,
        })
    }

    fn welcome(&mut self, hello: &Hello, allowed: &Allowed, known: Vec<Known>) -> Vec<Option<Tenant>> {
        let mut known = known.into_iter();
        let mut ranges_left = MAX_WELCOME_RANGES;
        let mut tenants = Vec::with_capacity(hello.tenants.len());
        let mut answers = Vec::with_capacity(hello.tenants.len());
        for (stream, answer) in hello.tenants.iter().zip(&allowed.tenants) {
            // Streams were asked for in this order, for served tenants only.
            let admitted = match (answer, answer.is_ok().then(|| known.next()).flatten()) {
                (Ok(quota), Some(known)) if !known.fenced => Ok((known, *quota)),
                (Err(declined), _) => Err(declined.clone()),
                _ => Err(Declined {
                    reason: RefusalReason::Moved,
                    text: format!("tenant {} of this gateway has moved to another stamp", stream.tenant),
                }),
            };
            match admitted {
                Ok((Known { key, landed, .. }, quota)) => {
                    let landed = landed.truncated(MAX_RANGES.min(ranges_left));
                    ranges_left -= landed.len();
                    let device_quota = quota.into_iter().chain(allowed.entry.device_quota).min();
                    answers.push(Admission::Admitted { landed, device_quota, window: WINDOW });
                    tenants.push(Some(Tenant { key, name: stream.tenant.clone(), devices: HashSet::new() }));
                }
                Err(Declined { reason, text }) => {
                    warn!(gateway = %hello.gateway, tenant = %stream.tenant, %reason, text, "tenant refused");
                    answers.push(Admission::Refused { reason, text });
                    tenants.push(None);
                }
            }
        }
        self.session.welcome(answers);
        tenants
    }

    fn decline(&self, hello: &Hello, error: ArrivalError) -> (Declined, Option<Duration>) {
        let door = &self.receiver.door;
        let (reason, retry_after) = match &error {
            ArrivalError::IdentityInUse { free_in, .. } => (RefusalReason::IdentityInUse, *free_in),
            ArrivalError::Full(_) => (RefusalReason::Full, RETRY_FULL + door.spread(RETRY_FULL / 2)),
            ArrivalError::Storage(_) => {
                (RefusalReason::Storage, door.slot(&hello.gateway, RETURN_AFTER_STORAGE))
            }
        };
        let text = match &error {
            // What SQLite says is for the operator's log, not for the gateway.
            ArrivalError::Storage(_) => UNWRITABLE.to_owned(),
            other => other.to_string(),
        };
        (Declined { reason, text }, Some(retry_after))
    }

    async fn exchange(&mut self, mut open: Open) -> Result<(), ConnectionError> {
        let result = self.until_closed(&mut open).await;
        let gateway = open.hello.gateway.clone();
        match &result {
            Ok(()) => info!(%gateway, "gateway disconnected"),
            Err(error) => info!(%gateway, %error, "gateway lost"),
        }
        self.receiver.landing.depart(gateway, now()).await;
        result
    }

    async fn until_closed(&mut self, open: &mut Open) -> Result<(), ConnectionError> {
        // It may have changed before its changes were heard of here.
        if let Some(close) = self.look(open).await {
            return self.drain(open, Some(close)).await;
        }
        open.serving.tell(&mut self.session);
        loop {
            self.take_events(open).await?;
            self.pace(open);
            self.flush().await?;
            if self.session.is_closed() {
                return Ok(());
            }
            open.serving.written();
            tokio::select! {
                answers = open.answers.recv() => self.answer(open, answers.unwrap_or_default()),
                count = read(&mut self.reader, |bytes| self.session.receive(bytes)), if open.pending < MAX_PENDING => {
                    if count? == 0 {
                        self.take_events(open).await?;
                        self.session.receive_end();
                        return self.drain(open, None).await;
                    }
                }
                news = open.serving.next(|| open.lane.crowding() > CROWDED.1) => open.serving.take(news, &mut self.session),
                () = open.place.superseded.notified() => {
                    let text = "the same installation has connected anew";
                    let close = Close { reason: CloseReason::Superseded, text, return_after: None };
                    return self.drain(open, Some(close)).await;
                }
                () = open.place.look.notified() => {
                    if let Some(close) = self.look(open).await {
                        return self.drain(open, Some(close)).await;
                    }
                }
                () = stops(&mut open.stopping) => {
                    let after = self.receiver.door.slot(&open.hello.gateway, RETURN_AFTER_SHUTDOWN);
                    let (reason, text) = (CloseReason::ShuttingDown, "the stamp goes down");
                    let close = Close { reason, text, return_after: Some(after) };
                    return self.drain(open, Some(close)).await;
                }
            }
        }
    }

    /// Tells the gateway to go slowly, or as before; `true` if there was anything to tell.
    fn pace(&mut self, open: &mut Open) -> bool {
        let crowding = open.lane.crowding();
        let slow = crowding > if open.slow { CROWDED.1 } else { CROWDED.0 };
        let changed = slow != open.slow;
        if changed {
            debug!(gateway = %open.hello.gateway, slow, "pace");
            open.slow = slow;
            self.session.pace(None, if slow { SLOW_WINDOW } else { WINDOW });
        }
        changed
    }

    /// Waits for what the landing still has of this session, acknowledges it, and closes.
    async fn drain(&mut self, open: &mut Open, close: Option<Close>) -> Result<(), ConnectionError> {
        let all_answered = async {
            while open.pending > 0 {
                let Some(answers) = open.answers.recv().await else { break };
                self.answer(open, answers);
            }
        };
        if timeout(DRAIN_WITHIN, all_answered).await.is_err() {
            debug!(gateway = %open.hello.gateway, pending = open.pending, "not all was landed in time");
        }
        if let Some(Close { reason, text, return_after }) = close {
            self.session.close(reason, text, return_after);
        }
        self.flush().await
    }

    async fn take_events(&mut self, open: &mut Open) -> Result<(), ConnectionError> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Batch(batch) => {
                    // Before it waits for room in the landing's queue, and cannot say anything.
                    if self.pace(open) {
                        self.flush().await?;
                    }
                    self.land(open, batch).await?;
                }
                Event::Loss(loss) => keep(open, loss).await?,
                Event::Closed(Closed::Bye(text)) => debug!(gateway = %open.hello.gateway, text, "bye"),
                Event::Closed(Closed::Protocol(error)) => {
                    warn!(gateway = %open.hello.gateway, %error, "the gateway broke the protocol");
                }
                Event::Fetch(fetch) => open.serving.fetch(fetch),
                Event::Condition(condition) => open.serving.hear(condition),
                Event::Hello(_) => {}
            }
        }
        Ok(())
    }

    async fn land(&mut self, open: &mut Open, batch: Batch) -> Result<(), ConnectionError> {
        let Batch { tenant: index, seq, route, created, rows, payload } = batch;
        // The session hands on batches of admitted tenants only.
        let Some(Some(tenant)) = open.tenants.get_mut(usize::from(index.0)) else { return Ok(()) };
        let devices = match check(&payload, rows, &tenant.devices) {
            Ok(devices) => devices,
            Err(text) => {
                warn!(gateway = %open.hello.gateway, tenant = %tenant.name, %seq, text, "batch refused");
                self.session.refuse_batch(index, seq, BatchRefusal::Undecodable, &text);
                return Ok(());
            }
        };
        if tenant.devices.len() + devices.len() > MAX_REMEMBERED_DEVICES {
            tenant.devices.clear();
        }
        tenant.devices.extend(devices.iter().map(|device| device.as_str().into()));
        let stream = tenant.key;
        let landed = Landed { stream, seq, route, created, received: now(), rows, payload, devices };
        open.lane.land(index, landed).await?;
        open.pending += 1;
        Ok(())
    }

    fn answer(&mut self, open: &mut Open, answers: Vec<Answer>) {
        for Answer { tenant: index, from, to, outcome } in answers {
            open.pending = open.pending.saturating_sub(1);
            match outcome {
                Outcome::Durable => self.session.landed(index, from, to),
                Outcome::Refused(reason, text) => {
                    if let Some(Some(tenant)) = open.tenants.get(usize::from(index.0)) {
                        warn!(gateway = %open.hello.gateway, tenant = %tenant.name, seq = %from, text, "batch refused");
                    }
                    self.session.refuse_batch(index, from, reason, &text);
                }
                // Not answered: it is the other stamp's to land it, or to say that it has.
                Outcome::Fenced => self.fenced(open, index),
                Outcome::Beyond { devices, text } => {
                    open.refuse_devices(index, from, &text);
                    self.session.refuse_devices(index, from, &text, devices);
                }
                Outcome::Failed(_) => {
                    if !self.session.is_closed() {
                        let after = self.receiver.door.slot(&open.hello.gateway, RETURN_AFTER_STORAGE);
                        self.session.close(CloseReason::Storage, UNWRITABLE, Some(after));
                    }
                }
            }
        }
    }
}

async fn stops(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so: that is an end, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn keep(open: &mut Open, loss: Loss) -> Result<(), ConnectionError> {
    let Loss { tenant: index, from, to, rows, reason } = loss;
    let Some(Some(tenant)) = open.tenants.get(usize::from(index.0)) else { return Ok(()) };
    warn!(gateway = %open.hello.gateway, tenant = %tenant.name, %from, %to, rows, reason, "batches lost at the gateway");
    let receipt = Receipt { stream: tenant.key, from, to, rows, reason, received: now() };
    open.lane.keep(index, receipt).await?;
    open.pending += 1;
    Ok(())
}

/// Decodes a batch, so that what is acknowledged can be read, and returns its devices that are not in `known`.
fn check(payload: &[u8], rows: u32, known: &HashSet<Box<str>>) -> Result<Vec<String>, String> {
    let frames = codec::decode(payload, &LIMITS).map_err(|error| error.to_string())?;
    let found: usize = frames.iter().map(wire::frame::Frame::rows).sum();
    if found != rows as usize {
        return Err(format!("the batch has {found} rows, its header says {rows}"));
    }
    let devices = frames.into_iter().flat_map(|frame| frame.devices);
    Ok(devices.filter(|device| !known.contains(device.as_str())).collect())
}
