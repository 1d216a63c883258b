//! What plugins keep, as the writer changes it.
//!
//! Invariant: `Totals::state_bytes` follows each change in the same transaction.

use rusqlite::Transaction;

use super::StateChange;
use super::totals::{Totals, signed, unsigned};

/// Sets or removes one key.
pub(super) fn change(
    transaction: &Transaction<'_>,
    change: &StateChange,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let key = (&*change.step, change.key.as_str());
    let mut size = transaction.prepare_cached(
        "SELECT COALESCE(SUM(LENGTH(value) + ?3), 0) FROM state WHERE step = ?1 AND key = ?2",
    )?;
    let key_bytes = signed(change.key.len() as u64);
    let before: i64 = size.query_row((key.0, key.1, key_bytes), |row| row.get(0))?;
    totals.state_bytes = totals.state_bytes.saturating_sub(unsigned(before));
    match &change.value {
        Some(value) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO state (step, key, value) VALUES (?1, ?2, ?3)")?
                .execute((key.0, key.1, value))?;
            totals.state_bytes += (value.len() + change.key.len()) as u64;
        }
        None => {
            transaction.prepare_cached("DELETE FROM state WHERE step = ?1 AND key = ?2")?.execute(key)?;
        }
    }
    Ok(())
}

/// Removes all keys of a step.
pub(super) fn reset(transaction: &Transaction<'_>, step: &str, totals: &mut Totals) -> rusqlite::Result<()> {
    let before: i64 = transaction
        .prepare_cached(
            "SELECT COALESCE(SUM(LENGTH(value) + LENGTH(CAST(key AS BLOB))), 0) FROM state WHERE step = ?1",
        )?
        .query_row([step], |row| row.get(0))?;
    transaction.prepare_cached("DELETE FROM state WHERE step = ?1")?.execute([step])?;
    totals.state_bytes = totals.state_bytes.saturating_sub(unsigned(before));
    Ok(())
}
