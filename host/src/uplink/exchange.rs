//! One connection's conversation with a stamp: hello, batches and receipts up, acknowledgements down, until it ends.
//!
//! Everything happens in one task, woken by bytes from the stamp, by room to write, by the store's answer and by the
//! outboxes' commits. Does not connect, does not decide what comes after the end.
//!
//! Invariants: an outbox is told `landed` only what the stamp acknowledged in this session or named in its welcome; a
//! batch refused for good is given up (dead letter and receipt), never dropped and never in the way of others; at most
//! [`AHEAD`] bytes and one read wait in memory before the connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::ids::{GatewayId, InstallationId, Sequence, StampId};
use wire::message::{BatchRefusal, MessageError, RefusalReason, TenantIndex, TenantStream};
use wire::session::gateway::{Config, Event, Outgoing as Sending, SendError, Session};

use super::ended::{Ended, News};
use super::feed::{Feed, QUANTUM, Wanted};
use super::pulse::{Pulse, UNANSWERED};
use super::quic::{Connection, Inbound, LinkError, Outbound};
use super::status::Board;
use crate::outbox::{Loss, Outbox, OutboxError, Outgoing, Waiting};

/// Nothing more is read from the outboxes while so many bytes wait to be written.
const AHEAD: usize = 2 * QUANTUM;
/// A stamp that has not answered the hello by then is not answering.
const GREETING: Duration = Duration::from_secs(10);
/// When the gateway goes down, acknowledgements of what is on its way are awaited for so long.
const DRAIN: Duration = Duration::from_secs(2);
/// Last words are written within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a session is about; the same for all sessions of a link.
pub(super) struct Subject {
    pub(super) gateway: GatewayId,
    pub(super) installation: InstallationId,
    pub(super) software: String,
    /// The stamp it should be.
    pub(super) stamp: StampId,
    /// The tenants served by it.
    pub(super) outboxes: Vec<Arc<dyn Outbox>>,
    /// Most payload bytes sent and not acknowledged, over all tenants.
    pub(super) window: usize,
}

/// Runs one session to its end.
pub(super) async fn run(
    subject: &Subject,
    board: &Board,
    connection: &Connection,
    (mut outbound, mut inbound): (Outbound, Inbound),
    mut stop: watch::Receiver<bool>,
    news: impl FnMut(News) + Send,
) -> Ended {
    let mut exchange = match Exchange::new(subject, board, connection, news) {
        Ok(exchange) => exchange,
        Err(error) => return Ended::Hello(error),
    };
    let ended = exchange.converse(&mut outbound, &mut inbound, &mut stop).await;
    // Whatever is still to be said, a goodbye above all. The connection is closed in any case.
    tokio::time::timeout(FAREWELL, exchange.say_the_last(&mut outbound)).await.ok();
    board.in_flight_batches.store(0, Ordering::Relaxed);
    board.in_flight_bytes.store(0, Ordering::Relaxed);
    ended
}

struct Exchange<'a, N> {
    subject: &'a Subject,
    board: &'a Board,
    connection: &'a Connection,
    news: N,
    session: Session,
    feed: Feed,
    tenants: Vec<Tenant>,
    /// To be written, in order, and how many bytes.
    chunks: Vec<Bytes>,
    ahead: usize,
    greeted: bool,
    answered: usize,
    first_refusal: Option<(RefusalReason, String)>,
}

struct Tenant {
    outbox: Arc<dyn Outbox>,
    waiting: watch::Receiver<Waiting>,
    admitted: bool,
    /// There are receipts that may not have been sent in this session.
    losses_due: bool,
    /// Not all receipts found room: read them again when some have landed.
    losses_cut: bool,
}

/// An answer of the store.
enum Answer {
    Batches(Wanted, Result<Vec<Outgoing>, OutboxError>),
    Losses(usize, Result<Vec<Loss>, OutboxError>),
}

type Reading = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<'a, N: FnMut(News) + Send> Exchange<'a, N> {
    fn new(
        subject: &'a Subject,
        board: &'a Board,
        connection: &'a Connection,
        news: N,
    ) -> Result<Self, MessageError> {
        let tenants: Vec<_> = subject.outboxes.iter().map(Tenant::new).collect();
        let committed: Vec<Sequence> = tenants.iter().map(|tenant| tenant.waiting.borrow().last).collect();
        let streams = tenants.iter().zip(&committed).map(|(tenant, last)| TenantStream {
            tenant: tenant.outbox.tenant().clone(),
            stream: tenant.outbox.stream(),
            next: last.next(),
        });
        let session = Session::new(Config {
            gateway: subject.gateway.clone(),
            installation: subject.installation,
            software: subject.software.clone(),
            tenants: streams.collect(),
        })?;
        Ok(Self {
            subject,
            board,
            connection,
            news,
            session,
            feed: Feed::new(committed),
            tenants,
            chunks: Vec::new(),
            ahead: 0,
            greeted: false,
            answered: 0,
            first_refusal: None,
        })
    }

    async fn converse(
        &mut self,
        outbound: &mut Outbound,
        inbound: &mut Inbound,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let commits = Arc::new(Notify::new());
        // Dropped, and so ended, with the session.
        let _watchers = self.watch_commits(&commits);
        let mut reading: Option<Reading> = None;
        let mut deadline = Some(Instant::now() + GREETING);
        let mut draining = *stop.borrow_and_update();
        let mut pulse = Pulse::new(self.connection);
        loop {
            if let Some(ended) = self.take_events() {
                return ended;
            }
            if self.greeted && !draining {
                deadline = None;
            }
            if draining && (!self.greeted || self.on_the_way().0 == 0) {
                self.session.bye("the gateway is going down");
                return Ended::Stopped;
            }
            self.collect();
            if reading.is_none() && !draining && self.ahead < AHEAD {
                reading = self.read_next();
            }
            tokio::select! {
                received = inbound.read() => match received {
                    Ok(Some(bytes)) => self.session.receive(&bytes),
                    Ok(None) => {
                        let lost = LinkError::Lost { cause: "the stamp ended the stream".to_owned() };
                        return self.last_words().unwrap_or(Ended::Lost(lost));
                    }
                    Err(error) => return self.last_words().unwrap_or(Ended::Lost(error)),
                },
                written = outbound.write(&mut self.chunks), if !self.chunks.is_empty() => match written {
                    Ok(()) => self.ahead = self.chunks.iter().map(Bytes::len).sum(),
                    Err(error) => {
                        self.hear_out(inbound).await;
                        return self.last_words().unwrap_or(Ended::Lost(error));
                    }
                },
                answer = wait_for(&mut reading) => {
                    reading = None;
                    self.take_answer(answer);
                }
                () = commits.notified() => self.take_commits(),
                changed = stop.changed(), if !draining => {
                    // A stop that can no longer be signalled is one.
                    if changed.is_err() || *stop.borrow_and_update() {
                        draining = true;
                        reading = None;
                        deadline = Some(Instant::now() + DRAIN);
                    }
                }
                () = pulse.look(), if self.on_the_way().0 > 0 => {
                    if pulse.is_lost(self.connection) {
                        let seconds = UNANSWERED.as_secs();
                        let cause = format!("nothing came from the stamp for {seconds} s");
                        return Ended::Lost(LinkError::Lost { cause });
                    }
                }
                () = sleep_until(deadline) => {
                    if !draining {
                        return Ended::NoWelcome;
                    }
                    self.session.bye("the gateway is going down");
                    return Ended::Stopped;
                }
            }
        }
    }

    /// One small task per tenant turns its commits into a wake-up; many commits make one.
    fn watch_commits(&self, commits: &Arc<Notify>) -> JoinSet<()> {
        let mut watchers = JoinSet::new();
        for tenant in &self.tenants {
            let mut waiting = tenant.waiting.clone();
            let commits = commits.clone();
            watchers.spawn(async move {
                while waiting.changed().await.is_ok() {
                    commits.notify_one();
                }
            });
        }
        watchers
    }

    fn take_commits(&mut self) {
        for (place, tenant) in self.tenants.iter_mut().enumerate() {
            // An outbox that is gone has nothing new.
            if tenant.waiting.has_changed().unwrap_or(false) {
                tenant.losses_due |= tenant.waiting.borrow_and_update().losses > 0;
                self.feed.woken(place);
            }
        }
    }

    /// Moves what the session wants to say into few large chunks.
    fn collect(&mut self) {
        while let Some(chunk) = self.session.poll_transmit() {
            self.ahead += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// The next question to a store: receipts first, since they are few and free space.
    fn read_next(&mut self) -> Option<Reading> {
        let due = |tenant: &Tenant| tenant.admitted && tenant.losses_due;
        if let Some((place, tenant)) = self.tenants.iter_mut().enumerate().find(|(_, tenant)| due(tenant)) {
            tenant.losses_due = false;
            let outbox = tenant.outbox.clone();
            return Some(Box::pin(async move { Answer::Losses(place, outbox.losses().await) }));
        }
        let (session, window) = (&self.session, self.subject.window);
        let total = self.on_the_way().1;
        // Of several tenants none holds more than half of the window: one that is not acknowledged leaves room.
        let share = if self.tenants.len() > 1 { window / 2 } else { window };
        let wanted = self.feed.next(|place| {
            let index = TenantIndex(place as u16);
            let (batches, bytes) = session.on_the_way(index);
            let left = (window as u64).saturating_sub(total).min((share as u64).saturating_sub(bytes));
            let room = session.room(index).min(left as usize);
            // With nothing on its way a batch of any size may go.
            if batches == 0 && session.may_send(index, 0) && total < window as u64 {
                room.max(1)
            } else {
                room
            }
        })?;
        let outbox = self.tenants.get(wanted.tenant)?.outbox.clone();
        let Wanted { priority, after, max_bytes, .. } = wanted;
        Some(Box::pin(async move { Answer::Batches(wanted, outbox.read(priority, after, max_bytes).await) }))
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Batches(wanted, Ok(batches)) => self.send_batches(wanted, batches),
            Answer::Losses(place, Ok(losses)) => self.send_losses(place, &losses),
            Answer::Batches(wanted, Err(error)) => {
                tracing::error!(tenant = %error.tenant, %error, "outbox cannot be read; trying again after its next commit");
                self.feed.unreadable(wanted);
            }
            Answer::Losses(_, Err(error)) => {
                tracing::error!(tenant = %error.tenant, %error, "receipts cannot be read; trying again after the next commit");
            }
        }
    }

    fn send_batches(&mut self, wanted: Wanted, mut batches: Vec<Outgoing>) {
        self.feed.read(wanted, &mut batches);
        let index = TenantIndex(wanted.tenant as u16);
        for batch in batches {
            let (seq, bytes) = (batch.seq, batch.payload.len());
            let Outgoing { route, created, rows, payload, .. } = batch;
            match self.session.send_batch(index, Sending { seq, route, created, rows, payload }) {
                Ok(_) | Err(SendError::OnItsWay) => {}
                Err(SendError::Unsendable(reason)) => self.give_up(wanted.tenant, seq, &reason),
                Err(SendError::WindowFull) => return self.feed.blocked(wanted),
                // Told by an event that comes, or has come.
                Err(SendError::NotWelcomed | SendError::NotAdmitted | SendError::Closed) => return,
            }
            self.feed.sent(wanted, seq, bytes);
        }
        self.show_on_the_way();
    }

    fn send_losses(&mut self, place: usize, losses: &[Loss]) {
        let index = TenantIndex(place as u16);
        for loss in losses {
            // The store has not heard yet, or could not write it down: no need to tell the stamp twice.
            if self.session.has_landed(index, loss.from) && self.session.has_landed(index, loss.to) {
                continue;
            }
            match self.session.send_loss(index, (loss.from, loss.to), loss.rows, &loss.reason) {
                Ok(()) | Err(SendError::OnItsWay) => {}
                Err(SendError::WindowFull) => {
                    if let Some(tenant) = self.tenants.get_mut(place) {
                        tenant.losses_cut = true;
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(from = %loss.from, to = %loss.to, %error, "receipt cannot be sent")
                }
            }
        }
    }

    /// What happened in the session; the end, if it has ended.
    fn take_events(&mut self) -> Option<Ended> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Welcomed { stamp } if stamp != self.subject.stamp => {
                    self.session.bye("another stamp was expected");
                    return Some(Ended::WrongStamp { found: stamp });
                }
                Event::Welcomed { .. } => {
                    self.greeted = true;
                    (self.news)(News::Welcomed);
                }
                Event::Admitted { tenant, landed, .. } => {
                    self.admitted(usize::from(tenant.0), true, None);
                    self.landed(usize::from(tenant.0), landed.as_slice());
                }
                Event::TenantRefused { tenant, reason, text } => {
                    let place = usize::from(tenant.0);
                    let told = if text.is_empty() { reason.to_string() } else { format!("{reason}: {text}") };
                    self.admitted(place, false, Some(told));
                    self.first_refusal.get_or_insert((reason, text));
                }
                Event::Landed { tenant, ranges } => {
                    self.board.acked.fetch_add(ranges.count(), Ordering::Relaxed);
                    (self.news)(News::Acknowledged);
                    self.landed(usize::from(tenant.0), ranges.as_slice());
                    self.show_on_the_way();
                }
                Event::BatchRefused { tenant, seq, reason, text } => {
                    self.batch_refused(usize::from(tenant.0), seq, reason, &text);
                    self.show_on_the_way();
                }
                Event::Paced => (0..self.tenants.len()).for_each(|place| self.feed.released(place)),
                Event::Closed(closed) => return Some(Ended::Closed(closed)),
            }
            let all_answered = self.answered == self.tenants.len();
            if all_answered
                && !self.tenants.iter().any(|tenant| tenant.admitted)
                && let Some((reason, text)) = self.first_refusal.take()
            {
                self.session.bye("no tenant was admitted");
                return Some(Ended::NobodyAdmitted { reason, text });
            }
        }
        None
    }

    fn admitted(&mut self, place: usize, admitted: bool, refused: Option<String>) {
        self.answered += 1;
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        tenant.admitted = admitted;
        let id = tenant.outbox.tenant();
        if let Some(reason) = &refused {
            tracing::warn!(tenant = %id, stamp = %self.subject.stamp, %reason, "the stamp does not take this tenant's data; it stays stored");
        }
        self.board.change(|standing| {
            if let Some(link) = standing.tenants.iter_mut().find(|link| link.tenant == *id) {
                link.admitted = admitted;
                link.refused = refused;
            }
        });
    }

    fn landed(&mut self, place: usize, ranges: &[(Sequence, Sequence)]) {
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        tenant.losses_due |= std::mem::take(&mut tenant.losses_cut);
        if !ranges.is_empty() {
            tenant.outbox.landed(ranges);
        }
        self.feed.released(place);
    }

    /// Capacity may be given: such a batch stays in the outbox and is sent again by the next session. What the stamp
    /// cannot read it never will.
    fn batch_refused(&mut self, place: usize, seq: Sequence, reason: BatchRefusal, text: &str) {
        match reason {
            BatchRefusal::Capacity | BatchRefusal::NotAdmitted => {
                self.board.held.fetch_add(1, Ordering::Relaxed);
                if let Some(tenant) = self.tenants.get(place) {
                    tracing::warn!(tenant = %tenant.outbox.tenant(), %seq, %reason, text, "batch refused for now; it stays stored until the next session");
                }
            }
            BatchRefusal::Undecodable | BatchRefusal::Unknown(_) => {
                self.give_up(place, seq, &format!("refused by the stamp, {reason}: {text}"));
            }
        }
        self.feed.released(place);
    }

    fn give_up(&mut self, place: usize, seq: Sequence, reason: &str) {
        self.board.given_up.fetch_add(1, Ordering::Relaxed);
        if let Some(tenant) = self.tenants.get(place) {
            tracing::error!(tenant = %tenant.outbox.tenant(), %seq, reason, "batch given up: it becomes a dead letter");
            tenant.outbox.give_up(seq, reason);
        }
    }

    /// Batches and payload bytes on their way.
    fn on_the_way(&self) -> (usize, u64) {
        (0..self.tenants.len()).fold((0, 0), |(batches, bytes), place| {
            let of = self.session.on_the_way(TenantIndex(place as u16));
            (batches + of.0, bytes + of.1)
        })
    }

    fn show_on_the_way(&self) {
        let (batches, bytes) = self.on_the_way();
        self.board.in_flight_batches.store(batches as u64, Ordering::Relaxed);
        self.board.in_flight_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What the stamp said before it closed tells more than the broken pipe.
    async fn hear_out(&mut self, inbound: &mut Inbound) {
        let listen = async {
            while let Ok(Some(bytes)) = inbound.read().await {
                self.session.receive(&bytes);
            }
        };
        // What has not arrived by then does not matter any more.
        tokio::time::timeout(FAREWELL, listen).await.ok();
    }

    /// The end as the stamp gave it, if it did before the connection broke.
    fn last_words(&mut self) -> Option<Ended> {
        self.take_events().or_else(|| {
            self.session.receive_end();
            self.take_events()
        })
    }

    async fn say_the_last(&mut self, outbound: &mut Outbound) {
        self.collect();
        while !self.chunks.is_empty() {
            if outbound.write(&mut self.chunks).await.is_err() {
                return;
            }
        }
        outbound.finish();
        outbound.delivered().await;
    }
}

impl Tenant {
    fn new(outbox: &Arc<dyn Outbox>) -> Self {
        let waiting = outbox.waiting();
        let losses_due = waiting.borrow().losses > 0;
        Self { outbox: outbox.clone(), waiting, admitted: false, losses_due, losses_cut: false }
    }
}

async fn wait_for(reading: &mut Option<Reading>) -> Answer {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
