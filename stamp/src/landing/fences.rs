//! What makes the move of a tenant exact at both ends: the fence where it leaves, the seed where it arrives.
//!
//! A fence takes its turn among batches: one that was queued before it lands and is in the watermark, one after it does
//! not land. Fence, watermark and seed are written by the commit that decides them. Numbers of a seed count as landed, and
//! are noted as landed elsewhere. Who leaves gives its devices' places back. Of two epochs the smaller is old news.

use rusqlite::{OptionalExtension, Transaction, params};
use wire::ids::{GatewayId, Sequence, TenantId};
use wire::provisioning::{CopyPolicy, Fenced, Watermark};
use wire::ranges::RangeSet;

use super::changes::Changes;
use super::ledger::{Fence, Ledger, Pair};
use super::{StreamKey, receipts};

/// Most watermarks told at a time.
const MAX_UNTOLD: u32 = 256;

/// A tenant of a gateway comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// The epoch from which this holds.
    pub epoch: u64,
    /// Which of both.
    pub turn: Turn,
    /// Now: nanoseconds since 1970 UTC.
    pub now: i64,
}

/// Whether a tenant comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Its data is taken; these numbers have landed elsewhere.
    Comes {
        /// Per stream.
        landed: Watermark,
    },
    /// Nothing more of it is landed.
    Goes {
        /// Whether somebody waits for its watermark.
        watermark_wanted: bool,
    },
}

/// Makes it hold, as far as it is news.
pub(super) fn hand_over(
    db: &Transaction<'_>,
    ledger: &mut Ledger,
    handover: Handover,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let Handover { gateway, tenant, epoch, turn, now } = handover;
    let pair = (gateway, tenant);
    let known = ledger.fences.get(&pair).map(|fence| fence.epoch);
    if known.is_some_and(|known| known >= epoch) {
        return Ok(());
    }
    match turn {
        Turn::Goes { watermark_wanted } => go(db, ledger, pair, (epoch, watermark_wanted, now), changes),
        Turn::Comes { landed } => {
            if known.is_some() {
                close_deletion(db, &pair, now, changes)?;
                db.prepare_cached("DELETE FROM fences WHERE gateway = ?1 AND tenant = ?2")?
                    .execute([pair.0.as_str(), pair.1.as_str()])?;
                let before = ledger.set_fence(&pair, None);
                changes.fences.push((pair.clone(), before));
            }
            seed(db, ledger, &pair, &landed, changes)
        }
    }
}

/// Who comes back in the middle of a deletion keeps what is left; the receipt is of what is gone.
fn close_deletion(
    db: &Transaction<'_>,
    pair: &Pair,
    now: i64,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let open: Option<i64> = db
        .prepare_cached(
            "UPDATE deletions SET finished = ?3 WHERE gateway = ?1 AND tenant = ?2 AND finished IS NULL RETURNING id",
        )?
        .query_row(params![pair.0.as_str(), pair.1.as_str(), now], |row| row.get(0))
        .optional()?;
    if let Some(deletion) = open {
        receipts::add(db, receipts::DELETION, deletion)?;
        changes.receipts = true;
    }
    Ok(())
}

fn go(
    db: &Transaction<'_>,
    ledger: &mut Ledger,
    pair: Pair,
    (epoch, watermark_wanted, now): (u64, bool, i64),
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let mut watermark = Watermark::new();
    for key in ledger.pairs.get(&pair).into_iter().flatten() {
        let Some(stream) = ledger.streams.get(key) else { continue };
        let mut landed = stream.landed.clone();
        if let Some(totals) = changes.landed.get(key) {
            landed.extend(&totals.numbers);
        }
        if !landed.is_empty() {
            watermark.push((stream.id, landed));
        }
    }
    let text = serde_json::to_string(&watermark)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let (gateway, tenant) = (pair.0.as_str(), pair.1.as_str());
    db.prepare_cached(
        "INSERT OR REPLACE INTO fences (gateway, tenant, epoch, watermark, told, since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![gateway, tenant, epoch as i64, text, !watermark_wanted, now])?;
    db.prepare_cached("DELETE FROM devices WHERE gateway = ?1 AND tenant = ?2")?
        .execute([gateway, tenant])?;
    // At once, for the next batch of this group; taken back if the commit fails.
    let before = ledger.set_fence(&pair, Some(Fence { epoch }));
    changes.left.push(pair.clone());
    changes.fences.push((pair, before));
    Ok(())
}

fn seed(
    db: &Transaction<'_>,
    ledger: &Ledger,
    pair: &Pair,
    landed: &Watermark,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    for (stream, numbers) in landed {
        let name = (pair.0.clone(), pair.1.clone(), *stream);
        let key = changes.stream(db, ledger, name)?;
        let mut here = ledger.streams.get(&key).map(|stream| stream.landed.clone()).unwrap_or_default();
        let totals = changes.landed.entry(key).or_default();
        here.extend(&totals.numbers);
        for (from, to) in numbers.iter() {
            for (from, to) in here.missing(from, to) {
                note_elsewhere(db, key, from, to)?;
                totals.numbers.insert_range(from, to);
            }
        }
    }
    Ok(())
}

fn note_elsewhere(
    db: &Transaction<'_>,
    key: StreamKey,
    from: Sequence,
    to: Sequence,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO elsewhere (stream, first, last) VALUES (?1, ?2, ?3)")?
        .execute(params![key.0, from.0 as i64, to.0 as i64])
        .map(drop)
}

/// Watermarks that somebody still waits for, the first of them.
pub(super) fn untold(db: &Transaction<'_>) -> rusqlite::Result<Vec<Fenced>> {
    let mut statement = db.prepare_cached(
        "SELECT gateway, tenant, epoch, watermark FROM fences WHERE told = 0 ORDER BY epoch LIMIT ?1",
    )?;
    let mut rows = statement.query([MAX_UNTOLD])?;
    let mut fenced = Vec::new();
    while let Some(row) = rows.next()? {
        let (gateway, tenant) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        let landed = serde_json::from_str::<Vec<(_, RangeSet)>>(row.get_ref(3)?.as_str()?);
        // Nobody but this stamp writes them.
        if let (Ok(gateway), Ok(tenant), Ok(landed)) = (gateway.parse(), tenant.parse(), landed) {
            fenced.push(Fenced { gateway, tenant, epoch: row.get::<_, i64>(2)? as u64, landed });
        }
    }
    Ok(fenced)
}

/// Provisioning has this watermark, and says what becomes of the copy.
pub(super) fn told(
    db: &Transaction<'_>,
    (gateway, tenant): &Pair,
    epoch: u64,
    copy: CopyPolicy,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE fences SET told = 1, copy = ?4 WHERE gateway = ?1 AND tenant = ?2 AND epoch = ?3",
    )?
    .execute(params![gateway.as_str(), tenant.as_str(), epoch as i64, copy.as_str()])
    .map(drop)
}
