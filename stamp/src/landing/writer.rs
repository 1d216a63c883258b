//! The writer thread: takes what has queued, commits it as one transaction, answers.
//!
//! What the thread knows in memory (ranges landed, devices counted) changes only with a commit that succeeded; if one
//! fails, all of its group are told so, and nothing of it is there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc;
use wire::ids::InstallationId;
use wire::message::BatchRefusal;
use wire::provisioning::Receipts;

use super::changes::{Changes, write_totals};
use super::devices::Beyond;
use super::expiry::expire;
use super::fences::{hand_over, told, untold};
use super::ledger::Ledger;
use super::{
    Arrival, ArrivalError, Expired, Landed, LandingError, News, Note, Outcome, Receipt, ReplyTo, Request,
    Standing, StreamKey, file, receipts, schema,
};

/// Most requests in one commit, so that none waits for too many others.
const MAX_GROUP: usize = 512;
/// Most payload bytes in one commit, but for one batch.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// While nothing can be written, it is said this often.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// Batches looked at to find out which of a receipt's numbers have landed all the same.
const MAX_OVERLAP: i64 = 10_000;
/// A connected gateway's `last_seen` is written this often at most, in nanoseconds.
const SEEN_EVERY: i64 = 10_000_000_000;

/// The running writer.
pub struct Writer {
    thread: JoinHandle<()>,
    line_end: i64,
    /// Held as long as the database is in use.
    _lock: File,
}

impl Writer {
    pub(super) fn start(
        folder: &Path,
        max_devices: u32,
        queue: mpsc::Receiver<Request>,
        news: Arc<News>,
    ) -> Result<Self, LandingError> {
        let path = file(folder);
        std::fs::create_dir_all(folder).map_err(|error| LandingError::storage(&path, error))?;
        let lock = lock(folder)?;
        let connection = schema::open(&path)?;
        let ledger =
            Ledger::load(&connection, max_devices).map_err(|error| LandingError::storage(&path, error))?;
        let line_end =
            Note::LineEnd.read(&connection).map_err(|error| LandingError::storage(&path, error))?;
        let thread = std::thread::Builder::new()
            .name("landing".to_owned())
            .spawn({
                let path = path.clone();
                move || Thread { connection, ledger, path, news, failing: None }.run(queue)
            })
            .map_err(|error| LandingError::storage(&path, error))?;
        Ok(Self { thread, line_end, _lock: lock })
    }

    /// What was noted as [`Note::LineEnd`] before; 0 if nothing was.
    #[must_use]
    pub fn line_end(&self) -> i64 {
        self.line_end
    }

    /// Waits until all that was queued is committed; every [`super::Landing`] and lane must be gone before.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the landing's writer has panicked");
        }
    }
}

/// One stamp a folder: two writers would each believe their own ranges.
fn lock(folder: &Path) -> Result<File, LandingError> {
    let path = folder.join("landing.lock");
    let lock = File::create(&path).map_err(|error| LandingError::storage(&path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(LandingError::InUse { path }),
        Err(std::fs::TryLockError::Error(error)) => Err(LandingError::storage(&path, error)),
    }
}

struct Thread {
    connection: Connection,
    ledger: Ledger,
    path: PathBuf,
    /// Whom to wake.
    news: Arc<News>,
    /// When it was last said that nothing can be written; `None`: it can.
    failing: Option<Instant>,
}

impl Thread {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while let Some(request) = queue.blocking_recv() {
            let mut bytes = size(&request);
            group.push(request);
            while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                bytes += size(&request);
                group.push(request);
            }
            self.commit(&mut group);
        }
        // Leaves one file and no log behind, where no reader holds it.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the landing's log could not be folded into its file");
        }
    }

    fn commit(&mut self, group: &mut Vec<Request>) {
        let mut changes = Changes::default();
        let written = write(&mut self.connection, &mut self.ledger, group.drain(..), &mut changes);
        match &written {
            Err(error) if self.failing.is_none_or(|said| said.elapsed() > SAID_EVERY) => {
                tracing::error!(%error, "the landing could not be written");
                self.failing = Some(Instant::now());
            }
            Ok(()) if self.failing.take().is_some() => tracing::info!("the landing can be written again"),
            _ => {}
        }
        let written = written.map_err(|error| error.to_string());
        if written.is_ok() && changes.receipts {
            self.news.receipts.notify_one();
        }
        changes.answer_others(&self.path, &written);
        changes.settle(&mut self.ledger, written);
    }
}

fn size(request: &Request) -> usize {
    match request {
        Request::Batch(batch, ..) => batch.payload.len(),
        _ => 0,
    }
}

fn write(
    connection: &mut Connection,
    ledger: &mut Ledger,
    group: impl Iterator<Item = Request>,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let mut result = Ok(());
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => Some(transaction),
        Err(error) => {
            result = Err(error);
            None
        }
    };
    // Also after an error: each request is answered, and a failed one's answer becomes "failed" when they are settled.
    for request in group {
        let transaction = transaction.as_ref().filter(|_| result.is_ok());
        result = result.and(take(transaction, ledger, request, changes));
    }
    result?;
    let Some(transaction) = transaction else { return Ok(()) };
    write_totals(&transaction, ledger, changes)?;
    transaction.commit()
}

fn take(
    transaction: Option<&Transaction<'_>>,
    ledger: &mut Ledger,
    request: Request,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    match request {
        Request::Arrival(arrival, reply) => {
            let arrived = transaction.map_or(Ok(Ok(Vec::new())), |db| arrive(db, ledger, &arrival, changes));
            let (answer, result) = match arrived {
                Ok(answer) => (answer, Ok(())),
                Err(error) => (Ok(Vec::new()), Err(error)),
            };
            changes.arrivals.push((reply, answer));
            result
        }
        Request::Batch(batch, reply_to, room) => {
            let (from, to) = (batch.seq, batch.seq);
            let landed =
                transaction.map_or(Ok(Outcome::Durable), |db| land(db, ledger, &reply_to, batch, changes));
            changes.room.push(room);
            changes.answer(reply_to, from, to, landed)
        }
        Request::Receipt(receipt, reply_to) => {
            let (from, to) = (receipt.from, receipt.to);
            let kept = transaction.map_or(Ok(Outcome::Durable), |db| keep(db, ledger, &receipt, changes));
            changes.answer(reply_to, from, to, kept)
        }
        Request::Departure(gateway, now) => {
            changes.seen.insert(gateway, now);
            Ok(())
        }
        Request::Limits(gateway, limits) => {
            ledger.devices.limit(&gateway, &limits);
            Ok(())
        }
        Request::Expiry(before, reply) => {
            let expired = transaction.map_or(Ok(Expired::default()), |db| expire(db, ledger, before));
            let (expired, result) = match expired {
                Ok(expired) => (expired, Ok(())),
                Err(error) => (Expired::default(), Err(error)),
            };
            changes.expiries.push((reply, expired));
            result
        }
        Request::HandOver(handovers, reply) => {
            let done = transaction.map_or(Ok(()), |db| {
                handovers.into_iter().try_for_each(|handover| hand_over(db, ledger, handover, changes))
            });
            changes.handovers.push(reply);
            done
        }
        Request::Told(pair, epoch, copy, reply) => {
            let done = transaction.map_or(Ok(()), |db| told(db, &pair, epoch, copy));
            changes.handovers.push(reply);
            done
        }
        Request::Receipts(after, reply) => {
            let nothing = Receipts { log: 0, after, receipts: Vec::new() };
            let found = transaction.map_or(Ok(None), |db| receipts::page(db, after).map(Some));
            let (page, result) = match found {
                Ok(page) => (page.unwrap_or(nothing), Ok(())),
                Err(error) => (nothing, Err(error)),
            };
            changes.receipt_pages.push((reply, page));
            result
        }
        Request::Standing(reply) => {
            let found = transaction.map_or(Ok(Vec::new()), untold);
            let (untold, result) = match found {
                Ok(untold) => (untold, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            changes.standings.push((reply, Standing { untold, devices: ledger.devices.total() }));
            result
        }
        Request::Note(note, value) => transaction.map_or(Ok(()), |db| note.write(db, value)),
    }
}

fn arrive(
    db: &Transaction<'_>,
    ledger: &mut Ledger,
    arrival: &Arrival,
    changes: &mut Changes,
) -> rusqlite::Result<Result<Vec<StreamKey>, ArrivalError>> {
    let Arrival { gateway, installation, hold, device_quota, tenant_quotas, streams, now } = arrival;
    let last: Option<(i64, i64)> = db
        .prepare_cached("SELECT installation, last_seen FROM gateways WHERE gateway = ?1")?
        .query_row([gateway.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((other, written)) = last
        && other as u64 != installation.0
    {
        let last_seen = changes.seen.get(gateway).copied().unwrap_or(written).max(written);
        let ago = u64::try_from(now.saturating_sub(last_seen)).unwrap_or_default();
        let hold = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        if ago < hold {
            return Ok(Err(ArrivalError::IdentityInUse {
                installation: InstallationId(other as u64),
                seconds_ago: ago / 1_000_000_000,
                free_in: std::time::Duration::from_nanos(hold - ago),
            }));
        }
    }
    if ledger.devices.is_full() && ledger.devices.count_of(gateway) == 0 {
        return Ok(Err(ArrivalError::Full(ledger.devices.max())));
    }
    ledger.devices.set_quota(gateway, *device_quota);
    db.prepare_cached(
        "INSERT OR REPLACE INTO gateways (gateway, installation, last_seen) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![gateway.as_str(), installation.0 as i64, now])?;
    let mut keys = Vec::with_capacity(streams.len());
    for (stream, quota) in streams.iter().zip(tenant_quotas.iter().chain(std::iter::repeat(&None))) {
        ledger.devices.set_tenant_quota(gateway, &stream.tenant, *quota);
        let name = (gateway.clone(), stream.tenant.clone(), stream.stream);
        keys.push(changes.stream(db, ledger, name)?);
    }
    Ok(Ok(keys))
}

fn land(
    db: &Transaction<'_>,
    ledger: &mut Ledger,
    reply_to: &ReplyTo,
    batch: Landed,
    changes: &mut Changes,
) -> rusqlite::Result<Outcome> {
    let Landed { stream: key, seq, route, created, received, rows, payload, devices } = batch;
    // A lane exists only after its arrival was committed, so its streams are in the ledger.
    let Some(stream) = ledger.streams.get(&key) else {
        return Ok(Outcome::Refused(BatchRefusal::NotAdmitted, "the stream is not known".to_owned()));
    };
    if stream.fenced {
        return Ok(Outcome::Fenced);
    }
    let totals = changes.landed.entry(key).or_default();
    if stream.landed.contains(seq) || totals.numbers.contains(seq) {
        return Ok(Outcome::Durable);
    }
    if !devices.is_empty() {
        let tenant = &stream.tenant;
        let new = match ledger.devices.unknown(&reply_to.gateway, tenant, &devices) {
            Ok(new) => new,
            Err(Beyond { devices, text }) => return Ok(Outcome::Beyond { devices, text }),
        };
        let mut insert = db.prepare_cached(
            "INSERT OR IGNORE INTO devices (gateway, tenant, device, first_seen) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for device in new {
            insert.execute(params![reply_to.gateway.as_str(), tenant.as_str(), device, received])?;
            // Counted at once, for the next batch of this group; taken back if the commit fails.
            ledger.devices.add(&reply_to.gateway, (tenant, device));
            changes.devices.push((reply_to.gateway.clone(), tenant.clone(), device.to_owned()));
        }
    }
    db.prepare_cached(
        "INSERT INTO batches (id, stream, seq, route, created, received, rows, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        ledger.next_batch,
        key.0,
        seq.0 as i64,
        route.as_str(),
        created,
        received,
        rows,
        &payload[..]
    ])?;
    // Not taken back if the commit fails: gaps in the ids do no harm.
    ledger.next_batch += 1;
    totals.numbers.insert(seq);
    totals.batches += 1;
    totals.rows += u64::from(rows);
    totals.received = received;
    let written = ledger.seen.get(&reply_to.gateway).copied().unwrap_or_default();
    if received > written.saturating_add(SEEN_EVERY) {
        changes.seen.insert(reply_to.gateway.clone(), received);
    }
    Ok(Outcome::Durable)
}

fn keep(
    db: &Transaction<'_>,
    ledger: &Ledger,
    receipt: &Receipt,
    changes: &mut Changes,
) -> rusqlite::Result<Outcome> {
    let Receipt { stream, from, to, rows, reason, received } = receipt;
    if ledger.streams.get(stream).is_some_and(|stream| stream.fenced) {
        return Ok(Outcome::Fenced);
    }
    let range = (stream.0, from.0 as i64, to.0 as i64);
    // The same receipt may come again after a broken connection, and one that has grown replaces what it holds.
    let known = db
        .prepare_cached("SELECT 1 FROM losses WHERE stream = ?1 AND first = ?2 AND last = ?3")?
        .exists(range)?;
    if !known {
        db.prepare_cached(
            "DELETE FROM receipts WHERE kind = 'loss' AND of IN (
                 SELECT id FROM losses WHERE stream = ?1 AND first BETWEEN ?2 AND ?3 AND last <= ?3)",
        )?
        .execute(range)?;
        db.prepare_cached("DELETE FROM losses WHERE stream = ?1 AND first BETWEEN ?2 AND ?3 AND last <= ?3")?
            .execute(range)?;
        // A batch that landed but whose acknowledgement did not arrive before the gateway gave it up is not lost.
        let landed: i64 = db
            .prepare_cached(
                "SELECT coalesce(sum(rows), 0) FROM (
                     SELECT rows FROM batches WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 LIMIT ?4)",
            )?
            .query_row((range.0, range.1, range.2, MAX_OVERLAP), |row| row.get(0))?;
        let lost = (*rows as i64).saturating_sub(landed).max(0);
        db.prepare_cached(
            "INSERT INTO losses (stream, first, last, rows, reason, received) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![range.0, range.1, range.2, lost, reason, received])?;
        receipts::add(db, receipts::LOSS, db.last_insert_rowid())?;
        changes.receipts = true;
    }
    changes.landed.entry(*stream).or_default().numbers.insert_range(*from, *to);
    Ok(Outcome::Durable)
}
