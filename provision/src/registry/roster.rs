//! What a stamp is told: whom it serves, whom it serves no more, and what others have landed before it.

use rusqlite::{Connection, params};
use wire::ids::StampId;
use wire::provisioning::{MAX_ROSTER_ENTRIES, Roster, RosterEntry, Treatment};

use super::stored;

/// Bytes of watermarks after which a page ends with the revision it is at.
const PAGE_BYTES: usize = 2 << 20;

/// A stamp's roster after a revision.
///
/// # Errors
/// SQLite's.
pub fn roster(connection: &Connection, stamp: &StampId, after: u64) -> rusqlite::Result<Roster> {
    // All of one point in time.
    let transaction = connection.unchecked_transaction()?;
    let newest: i64 =
        transaction.query_row("SELECT value FROM meta WHERE key = 'revision'", [], |row| row.get(0))?;
    let mut statement = transaction.prepare_cached(
        "SELECT revision, gateway, tenant, epoch, devices, watermark, kind FROM (
            SELECT a.revision, a.gateway, a.tenant, a.epoch, a.devices,
                (SELECT d.watermark FROM departures d
                 WHERE d.gateway = a.gateway AND d.tenant = a.tenant AND d.epoch = a.epoch) AS watermark,
                CASE (SELECT g.blocked FROM gateways g WHERE g.id = a.gateway) WHEN 1 THEN 2 ELSE 0 END AS kind
            FROM assignments a WHERE a.stamp = ?1 AND a.revision > ?2
            UNION ALL
            SELECT revision, gateway, tenant, epoch, 0, watermark, 1 FROM departures
            WHERE stamp = ?1 AND revision > ?2)
         ORDER BY revision, epoch LIMIT ?3",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![stamp.as_str(), after, MAX_ROSTER_ENTRIES])?;
    let mut found: Vec<(i64, RosterEntry)> = Vec::new();
    let (mut bytes, mut cut) = (0, false);
    while let Some(row) = rows.next()? {
        let revision: i64 = row.get(0)?;
        if bytes > PAGE_BYTES && found.last().is_some_and(|(last, _)| *last != revision) {
            cut = true;
            break;
        }
        let watermark: Option<String> = row.get(5)?;
        bytes += watermark.as_ref().map_or(0, String::len);
        let treatment = match row.get::<_, i64>(6)? {
            0 => Treatment::Served {
                devices: row.get(4)?,
                landed: watermark.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            },
            1 => Treatment::Departed { watermark_wanted: watermark.is_none() },
            _ => Treatment::Blocked,
        };
        let entry = RosterEntry {
            gateway: stored(row.get_ref(1)?.as_str()?)?,
            tenant: stored(row.get_ref(2)?.as_str()?)?,
            epoch: u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default(),
            treatment,
        };
        found.push((revision, entry));
    }
    let full = !cut && found.len() as u64 >= u64::from(MAX_ROSTER_ENTRIES);
    let more = cut || full;
    let last = found.last().map_or(newest, |(revision, _)| *revision);
    if full && found.first().is_some_and(|(first, _)| *first != last) {
        // Entries of one revision stay together: the rest of the last one's may not have fitted.
        found.retain(|(revision, _)| *revision != last);
    }
    let reached = if more { found.last().map_or(last, |(revision, _)| *revision) } else { newest };
    let entries = found.into_iter().map(|(_, entry)| entry).collect();
    Ok(Roster { revision: u64::try_from(reached).unwrap_or_default(), more, entries })
}
