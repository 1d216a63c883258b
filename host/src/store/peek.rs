//! What the stores of a gateway that does not run hold, for `sluice-gateway status`.
//!
//! Read-only, without the folder's lock: changes nothing, repairs nothing, and may be done by anyone who can read the
//! files.

use std::path::Path;

use wire::ids::TenantId;

use super::totals::Totals;
use super::{Health, OpenError, Status, schema};

/// Each tenant's store in the folder, by name. A store that cannot be read says why in its health.
#[must_use]
pub fn peek(data_dir: &Path) -> Vec<(TenantId, Status)> {
    let found = super::tenants(data_dir).into_iter().map(|tenant| {
        let path = data_dir.join("tenants").join(format!("{tenant}.db"));
        let status = look(&path).unwrap_or_else(|error| Status {
            health: Health::Failed { reason: error.to_string() },
            ..Status::default()
        });
        (tenant, status)
    });
    found.collect()
}

fn look(path: &Path) -> Result<Status, OpenError> {
    let connection = schema::connect_reader(path)?;
    let newest = "SELECT * FROM commits ORDER BY id DESC LIMIT 1";
    let totals = match connection.query_row(newest, [], Totals::from_row) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Totals::default()),
        other => other,
    };
    let totals = totals.map_err(schema::failed(path))?;
    let oldest =
        connection.query_row("SELECT created FROM outbox ORDER BY seq LIMIT 1", [], |row| row.get(0)).ok();
    let size =
        |suffix: &str| std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |file| file.len());
    Ok(Status { totals, oldest, disk_bytes: size("") + size("-wal"), ..Status::default() })
}
