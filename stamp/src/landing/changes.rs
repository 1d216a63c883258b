//! What a group of requests changes, and who waits for it: written with the group's commit, then taken over or taken back.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Transaction, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wire::ids::{GatewayId, Sequence, StreamId, TenantId};
use wire::provisioning::Receipts;
use wire::ranges::RangeSet;

use super::ledger::{Fence, Ledger, Pair};
use super::{Answer, ArrivalError, Expired, Known, LandingError, Outcome, ReplyTo, Standing, StreamKey};

pub(super) type ArrivalReply = oneshot::Sender<Result<Vec<Known>, ArrivalError>>;

/// What a group changes, and who waits for it.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) landed: HashMap<StreamKey, Totals>,
    /// Fences put up and taken away, each with what was there before.
    pub(super) fences: Vec<(Pair, Option<Fence>)>,
    /// Who has gone to another stamp.
    pub(super) left: Vec<Pair>,
    pub(super) devices: Vec<(GatewayId, TenantId, String)>,
    pub(super) new_streams: Vec<(StreamKey, GatewayId, TenantId, StreamId)>,
    pub(super) seen: HashMap<GatewayId, i64>,
    pub(super) answers: HashMap<u64, (mpsc::Sender<Vec<Answer>>, Vec<Answer>)>,
    pub(super) arrivals: Vec<(ArrivalReply, Result<Vec<StreamKey>, ArrivalError>)>,
    pub(super) expiries: Vec<(oneshot::Sender<Result<Expired, LandingError>>, Expired)>,
    pub(super) handovers: Vec<oneshot::Sender<Result<(), LandingError>>>,
    pub(super) standings: Vec<(oneshot::Sender<Result<Standing, LandingError>>, Standing)>,
    /// Whether there are receipts that nobody was told of.
    pub(super) receipts: bool,
    pub(super) receipt_pages: Vec<(oneshot::Sender<Result<Receipts, LandingError>>, Receipts)>,
    /// Room in the queue, given back when all is written.
    pub(super) room: Vec<OwnedSemaphorePermit>,
}

/// What a group adds to a stream.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) numbers: RangeSet,
    pub(super) batches: u64,
    pub(super) rows: u64,
    pub(super) received: i64,
}

impl Changes {
    /// The key of a stream, which is made if there is none.
    pub(super) fn stream(
        &mut self,
        db: &Transaction<'_>,
        ledger: &Ledger,
        (gateway, tenant, stream): (GatewayId, TenantId, StreamId),
    ) -> rusqlite::Result<StreamKey> {
        let added = self
            .new_streams
            .iter()
            .find(|(_, of, whose, id)| *id == stream && *of == gateway && *whose == tenant);
        let name = (gateway, tenant, stream);
        if let Some(key) = ledger.keys.get(&name).or(added.map(|(key, ..)| key)) {
            return Ok(*key);
        }
        db.prepare_cached("INSERT INTO streams (gateway, tenant, stream) VALUES (?1, ?2, ?3)")?
            .execute(params![name.0.as_str(), name.1.as_str(), name.2.0 as i64])?;
        let key = StreamKey(db.last_insert_rowid());
        self.new_streams.push((key, name.0, name.1, name.2));
        Ok(key)
    }

    pub(super) fn answer(
        &mut self,
        reply_to: ReplyTo,
        from: Sequence,
        to: Sequence,
        result: rusqlite::Result<Outcome>,
    ) -> rusqlite::Result<()> {
        let ReplyTo { connection, tenant, answers, .. } = reply_to;
        let (outcome, result) = match result {
            Ok(outcome) => (outcome, Ok(())),
            Err(error) => (Outcome::Durable, Err(error)),
        };
        let (_, waiting) = self.answers.entry(connection).or_insert_with(|| (answers, Vec::new()));
        waiting.push(Answer { tenant, from, to, outcome });
        result
    }

    pub(super) fn answer_others(&mut self, path: &Path, written: &Result<(), String>) {
        let failed = |cause: &String| LandingError::storage(path, cause);
        for reply in self.handovers.drain(..) {
            let _ = reply.send(written.clone().map_err(|cause| failed(&cause)));
        }
        for (reply, standing) in self.standings.drain(..) {
            let _ = reply.send(written.as_ref().map(|()| standing).map_err(failed));
        }
        for (reply, page) in self.receipt_pages.drain(..) {
            let _ = reply.send(written.as_ref().map(|()| page).map_err(failed));
        }
        for (reply, expired) in self.expiries.drain(..) {
            let answer = match written {
                Ok(()) => Ok(expired),
                Err(cause) => Err(LandingError::storage(path, cause)),
            };
            let _ = reply.send(answer);
        }
    }

    /// Takes the changes over into the ledger, or drops them, and answers everybody.
    pub(super) fn settle(self, ledger: &mut Ledger, written: Result<(), String>) {
        if written.is_ok() {
            for (key, gateway, tenant, stream) in self.new_streams {
                ledger.add_stream(key, gateway, tenant, stream);
            }
            for (key, totals) in self.landed {
                if let Some(stream) = ledger.streams.get_mut(&key) {
                    stream.landed.extend(&totals.numbers);
                }
            }
            ledger.seen.extend(self.seen);
            for (gateway, tenant) in &self.left {
                ledger.devices.remove_tenant(gateway, tenant);
            }
        } else {
            for (pair, before) in self.fences.into_iter().rev() {
                ledger.set_fence(&pair, before);
            }
            for (gateway, tenant, device) in &self.devices {
                ledger.devices.remove(gateway, (tenant, device));
            }
        }
        for (reply, answer) in self.arrivals {
            let known = |key: StreamKey| {
                let stream = ledger.streams.get(&key);
                let landed = stream.map(|stream| stream.landed.clone()).unwrap_or_default();
                Known { key, landed, fenced: stream.is_some_and(|stream| stream.fenced) }
            };
            let answer = match &written {
                Ok(()) => answer.map(|keys| keys.into_iter().map(known).collect()),
                Err(cause) => Err(ArrivalError::Storage(cause.clone())),
            };
            // A connection that has gone meanwhile needs no answer.
            let _ = reply.send(answer);
        }
        for (answers, mut waiting) in self.answers.into_values() {
            if let Err(cause) = &written {
                waiting.iter_mut().for_each(|answer| answer.outcome = Outcome::Failed(cause.clone()));
            }
            let _ = answers.try_send(waiting);
        }
    }
}

/// Writes what changed in ranges, totals and sightings.
pub(super) fn write_totals(db: &Transaction<'_>, ledger: &Ledger, changes: &Changes) -> rusqlite::Result<()> {
    for (key, totals) in changes.landed.iter().filter(|(_, totals)| !totals.numbers.is_empty()) {
        let mut landed = ledger.streams.get(key).map(|stream| stream.landed.clone()).unwrap_or_default();
        landed.extend(&totals.numbers);
        // Each range that grew replaces those it swallowed.
        let mut done = None;
        for (from, _) in totals.numbers.iter() {
            let at = landed.as_slice().partition_point(|range| range.1 < from);
            let Some(&(first, last)) = landed.as_slice().get(at) else { continue };
            if done.replace(first) == Some(first) {
                continue;
            }
            db.prepare_cached("DELETE FROM landed WHERE stream = ?1 AND first BETWEEN ?2 AND ?3")?
                .execute(params![key.0, first.0 as i64, last.0 as i64])?;
            db.prepare_cached("INSERT INTO landed (stream, first, last) VALUES (?1, ?2, ?3)")?
                .execute(params![key.0, first.0 as i64, last.0 as i64])?;
        }
        if totals.batches > 0 {
            db.prepare_cached(
                "UPDATE streams SET batches = batches + ?2, rows = rows + ?3, last_received = ?4 WHERE id = ?1",
            )?
            .execute(params![key.0, totals.batches as i64, totals.rows as i64, totals.received])?;
        }
    }
    for (gateway, seen) in &changes.seen {
        db.prepare_cached("UPDATE gateways SET last_seen = max(last_seen, ?2) WHERE gateway = ?1")?
            .execute(params![gateway.as_str(), seen])?;
    }
    Ok(())
}
