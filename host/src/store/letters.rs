//! Dead letters, as the writer keeps and removes them.
//!
//! Invariants: an id is never used again, so that a letter an operator has seen is that letter or gone; counts and
//! sizes in `Totals` follow in the same transaction.

use rusqlite::{Transaction, params};

use super::DeadLetter;
use super::totals::{Totals, signed, unsigned};

/// Keeps a letter.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    letter: &DeadLetter,
    now: i64,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let size = letter.weight() as u64;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO dead_letters (size, kept, time, kind, device, topic, step, plugin, digest, config, reason, trace, \
         frame, original) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    insert.execute(params![
        signed(size),
        now,
        letter.time,
        letter.kind.as_str(),
        letter.device,
        letter.topic,
        letter.step,
        letter.plugin,
        letter.digest,
        letter.config,
        letter.reason,
        letter.trace,
        letter.frame,
        letter.original
    ])?;
    totals.dead_letters += 1;
    totals.dead_bytes += size;
    Ok(())
}

/// Removes letters; returns how many there were.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    ids: &[i64],
    totals: &mut Totals,
) -> rusqlite::Result<u64> {
    let mut removed = 0;
    for id in ids {
        let mut delete =
            transaction.prepare_cached("DELETE FROM dead_letters WHERE id = ?1 RETURNING size")?;
        let mut rows = delete.query([id])?;
        // The row is gone once the statement has run to its end.
        while let Some(row) = rows.next()? {
            totals.dead_letters = totals.dead_letters.saturating_sub(1);
            totals.dead_bytes = totals.dead_bytes.saturating_sub(unsigned(row.get(0)?));
            removed += 1;
        }
    }
    Ok(removed)
}
