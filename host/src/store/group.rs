//! One transaction of the writer: what has landed goes, what has expired goes, commits enter in order, quota is kept.
//!
//! Nothing here changes the writer's own values: a group that fails leaves no trace, and is simply written again.
//! Per commit there is one row of `outbox` a batch and one row of `commits`; only dead letters and plugin state cost a
//! statement each.

use std::collections::VecDeque;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use wire::ids::Sequence;
use wire::ranges::RangeSet;

use super::epoch::{self, Beginning};
use super::identifiers::{self, Identifiers};
use super::part::{self, Parted, Parting};
use super::totals::{Totals, signed, unsigned};
use super::{Commit, NewBatch, StoreConfig, WhenFull, letters, opening, retention, schema, state, versions};
use crate::outbox::{Outgoing, Priority};

/// Most batches deleted as landed in one transaction, so that a late acknowledgement of a whole backlog does not hold
/// up commits.
const LANDED_BATCHES: usize = 4_096;
/// The logs of fingerprints and identifiers: compacted when they are this many times their compacted size …
const COMPACT_FACTOR: u64 = 8;
/// … but not below this many bytes,
const COMPACT_LEAST: u64 = 256 << 10;
/// … and in any case from this many.
const COMPACT_MOST: u64 = 8 << 20;

/// Where the log of commits stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// Id of the newest row.
    pub(super) id: i64,
    /// Whether that row carries a part of a log and must stay; else the next group replaces it.
    pub(super) holds_log: bool,
}

/// What a group is made of.
pub(super) struct Group<'a> {
    pub(super) jobs: &'a VecDeque<Commit>,
    pub(super) most_jobs: usize,
    pub(super) landed: &'a RangeSet,
    /// Batches the stamp will never take, and why.
    pub(super) given_up: &'a [(Sequence, String)],
    pub(super) partings: &'a [Parting],
    pub(super) now: i64,
    pub(super) config: &'a StoreConfig,
    /// Receipts up to this id are not extended any more.
    pub(super) told: i64,
    pub(super) totals: Totals,
    pub(super) position: Position,
    /// The earliest expiry may have come.
    pub(super) expire: bool,
    /// Of the assignment that the outbox belongs to.
    pub(super) epoch: u64,
    /// Those to begin, after the jobs.
    pub(super) epochs: &'a [Beginning],
}

/// What it did, once committed.
pub(super) struct Effects {
    pub(super) totals: Totals,
    pub(super) position: Position,
    /// Jobs from the front that are in.
    pub(super) admitted: usize,
    pub(super) parted: Vec<Parted>,
    pub(super) added: Vec<(Priority, Outgoing)>,
    /// Ranges that left the outbox.
    pub(super) gone: Vec<(Sequence, Sequence)>,
    /// Landed ranges for the next group.
    pub(super) landed_left: RangeSet,
    /// Expiries may have changed.
    pub(super) expiries: bool,
    pub(super) epoch: u64,
    /// Of each epoch to begin, whether it was new.
    pub(super) begun: Vec<bool>,
}

impl Group<'_> {
    /// Writes the group and makes it durable.
    pub(super) fn write(&self, connection: &mut Connection) -> rusqlite::Result<Effects> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut effects = Effects {
            totals: self.totals,
            position: self.position,
            admitted: 0,
            parted: Vec::new(),
            added: Vec::new(),
            gone: Vec::new(),
            landed_left: RangeSet::new(),
            expiries: self.expire,
            epoch: self.epoch,
            begun: Vec::new(),
        };
        remove_landed(&transaction, self.landed, self.told, &mut effects)?;
        for (seq, reason) in self.given_up {
            retention::refused(&transaction, *seq, (reason, self.now), self.told, &mut effects)?;
        }
        for parting in self.partings {
            part::part(&transaction, parting, &mut effects)?;
        }
        if self.expire {
            retention::expire(&transaction, self.now, self.told, &mut effects)?;
        }
        let mut logs = Logs::default();
        let drops = epoch::drops(self.epochs, self.epoch);
        for job in self.jobs.iter().take(self.most_jobs) {
            if !drops && !self.has_room(job, &effects.totals) {
                break;
            }
            self.enter(&transaction, job, &mut effects)?;
            logs.recent.extend_from_slice(&job.fingerprints);
            job.identifiers.iter().for_each(|change| identifiers::append(&mut logs.identifiers, change));
            effects.admitted += 1;
        }
        epoch::begin(&transaction, self.epochs, self.told, &mut effects)?;
        retention::keep_dead_letters(&transaction, self.config, &mut effects)?;
        retention::keep_quota(&transaction, self.config, self.told, &mut effects)?;
        note_commit(&transaction, logs, &mut effects)?;
        transaction.commit()?;
        Ok(effects)
    }

    /// A commit larger than the quota still enters an empty outbox: waiting would be for ever.
    fn has_room(&self, job: &Commit, totals: &Totals) -> bool {
        let bytes = job.payload_bytes() as u64;
        self.config.when_full == WhenFull::DropOldest
            || bytes == 0
            || totals.batches() == 0
            || totals.used() + bytes <= self.config.quota
    }

    fn enter(
        &self,
        transaction: &Transaction<'_>,
        job: &Commit,
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        effects.totals.counts.add(&job.counts);
        for batch in &job.batches {
            insert_batch(transaction, batch, self.now, effects)?;
        }
        for step in &job.state_reset {
            state::reset(transaction, step, &mut effects.totals)?;
        }
        for change in &job.state {
            state::change(transaction, change, &mut effects.totals)?;
        }
        for change in &job.versions {
            versions::change(transaction, change, &mut effects.totals)?;
        }
        for letter in &job.dead_letters {
            letters::insert(transaction, letter, self.now, &mut effects.totals)?;
        }
        effects.totals.dead_replayed += letters::remove(transaction, &job.letters_gone, &mut effects.totals)?;
        effects.totals.dead_dropped +=
            letters::remove(transaction, &job.letters_dropped, &mut effects.totals)?;
        Ok(())
    }
}

fn insert_batch(
    transaction: &Transaction<'_>,
    batch: &NewBatch,
    now: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    effects.totals.last += 1;
    let seq = Sequence(effects.totals.last);
    let keep = batch.keep.map(|keep| i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX));
    let expires = keep.map(|keep| now.saturating_add(keep));
    let bytes = batch.payload.len() as u64;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO outbox (seq, route, priority, created, expires, rows, bytes, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.execute(params![
        signed(seq.0),
        batch.route.as_str(),
        batch.priority as i64,
        now,
        expires,
        batch.rows,
        signed(bytes),
        &batch.payload[..]
    ])?;
    let load = effects.totals.of_mut(batch.priority);
    load.batches += 1;
    load.bytes += bytes;
    load.rows += u64::from(batch.rows);
    effects.totals.emitted += u64::from(batch.rows);
    effects.expiries |= expires.is_some();
    let (route, payload) = (batch.route.clone(), batch.payload.clone());
    effects.added.push((batch.priority, Outgoing { seq, route, created: now, rows: batch.rows, payload }));
    Ok(())
}

/// Deletes what the stamp has, up to [`LANDED_BATCHES`] at a time; the sizes are read before, without the payload.
fn remove_landed(
    transaction: &Transaction<'_>,
    landed: &RangeSet,
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let mut left = LANDED_BATCHES;
    for (from, to) in landed.iter() {
        let to = to.min(Sequence(effects.totals.last));
        if from > to {
            continue;
        }
        let (seen, reached) = subtract_landed(transaction, from, to, left, &mut effects.totals)?;
        let reached = reached.unwrap_or(to);
        if seen > 0 {
            transaction
                .prepare_cached("DELETE FROM outbox WHERE seq BETWEEN ?1 AND ?2")?
                .execute((signed(from.0), signed(reached.0)))?;
            effects.gone.push((from, reached));
            left -= seen;
        }
        if reached < to {
            effects.landed_left.insert_range(reached.next(), to);
        }
        if effects.totals.receipts > 0 {
            retention::receipts_landed(transaction, (from, reached), told, &mut effects.totals)?;
        }
    }
    Ok(())
}

/// Counts the batches of a range as landed. Returns how many there were, and the last one counted if there are more.
fn subtract_landed(
    transaction: &Transaction<'_>,
    from: Sequence,
    to: Sequence,
    most: usize,
    totals: &mut Totals,
) -> rusqlite::Result<(usize, Option<Sequence>)> {
    let mut query = transaction.prepare_cached(
        "SELECT seq, priority, rows, bytes FROM outbox WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    )?;
    let mut rows = query.query((signed(from.0), signed(to.0)))?;
    let (mut seen, mut last) = (0, from);
    while let Some(row) = rows.next()? {
        if seen == most {
            // Nothing of this range may have been counted: then it waits from its very beginning.
            let before = Sequence(if seen == 0 { from.0.saturating_sub(1) } else { last.0 });
            return Ok((seen, Some(before)));
        }
        last = Sequence(unsigned(row.get(0)?));
        let batch = retention::Waiting::of(row)?;
        batch.leave(totals);
        totals.landed += batch.rows;
        seen += 1;
    }
    Ok((seen, None))
}

/// What a group adds to the logs of what is known of messages.
#[derive(Default)]
struct Logs {
    recent: Vec<u8>,
    identifiers: Vec<u8>,
}

/// The group's row of `commits`, and the logs compacted when they have grown.
fn note_commit(transaction: &Transaction<'_>, mut logs: Logs, effects: &mut Effects) -> rusqlite::Result<()> {
    let totals = &mut effects.totals;
    totals.recent_log += (logs.recent.len() + logs.identifiers.len()) as u64;
    let limit = (totals.recent_base * COMPACT_FACTOR).clamp(COMPACT_LEAST, COMPACT_MOST);
    let mut position = effects.position;
    if totals.recent_log > limit {
        let (rows, bytes) = compact(transaction, &logs)?;
        logs = Logs::default();
        totals.recent_base = bytes;
        totals.recent_log = 0;
        position = Position { id: rows, holds_log: true };
    }
    if position.holds_log {
        position.id += 1;
    }
    position.holds_log = !(logs.recent.is_empty() && logs.identifiers.is_empty());
    insert_commit(transaction, position.id, totals, &logs)?;
    effects.position = position;
    Ok(())
}

/// Replaces all rows of `commits` by rows that hold what the logs, with these parts at their end, come to. Returns how
/// many rows those are, and their bytes.
fn compact(transaction: &Transaction<'_>, logs: &Logs) -> rusqlite::Result<(i64, u64)> {
    let mut known = opening::load_recent(transaction)?;
    known.replay(&logs.recent);
    let mut taken = Identifiers::load(transaction)?;
    taken.replay(&logs.identifiers);
    transaction.execute("DELETE FROM commits", [])?;
    transaction.execute("DELETE FROM identifiers", [])?;
    let (mut rows, mut bytes) = (0, 0);
    for chunk in known.snapshot() {
        rows += 1;
        bytes += chunk.len() as u64;
        transaction.execute("INSERT INTO commits (id, recent) VALUES (?1, ?2)", (rows, chunk))?;
    }
    if let Some(snapshot) = taken.snapshot() {
        rows += 1;
        bytes += snapshot.len() as u64;
        transaction.execute("INSERT INTO commits (id, identifiers) VALUES (?1, ?2)", (rows, snapshot))?;
    }
    Ok((rows, bytes))
}

fn insert_commit(
    transaction: &Transaction<'_>,
    id: i64,
    totals: &Totals,
    logs: &Logs,
) -> rusqlite::Result<()> {
    static INSERT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| schema::commit_row("INSERT OR REPLACE"));
    let mut insert = transaction.prepare_cached(&INSERT)?;
    insert.raw_bind_parameter(1, id)?;
    for (at, value) in (2..).zip(totals.to_row()) {
        insert.raw_bind_parameter(at, value)?;
    }
    for (at, log) in (super::totals::COLUMNS + 2..).zip([&logs.recent, &logs.identifiers]) {
        insert.raw_bind_parameter(at, (!log.is_empty()).then_some(&log[..]))?;
    }
    insert.raw_execute()?;
    Ok(())
}
