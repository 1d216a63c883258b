//! Enrolments in the books: which gateways the cloud knows of, and by what they prove it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::ids::{EnrolmentId, Environment, GatewayId};

use super::{Books, Refusal, RegistryError, stored, unknown};
use crate::model::{Enrolment, Proof, Share};

const COLUMNS: &str = "id, proof, secret, environment, shares, blocked";

impl Books<'_> {
    /// Adds an enrolment. The same once more changes nothing; another one under a known name is refused.
    ///
    /// # Errors
    /// [`Refusal::Taken`], and [`Refusal::Unknown`] for a tenant that is not there.
    pub fn add_enrolment(&mut self, enrolment: &Enrolment) -> Result<(), RegistryError> {
        for share in &enrolment.shares {
            self.tenant(&share.tenant)?;
        }
        if let Some(before) = self.find_enrolment(&enrolment.id)? {
            let difference = if before.proof != enrolment.proof {
                "how it attests"
            } else if before.environment != enrolment.environment {
                "its environment"
            } else if before.shares != enrolment.shares {
                "its tenants"
            } else {
                return Ok(());
            };
            return Err(Refusal::Taken {
                what: "enrolment",
                name: enrolment.id.to_string(),
                difference: difference.to_owned(),
            }
            .into());
        }
        if let Proof::Fingerprint(digest) = &enrolment.proof
            && let Some(other) = by_fingerprint(self.db, digest).map_err(|error| self.failed(&error))?
        {
            return Err(Refusal::Taken {
                what: "the certificate of enrolment",
                name: other.id.to_string(),
                difference: "a certificate is one gateway's".to_owned(),
            }
            .into());
        }
        self.insert_enrolment(enrolment).map_err(|error| self.failed(&error))
    }

    fn insert_enrolment(&self, enrolment: &Enrolment) -> rusqlite::Result<()> {
        let Enrolment { id, proof, environment, shares, blocked } = enrolment;
        let secret: &[u8] = match proof {
            Proof::Fingerprint(digest) => digest,
            Proof::Authority(bytes) | Proof::Key(bytes) | Proof::GroupKey(bytes) => bytes,
        };
        self.db.prepare_cached("INSERT INTO enrolments VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(
            params![
                id.as_str(),
                proof.kind(),
                secret,
                environment.as_str(),
                serde_json::to_string(shares).unwrap_or_default(),
                blocked,
            ],
        )?;
        if let Proof::Fingerprint(digest) = proof {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO fingerprints VALUES (?1, ?2)")?
                .execute(params![digest, id.as_str()])?;
        }
        Ok(())
    }

    /// Lets nobody register by it, or lets them again. Gateways that have registered are another matter:
    /// [`Books::block_gateway`].
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn block_enrolment(&mut self, id: &EnrolmentId, blocked: bool) -> Result<(), RegistryError> {
        let changed = self
            .db
            .prepare_cached("UPDATE enrolments SET blocked = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![id.as_str(), blocked]));
        match changed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("enrolment", id)),
            _ => Ok(()),
        }
    }

    /// Other tenants, another environment; `None` leaves it.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn change_enrolment(
        &mut self,
        id: &EnrolmentId,
        shares: Option<&[Share]>,
        environment: Option<&Environment>,
    ) -> Result<(), RegistryError> {
        for share in shares.unwrap_or_default() {
            self.tenant(&share.tenant)?;
        }
        let shares = shares.map(|shares| serde_json::to_string(shares).unwrap_or_default());
        let changed = self
            .db
            .prepare_cached(
                "UPDATE enrolments SET shares = ifnull(?2, shares), environment = ifnull(?3, environment)
                 WHERE id = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![id.as_str(), shares, environment.map(Environment::as_str)])
            });
        match changed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("enrolment", id)),
            _ => Ok(()),
        }
    }

    /// Takes an enrolment out that no gateway came in by.
    ///
    /// # Errors
    /// [`Refusal::InUse`], [`Refusal::Unknown`].
    pub fn remove_enrolment(&mut self, id: &EnrolmentId) -> Result<(), RegistryError> {
        let gateways = gateways_of(self.db, id).map_err(|error| self.failed(&error))?;
        if gateways > 0 {
            return Err(Refusal::InUse {
                what: "enrolment",
                name: id.to_string(),
                why: format!("{gateways} gateways came in by it: remove them first, or block it"),
            }
            .into());
        }
        let removed =
            self.db.prepare_cached("DELETE FROM fingerprints WHERE enrolment = ?1 AND digest = (SELECT secret FROM enrolments WHERE id = ?1)").and_then(
                |mut statement| {
                    statement.execute([id.as_str()])?;
                    self.db.prepare_cached("DELETE FROM enrolments WHERE id = ?1")?.execute([id.as_str()])
                },
            );
        match removed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("enrolment", id)),
            _ => Ok(()),
        }
    }

    pub(super) fn find_enrolment(&self, id: &EnrolmentId) -> Result<Option<Enrolment>, RegistryError> {
        one(self.db, id).map_err(|error| self.failed(&error))
    }
}

/// An enrolment, if it is there.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: &EnrolmentId) -> rusqlite::Result<Option<Enrolment>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM enrolments WHERE id = ?1"))?;
    statement.query_row([id.as_str()], read).optional()
}

/// The enrolment of a certificate, by the SHA-256 of its DER.
///
/// # Errors
/// SQLite's.
pub fn by_fingerprint(connection: &Connection, digest: &[u8; 32]) -> rusqlite::Result<Option<Enrolment>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM enrolments WHERE id = (SELECT enrolment FROM fingerprints WHERE digest = ?1)"
    ))?;
    statement.query_row([digest], read).optional()
}

/// Enrolments of groups: few beside those of single gateways.
///
/// # Errors
/// SQLite's.
pub fn groups(connection: &Connection) -> rusqlite::Result<Vec<Enrolment>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM enrolments WHERE proof IN ('authority', 'group-key') ORDER BY id"
    ))?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

/// Enrolments after `after`, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    after: Option<&EnrolmentId>,
    limit: u32,
) -> rusqlite::Result<Vec<Enrolment>> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM enrolments WHERE id > ?1 ORDER BY id LIMIT ?2"))?;
    // No name is empty, so all are after that.
    let rows = statement.query_map(params![after.map_or("", EnrolmentId::as_str), limit], read)?;
    rows.collect()
}

/// Gateways that came in by an enrolment.
///
/// # Errors
/// SQLite's.
pub fn gateways_of(connection: &Connection, id: &EnrolmentId) -> rusqlite::Result<u32> {
    connection
        .prepare_cached("SELECT count(*) FROM gateways WHERE enrolment = ?1")?
        .query_row([id.as_str()], |row| row.get(0))
}

/// The enrolment of a single gateway has the gateway's name.
#[must_use]
pub fn own_enrolment(gateway: &GatewayId) -> Option<EnrolmentId> {
    EnrolmentId::new(gateway.as_str()).ok()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Enrolment> {
    let secret: Vec<u8> = row.get(2)?;
    let unreadable = |what: &str| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, what.to_owned().into())
    };
    let proof = match row.get_ref(1)?.as_str()? {
        "fingerprint" => {
            Proof::Fingerprint(secret.try_into().map_err(|_| unreadable("a fingerprint has 32 bytes"))?)
        }
        "authority" => Proof::Authority(secret),
        "key" => Proof::Key(secret),
        "group-key" => Proof::GroupKey(secret),
        _ => return Err(unreadable("an unknown kind of proof")),
    };
    let shares: Vec<Share> =
        serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| unreadable(&error.to_string()))?;
    Ok(Enrolment {
        id: stored(row.get_ref(0)?.as_str()?)?,
        proof,
        environment: stored::<Environment>(row.get_ref(3)?.as_str()?)?,
        shares,
        blocked: row.get(5)?,
    })
}
