//! Devices that the stamp does not take for now, as it has named them: beyond a quota, or its capacity. Their rows stay stored,
//! and are in nobody's way.
//!
//! ```text
//! batch {a, b} ─► refused: b ─► parted by the store: {a} under its number, {b} under a new one ─► {a} is sent again
//! what is read later and has b ─► parted at once;  what has nothing but b ─► stays, until the next session or LOOK
//! ```
//! Does not change batches itself: the store does, in one commit.
//!
//! Invariants: while a tenant's batch is being parted nothing of that tenant is sent, in this session or the next, so no row is
//! sent in two batches; a batch is sent again at most [`MAX_TRIES`] times in a session.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wire::codec::{Limits, visit_devices};
use wire::ids::Sequence;
use wire::message::TenantIndex;
use wire::session::gateway::{Outgoing as Sending, SendError};

use super::{Answer, Exchange, News, Reading};
use crate::outbox::{Outbox, OutboxError, Outgoing};

/// Most devices of a tenant that are remembered; beyond, all are forgotten, and the stamp names them again.
const MAX_NAMED: usize = 10_000;
/// Most of them that are shown by name.
const MAX_SHOWN: usize = 10;
/// So often a batch is parted and sent again in a session: the stamp names many at a time, and others become too many meanwhile.
const MAX_TRIES: u8 = 16;
/// After this time, and up to half as much more, the stamp is asked again for all of them: it may have room now.
const LOOK: Duration = Duration::from_secs(1_800);

/// What a tenant's session knows of them.
#[derive(Default)]
pub(super) struct Beyond {
    named: HashSet<String>,
    /// The stamp's words.
    reason: String,
    /// To be parted, and not handed to the store yet.
    parting: VecDeque<(Sequence, Vec<String>)>,
    /// To be sent again once they are.
    again: VecDeque<Again>,
    /// The first of these does not fit into the window.
    blocked: bool,
}

/// A batch to be sent again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    seq: Sequence,
    tries: u8,
}

/// What of a batch the stamp takes.
enum Taken {
    All,
    /// All but these devices.
    But(Vec<String>),
    Nothing,
}

impl Beyond {
    /// Whether a batch is being parted: nothing may be read meanwhile.
    pub(super) fn waits(&self, outbox: &dyn Outbox) -> bool {
        !self.parting.is_empty() || outbox.is_parting()
    }

    /// Tells the store of as many as it takes now; the rest after its next commit.
    pub(super) fn hand_over(&mut self, outbox: &dyn Outbox) {
        while let Some((seq, devices)) = self.parting.front()
            && outbox.part(*seq, devices)
        {
            self.parting.pop_front();
        }
    }

    /// The window has room again.
    pub(super) fn released(&mut self) {
        self.blocked = false;
    }

    fn part(&mut self, outbox: &dyn Outbox, again: Again, devices: Vec<String>) {
        self.parting.push_back((again.seq, devices));
        self.again.push_back(again);
        self.hand_over(outbox);
    }

    fn next(&mut self, outbox: &dyn Outbox) -> Option<Again> {
        if self.blocked || self.again.is_empty() || self.waits(outbox) {
            return None;
        }
        self.again.pop_front()
    }

    /// Remembers devices. Returns how many are new.
    fn name(&mut self, devices: Vec<String>, reason: &str) -> usize {
        if self.named.len() + devices.len() > MAX_NAMED {
            self.named.clear();
        }
        reason.clone_into(&mut self.reason);
        let before = self.named.len();
        self.named.extend(devices);
        self.named.len() - before
    }

    fn of(&self, payload: &[u8]) -> Taken {
        if self.named.is_empty() {
            return Taken::All;
        }
        let (mut beyond, mut others) = (HashSet::new(), false);
        let visited = visit_devices(payload, &Limits::default(), |device| {
            if self.named.contains(device) {
                beyond.insert(device.to_owned());
            } else {
                others = true;
            }
        });
        match (visited, beyond.is_empty(), others) {
            // What cannot be read is the stamp's to say.
            (Err(_), ..) | (_, true, _) => Taken::All,
            (_, false, false) => Taken::Nothing,
            (_, false, true) => Taken::But(beyond.into_iter().collect()),
        }
    }
}

impl<N: FnMut(News) -> Option<Instant> + Send> Exchange<'_, N> {
    /// The stamp has refused a batch because of these devices.
    pub(super) fn devices_refused(&mut self, place: usize, seq: Sequence, text: &str, devices: Vec<String>) {
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        let new = tenant.beyond.name(devices.clone(), text);
        if new > 0 {
            let (tenant, stamp) = (tenant.outbox.tenant(), &self.subject.stamp);
            let first = devices.first().map(String::as_str).unwrap_or_default();
            tracing::warn!(%tenant, %stamp, devices = new, first, reason = text, "the stamp does not take devices; their data stays stored");
            self.look_at_devices
                .get_or_insert(Instant::now() + LOOK + LOOK.mul_f64(rand::random::<f64>() / 2.0));
        }
        tenant.beyond.part(&*tenant.outbox, Again { seq, tries: 0 }, devices);
        self.show_beyond(place);
    }

    /// The next batch that is to be sent again.
    pub(super) fn read_again(&mut self) -> Option<Reading> {
        if self.on_the_way().1 >= self.subject.window as u64 {
            return None;
        }
        let tenants = self.tenants.iter_mut().enumerate().filter(|(_, tenant)| tenant.admitted);
        let next = |(place, tenant): (usize, &mut super::Tenant)| {
            Some((place, tenant.outbox.clone(), tenant.beyond.next(&*tenant.outbox)?))
        };
        let (place, outbox, again) = tenants.into_iter().find_map(next)?;
        Some(Box::pin(async move { Answer::Again(place, again, outbox.find(again.seq).await) }))
    }

    pub(super) fn send_again(
        &mut self,
        place: usize,
        again: Again,
        found: Result<Option<Outgoing>, OutboxError>,
    ) {
        let batch = match found {
            Ok(Some(batch)) => batch,
            // It has expired meanwhile, or was given up.
            Ok(None) => return,
            Err(error) => {
                tracing::error!(tenant = %error.tenant, %error, "outbox cannot be read; the batch is sent in the next session");
                return;
            }
        };
        let again = Again { tries: again.tries.saturating_add(1), ..again };
        if self.stays(place, again, &batch) {
            return;
        }
        let index = TenantIndex(place as u16);
        let Outgoing { seq, route, created, rows, payload } = batch;
        match self.session.send_batch(index, Sending { seq, route, created, rows, payload }) {
            Err(SendError::WindowFull) => {
                if let Some(tenant) = self.tenants.get_mut(place) {
                    tenant.beyond.again.push_front(again);
                    tenant.beyond.blocked = true;
                }
            }
            Err(SendError::Unsendable(reason)) => self.give_up(place, seq, &reason),
            // What else goes wrong is told by an event.
            Ok(_) | Err(_) => self.show_on_the_way(),
        }
    }

    /// Whether a batch is not to be sent as it is: all its devices are such as the stamp does not take, or some are, and it is
    /// parted then.
    pub(super) fn stays(&mut self, place: usize, again: Again, batch: &Outgoing) -> bool {
        let Some(tenant) = self.tenants.get_mut(place) else { return true };
        match tenant.beyond.of(&batch.payload) {
            Taken::All => false,
            Taken::But(devices) if again.tries < MAX_TRIES => {
                tenant.beyond.part(&*tenant.outbox, again, devices);
                true
            }
            Taken::But(_) | Taken::Nothing => {
                self.board.held.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// It is time to ask again for all devices that the stamp did not take.
    pub(super) fn look_at_devices(&mut self) {
        self.look_at_devices = None;
        for place in 0..self.tenants.len() {
            let Some(tenant) = self.tenants.get_mut(place) else { continue };
            if !tenant.beyond.named.is_empty() {
                tenant.beyond.named.clear();
                self.feed.again(place);
                self.show_beyond(place);
            }
        }
    }

    /// Shows which devices are not taken.
    fn show_beyond(&self, place: usize) {
        let Some(tenant) = self.tenants.get(place) else { return };
        let Beyond { named, reason, .. } = &tenant.beyond;
        let id = tenant.outbox.tenant();
        let mut shown: Vec<String> = named.iter().cloned().collect();
        shown.sort_unstable();
        shown.truncate(MAX_SHOWN);
        self.board.change(|standing| {
            if let Some(link) = standing.tenants.iter_mut().find(|link| link.tenant == *id) {
                link.devices_refused = named.len() as u64;
                link.devices_refused_because = (!named.is_empty()).then(|| reason.clone());
                link.devices_refused_first = shown;
            }
        });
    }
}

impl Again {
    /// A batch that is sent for the first time.
    pub(super) fn first(seq: Sequence) -> Self {
        Self { seq, tries: 0 }
    }
}
