//! Deletes batches by age, a group at a time, in a transaction of the writer's.

use std::collections::HashMap;

use rusqlite::Transaction;

use super::ledger::Ledger;
use super::{Expired, Note};

/// Most batches deleted with one commit.
const EXPIRY_GROUP: u32 = 256;

/// Deletes the oldest batches, as far as they arrived before a time. Their numbers stay landed.
pub(super) fn expire(db: &Transaction<'_>, ledger: &Ledger, before: i64) -> rusqlite::Result<Expired> {
    let mut streams: HashMap<i64, (i64, i64)> = HashMap::new();
    let (mut last, mut batches) = (0, 0);
    {
        let mut statement =
            db.prepare_cached("SELECT id, stream, rows, received FROM batches ORDER BY id LIMIT ?1")?;
        let mut rows = statement.query([EXPIRY_GROUP])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(3)? >= before {
                break;
            }
            last = row.get(0)?;
            batches += 1;
            let totals = streams.entry(row.get(1)?).or_default();
            totals.0 += 1;
            totals.1 += row.get::<_, i64>(2)?;
        }
    }
    if batches == 0 {
        return Ok(Expired::default());
    }
    db.prepare_cached("DELETE FROM batches WHERE id <= ?1")?.execute([last])?;
    for (stream, (batches, rows)) in streams {
        db.prepare_cached(
            "UPDATE streams SET expired_batches = expired_batches + ?2, expired_rows = expired_rows + ?3
             WHERE id = ?1",
        )?
        .execute((stream, batches, rows))?;
    }
    Note::LastBatch.write(db, ledger.next_batch - 1)?;
    Ok(Expired { batches, more: batches == u64::from(EXPIRY_GROUP) })
}
