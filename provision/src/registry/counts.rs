//! How much there is of each kind.

use rusqlite::Connection;

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Stamps.
    pub stamps: u64,
    /// Tenants.
    pub tenants: u64,
    /// Enrolments.
    pub enrolments: u64,
    /// Gateways that have registered.
    pub gateways: u64,
    /// Of them blocked.
    pub blocked: u64,
    /// Tenants of gateways that have a stamp.
    pub assignments: u64,
    /// Devices promised at all stamps, those on their way counted at both.
    pub devices: u64,
    /// Devices that all stamps were built for.
    pub max_devices: u64,
    /// Moves under way.
    pub moves: u64,
    /// Operations that run.
    pub operations: u64,
}

/// Counts.
///
/// # Errors
/// SQLite's.
pub fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let count = |sql: &str| -> rusqlite::Result<u64> {
        let count: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    };
    Ok(Counts {
        stamps: count("SELECT count(*) FROM stamps")?,
        tenants: count("SELECT count(*) FROM tenants")?,
        enrolments: count("SELECT count(*) FROM enrolments")?,
        gateways: count("SELECT count(*) FROM gateways")?,
        blocked: count("SELECT count(*) FROM gateways WHERE blocked")?,
        assignments: count("SELECT count(*) FROM assignments")?,
        devices: count(
            "SELECT (SELECT ifnull(sum(devices), 0) FROM assignments) + (SELECT ifnull(sum(devices), 0) FROM moves)",
        )?,
        max_devices: count("SELECT ifnull(sum(max_devices), 0) FROM stamps")?,
        moves: count("SELECT count(*) FROM moves")?,
        operations: count("SELECT count(*) FROM operations WHERE state = 'running'")?,
    })
}
