//! Releases in the books, and which of them each ring of a tenant should run.
//!
//! ```text
//! releases   id              a tenant's document and contents, never changed; withdrawn by the rollout that was stopped
//! desired    tenant, ring    the release its gateways there should run (0: what their own files say), and the revision of
//!                            that decision, by which stamps follow
//! ```
//! A release can be removed once no ring has it or would go back to it; its number is not used again. When a tenant is removed
//! its releases go with it, and its rings are told that nothing is desired: what stamps have kept must not come back with
//! another tenant of that name.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::ids::{Digest, Release, StampId, TenantId};
use wire::message::ContentRef;
use wire::provisioning::{DesiredState, DesiredStates, MAX_DESIRED_STATES};

use super::stamps::{from_word, word};
use super::{Books, Refusal, RegistryError, rollouts, stored, unknown};
use crate::allocation::{Ring, StampState};

/// The tables of this module and of [`super::rollouts`]: part of a migration, never changed.
pub(super) const TABLES: &str = "
CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, created INTEGER NOT NULL, operator TEXT NOT NULL,
    note TEXT NOT NULL, document BLOB NOT NULL, size INTEGER NOT NULL, contents TEXT NOT NULL, withdrawn INTEGER);
CREATE INDEX releases_tenant ON releases (tenant, id);
CREATE TABLE desired (
    tenant TEXT NOT NULL, ring TEXT NOT NULL, release INTEGER NOT NULL, rollback INTEGER NOT NULL,
    revision INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (tenant, ring)) WITHOUT ROWID;
CREATE INDEX desired_revision ON desired (ring, revision);
CREATE TABLE rollouts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, state TEXT NOT NULL, document TEXT NOT NULL);
CREATE INDEX rollouts_running ON rollouts (tenant) WHERE state = 'running';
CREATE INDEX rollouts_tenant ON rollouts (tenant, id);
CREATE TABLE rollout_journal (
    id INTEGER PRIMARY KEY, rollout INTEGER NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX rollout_journal_of ON rollout_journal (rollout, id);
";

const COLUMNS: &str = "id, tenant, created, operator, note, document, size, contents, withdrawn";

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub id: Release,
    /// Whose.
    pub tenant: TenantId,
    /// When: nanoseconds since 1970 UTC.
    pub created: i64,
    /// By whom.
    pub operator: String,
    /// In their words.
    pub note: String,
    /// The document.
    pub document: ContentRef,
    /// The contents it names.
    pub contents: Vec<ContentRef>,
    /// The rollout that was stopped and took it back.
    pub withdrawn: Option<i64>,
}

/// A release to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// Whose; the tenant must be there.
    pub tenant: TenantId,
    /// By whom.
    pub operator: String,
    /// In their words.
    pub note: String,
    /// The document, which is stored.
    pub document: ContentRef,
    /// The contents it names, which are stored.
    pub contents: Vec<ContentRef>,
}

/// What a ring should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub tenant: TenantId,
    /// Where.
    pub ring: Ring,
    /// Which.
    pub release: Release,
    /// Whether the one after it was taken back.
    pub rollback: bool,
    /// Of the decision.
    pub revision: u64,
    /// When: nanoseconds since 1970 UTC.
    pub at: i64,
}

impl Books<'_> {
    /// Publishes a release.
    ///
    /// # Errors
    /// [`Refusal::Unknown`](super::Refusal::Unknown) if the tenant is not there.
    pub fn publish(&mut self, new: &Publishing) -> Result<Published, RegistryError> {
        self.tenant(&new.tenant)?;
        let written = self
            .db
            .prepare_cached(
                "INSERT INTO releases (tenant, created, operator, note, document, size, contents)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    new.tenant.as_str(),
                    self.now(),
                    new.operator,
                    new.note,
                    new.document.digest.0,
                    new.document.size as i64,
                    serde_json::to_string(&new.contents).unwrap_or_default(),
                ])
            });
        written.map_err(|error| self.failed(&error))?;
        let id = Release(u64::try_from(self.db.last_insert_rowid()).unwrap_or_default());
        let Publishing { tenant, operator, note, document, contents } = new.clone();
        Ok(Published { id, tenant, created: self.now(), operator, note, document, contents, withdrawn: None })
    }

    /// Takes out a release that no ring has or would go back to.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::InUse`] with the ring or rollout that needs it.
    pub fn remove_release(&mut self, id: Release) -> Result<Published, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let found = found.ok_or_else(|| unknown("release", id))?;
        if let Some(why) = self.needs(&found).map_err(|error| self.failed(&error))? {
            return Err(Refusal::InUse { what: "release", name: id.to_string(), why }.into());
        }
        let removed = self
            .db
            .prepare_cached("DELETE FROM releases WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id.0 as i64]));
        removed.map_err(|error| self.failed(&error))?;
        Ok(found)
    }

    /// What a release is needed for, if anything.
    fn needs(&self, release: &Published) -> rusqlite::Result<Option<String>> {
        let (id, tenant) = (release.id, &release.tenant);
        if let Some(wanted) = wanted_of(self.db, tenant)?.into_iter().find(|wanted| wanted.release == id) {
            let ring = word(&wanted.ring);
            return Ok(Some(format!("ring {ring} of tenant {tenant} has it: roll another one out there")));
        }
        let running = rollouts::running(self.db)?;
        if let Some(rollout) = running.iter().find(|it| it.release == id && it.tenant == *tenant) {
            return Ok(Some(format!("rollout {} brings it: wait for it, or abort it", rollout.id)));
        }
        let back = rollouts::ways_back(self.db, tenant)?.into_iter().find(|(_, before, _)| *before == id);
        Ok(back.map(|(ring, _, rollout)| {
            let ring = word(&ring);
            format!(
                "ring {ring} of tenant {tenant} would go back to it from what rollout {rollout} has brought"
            )
        }))
    }

    /// Nothing is desired of a tenant any more, and its releases are gone.
    ///
    /// # Errors
    /// Of the file.
    pub(super) fn forget_releases(&mut self, tenant: &TenantId) -> Result<(), RegistryError> {
        for wanted in wanted_of(self.db, tenant).map_err(|error| self.failed(&error))? {
            if wanted.release != Release::NONE {
                self.desire(tenant, wanted.ring, Release::NONE, false)?;
            }
        }
        let removed = self
            .db
            .prepare_cached("DELETE FROM releases WHERE tenant = ?1")
            .and_then(|mut statement| statement.execute([tenant.as_str()]));
        removed.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Says what a ring should run from now on; the revision of that.
    pub(super) fn desire(
        &mut self,
        tenant: &TenantId,
        ring: Ring,
        release: Release,
        rollback: bool,
    ) -> Result<u64, RegistryError> {
        let revision = self.next_revision();
        let written = self
            .db
            .prepare_cached("INSERT OR REPLACE INTO desired VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut statement| {
                statement.execute(params![
                    tenant.as_str(),
                    word(&ring),
                    release.0 as i64,
                    rollback,
                    revision,
                    self.now()
                ])
            });
        written.map_err(|error| self.failed(&error))?;
        Ok(u64::try_from(revision).unwrap_or_default())
    }

    pub(super) fn withdraw(&mut self, release: Release, rollout: i64) -> Result<(), RegistryError> {
        let written = self
            .db
            .prepare_cached("UPDATE releases SET withdrawn = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![release.0 as i64, rollout]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    pub(super) fn wanted(&self, tenant: &TenantId, ring: Ring) -> Result<Option<Wanted>, RegistryError> {
        let found = wanted_of(self.db, tenant).map_err(|error| self.failed(&error))?;
        Ok(found.into_iter().find(|wanted| wanted.ring == ring))
    }
}

/// A release.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: Release) -> rusqlite::Result<Option<Published>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM releases WHERE id = ?1"))?;
    statement.query_row([id.0 as i64], read).optional()
}

/// Releases below a number, the newest first; of a tenant, or of all.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    tenant: Option<&TenantId>,
    below: Option<Release>,
    limit: u32,
) -> rusqlite::Result<Vec<Published>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM releases WHERE (?1 IS NULL OR tenant = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3"
    ))?;
    let below = below.map_or(i64::MAX, |release| release.0 as i64);
    let rows = statement.query_map(params![tenant.map(TenantId::as_str), below, limit], read)?;
    rows.collect()
}

/// Everything that a release names: contents, and the documents themselves.
///
/// # Errors
/// SQLite's.
pub fn named(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    let mut statement = connection.prepare_cached("SELECT document, contents FROM releases")?;
    let mut rows = statement.query([])?;
    let mut named = HashSet::new();
    while let Some(row) = rows.next()? {
        named.insert(Digest(row.get(0)?));
        named.extend(read_contents(row.get_ref(1)?.as_str()?)?.into_iter().map(|content| content.digest));
    }
    Ok(named)
}

/// What each ring of a tenant should run.
///
/// # Errors
/// SQLite's.
pub fn wanted_of(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<Vec<Wanted>> {
    let mut statement = connection.prepare_cached(
        "SELECT tenant, ring, release, rollback, revision, at FROM desired WHERE tenant = ?1 ORDER BY ring",
    )?;
    let rows = statement.query_map([tenant.as_str()], |row| {
        Ok(Wanted {
            tenant: stored(row.get_ref(0)?.as_str()?)?,
            ring: from_word(row.get_ref(1)?.as_str()?)?,
            release: release(row, 2)?,
            rollback: row.get(3)?,
            revision: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
            at: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Stamps of a ring that are there.
///
/// # Errors
/// SQLite's.
pub fn stamps_of(connection: &Connection, ring: Ring) -> rusqlite::Result<Vec<StampId>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM stamps WHERE ring = ?1 AND state <> ?2 ORDER BY id")?;
    let rows = statement
        .query_map([word(&ring), word(&StampState::Down)], |row| stored(row.get_ref(0)?.as_str()?))?;
    rows.collect()
}

/// What a stamp is told after a revision that it knows of `ring`; `None`: there is no such stamp.
///
/// # Errors
/// SQLite's.
pub fn desired(
    connection: &Connection,
    stamp: &StampId,
    ring: &str,
    after: u64,
) -> rusqlite::Result<Option<DesiredStates>> {
    // All of one point in time.
    let transaction = connection.unchecked_transaction()?;
    let own: Option<String> = transaction
        .prepare_cached("SELECT ring FROM stamps WHERE id = ?1")?
        .query_row([stamp.as_str()], |row| row.get(0))
        .optional()?;
    let Some(own) = own else { return Ok(None) };
    let newest: i64 =
        transaction.query_row("SELECT value FROM meta WHERE key = 'revision'", [], |row| row.get(0))?;
    let newest = u64::try_from(newest).unwrap_or_default();
    // Of another ring, or of a registry that was restored from before: what it knows does not count.
    let full = own != ring || after > newest;
    let after = if full { 0 } else { after };
    let mut statement = transaction.prepare_cached(
        "SELECT d.revision, d.tenant, d.release, d.rollback, r.document, r.size, r.contents
         FROM desired d LEFT JOIN releases r ON r.id = d.release
         WHERE d.ring = ?1 AND d.revision > ?2 ORDER BY d.revision LIMIT ?3",
    )?;
    let mut rows = statement.query(params![own, after as i64, MAX_DESIRED_STATES])?;
    let (mut states, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default();
        let digest: Option<[u8; 32]> = row.get(4)?;
        let contents: Option<String> = row.get(6)?;
        states.push(DesiredState {
            tenant: stored(row.get_ref(1)?.as_str()?)?,
            release: release(row, 2)?,
            rollback: row.get(3)?,
            document: match digest {
                Some(digest) => Some(ContentRef { digest: Digest(digest), size: size(row, 5)? }),
                None => None,
            },
            contents: contents.as_deref().map(read_contents).transpose()?.unwrap_or_default(),
        });
    }
    let more = states.len() >= MAX_DESIRED_STATES as usize;
    let revision = if more { last } else { newest };
    Ok(Some(DesiredStates { ring: own, revision, more, full, states }))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Published> {
    Ok(Published {
        id: release(row, 0)?,
        tenant: stored(row.get_ref(1)?.as_str()?)?,
        created: row.get(2)?,
        operator: row.get(3)?,
        note: row.get(4)?,
        document: ContentRef { digest: Digest(row.get(5)?), size: size(row, 6)? },
        contents: read_contents(row.get_ref(7)?.as_str()?)?,
        withdrawn: row.get(8)?,
    })
}

fn release(row: &Row<'_>, column: usize) -> rusqlite::Result<Release> {
    Ok(Release(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default()))
}

fn size(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

fn read_contents(text: &str) -> rusqlite::Result<Vec<ContentRef>> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
