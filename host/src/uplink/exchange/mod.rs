//! One connection's conversation with a stamp: hello, batches and receipts up, acknowledgements down, until it ends.
//!
//! Everything happens in one task, woken by bytes from the stamp, by room to write, by the store's answer and by the
//! outboxes' commits. Does not connect, does not decide what comes after the end.
//!
//! Invariants: an outbox is told `landed` only what the stamp acknowledged in this session or named in its welcome; a
//! batch refused for good is given up (dead letter and receipt), never dropped and never in the way of others; at most
//! [`AHEAD`] bytes and one read wait in memory before the connection.

mod answers;
mod beyond;
pub(super) mod desired;
mod sending;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::ids::{GatewayId, InstallationId, Sequence, StampId};
use wire::message::{MessageError, RefusalReason, TenantStream};
use wire::session::gateway::{Config, Session};

use super::budget::Budget;
use super::ended::{Ended, News};
use super::feed::{Feed, QUANTUM, Wanted};
use super::locked;
use super::pulse::{Pulse, UNANSWERED};
use super::status::{Board, wall_clock};
use super::transport::{Connection, Inbound, LinkError, Outbound};
use crate::outbox::{Loss, Outbox, OutboxError, Outgoing, Waiting};
use beyond::{Again, Beyond};
use desired::{Follower, Following};

/// Nothing more is read from the outboxes while so many bytes wait to be written.
const AHEAD: usize = 2 * QUANTUM;
/// A stamp that has not answered the hello by then is not answering.
const GREETING: Duration = Duration::from_secs(10);
/// When the gateway goes down, acknowledgements of what is on its way are awaited for so long.
const DRAIN: Duration = Duration::from_secs(2);
/// When another link is to go on with a tenant, they are awaited for so long: what they would have said, the next welcome says.
pub(super) const LEAVE: Duration = Duration::from_millis(500);
/// Last words are written within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(1);

/// While the day's budget is used up, a new day is looked for this often.
const LOOK_AT_BUDGET: Duration = Duration::from_secs(20);

/// How a session is brought to a good end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell {
    /// To the stamp.
    pub(super) words: &'static str,
    /// Nothing more is sent, and acknowledgements are awaited for so long.
    drain: Duration,
}

impl Farewell {
    pub(super) const GOING_DOWN: Self = Self { words: "the gateway is going down", drain: DRAIN };
    pub(super) const BETTER_WAY: Self = Self { words: "going on over QUIC", drain: DRAIN };
    const AGAIN: Self = Self { words: "coming again for a tenant that was not taken", drain: DRAIN };

    /// The link is no longer wanted.
    pub(super) fn leaving(words: &'static str) -> Self {
        Self { words, drain: LEAVE }
    }
}

/// What a session is about; the same for all sessions of a link.
pub(super) struct Subject {
    pub(super) gateway: GatewayId,
    pub(super) installation: InstallationId,
    pub(super) software: String,
    /// The stamp it should be.
    pub(super) stamp: StampId,
    /// The tenants served by it.
    pub(super) outboxes: Vec<Arc<dyn Outbox>>,
    /// For each of them the epoch of the assignment that sends it to this stamp; missing or 0: of none.
    pub(super) epochs: Vec<u64>,
    /// Most payload bytes sent and not acknowledged, over all tenants.
    pub(super) window: usize,
    /// Of all links, where the day's bytes are bounded.
    pub(super) budget: Option<Arc<Mutex<Budget>>>,
    /// Who hears what should run.
    pub(super) follower: Option<Arc<dyn Follower>>,
}

/// Runs one session to its end. It is brought to a good one when `end` says how. `news` answers some of them, see [`News`].
pub(super) async fn run(
    subject: &Subject,
    board: &Board,
    connection: &Connection,
    (mut outbound, mut inbound): (Outbound, Inbound),
    mut end: watch::Receiver<Option<Farewell>>,
    news: impl FnMut(News) -> Option<Instant> + Send,
) -> Ended {
    let mut exchange = match Exchange::new(subject, board, connection, news) {
        Ok(exchange) => exchange,
        Err(error) => return Ended::Hello(error),
    };
    let ended = exchange.converse(&mut outbound, &mut inbound, &mut end).await;
    // Whatever is still to be said, a goodbye above all. The connection is closed in any case.
    tokio::time::timeout(FAREWELL, exchange.say_the_last(&mut outbound, &mut inbound)).await.ok();
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
    /// The stamp has said of a tenant whether it takes it, and that is not judged yet.
    answers_due: bool,
    /// When to come again for tenants that are not taken for now.
    again: Option<Instant>,
    /// When to ask again for devices that are not taken for now.
    look_at_devices: Option<Instant>,
    following: Following,
}

struct Tenant {
    outbox: Arc<dyn Outbox>,
    waiting: watch::Receiver<Waiting>,
    admitted: bool,
    /// Why it is not.
    declined: Option<(RefusalReason, String)>,
    /// There are receipts that may not have been sent in this session.
    losses_due: bool,
    /// Not all receipts found room: read them again when some have landed.
    losses_cut: bool,
    /// Batches refused for good that the store has not noted yet. Nothing more is sent meanwhile, so they are at most those
    /// that were on their way.
    refused: VecDeque<(Sequence, String)>,
    beyond: Beyond,
}

/// An answer of the store.
enum Answer {
    Batches(Wanted, Result<Vec<Outgoing>, OutboxError>),
    Losses(usize, Result<Vec<Loss>, OutboxError>),
    Again(usize, Again, Result<Option<Outgoing>, OutboxError>),
}

type Reading = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<'a, N: FnMut(News) -> Option<Instant> + Send> Exchange<'a, N> {
    fn new(
        subject: &'a Subject,
        board: &'a Board,
        connection: &'a Connection,
        news: N,
    ) -> Result<Self, MessageError> {
        let tenants: Vec<_> = subject.outboxes.iter().map(Tenant::new).collect();
        let committed: Vec<Sequence> = tenants.iter().map(|tenant| tenant.waiting.borrow().last).collect();
        let epochs = subject.epochs.iter().copied().chain(std::iter::repeat(0));
        let streams =
            tenants.iter().zip(&committed).zip(epochs).map(|((tenant, last), epoch)| TenantStream {
                tenant: tenant.outbox.tenant().clone(),
                stream: tenant.outbox.stream(),
                next: last.next(),
                epoch,
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
            answers_due: false,
            again: None,
            look_at_devices: None,
            following: Following::default(),
        })
    }

    async fn converse(
        &mut self,
        outbound: &mut Outbound,
        inbound: &mut Inbound,
        end: &mut watch::Receiver<Option<Farewell>>,
    ) -> Ended {
        let commits = Arc::new(Notify::new());
        // Dropped, and so ended, with the session.
        let _watchers = self.watch_commits(&commits);
        let mut reading: Option<Reading> = None;
        let mut deadline = Some(Instant::now() + GREETING);
        let mut farewell = *end.borrow_and_update();
        let mut comes_again = false;
        let mut pulse = Pulse::new(self.connection);
        let mut wishes = self.subject.follower.as_ref().map(|follower| follower.changes());
        loop {
            if let Some(ended) = self.take_events() {
                return ended;
            }
            if self.greeted && farewell.is_none() {
                deadline = None;
            }
            if let Some(farewell) = farewell
                && (!self.greeted || self.on_the_way().0 == 0)
            {
                return self.leave(farewell, comes_again);
            }
            self.follow();
            self.collect();
            let bulk_waits = self.budget_left() == 0;
            if reading.is_none() && farewell.is_none() && self.ahead < AHEAD {
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
                written = outbound.write(&mut self.chunks), if !self.chunks.is_empty() || outbound.holds_back() => match written {
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
                () = desired::changed(&mut wishes) => self.following.due = true,
                changed = end.changed(), if farewell.is_none() => {
                    // An end that can no longer be signalled is one.
                    farewell = end.borrow_and_update().or(changed.is_err().then_some(Farewell::GOING_DOWN));
                    if let Some(farewell) = farewell {
                        reading = None;
                        deadline = Some(Instant::now() + farewell.drain);
                    }
                }
                () = sleep_until(self.look_at_devices) => self.look_at_devices(),
                () = sleep_until(self.again), if farewell.is_none() => {
                    (farewell, comes_again, reading) = (Some(Farewell::AGAIN), true, None);
                    deadline = Some(Instant::now() + DRAIN);
                }
                () = pulse.look(), if self.on_the_way().0 > 0 => {
                    if pulse.is_lost(self.connection) {
                        let seconds = UNANSWERED.as_secs();
                        let cause = format!("nothing came from the stamp for {seconds} s");
                        return Ended::Lost(LinkError::Lost { cause });
                    }
                }
                // The day's end is looked for by the wall clock, which may be set.
                () = tokio::time::sleep(LOOK_AT_BUDGET), if bulk_waits => {}
                () = sleep_until(deadline) => {
                    let Some(farewell) = farewell else { return Ended::NoWelcome };
                    return self.leave(farewell, comes_again);
                }
            }
        }
    }

    fn leave(&mut self, farewell: Farewell, comes_again: bool) -> Ended {
        self.session.bye(farewell.words);
        if comes_again { Ended::Again } else { Ended::Stopped }
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
                tenant.give_up_refused();
                tenant.beyond.hand_over(&*tenant.outbox);
                self.feed.woken(place);
            }
        }
    }

    /// Moves what the session wants to say into few large chunks.
    fn collect(&mut self) {
        let before = self.ahead;
        while let Some(chunk) = self.session.poll_transmit() {
            self.ahead += chunk.len();
            self.chunks.push(chunk);
        }
        if let Some(budget) = &self.subject.budget
            && self.ahead > before
        {
            locked(budget).spend(self.ahead - before, wall_clock());
        }
    }

    /// Bytes that may be sent today without being urgent.
    fn budget_left(&self) -> u64 {
        self.subject.budget.as_ref().map_or(u64::MAX, |budget| locked(budget).left(wall_clock()))
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

    async fn say_the_last(&mut self, outbound: &mut Outbound, inbound: &mut Inbound) {
        self.collect();
        while !self.chunks.is_empty() || outbound.holds_back() {
            if outbound.write(&mut self.chunks).await.is_err() {
                return;
            }
        }
        outbound.finish(inbound).await;
    }
}

impl Tenant {
    fn new(outbox: &Arc<dyn Outbox>) -> Self {
        let waiting = outbox.waiting();
        let losses_due = waiting.borrow().losses > 0;
        Self {
            outbox: outbox.clone(),
            waiting,
            admitted: false,
            declined: None,
            losses_due,
            losses_cut: false,
            refused: VecDeque::new(),
            beyond: Beyond::default(),
        }
    }
}

impl Tenant {
    /// Tells the store of as many refused batches as it takes now; the rest after its next commit.
    fn give_up_refused(&mut self) {
        while let Some((seq, reason)) = self.refused.front()
            && self.outbox.give_up(*seq, reason)
        {
            self.refused.pop_front();
        }
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
