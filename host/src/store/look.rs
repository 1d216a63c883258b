//! What an operator reads of a tenant's store: dead letters, plugin state, waiting batches.
//!
//! A read-only connection of its own, beside a gateway that runs (SQLite's readers hold up nobody) or without one: so
//! an export costs the gateway no memory and no turn of its threads. All is read in pages, each its own short read, as a
//! long one would keep the write-ahead log from being emptied.
//!
//! Changes nothing and takes no lock. Does not see what is queued but not on disk yet.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use wire::ids::{RouteName, Sequence, TenantId};

use super::totals::{Totals, signed, unsigned};
use super::{DeadLetter, LetterKind, OpenError, StateEntry, StepVersions, reading, schema, versions};
use crate::outbox::Outgoing;

/// Most bytes of letters or state in a page, apart from the first entry.
const PAGE_BYTES: usize = 1 << 20;
/// Most entries of a page.
const PAGE_ROWS: i64 = 1_024;

/// Which dead letters; an empty filter means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LetterFilter {
    /// Of this step.
    pub step: Option<String>,
    /// Of this device.
    pub device: Option<String>,
    /// Of this kind.
    pub kind: Option<LetterKind>,
    /// Kept then or later: nanoseconds since 1970 UTC.
    pub since: Option<i64>,
    /// Kept before then: nanoseconds since 1970 UTC.
    pub until: Option<i64>,
    /// One of these; none means any.
    pub ids: Vec<i64>,
}

/// A dead letter in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptLetter {
    /// Its number, never used again.
    pub id: i64,
    /// When it was committed: nanoseconds since 1970 UTC.
    pub kept: i64,
    /// Bytes it is counted with.
    pub size: u64,
    /// The letter.
    pub letter: DeadLetter,
}

/// What a step keeps, in sum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateSum {
    /// The step.
    pub step: String,
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A tenant's store, looked into.
pub struct Look {
    tenant: TenantId,
    path: PathBuf,
    connection: Connection,
}

/// The tenants that have a store in this data folder, by name.
#[must_use]
pub fn tenants(data_dir: &Path) -> Vec<TenantId> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("tenants")) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| TenantId::new(entry.file_name().to_str()?.strip_suffix(".db")?).ok())
        .collect();
    found.sort();
    found
}

impl Look {
    /// Looks into the store of a tenant; blocks, as all here does.
    ///
    /// # Errors
    /// [`OpenError`]; `TooOld` if no gateway of this version has run on it yet.
    pub fn open(data_dir: &Path, tenant: &TenantId) -> Result<Self, OpenError> {
        let path = data_dir.join("tenants").join(format!("{tenant}.db"));
        let connection = schema::connect_reader(&path)?;
        schema::check_version(&connection, &path)?;
        Ok(Self { tenant: tenant.clone(), path, connection })
    }

    /// Whose.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Counters and sizes.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn totals(&self) -> Result<Totals, OpenError> {
        let newest = "SELECT * FROM commits ORDER BY id DESC LIMIT 1";
        let totals = self.connection.query_row(newest, [], Totals::from_row).optional();
        totals.map(Option::unwrap_or_default).map_err(schema::failed(&self.path))
    }

    /// The newest letters, the newest first, with all but their bytes (`frame` and `original` are cut to `bytes`).
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn newest_letters(
        &self,
        filter: &LetterFilter,
        most: u32,
        bytes: u32,
    ) -> Result<Vec<KeptLetter>, OpenError> {
        let bounds = Bounds { above: 0, most: i64::from(most), bytes: i64::from(bytes), down: true };
        letters(&self.connection, filter, &bounds, usize::MAX).map_err(schema::failed(&self.path))
    }

    /// A page of whole letters above an id, in order; empty at the end.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn letters(&self, filter: &LetterFilter, above: i64) -> Result<Vec<KeptLetter>, OpenError> {
        let bounds = Bounds { above, most: PAGE_ROWS, bytes: i64::MAX, down: false };
        letters(&self.connection, filter, &bounds, PAGE_BYTES).map_err(schema::failed(&self.path))
    }

    /// The numbers of all letters there are now, ascending.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn letter_ids(&self, filter: &LetterFilter) -> Result<Vec<i64>, OpenError> {
        let sql = format!("SELECT id FROM dead_letters WHERE {} ORDER BY id", wanted(filter));
        let bounds = Bounds { above: 0, most: 0, bytes: 0, down: false };
        let ids = self.connection.prepare_cached(&sql).and_then(|mut query| {
            bind(&mut query, filter, &bounds)?;
            query.raw_query().mapped(|row| row.get(0)).collect()
        });
        ids.map_err(schema::failed(&self.path))
    }

    /// How many letters pass the filter, and their bytes.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn count_letters(&self, filter: &LetterFilter) -> Result<(u64, u64), OpenError> {
        let sql =
            format!("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM dead_letters WHERE {}", wanted(filter));
        let bounds = Bounds { above: 0, most: 0, bytes: 0, down: false };
        let count = self.connection.prepare_cached(&sql).and_then(|mut query| {
            bind(&mut query, filter, &bounds)?;
            let mut rows = query.raw_query();
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)))
        });
        count.map_err(schema::failed(&self.path))
    }

    /// What each step keeps.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn state_sums(&self) -> Result<Vec<StateSum>, OpenError> {
        let sums = sums(&self.connection);
        sums.map_err(schema::failed(&self.path))
    }

    /// A page of a step's state behind a key, ascending; empty at the end. `None` begins.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn state(&self, step: &str, behind: Option<&str>) -> Result<Vec<StateEntry>, OpenError> {
        let page = || {
            let mut query = self.connection.prepare_cached(
                "SELECT key, value FROM state WHERE step = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key LIMIT ?3",
            )?;
            let mut rows = query.query((step, behind, PAGE_ROWS))?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let entry = StateEntry { step: step.to_owned(), key: row.get(0)?, value: row.get(1)? };
                bytes += entry.value.len();
                found.push(entry);
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
            Ok(found)
        };
        page().map_err(schema::failed(&self.path))
    }

    /// The versions of steps, snapshots included.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn versions(&self) -> Result<Vec<StepVersions>, OpenError> {
        versions::load(&self.connection).map_err(schema::failed(&self.path))
    }

    /// A page of waiting batches above a number, in order, of one route or all; empty at the end.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn batches(&self, route: Option<&RouteName>, above: Sequence) -> Result<Vec<Outgoing>, OpenError> {
        let page = || {
            let mut query = self.connection.prepare_cached(
                "SELECT seq, route, created, rows, bytes, payload FROM outbox \
                 WHERE seq > ?1 AND (?2 IS NULL OR route = ?2) ORDER BY seq",
            )?;
            let rows = query.query((signed(above.0), route.map(RouteName::as_str)))?;
            reading::batches(rows, PAGE_BYTES, PAGE_ROWS as usize)
        };
        page().map_err(schema::failed(&self.path))
    }
}

/// How far a query of letters goes.
struct Bounds {
    above: i64,
    most: i64,
    /// Most bytes of `frame` and of `original`, each.
    bytes: i64,
    down: bool,
}

/// Letters that pass the filter, until `page` bytes are reached.
fn letters(
    connection: &Connection,
    filter: &LetterFilter,
    bounds: &Bounds,
    page: usize,
) -> rusqlite::Result<Vec<KeptLetter>> {
    // SUBSTR of nothing is NULL.
    let sql = format!(
        "SELECT id, kept, size, time, kind, device, topic, step, plugin, digest, config, reason, trace, \
         COALESCE(SUBSTR(frame, 1, :bytes), x''), COALESCE(SUBSTR(original, 1, :bytes), x'') \
         FROM dead_letters WHERE id > :above AND {} ORDER BY id {} LIMIT :most",
        wanted(filter),
        if bounds.down { "DESC" } else { "ASC" },
    );
    let mut query = connection.prepare_cached(&sql)?;
    bind(&mut query, filter, bounds)?;
    let mut rows = query.raw_query();
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let kept = letter_of(row)?;
        bytes += kept.letter.weight();
        found.push(kept);
        if bytes >= page {
            break;
        }
    }
    Ok(found)
}

/// What each step keeps, by step.
pub(super) fn sums(connection: &Connection) -> rusqlite::Result<Vec<StateSum>> {
    let mut query = connection.prepare_cached(
        "SELECT step, COUNT(*), SUM(LENGTH(value) + LENGTH(CAST(key AS BLOB))) FROM state GROUP BY step ORDER BY step",
    )?;
    let sum = |row: &Row<'_>| {
        Ok(StateSum { step: row.get(0)?, keys: unsigned(row.get(1)?), bytes: unsigned(row.get(2)?) })
    };
    query.query_map([], sum)?.collect()
}

/// Letters by their ids, ascending.
pub(super) fn by_ids(connection: &Connection, ids: &[i64]) -> rusqlite::Result<Vec<KeptLetter>> {
    let filter = LetterFilter { ids: ids.to_vec(), ..LetterFilter::default() };
    let bounds = Bounds { above: 0, most: i64::MAX, bytes: i64::MAX, down: false };
    letters(connection, &filter, &bounds, usize::MAX)
}

/// The condition of a filter; numbers of letters are written out, as they are numbers.
fn wanted(filter: &LetterFilter) -> String {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut also = |there: bool, condition: &str| {
        if there {
            conditions.push(condition.to_owned());
        }
    };
    also(filter.step.is_some(), "step = :step");
    also(filter.device.is_some(), "device = :device");
    also(filter.kind.is_some(), "kind = :kind");
    also(filter.since.is_some(), "kept >= :since");
    also(filter.until.is_some(), "kept < :until");
    if !filter.ids.is_empty() {
        let ids: Vec<String> = filter.ids.iter().map(i64::to_string).collect();
        conditions.push(format!("id IN ({})", ids.join(", ")));
    }
    conditions.join(" AND ")
}

fn bind(
    query: &mut rusqlite::CachedStatement<'_>,
    filter: &LetterFilter,
    bounds: &Bounds,
) -> rusqlite::Result<()> {
    let kind = filter.kind.map(LetterKind::as_str);
    let values: &[(&str, &dyn ToSql)] = named_params! {
        ":step": filter.step, ":device": filter.device, ":kind": kind, ":since": filter.since,
        ":until": filter.until, ":above": bounds.above, ":most": bounds.most, ":bytes": bounds.bytes,
    };
    for (name, value) in values {
        if let Some(at) = query.parameter_index(name)? {
            query.raw_bind_parameter(at, value)?;
        }
    }
    Ok(())
}

fn letter_of(row: &Row<'_>) -> rusqlite::Result<KeptLetter> {
    let kind: String = row.get(4)?;
    Ok(KeptLetter {
        id: row.get(0)?,
        kept: row.get(1)?,
        size: unsigned(row.get(2)?),
        letter: DeadLetter {
            time: row.get(3)?,
            kind: LetterKind::named(&kind).unwrap_or_default(),
            device: row.get(5)?,
            topic: row.get(6)?,
            step: row.get(7)?,
            plugin: row.get(8)?,
            digest: row.get(9)?,
            config: row.get(10)?,
            reason: row.get(11)?,
            trace: row.get(12)?,
            frame: row.get(13)?,
            original: row.get(14)?,
        },
    })
}
