//! Receipts in the order in which they came about, as provisioning is told them: of losses, deletions and exports.
//!
//! Each is numbered by the commit that decides it; a number is never given twice. A loss that has grown is a new receipt, and
//! the one it replaces is gone. Does not tell anybody.

use rusqlite::{Connection, Row, params};
use wire::ids::{Digest, StreamId};
use wire::provisioning::{MAX_RECEIPT_TEXT_BYTES, MAX_RECEIPTS, Receipt, Receipted, Receipts};

use super::Note;

pub(super) const LOSS: &str = "loss";
pub(super) const DELETION: &str = "deletion";
pub(super) const EXPORT: &str = "export";

/// Gives a receipt its number.
pub(super) fn add(db: &Connection, kind: &str, of: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO receipts (kind, of) VALUES (?1, ?2)")?
        .execute(params![kind, of])
        .map(drop)
}

/// Those after a number, at most [`MAX_RECEIPTS`]; without one none, only the log's name. Who has heard of more than there is
/// knows a log that is not this one any more, as after a restored backup: it gets another name, and is told from its beginning.
pub(super) fn page(db: &Connection, after: Option<u64>) -> rusqlite::Result<Receipts> {
    let last: i64 = db
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'receipts'")?
        .query_row([], |row| row.get(0))?;
    let after = match after {
        Some(after) if i64::try_from(after).map_or(true, |after| after > last) => {
            let name: i64 = db.query_row("SELECT random()", [], |row| row.get(0))?;
            Note::ReceiptLog.write(db, name)?;
            Some(0)
        }
        after => after,
    };
    let log = Note::ReceiptLog.read(db)? as u64;
    let receipts = match after {
        Some(after) => following(db, after as i64)?,
        None => Vec::new(),
    };
    Ok(Receipts { log, after, receipts })
}

fn following(db: &Connection, after: i64) -> rusqlite::Result<Vec<Receipt>> {
    let mut statement = db.prepare_cached(
        "SELECT r.number, r.kind,
                coalesce(s.gateway, d.gateway, e.gateway), coalesce(s.tenant, d.tenant, e.tenant),
                coalesce(l.received, d.finished, e.finished), coalesce(l.rows, d.rows, e.rows),
                s.stream, l.first, l.last, l.reason,
                coalesce(d.epoch, e.epoch), coalesce(d.batches, e.batches), coalesce(d.bytes, e.bytes),
                coalesce(d.digest, e.digest), e.file
         FROM receipts r
         LEFT JOIN losses l ON r.kind = 'loss' AND l.id = r.of LEFT JOIN streams s ON s.id = l.stream
         LEFT JOIN deletions d ON r.kind = 'deletion' AND d.id = r.of
         LEFT JOIN exports e ON r.kind = 'export' AND e.id = r.of
         WHERE r.number > ?1 ORDER BY r.number LIMIT ?2",
    )?;
    let mut rows = statement.query(params![after, MAX_RECEIPTS as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(read(row)?);
    }
    Ok(found)
}

/// `None`: of nobody whose name can be told; only this stamp writes them, by names that were parsed.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Receipt>> {
    let (gateway, tenant): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let (Some(Ok(gateway)), Some(Ok(tenant))) =
        (gateway.map(|name| name.parse()), tenant.map(|name| name.parse()))
    else {
        return Ok(None);
    };
    let number = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
    let text = |column: usize| row.get::<_, String>(column).map(|text| bounded(&text));
    let what = match row.get_ref(1)?.as_str()? {
        LOSS => Receipted::Loss {
            stream: StreamId(number(6)?),
            first: number(7)?,
            last: number(8)?,
            reason: text(9)?,
        },
        DELETION => Receipted::Deletion {
            epoch: number(10)?,
            batches: number(11)?,
            bytes: number(12)?,
            sha256: Digest(row.get(13)?),
        },
        _ => Receipted::Export {
            epoch: number(10)?,
            batches: number(11)?,
            bytes: number(12)?,
            sha256: Digest(row.get(13)?),
            file: text(14)?,
        },
    };
    Ok(Some(Receipt { number: number(0)?, gateway, tenant, at_ns: row.get(4)?, rows: number(5)?, what }))
}

/// As much of a text as is told.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_RECEIPT_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
