//! A batch made two: the rows of some devices become a batch of their own, so that what the stamp does not take of it is in
//! nobody's way.
//!
//! ```text
//! seq 7: rows of a, b, c ──part(7, {b})──► seq 7: rows of a, c    seq 912 (the next one): rows of b
//! ```
//! Route, priority, creation and expiry are those of the batch before. Invariants: both are there after one commit, or neither;
//! no row is in both; a batch whose rows are all of those devices, or none, stays as it is.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction, params};
use wire::codec::{Encoder, Limits, decode};
use wire::frame::Frame;
use wire::ids::{RouteName, Sequence};

use super::group::Effects;
use super::retention::priority_of;
use super::totals::{signed, unsigned};
use crate::outbox::{Outgoing, Priority};

/// A batch to be parted, and the devices whose rows leave it.
pub(super) type Parting = (Sequence, Vec<String>);

/// A batch that was parted.
pub(super) struct Parted {
    pub(super) priority: Priority,
    /// Under its old number.
    pub(super) rest: Outgoing,
    /// Under a new one.
    pub(super) apart: Outgoing,
}

/// A row of the outbox.
struct Whole {
    priority: Priority,
    expires: Option<i64>,
    batch: Outgoing,
}

/// Parts a batch, if it is still there and has rows of both kinds.
pub(super) fn part(
    transaction: &Transaction<'_>,
    (seq, devices): &Parting,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let Some(Whole { priority, expires, batch }) = find(transaction, *seq)? else { return Ok(()) };
    let Some((rest, apart)) = split(&batch.payload, devices) else { return Ok(()) };
    let number = Sequence(effects.totals.last + 1);
    transaction
        .prepare_cached("UPDATE outbox SET rows = ?2, bytes = ?3, payload = ?4 WHERE seq = ?1")?
        .execute(params![signed(seq.0), rest.0, signed(rest.1.len() as u64), &rest.1[..]])?;
    transaction
        .prepare_cached(
            "INSERT INTO outbox (seq, route, priority, created, expires, rows, bytes, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            signed(number.0),
            batch.route.as_str(),
            priority as i64,
            batch.created,
            expires,
            apart.0,
            signed(apart.1.len() as u64),
            &apart.1[..]
        ])?;
    effects.totals.last = number.0;
    let load = effects.totals.of_mut(priority);
    load.batches += 1;
    let (before, after) = (batch.payload.len() as u64, (rest.1.len() + apart.1.len()) as u64);
    load.bytes = (load.bytes + after).saturating_sub(before);
    effects.expiries |= expires.is_some();
    let with = |seq, (rows, payload): (u32, Bytes)| Outgoing { seq, rows, payload, ..batch.clone() };
    effects.parted.push(Parted { priority, rest: with(*seq, rest), apart: with(number, apart) });
    Ok(())
}

fn find(transaction: &Transaction<'_>, seq: Sequence) -> rusqlite::Result<Option<Whole>> {
    let mut query = transaction.prepare_cached(
        "SELECT priority, expires, route, created, rows, payload FROM outbox WHERE seq = ?1",
    )?;
    let found = query.query_row([signed(seq.0)], |row| {
        let route = RouteName::new(row.get_ref(2)?.as_str()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
        })?;
        let batch = Outgoing {
            seq,
            route,
            created: row.get(3)?,
            rows: u32::try_from(unsigned(row.get(4)?)).unwrap_or(u32::MAX),
            payload: Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
        };
        Ok(Whole { priority: priority_of(row.get(0)?), expires: row.get(1)?, batch })
    });
    found.optional()
}

/// Rows and payloads of both kinds; `None` if it has rows of one kind only, or is not what the codec writes.
fn split(payload: &[u8], devices: &[String]) -> Option<((u32, Bytes), (u32, Bytes))> {
    let devices: HashSet<&str> = devices.iter().map(String::as_str).collect();
    let frames = decode(payload, &Limits::default()).ok()?;
    let (mut rest, mut apart) = (Vec::new(), Vec::new());
    for frame in &frames {
        let leaves: Vec<bool> =
            frame.devices.iter().map(|device| devices.contains(device.as_str())).collect();
        let of = |row: u32| frame.device.get(row as usize).and_then(|device| leaves.get(*device as usize));
        let rows = 0..u32::try_from(frame.rows()).ok()?;
        let (gone, stay): (Vec<u32>, Vec<u32>) = rows.partition(|row| of(*row) == Some(&true));
        rest.push(frame.take_rows(&stay));
        apart.push(frame.take_rows(&gone));
    }
    Some((encoded(&rest)?, encoded(&apart)?))
}

fn encoded(frames: &[Frame]) -> Option<(u32, Bytes)> {
    let rows: usize = frames.iter().map(Frame::rows).sum();
    let mut payload = Vec::new();
    Encoder::new().encode(frames, &mut payload).ok()?;
    (rows > 0).then_some((u32::try_from(rows).ok()?, payload.into()))
}
