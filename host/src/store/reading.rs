//! The outbox as the uplink sees it: from the window in memory, else from a read-only connection on a blocking thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::watch;
use wire::ids::{RouteName, Sequence, StreamId, TenantId};

use super::totals::{signed, unsigned};
use super::{Store, locked};
use crate::outbox::{Loss, Outbox, OutboxError, Outgoing, Priority, Reading, Waiting};

/// Most batches of one read.
const READ_BATCHES: usize = 4_096;
/// Most receipts of one read.
const READ_RECEIPTS: i64 = 1_024;

impl Outbox for Store {
    fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    fn stream(&self) -> StreamId {
        self.stream
    }

    fn waiting(&self) -> watch::Receiver<Waiting> {
        self.waiting.clone()
    }

    fn read(&self, priority: Priority, after: Sequence, max_bytes: usize) -> Reading<'_, Vec<Outgoing>> {
        let held = locked(&self.shared.window).read(priority, after, max_bytes);
        Box::pin(async move {
            if let Some(batches) = held {
                return Ok(batches);
            }
            if locked(&self.shared.status).totals.of(priority).batches == 0 {
                return Ok(Vec::new());
            }
            let mut batches =
                self.query(move |connection| read(connection, priority, after, max_bytes)).await?;
            let landed = self.shared.queue.landed_so_far();
            batches.retain(|batch| !landed.contains(batch.seq));
            Ok(batches)
        })
    }

    fn find(&self, seq: Sequence) -> Reading<'_, Option<Outgoing>> {
        let held = locked(&self.shared.window).find(seq);
        Box::pin(async move {
            if held.is_some() || self.shared.queue.landed_so_far().contains(seq) {
                return Ok(held);
            }
            self.query(move |connection| find(connection, seq)).await
        })
    }

    fn losses(&self) -> Reading<'_, Vec<Loss>> {
        Box::pin(async move {
            if locked(&self.shared.status).totals.receipts == 0 {
                return Ok(Vec::new());
            }
            let (losses, newest) = self.query(losses).await?;
            self.shared.told.fetch_max(newest, Ordering::Relaxed);
            Ok(losses)
        })
    }

    fn landed(&self, ranges: &[(Sequence, Sequence)]) {
        {
            let mut window = locked(&self.shared.window);
            for &(from, to) in ranges {
                window.remove(from, to);
            }
        }
        self.shared.queue.landed(ranges);
    }

    fn give_up(&self, seq: Sequence, reason: &str) -> bool {
        self.shared.queue.give_up(seq, reason)
    }

    fn part(&self, seq: Sequence, devices: &[String]) -> bool {
        self.shared.parting.fetch_add(1, Ordering::Relaxed);
        let noted = self.shared.queue.part((seq, devices.to_vec()));
        if !noted {
            self.shared.parting.fetch_sub(1, Ordering::Relaxed);
        }
        noted
    }

    fn is_parting(&self) -> bool {
        self.shared.parting.load(Ordering::Acquire) > 0
    }
}

impl Store {
    async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let reader = Arc::clone(&self.reader);
        let failed = |cause| OutboxError { tenant: self.tenant.clone(), cause };
        let asked = tokio::task::spawn_blocking(move || {
            let reader = locked(&reader);
            reader.as_ref().map(ask)
        });
        match asked.await {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(error))) => {
                if super::schema::is_damage(&error) {
                    super::writer::note_damage(&self.tenant, &self.path, &error);
                }
                Err(failed(error.to_string()))
            }
            Ok(None) => Err(failed("the store is closed".to_owned())),
            Err(stopped) => Err(failed(stopped.to_string())),
        }
    }
}

fn read(
    connection: &Connection,
    priority: Priority,
    after: Sequence,
    max_bytes: usize,
) -> rusqlite::Result<Vec<Outgoing>> {
    // The second condition of the others lets SQLite use the partial index.
    let mut query = connection.prepare_cached(match priority {
        Priority::Normal => {
            "SELECT seq, route, created, rows, bytes, payload FROM outbox WHERE seq > ?1 AND priority = ?2 ORDER BY seq"
        }
        Priority::Low | Priority::High => {
            "SELECT seq, route, created, rows, bytes, payload FROM outbox \
             WHERE priority = ?2 AND seq > ?1 AND priority <> 1 ORDER BY seq"
        }
    })?;
    let rows = query.query([signed(after.0), priority as i64])?;
    batches(rows, max_bytes, READ_BATCHES)
}

fn find(connection: &Connection, seq: Sequence) -> rusqlite::Result<Option<Outgoing>> {
    let mut query = connection
        .prepare_cached("SELECT seq, route, created, rows, bytes, payload FROM outbox WHERE seq = ?1")?;
    Ok(batches(query.query([signed(seq.0)])?, 0, 1)?.pop())
}

/// Rows of seq, route, created, rows, bytes, payload: at least one if there is any, within the bounds.
pub(super) fn batches(
    mut rows: rusqlite::Rows<'_>,
    max_bytes: usize,
    most: usize,
) -> rusqlite::Result<Vec<Outgoing>> {
    let mut found: Vec<Outgoing> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += unsigned(row.get(4)?) as usize;
        if !found.is_empty() && (bytes > max_bytes || found.len() >= most) {
            break;
        }
        let route = row.get_ref(1)?.as_str().unwrap_or_default();
        let route = match found.last() {
            Some(before) if before.route.as_str() == route => before.route.clone(),
            _ => RouteName::new(route).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
            })?,
        };
        found.push(Outgoing {
            seq: Sequence(unsigned(row.get(0)?)),
            route,
            created: row.get(2)?,
            rows: u32::try_from(unsigned(row.get(3)?)).unwrap_or(u32::MAX),
            payload: Bytes::copy_from_slice(row.get_ref(5)?.as_blob().unwrap_or_default()),
        });
    }
    Ok(found)
}

/// The oldest receipts, and the id of the newest among them.
fn losses(connection: &Connection) -> rusqlite::Result<(Vec<Loss>, i64)> {
    let mut query = connection
        .prepare_cached("SELECT id, first, last, rows, reason FROM receipts ORDER BY id LIMIT ?1")?;
    let mut newest = 0;
    let rows = query.query_map([READ_RECEIPTS], |row| {
        newest = row.get(0)?;
        Ok(Loss {
            from: Sequence(unsigned(row.get(1)?)),
            to: Sequence(unsigned(row.get(2)?)),
            rows: unsigned(row.get(3)?),
            reason: row.get(4)?,
        })
    })?;
    let found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((found, newest))
}
