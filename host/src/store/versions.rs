//! Which version of a step's plugin runs and which ran before, with the state it had: what a rollback restores.
//!
//! ```text
//! snapshot:  { key length u32 le, key, value length u32 le, value } …    ascending by key
//! ```
//! Invariant: snapshots count as plugin state (`Totals::state_bytes`), so the quota covers them.

use rusqlite::{Connection, Transaction};

use super::totals::{Totals, unsigned};
use super::{Snapshot, StepVersions, Version, VersionChange};

/// Notes the versions of a step.
pub(super) fn change(
    transaction: &Transaction<'_>,
    change: &VersionChange,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let step = &*change.step;
    let before: i64 = transaction
        .prepare_cached("SELECT COALESCE(SUM(LENGTH(state)), 0) FROM versions WHERE step = ?1")?
        .query_row([step], |row| row.get(0))?;
    totals.state_bytes = totals.state_bytes.saturating_sub(unsigned(before));
    transaction.prepare_cached("DELETE FROM versions WHERE step = ?1")?.execute([step])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO versions (step, place, digest, version, since, config, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let Version { digest, version, since, config } = &change.current;
    insert.execute((step, "current", digest, version, since, config, None::<&[u8]>))?;
    if let Some((Version { digest, version, since, config }, state)) = &change.previous {
        let state = pack(state);
        totals.state_bytes += state.len() as u64;
        insert.execute((step, "previous", digest, version, since, config, Some(&state[..])))?;
    }
    Ok(())
}

/// All steps whose versions are known.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<StepVersions>> {
    let mut found: Vec<StepVersions> = Vec::new();
    // 'current' comes before 'previous'.
    let mut query = connection.prepare(
        "SELECT step, place, digest, version, since, config, state FROM versions ORDER BY step, place",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let step: String = row.get(0)?;
        let version =
            Version { digest: row.get(2)?, version: row.get(3)?, since: row.get(4)?, config: row.get(5)? };
        match found.last_mut().filter(|last| last.step == step) {
            Some(last) => {
                let state = row.get_ref(6)?.as_blob_or_null()?.unwrap_or_default();
                last.previous = Some((version, unpack(state)));
            }
            None => found.push(StepVersions { step, current: version, previous: None }),
        }
    }
    Ok(found)
}

fn pack(state: &Snapshot) -> Vec<u8> {
    let mut packed = Vec::with_capacity(state.iter().map(|(key, value)| key.len() + value.len() + 8).sum());
    for (key, value) in state {
        for bytes in [key.as_bytes(), value] {
            // A row of SQLite has less than 2^31 bytes, so no part is longer.
            packed.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            packed.extend_from_slice(bytes);
        }
    }
    packed
}

/// What is malformed ends the snapshot; the file's check would have found damage.
fn unpack(mut packed: &[u8]) -> Snapshot {
    let mut state = Snapshot::new();
    while let Some((key, value)) = part(&mut packed).zip(part(&mut packed)) {
        state.push((String::from_utf8_lossy(key).into_owned(), value.to_vec()));
    }
    state
}

fn part<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *packed = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_was_packed_and_a_cut_one_ends_early() {
        let state =
            vec![("a".to_owned(), vec![1, 2, 3]), (String::new(), vec![]), ("ü".to_owned(), vec![0; 300])];
        let packed = pack(&state);
        assert_eq!(unpack(&packed), state);
        assert_eq!(unpack(&packed[..packed.len() - 1]), state[..2]);
    }
}
