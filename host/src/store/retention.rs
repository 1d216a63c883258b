//! What leaves the outbox without having landed, and the receipts that take its place.
//!
//! Invariant: a batch is deleted here only in the transaction that writes its loss receipt. Receipts of neighbouring
//! ranges and one reason are merged, as long as the uplink has not read them.

use rusqlite::{OptionalExtension, Row, Transaction};
use wire::ids::Sequence;

use super::group::Effects;
use super::totals::{Totals, signed, unsigned};
use super::{DeadLetter, LetterKind, StoreConfig, WhenFull, letters};
use crate::outbox::Priority;

/// Reason of a receipt: the time to live has passed.
pub(super) const EXPIRED: &str = "expired";
/// Reason of a receipt: there was no room.
pub(super) const QUOTA: &str = "quota";
/// Reason of a receipt: the tenant has moved to another stamp, without what was not sent.
pub(super) const MOVED: &str = "moved: not carried";
/// Most batches given up in one step, so that a step stays short.
const STEP: usize = 4_096;

/// A row of the outbox without its payload: columns seq, priority, rows, bytes.
pub(super) struct Waiting {
    pub(super) seq: u64,
    priority: Priority,
    pub(super) rows: u64,
    bytes: u64,
}

impl Waiting {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: unsigned(row.get(0)?),
            priority: priority_of(row.get(1)?),
            rows: unsigned(row.get(2)?),
            bytes: unsigned(row.get(3)?),
        })
    }

    /// Takes it out of the totals.
    pub(super) fn leave(&self, totals: &mut Totals) {
        let load = totals.of_mut(self.priority);
        load.batches = load.batches.saturating_sub(1);
        load.bytes = load.bytes.saturating_sub(self.bytes);
        load.rows = load.rows.saturating_sub(self.rows);
    }
}

/// A priority as it is written.
pub(super) fn priority_of(value: i64) -> Priority {
    match value {
        0 => Priority::Low,
        2 => Priority::High,
        _ => Priority::Normal,
    }
}

/// Gives up what has outlived its time.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    now: i64,
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    loop {
        let mut found = Vec::new();
        {
            let mut query = transaction.prepare_cached(
                "SELECT seq, priority, rows, bytes FROM outbox WHERE expires IS NOT NULL AND expires <= ?1 \
                 ORDER BY expires LIMIT ?2",
            )?;
            let mut rows = query.query((now, STEP as i64))?;
            while let Some(row) = rows.next()? {
                found.push(Waiting::of(row)?);
            }
        }
        let all = found.len() < STEP;
        give_up(transaction, found, EXPIRED, told, effects)?;
        if all {
            return Ok(());
        }
    }
}

/// The earliest expiry.
pub(super) fn next_expiry(connection: &rusqlite::Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT MIN(expires) FROM outbox WHERE expires IS NOT NULL")?
        .query_row([], |row| row.get(0))
}

/// Makes room under `drop_oldest`: lowest priority first, oldest first, down to the batch just added.
pub(super) fn keep_quota(
    transaction: &Transaction<'_>,
    config: &StoreConfig,
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    if config.when_full != WhenFull::DropOldest {
        return Ok(());
    }
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        while effects.totals.used() > config.quota && effects.totals.of(priority).batches > 0 {
            let need = effects.totals.used() - config.quota;
            let found = oldest(transaction, priority, need)?;
            if found.is_empty() {
                break;
            }
            give_up(transaction, found, QUOTA, told, effects)?;
        }
    }
    Ok(())
}

fn oldest(transaction: &Transaction<'_>, priority: Priority, need: u64) -> rusqlite::Result<Vec<Waiting>> {
    let mut query = transaction.prepare_cached(match priority {
        Priority::Normal => "SELECT seq, priority, rows, bytes FROM outbox WHERE priority = ?1 ORDER BY seq",
        Priority::Low | Priority::High => {
            "SELECT seq, priority, rows, bytes FROM outbox WHERE priority = ?1 AND priority <> 1 ORDER BY seq"
        }
    })?;
    let mut rows = query.query([priority as i64])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < need && found.len() < STEP {
        let Some(row) = rows.next()? else { break };
        let batch = Waiting::of(row)?;
        bytes += batch.bytes;
        found.push(batch);
    }
    Ok(found)
}

/// The stamp will never take this batch: its bytes become a dead letter, a receipt takes its place.
pub(super) fn refused(
    transaction: &Transaction<'_>,
    seq: Sequence,
    (reason, now): (&str, i64),
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let mut query = transaction.prepare_cached(
        "SELECT seq, priority, rows, bytes, route, created, payload FROM outbox WHERE seq = ?1",
    )?;
    let found = query
        .query_row([signed(seq.0)], |row| {
            let letter = DeadLetter {
                topic: row.get(4)?,
                time: row.get(5)?,
                kind: LetterKind::Refused,
                reason: reason.to_owned(),
                original: row.get(6)?,
                ..DeadLetter::default()
            };
            Ok((Waiting::of(row)?, letter))
        })
        .optional()?;
    let Some((batch, letter)) = found else { return Ok(()) };
    letters::insert(transaction, &letter, now, &mut effects.totals)?;
    give_up(transaction, vec![batch], reason, told, effects)
}

/// Gives up all that waits, but what is known to have landed and only waits to be deleted.
pub(super) fn drop_backlog(
    transaction: &Transaction<'_>,
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let mut after = 0;
    loop {
        let (mut found, mut seen) = (Vec::new(), 0);
        {
            let mut query = transaction.prepare_cached(
                "SELECT seq, priority, rows, bytes FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = query.query((signed(after), STEP as i64))?;
            while let Some(row) = rows.next()? {
                let batch = Waiting::of(row)?;
                (after, seen) = (batch.seq, seen + 1);
                if !effects.landed_left.contains(Sequence(batch.seq)) {
                    found.push(batch);
                }
            }
        }
        give_up(transaction, found, MOVED, told, effects)?;
        if seen < STEP {
            effects.expiries = true;
            return Ok(());
        }
    }
}

/// Deletes batches and writes receipts in their place.
fn give_up(
    transaction: &Transaction<'_>,
    mut batches: Vec<Waiting>,
    reason: &str,
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    batches.sort_unstable_by_key(|batch| batch.seq);
    for run in batches.chunk_by(|before, after| before.seq + 1 == after.seq) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let (first, last) = (first.seq, last.seq);
        let rows: u64 = run.iter().map(|batch| batch.rows).sum();
        run.iter().for_each(|batch| batch.leave(&mut effects.totals));
        transaction
            .prepare_cached("DELETE FROM outbox WHERE seq BETWEEN ?1 AND ?2")?
            .execute((signed(first), signed(last)))?;
        effects.totals.lost += rows;
        effects.gone.push((Sequence(first), Sequence(last)));
        write_receipt(transaction, first, last, rows, reason, told, &mut effects.totals)?;
    }
    Ok(())
}

fn write_receipt(
    transaction: &Transaction<'_>,
    first: u64,
    last: u64,
    rows: u64,
    reason: &str,
    told: i64,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let newest = transaction
        .prepare_cached("SELECT id, last, reason FROM receipts ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)))
        .optional()?;
    match newest {
        Some((id, before, why)) if id > told && unsigned(before) + 1 == first && why == reason => {
            transaction
                .prepare_cached("UPDATE receipts SET last = ?2, rows = rows + ?3 WHERE id = ?1")?
                .execute((id, signed(last), signed(rows)))?;
        }
        newest => {
            // Above all ids the uplink may have read, even when those are deleted by now.
            let id = newest.map_or(0, |(id, ..)| id).max(told) + 1;
            transaction
                .prepare_cached(
                    "INSERT INTO receipts (id, first, last, rows, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((id, signed(first), signed(last), signed(rows), reason))?;
            totals.receipts += 1;
        }
    }
    Ok(())
}

/// The stamp has these numbers, as batches or as receipts: receipts inside the range go, others are cut to what lies
/// outside (their rows stay, as an upper bound), and one around it is made two.
pub(super) fn receipts_landed(
    transaction: &Transaction<'_>,
    (from, to): (Sequence, Sequence),
    told: i64,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let range = (signed(from.0), signed(to.0));
    part_receipt(transaction, range, told, totals)?;
    let gone = transaction
        .prepare_cached("DELETE FROM receipts WHERE first >= ?1 AND last <= ?2")?
        .execute(range)?;
    totals.receipts = totals.receipts.saturating_sub(gone as u64);
    transaction
        .prepare_cached("UPDATE receipts SET first = ?2 + 1 WHERE first BETWEEN ?1 AND ?2 AND last > ?2")?
        .execute(range)?;
    transaction
        .prepare_cached("UPDATE receipts SET last = ?1 - 1 WHERE last BETWEEN ?1 AND ?2 AND first < ?1")?
        .execute(range)?;
    Ok(())
}

/// A receipt that begins before the range and ends behind it: one for each side, with its share of the rows.
fn part_receipt(
    transaction: &Transaction<'_>,
    (from, to): (i64, i64),
    told: i64,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let around = transaction
        .prepare_cached("SELECT id, first, last, rows, reason FROM receipts WHERE first < ?1 AND last > ?2")?
        .query_row((from, to), |row| {
            let numbers: (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((numbers, row.get::<_, String>(4)?))
        })
        .optional()?;
    let Some(((id, first, last, rows), reason)) = around else { return Ok(()) };
    let share = |numbers: i64| (rows as f64 * numbers as f64 / (last - first + 1) as f64).ceil() as i64;
    transaction.prepare_cached("UPDATE receipts SET last = ?2, rows = ?3 WHERE id = ?1")?.execute((
        id,
        from - 1,
        share(from - first),
    ))?;
    let newest: i64 =
        transaction.prepare_cached("SELECT MAX(id) FROM receipts")?.query_row([], |row| row.get(0))?;
    transaction
        .prepare_cached("INSERT INTO receipts (id, first, last, rows, reason) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((newest.max(told) + 1, to + 1, last, share(last - to), reason))?;
    totals.receipts += 1;
    Ok(())
}

/// Deletes the oldest dead letters beyond their bound, which is never more than a quarter of the quota.
pub(super) fn keep_dead_letters(
    transaction: &Transaction<'_>,
    config: &StoreConfig,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let bound = config.dead_letters.min(config.quota / 4);
    let totals = &mut effects.totals;
    if totals.dead_bytes <= bound {
        return Ok(());
    }
    let (mut count, mut bytes, mut reached) = (0, 0, 0);
    {
        let mut query = transaction.prepare_cached("SELECT id, size FROM dead_letters ORDER BY id")?;
        let mut rows = query.query([])?;
        while totals.dead_bytes - bytes > bound {
            let Some(row) = rows.next()? else { break };
            reached = row.get::<_, i64>(0)?;
            bytes = (bytes + unsigned(row.get(1)?)).min(totals.dead_bytes);
            count += 1;
        }
    }
    transaction.prepare_cached("DELETE FROM dead_letters WHERE id <= ?1")?.execute([reached])?;
    totals.dead_bytes -= bytes;
    totals.dead_letters = totals.dead_letters.saturating_sub(count);
    totals.dead_evicted += count;
    Ok(())
}
