//! What the writer knows in memory of what is in the database, as of the last commit.

use std::collections::HashMap;

use rusqlite::Connection;
use wire::ids::{GatewayId, Sequence, StreamId, TenantId};
use wire::ranges::RangeSet;

use super::devices::Devices;
use super::{Note, StreamKey};

/// What is in the database, as of the last commit.
pub(super) struct Ledger {
    pub(super) streams: HashMap<StreamKey, Stream>,
    pub(super) keys: HashMap<(GatewayId, TenantId, StreamId), StreamKey>,
    /// The streams of each tenant of a gateway.
    pub(super) pairs: HashMap<Pair, Vec<StreamKey>>,
    /// Those that have gone to another stamp.
    pub(super) fences: HashMap<Pair, Fence>,
    pub(super) devices: Devices,
    /// The id of the next batch: above all there ever were, also of those that are deleted.
    pub(super) next_batch: i64,
    /// When each gateway's `last_seen` was written.
    pub(super) seen: HashMap<GatewayId, i64>,
}

pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) tenant: TenantId,
    pub(super) landed: RangeSet,
    /// Nothing more of it lands here.
    pub(super) fenced: bool,
}

/// A tenant of a gateway.
pub(super) type Pair = (GatewayId, TenantId);

/// Since when a tenant of a gateway is another stamp's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) epoch: u64,
}

impl Ledger {
    pub(super) fn load(connection: &Connection, max_devices: u32) -> rusqlite::Result<Self> {
        let last: i64 =
            connection.query_row("SELECT coalesce(max(id), 0) FROM batches", [], |row| row.get(0))?;
        let mut ledger = Self {
            streams: HashMap::new(),
            keys: HashMap::new(),
            pairs: HashMap::new(),
            fences: HashMap::new(),
            devices: Devices::new(max_devices),
            next_batch: last.max(Note::LastBatch.read(connection)?) + 1,
            seen: HashMap::new(),
        };
        let mut statement = connection.prepare("SELECT gateway, tenant, epoch FROM fences")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (gateway, tenant) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            if let (Ok(gateway), Ok(tenant)) = (GatewayId::new(&gateway), TenantId::new(&tenant)) {
                ledger.fences.insert((gateway, tenant), Fence { epoch: row.get::<_, i64>(2)? as u64 });
            }
        }
        let mut statement = connection.prepare("SELECT id, gateway, tenant, stream FROM streams")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (gateway, tenant) = (row.get::<_, String>(1)?, row.get::<_, String>(2)?);
            if let (Ok(gateway), Ok(tenant)) = (GatewayId::new(&gateway), TenantId::new(&tenant)) {
                ledger.add_stream(
                    StreamKey(row.get(0)?),
                    gateway,
                    tenant,
                    StreamId(row.get::<_, i64>(3)? as u64),
                );
            }
        }
        let mut statement = connection.prepare("SELECT stream, first, last FROM landed")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(stream) = ledger.streams.get_mut(&StreamKey(row.get(0)?)) {
                stream.landed.insert_range(number(row.get(1)?), number(row.get(2)?));
            }
        }
        let mut statement = connection.prepare("SELECT gateway, tenant, device FROM devices")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (gateway, tenant) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            if let (Ok(gateway), Ok(tenant)) = (GatewayId::new(&gateway), TenantId::new(&tenant)) {
                ledger.devices.add(&gateway, (&tenant, &row.get::<_, String>(2)?));
            }
        }
        Ok(ledger)
    }

    pub(super) fn add_stream(
        &mut self,
        key: StreamKey,
        gateway: GatewayId,
        tenant: TenantId,
        stream: StreamId,
    ) {
        let pair = (gateway.clone(), tenant.clone());
        let fenced = self.fences.contains_key(&pair);
        let known = Stream { id: stream, tenant: tenant.clone(), landed: RangeSet::new(), fenced };
        self.streams.insert(key, known);
        self.pairs.entry(pair).or_default().push(key);
        self.keys.insert((gateway, tenant, stream), key);
    }

    /// Puts up a fence, or takes it away; returns what was there before.
    pub(super) fn set_fence(&mut self, pair: &Pair, fence: Option<Fence>) -> Option<Fence> {
        for key in self.pairs.get(pair).into_iter().flatten() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.fenced = fence.is_some();
            }
        }
        match fence {
            Some(fence) => self.fences.insert(pair.clone(), fence),
            None => self.fences.remove(pair),
        }
    }
}

fn number(stored: i64) -> Sequence {
    Sequence(stored as u64)
}
