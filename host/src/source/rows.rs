//! The gatherer: messages of one source thread in, [`Intake`]s per tenant out.
//!
//! [`Gatherer::resolve`] says whose a topic is (once per topic; keep the [`Target`]), [`Gatherer::push`] takes a
//! message, and [`Gatherer::flush`] sends to the lane what has waited for the linger time. A batch that is full is sent
//! at once; if the lane's channel is full too, `push` says [`PushError::Busy`] and takes nothing: the source waits for
//! that tenant and goes on with the others.
//!
//! Does not read sockets and does not acknowledge: a source gives a token (of its own type `K`) with each message that
//! somebody waits for, and gets the tokens of a batch together when the [`Custody`] for it is made.
//!
//! Invariants: a message taken is in exactly one intake, with its token; a batch is bounded by `max_rows`,
//! [`MAX_BATCH_BYTES`] (plus one message) and [`MAX_FRAMES`]; nothing is allocated for a message like the one before;
//! a gatherer that is dropped refuses what it still holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use wire::ids::{NameError, TenantId};

use super::batch::Batch;
use super::columns::RowHead;
use super::json::{JsonFault, Parser};
use super::rules::{Format, Rule};
use super::shapes::Shapes;
use crate::clock;
use crate::intake::{Custody, IdentifierChange, Intake, LaneSender};

/// Most bytes of payload in a batch, before it is sent.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Most frames (sets of columns) in a batch, before it is sent.
pub const MAX_FRAMES: usize = 256;
/// Most topics that are remembered; beyond, all are forgotten and resolved anew.
pub const MAX_TARGETS: usize = 1 << 17;
/// Most bytes of topics that are remembered.
pub const MAX_TOPIC_BYTES: usize = 16 << 20;

/// A tenant by its place in the gatherer.
pub type TenantIndex = usize;

/// Makes the custody of a batch from the tokens of its messages.
pub type CustodyOf<K> = Box<dyn Fn(TenantIndex, Vec<K>) -> Box<dyn Custody> + Send>;

/// A topic that was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    index: u32,
    generation: u32,
}

/// Why a topic leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// No filter of the source matches.
    #[error("no topic filter of this source matches")]
    NoRule,
    /// The tenant or device in it is no such name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Nobody configured this tenant.
    #[error("tenant {0:?} is not configured")]
    UnknownTenant(TenantId),
}

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
    /// When: nanoseconds since 1970 UTC.
    pub arrived: i64,
    /// Whether it may come again.
    pub repeats: Repeats,
}

/// Whether the protocol may deliver a message again, so that the lane must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Never (MQTT QoS 0 and 2).
    Never,
    /// It may come again (MQTT QoS 1).
    Maybe,
    /// It may have come before (MQTT QoS 1 with DUP).
    Suspect,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is a row.
    Row,
    /// It waits for a decoder.
    Raw,
    /// It is kept as it is, with the reason.
    Undecodable,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// The tenant's batch and lane are full: wait ([`Gatherer::send`]), then push again.
    Busy(TenantIndex),
    /// The target was forgotten: resolve the topic again.
    Stale,
}

/// What a flush found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing to send.
    Empty,
    /// Sent to the lane.
    Sent,
    /// The lane is full; the batch stays.
    Busy,
    /// The lane is gone; the batch was refused.
    Closed,
}

struct Lane<K> {
    tenant: TenantId,
    sender: LaneSender,
    batch: Batch<K>,
    shapes: Shapes,
    devices: HashMap<Box<str>, u32>,
}

struct Route {
    lane: TenantIndex,
    rule: usize,
    device: u32,
    name: Box<str>,
    /// Seed of the device's fingerprints.
    seed: u64,
    /// The frame the device was last in, and its place there.
    placed: (u64, u32),
}

/// Gathers the messages of one source thread.
pub struct Gatherer<K> {
    source: Arc<str>,
    rules: Arc<[Rule]>,
    lanes: Vec<Lane<K>>,
    routes: Vec<Route>,
    by_topic: HashMap<Box<str>, u32>,
    topic_bytes: usize,
    generation: u32,
    parser: Parser,
    linger: Duration,
    max_rows: usize,
    custody: CustodyOf<K>,
}

impl<K> Gatherer<K> {
    /// A gatherer for the tenants in `lanes`; their places there are their [`TenantIndex`].
    #[must_use]
    pub fn new(
        source: Arc<str>,
        rules: Arc<[Rule]>,
        lanes: Vec<(TenantId, LaneSender)>,
        gather: gateway_config::Gather,
        custody: CustodyOf<K>,
    ) -> Self {
        let lanes = lanes
            .into_iter()
            .map(|(tenant, sender)| Lane {
                tenant,
                sender,
                batch: Batch::default(),
                shapes: Shapes::default(),
                devices: HashMap::new(),
            })
            .collect();
        Self {
            source,
            rules,
            lanes,
            routes: Vec::new(),
            by_topic: HashMap::new(),
            topic_bytes: 0,
            generation: 0,
            parser: Parser::default(),
            linger: gather.linger,
            max_rows: gather.max_rows,
            custody,
        }
    }

    /// Whose a topic is.
    ///
    /// # Errors
    /// [`Unroutable`] says why nobody's.
    pub fn resolve(&mut self, topic: &str) -> Result<Target, Unroutable> {
        if let Some(&index) = self.by_topic.get(topic) {
            return Ok(Target { index, generation: self.generation });
        }
        let names = self.rules.iter().zip(0..).find_map(|(rule, at)| Some((at, rule.template.names(topic)?)));
        let (rule, names) = names.ok_or(Unroutable::NoRule)?;
        let names = names?;
        let Some(lane) = self.lanes.iter().position(|lane| lane.tenant == names.tenant) else {
            return Err(Unroutable::UnknownTenant(names.tenant));
        };
        if self.routes.len() >= MAX_TARGETS || self.topic_bytes + topic.len() > MAX_TOPIC_BYTES {
            self.forget_targets();
        }
        let name = names.device.as_str();
        let device = self.lanes.get_mut(lane).map_or(0, |lane| {
            let next = u32::try_from(lane.devices.len()).unwrap_or(u32::MAX);
            *lane.devices.entry(name.into()).or_insert(next)
        });
        let index = u32::try_from(self.routes.len()).unwrap_or(u32::MAX);
        let seed = twox_hash::XxHash3_64::oneshot(name.as_bytes());
        self.routes.push(Route { lane, rule, device, name: name.into(), seed, placed: (0, 0) });
        self.topic_bytes += topic.len();
        self.by_topic.insert(topic.into(), index);
        Ok(Target { index, generation: self.generation })
    }

    /// The tenant of a target; `None` if it was forgotten.
    #[must_use]
    pub fn tenant_of(&self, target: Target) -> Option<TenantIndex> {
        self.route(target).map(|route| route.lane)
    }

    /// A tenant's id.
    #[must_use]
    pub fn tenant(&self, tenant: TenantIndex) -> Option<&TenantId> {
        self.lanes.get(tenant).map(|lane| &lane.tenant)
    }

    /// A tenant by its id.
    #[must_use]
    pub fn index_of(&self, tenant: &TenantId) -> Option<TenantIndex> {
        self.lanes.iter().position(|lane| lane.tenant == *tenant)
    }

    /// How many tenants there are.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.lanes.len()
    }

    /// Takes a message, with the token of who waits for its commit.
    ///
    /// # Errors
    /// [`PushError`]; the message was then not taken.
    pub fn push(
        &mut self,
        target: Target,
        message: &Message<'_>,
        token: Option<K>,
    ) -> Result<Pushed, PushError> {
        let tenant = self.tenant_of(target).ok_or(PushError::Stale)?;
        self.make_room(tenant)?;
        let route = self.routes.get_mut(target.index as usize).ok_or(PushError::Stale)?;
        let rule = self.rules.get(route.rule).ok_or(PushError::Stale)?;
        let lane = self.lanes.get_mut(tenant).ok_or(PushError::Stale)?;
        let pushed = match &rule.format {
            Format::Json { .. } => match decode(&mut self.parser, lane, route, rule, message) {
                Ok(()) => Pushed::Row,
                Err(fault) => {
                    lane.batch.push_undecodable(&route.name, message, fault.to_string());
                    Pushed::Undecodable
                }
            },
            Format::Raw { decoder } => {
                let devices = (route.device, &*route.name);
                lane.batch.push_raw(route.rule, decoder, &rule.profile, devices, message);
                Pushed::Raw
            }
        };
        lane.batch.took(message.payload.len(), token);
        Ok(pushed)
    }

    /// Takes a message that its source knows to be useless, as a dead letter of the target's device.
    ///
    /// # Errors
    /// [`PushError`]; the message was then not taken.
    pub fn push_undecodable(
        &mut self,
        target: Target,
        message: &Message<'_>,
        reason: &str,
        token: Option<K>,
    ) -> Result<(), PushError> {
        let tenant = self.tenant_of(target).ok_or(PushError::Stale)?;
        self.make_room(tenant)?;
        let route = self.routes.get(target.index as usize).ok_or(PushError::Stale)?;
        let lane = self.lanes.get_mut(tenant).ok_or(PushError::Stale)?;
        lane.batch.push_undecodable(&route.name, message, reason.to_owned());
        lane.batch.took(message.payload.len(), token);
        Ok(())
    }

    /// Takes a change of QoS 2 identifiers, with the token of who waits for its commit. For a PUBLISH: directly after
    /// its message, which then is in the same intake.
    ///
    /// # Errors
    /// [`PushError::Busy`], for a release only.
    pub fn push_identifier(
        &mut self,
        tenant: TenantIndex,
        change: IdentifierChange,
        token: Option<K>,
    ) -> Result<(), PushError> {
        // A message that was just taken must not be parted from its identifier by a full batch, and a session ends only
        // once.
        if matches!(change, IdentifierChange::Released { .. }) {
            self.make_room(tenant)?;
        }
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.batch.push_identifier(change);
            lane.batch.took(0, token);
        }
        Ok(())
    }

    /// When the oldest message that waits must be sent; `None` if none waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.batch.opened()).min().map(|opened| opened + self.linger)
    }

    /// Whether a tenant has messages that wait, and since when.
    #[must_use]
    pub fn opened(&self, tenant: TenantIndex) -> Option<Instant> {
        self.lanes.get(tenant)?.batch.opened()
    }

    /// Sends what has waited for the linger time at `now`, as far as lanes have room. Returns when to call again.
    pub fn flush(&mut self, now: Instant) -> Option<Instant> {
        for tenant in 0..self.lanes.len() {
            if self.opened(tenant).is_some_and(|opened| opened + self.linger <= now) {
                self.flush_tenant(tenant);
            }
        }
        self.due()
    }

    /// Sends what a tenant has, if its lane has room. Does not wait.
    pub fn flush_tenant(&mut self, tenant: TenantIndex) -> Flushed {
        let Some(lane) = self.lanes.get_mut(tenant) else { return Flushed::Empty };
        if lane.batch.is_empty() {
            return Flushed::Empty;
        }
        match lane.sender.try_reserve() {
            Ok(permit) => {
                permit.send(lane.batch.take(tenant, &lane.tenant, &self.source, &self.custody));
                Flushed::Sent
            }
            Err(TrySendError::Full(())) => Flushed::Busy,
            Err(TrySendError::Closed(())) => {
                let intake = lane.batch.take(tenant, &lane.tenant, &self.source, &self.custody);
                intake.custody.refused("the tenant's lane is closed");
                Flushed::Closed
            }
        }
    }

    /// Sends what a tenant has, and waits until its lane has room.
    pub async fn send(&mut self, tenant: TenantIndex) -> Flushed {
        if let Some(sender) = self.sender(tenant) {
            // Whatever comes of it, `flush_tenant` finds out: nobody else fills this place in between, or it waits again.
            while let Ok(permit) = sender.reserve().await {
                drop(permit);
                match self.flush_tenant(tenant) {
                    Flushed::Busy => tokio::task::yield_now().await,
                    done => return done,
                }
            }
        }
        self.flush_tenant(tenant)
    }

    /// The sending side of a tenant's lane, to wait for room there.
    #[must_use]
    pub fn sender(&self, tenant: TenantIndex) -> Option<LaneSender> {
        self.lanes.get(tenant).map(|lane| lane.sender.clone())
    }

    /// Takes out what a tenant has, for a source that sends it itself.
    pub fn take(&mut self, tenant: TenantIndex) -> Option<Intake> {
        let lane = self.lanes.get_mut(tenant)?;
        (!lane.batch.is_empty()).then(|| lane.batch.take(tenant, &lane.tenant, &self.source, &self.custody))
    }

    fn route(&self, target: Target) -> Option<&Route> {
        (target.generation == self.generation).then(|| self.routes.get(target.index as usize))?
    }

    fn make_room(&mut self, tenant: TenantIndex) -> Result<(), PushError> {
        let full = self.lanes.get(tenant).is_some_and(|lane| lane.batch.is_full(self.max_rows));
        if full && self.flush_tenant(tenant) == Flushed::Busy {
            return Err(PushError::Busy(tenant));
        }
        Ok(())
    }

    #[cold]
    fn forget_targets(&mut self) {
        self.routes.clear();
        self.by_topic.clear();
        self.topic_bytes = 0;
        self.generation = self.generation.wrapping_add(1);
        for lane in &mut self.lanes {
            lane.devices.clear();
            lane.batch.close_frames();
        }
    }
}

impl<K> Drop for Gatherer<K> {
    fn drop(&mut self) {
        for tenant in 0..self.lanes.len() {
            if let Some(intake) = self.take(tenant) {
                intake.custody.refused("the source stopped");
            }
        }
    }
}

/// Decodes a JSON message into a row of its lane's batch.
#[inline]
fn decode<K>(
    parser: &mut Parser,
    lane: &mut Lane<K>,
    route: &mut Route,
    rule: &Rule,
    message: &Message<'_>,
) -> Result<(), JsonFault> {
    let Format::Json { time: time_rule, units } = &rule.format else { return Ok(()) };
    if lane.shapes.is_full() {
        lane.shapes.clear();
        lane.batch.close_frames();
    }
    let row = parser.parse(message.payload, &mut lane.shapes, route.rule, time_rule)?;
    let time = match row.time {
        Some(time) => match time_rule.within(time, message.arrived) {
            // Not by a clock that is known to be wrong.
            Err(_) if clock::is_uncertain() => time,
            within => within?,
        },
        None => message.arrived,
    };
    let uncertain = row.time.is_none() && clock::is_uncertain();
    let Some(shape) = lane.shapes.get(row.shape) else { return Ok(()) };
    let frame = lane.batch.frame(shape.layout, &lane.shapes, &rule.profile, units);
    if route.placed.0 != frame.serial {
        route.placed = (frame.serial, frame.device(route.device, &route.name));
    }
    let repeatable = row.time.is_some() && message.repeats != Repeats::Never;
    let fingerprint = if repeatable { fingerprint_with(route.seed, message.payload) } else { 0 };
    let suspect = repeatable && message.repeats == Repeats::Suspect;
    let head =
        RowHead { device: route.placed.1, time, payload: message.payload, fingerprint, suspect, uncertain };
    frame.push(&head, shape, parser);
    Ok(())
}

/// As [`crate::intake::fingerprint`], with the device's part computed before.
fn fingerprint_with(seed: u64, payload: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(seed, payload).max(1)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
