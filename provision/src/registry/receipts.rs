//! Receipts that stamps have told: what gateways gave up, what stamps deleted or exported of those that had gone from them.
//!
//! They outlive their stamps. A stamp's log is told in order, each receipt once: what was told before is passed over, and
//! what comes after a gap is not taken. A loss that has grown replaces those that it holds. A stamp speaks for itself alone, and
//! only of tenants of gateways that are or were its own; of what it says of others nothing is kept.
//!
//! Bounded: the latest [`KEPT`] of each kind of a stamp, and none for longer than [`KEPT_FOR_DAYS`].

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use wire::ids::{Digest, GatewayId, StampId, StreamId, TenantId};
use wire::provisioning::{Receipt, Receipted, Receipts};

use super::{Books, RegistryError, stored};

/// Receipts of each kind that are kept of a stamp, the latest.
pub const KEPT: i64 = 10_000;
/// Days for which a receipt is kept, whatever comes after it: ten years.
pub const KEPT_FOR_DAYS: i64 = 3_653;
/// Most receipts looked at for their age with a commit.
const AGED: i64 = 1_000;
const DAY: i64 = 86_400_000_000_000;

/// What a receipt is given for, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// A gateway gave it up before it had landed.
    Loss,
    /// A stamp has deleted its copy of a tenant that had gone.
    Deletion,
    /// A stamp has written its copy of a tenant that had gone to a file.
    Export,
}

impl ReceiptKind {
    /// Of a receipt.
    #[must_use]
    pub fn of(what: &Receipted) -> Self {
        match what {
            Receipted::Loss { .. } => Self::Loss,
            Receipted::Deletion { .. } => Self::Deletion,
            Receipted::Export { .. } => Self::Export,
        }
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Deletion => "deletion",
            Self::Export => "export",
        }
    }
}

/// A receipt that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number here; grows.
    pub id: i64,
    /// Who told it.
    pub stamp: StampId,
    /// When: nanoseconds since 1970 UTC.
    pub heard: i64,
    /// The operation whose move it comes of, where it comes of one.
    pub operation: Option<i64>,
    /// It, by its number here.
    pub receipt: Receipt,
}

/// Which receipts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this gateway.
    pub gateway: Option<GatewayId>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Told by this stamp.
    pub stamp: Option<StampId>,
    /// Of this kind.
    pub kind: Option<ReceiptKind>,
}

/// What came of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Up to which number of the stamp's log all are known.
    pub up_to: u64,
    /// Of how many nothing was kept: they are of tenants or gateways that were never the stamp's.
    pub foreign: usize,
}

impl Books<'_> {
    /// Keeps what a stamp tells. Its numbers are ascending and follow `after`; that is checked where they come in.
    ///
    /// # Errors
    /// Of the file.
    pub fn keep_receipts(&mut self, stamp: &StampId, told: &Receipts) -> Result<Taken, RegistryError> {
        self.take_receipts(stamp, told).map_err(|error| self.failed(&error))
    }

    fn take_receipts(&self, stamp: &StampId, told: &Receipts) -> rusqlite::Result<Taken> {
        let log = told.log as i64;
        let known: i64 = self
            .db
            .prepare_cached("SELECT number FROM receipt_logs WHERE stamp = ?1 AND log = ?2")?
            .query_row(params![stamp.as_str(), log], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        let mut taken = Taken { up_to: known as u64, foreign: 0 };
        if told.after.is_none_or(|after| after > taken.up_to) {
            return Ok(taken);
        }
        for receipt in told.receipts.iter().filter(|receipt| receipt.number > known as u64) {
            taken.up_to = receipt.number;
            if !self.served_ever(stamp, receipt)? {
                taken.foreign += 1;
                continue;
            }
            self.keep_receipt(stamp, receipt)?;
        }
        if taken.up_to > known as u64 {
            self.db
                .prepare_cached(
                    "INSERT OR REPLACE INTO receipt_logs (stamp, log, number) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![stamp.as_str(), log, taken.up_to as i64])?;
            self.forget_receipts(stamp)?;
        }
        Ok(taken)
    }

    /// Whether the pair is this stamp's, or was.
    fn served_ever(&self, stamp: &StampId, receipt: &Receipt) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached(
                "SELECT 1 FROM assignments WHERE gateway = ?1 AND tenant = ?2 AND stamp = ?3
                 UNION ALL SELECT 1 FROM departures WHERE stamp = ?3 AND gateway = ?1 AND tenant = ?2",
            )?
            .exists([receipt.gateway.as_str(), receipt.tenant.as_str(), stamp.as_str()])
    }

    fn keep_receipt(&self, stamp: &StampId, receipt: &Receipt) -> rusqlite::Result<()> {
        let columns = Columns::of(receipt);
        let Columns { kind, life, first, last, batches, bytes, digest, text } = &columns;
        let (stamp, gateway, tenant) = (stamp.as_str(), receipt.gateway.as_str(), receipt.tenant.as_str());
        let known = self
            .db
            .prepare_cached(
                "SELECT 1 FROM receipts WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3 AND kind = ?4 AND life = ?5
                 AND first = ?6 AND last = ?7",
            )?
            .exists(params![stamp, gateway, tenant, kind.as_str(), life, first, last])?;
        if known {
            return Ok(());
        }
        let mut operation = None;
        if *kind == ReceiptKind::Loss {
            self.db
                .prepare_cached(
                    "DELETE FROM receipts WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3 AND kind = 'loss'
                     AND life = ?4 AND first BETWEEN ?5 AND ?6 AND last <= ?6",
                )?
                .execute(params![stamp, gateway, tenant, life, first, last])?;
        } else {
            operation = self
                .db
                .prepare_cached(
                    "SELECT operation FROM departures
                     WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3 AND epoch = ?4",
                )?
                .query_row(params![stamp, gateway, tenant, life], |row| row.get::<_, Option<i64>>(0))
                .optional()?
                .flatten();
        }
        self.db
            .prepare_cached(
                "INSERT INTO receipts (stamp, gateway, tenant, kind, heard, at, rows, life, first, last, batches, bytes,
                    digest, text, operation)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                stamp,
                gateway,
                tenant,
                kind.as_str(),
                self.now(),
                receipt.at_ns,
                receipt.rows as i64,
                life,
                first,
                last,
                batches,
                bytes,
                digest,
                text,
                operation
            ])
            .map(drop)
    }

    fn forget_receipts(&self, stamp: &StampId) -> rusqlite::Result<()> {
        for kind in [ReceiptKind::Loss, ReceiptKind::Deletion, ReceiptKind::Export] {
            self.db
                .prepare_cached(
                    "DELETE FROM receipts WHERE stamp = ?1 AND kind = ?2 AND id <= (
                        SELECT id FROM receipts WHERE stamp = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
                )?
                .execute(params![stamp.as_str(), kind.as_str(), KEPT])?;
        }
        self.db
            .prepare_cached(
                "DELETE FROM receipts WHERE id IN (SELECT id FROM receipts ORDER BY id LIMIT ?1) AND heard < ?2",
            )?
            .execute(params![AGED, self.now().saturating_sub(KEPT_FOR_DAYS * DAY)])
            .map(drop)
    }
}

/// A receipt as it is kept: `life` is the stream of a loss and the epoch of anything else; `first` and `last` are the numbers of a
/// loss, of anything else the first is its time: so two receipts are the same if these are.
struct Columns<'a> {
    kind: ReceiptKind,
    life: i64,
    first: i64,
    last: i64,
    batches: Option<i64>,
    bytes: Option<i64>,
    digest: Option<&'a [u8]>,
    text: Option<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(receipt: &'a Receipt) -> Self {
        let kind = ReceiptKind::of(&receipt.what);
        let copy = |epoch: u64, batches: u64, bytes: u64, sha256: &'a Digest, text| Self {
            kind,
            life: epoch as i64,
            first: receipt.at_ns,
            last: 0,
            batches: Some(batches as i64),
            bytes: Some(bytes as i64),
            digest: Some(&sha256.0[..]),
            text,
        };
        match &receipt.what {
            Receipted::Loss { stream, first, last, reason } => Self {
                kind,
                life: stream.0 as i64,
                first: *first as i64,
                last: *last as i64,
                batches: None,
                bytes: None,
                digest: None,
                text: Some(reason),
            },
            Receipted::Deletion { epoch, batches, bytes, sha256 } => {
                copy(*epoch, *batches, *bytes, sha256, None)
            }
            Receipted::Export { epoch, batches, bytes, sha256, file } => {
                copy(*epoch, *batches, *bytes, sha256, Some(file))
            }
        }
    }
}

/// Receipts before `before`, the newest first, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> rusqlite::Result<Vec<Kept>> {
    let mut sql =
        "SELECT id, stamp, gateway, tenant, kind, heard, at, rows, life, first, last, batches, bytes, digest,
            text, operation FROM receipts WHERE id < ?1"
            .to_owned();
    let mut values = vec![Value::Integer(before.unwrap_or(i64::MAX))];
    let wanted = [
        ("gateway", filter.gateway.as_ref().map(GatewayId::as_str)),
        ("tenant", filter.tenant.as_ref().map(TenantId::as_str)),
        ("stamp", filter.stamp.as_ref().map(StampId::as_str)),
        ("kind", filter.kind.map(ReceiptKind::as_str)),
    ];
    for (column, wanted) in wanted {
        if let Some(wanted) = wanted {
            values.push(Value::Text(wanted.to_owned()));
            sql.push_str(&format!(" AND {column} = ?{}", values.len()));
        }
    }
    values.push(Value::Integer(limit.into()));
    sql.push_str(&format!(" ORDER BY id DESC LIMIT ?{}", values.len()));
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), read)?;
    rows.collect()
}

/// How many receipts come of an operation's moves.
///
/// # Errors
/// SQLite's.
pub fn of_operation(connection: &Connection, operation: i64) -> rusqlite::Result<u64> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM receipts WHERE operation = ?1")?
        .query_row([operation], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let number = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
    let digest = |column: usize| row.get(column).map(Digest);
    let what = match row.get_ref(4)?.as_str()? {
        "loss" => Receipted::Loss {
            stream: StreamId(number(8)?),
            first: number(9)?,
            last: number(10)?,
            reason: row.get(14)?,
        },
        "deletion" => Receipted::Deletion {
            epoch: number(8)?,
            batches: number(11)?,
            bytes: number(12)?,
            sha256: digest(13)?,
        },
        _ => Receipted::Export {
            epoch: number(8)?,
            batches: number(11)?,
            bytes: number(12)?,
            sha256: digest(13)?,
            file: row.get(14)?,
        },
    };
    Ok(Kept {
        id: row.get(0)?,
        stamp: stored(row.get_ref(1)?.as_str()?)?,
        heard: row.get(5)?,
        operation: row.get(15)?,
        receipt: Receipt {
            number: number(0)?,
            gateway: stored(row.get_ref(2)?.as_str()?)?,
            tenant: stored(row.get_ref(3)?.as_str()?)?,
            at_ns: row.get(6)?,
            rows: number(7)?,
            what,
        },
    })
}
