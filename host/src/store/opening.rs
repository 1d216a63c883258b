//! How a store comes up: check, set aside where damaged, load what the lane needs, start the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;
use wire::ids::{Sequence, StreamId, TenantId};

use super::identifiers::Identifiers;
use super::totals::Totals;
use super::{
    DataFolder, Health, Kept, Recent, Shared, StateEntry, Status, Store, StoreConfig, epoch, queue, schema,
    versions, window, writer,
};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the folder.
    #[error(
        "the data folder is in use: {path} is locked by process {holder}; stop that one or give this gateway a \
         data_dir of its own",
        path = path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id, as the holder wrote it.
        holder: String,
    },
    /// The data folder cannot be made or written.
    #[error("cannot use {path} (gateway.data_dir): {cause}", path = path.display())]
    Folder {
        /// Which path.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file exists but may not be written.
    #[error(
        "cannot write {path}: {cause}; make the folder writable for the gateway's user, or mount it read-write",
        path = path.display()
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// No room to make or open the file.
    #[error("no room left for {path}: {cause}; free some space on that disk", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// Made by a newer version.
    #[error(
        "{path} has schema version {version}, this gateway knows up to {known}: run the newer gateway again, or move \
         the file away (what it holds is then not sent)",
        path = path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The highest known here.
        known: i64,
    },
    /// Made by an older version, and only to be read.
    #[error(
        "{path} has schema version {version}, this version reads {known}: start the gateway once, which brings it up",
        path = path.display()
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The one known here.
        known: i64,
    },
    /// The file is damaged. `Store::open` sets such a file aside; seen only when that was in vain.
    #[error("{path} is damaged: {cause}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// Anything else SQLite says.
    #[error("cannot open {path}: {cause}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}

/// A store that came up.
pub struct Opened {
    /// The store, its writer running.
    pub store: Arc<Store>,
    /// What the lane goes on with.
    pub kept: Kept,
    /// Batches found waiting.
    pub recovered: u64,
    /// The damaged file that was set aside, if one was.
    pub set_aside: Option<SetAside>,
}

/// A damaged file that was renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

pub(super) fn open(
    folder: &Arc<DataFolder>,
    tenant: &TenantId,
    config: StoreConfig,
) -> Result<Opened, OpenError> {
    let path = folder.path().join("tenants").join(format!("{tenant}.db"));
    let (connection, set_aside) = match open_sound(&path) {
        Ok(connection) => (connection, None),
        Err(OpenError::Damaged { cause, .. }) => {
            let aside = set_aside(&path, cause.to_string(), (config.clock)())?;
            tracing::error!(
                %tenant, path = %aside.path.display(), reason = %aside.reason,
                "a damaged store was set aside; a fresh one goes on, what the old one held is not sent"
            );
            (schema::connect_writer(&path)?, Some(aside))
        }
        Err(other) => return Err(other),
    };
    let stream = load_stream(&connection).map_err(schema::failed(&path))?;
    let (mut totals, position) = load_totals(&connection).map_err(schema::failed(&path))?;
    totals.set_aside = count_set_aside(&path);
    let kept = load_kept(&connection, &path)?;
    let told = connection
        .query_row("SELECT COALESCE(MAX(id), 0) FROM receipts", [], |row| row.get(0))
        .map_err(schema::failed(&path))?;
    let epoch = epoch::load(&connection).map_err(schema::failed(&path))?;
    let shared = Arc::new(Shared {
        queue: queue::Queue::default(),
        window: Mutex::new(window::Window::new(Sequence(totals.last))),
        status: Mutex::new(Status { totals, health: Health::Well, ..Status::default() }),
        told: std::sync::atomic::AtomicI64::new(told),
        parting: std::sync::atomic::AtomicUsize::new(0),
        epoch: std::sync::atomic::AtomicU64::new(epoch),
    });
    let (announce, waiting) = watch::channel(writer::waiting(&totals));
    let writer = writer::Writer::new(
        connection,
        path.clone(),
        tenant.clone(),
        config,
        Arc::clone(&shared),
        announce,
        (totals, position),
    );
    let thread = std::thread::Builder::new()
        .name(format!("store {tenant}"))
        .spawn(move || writer.run())
        .map_err(|cause| OpenError::Folder { path: path.clone(), cause })?;
    let reader = schema::connect_reader(&path)?;
    let store = Arc::new(Store {
        tenant: tenant.clone(),
        stream,
        path,
        shared,
        reader: Arc::new(Mutex::new(Some(reader))),
        waiting,
        thread: Mutex::new(Some(thread)),
        _folder: Arc::clone(folder),
    });
    Ok(Opened { store, kept, recovered: totals.batches(), set_aside })
}

/// Opens and checks; `Damaged` covers what the check finds.
fn open_sound(path: &Path) -> Result<Connection, OpenError> {
    let suspect = suspicion(path);
    let connection = schema::connect_writer(path)?;
    let verdict = schema::check(&connection, path, suspect.exists()).map_err(schema::failed(path))?;
    if let Some(verdict) = verdict {
        return Err(schema::damaged(path, verdict));
    }
    let _ = std::fs::remove_file(suspect);
    Ok(connection)
}

/// The mark that damage was met while running: the next start checks the whole file, whatever its size.
pub(super) fn suspicion(path: &Path) -> PathBuf {
    path.with_extension("db-suspect")
}

/// Renames the file and its log, so that they can be looked into.
pub(super) fn set_aside(path: &Path, reason: String, now: i64) -> Result<SetAside, OpenError> {
    let aside =
        |suffix: &str| PathBuf::from(format!("{}.bad-{}{suffix}", path.display(), now / 1_000_000_000));
    for suffix in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        if from.exists() {
            std::fs::rename(&from, aside(suffix)).map_err(|cause| OpenError::Folder { path: from, cause })?;
        }
    }
    let _ = std::fs::remove_file(suspicion(path));
    Ok(SetAside { path: aside(""), reason })
}

/// Damaged files of this tenant that lie beside the store.
fn count_set_aside(path: &Path) -> u64 {
    let Some((folder, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let prefix = format!("{name}.bad-");
    let bad = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(bad)).count() as u64
    })
}

fn load_stream(connection: &Connection) -> rusqlite::Result<StreamId> {
    connection
        .query_row("SELECT value FROM meta WHERE key = 'stream'", [], |row| row.get::<_, i64>(0))
        .map(|value| StreamId(value.cast_unsigned()))
}

/// The newest totals, and the id of their row.
fn load_totals(connection: &Connection) -> rusqlite::Result<(Totals, i64)> {
    let newest = "SELECT * FROM commits ORDER BY id DESC LIMIT 1";
    let found =
        connection.query_row(newest, [], |row| Ok((Totals::from_row(row)?, row.get("id")?))).optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn load_kept(connection: &Connection, path: &Path) -> Result<Kept, OpenError> {
    let state = load_state(connection).map_err(schema::failed(path))?;
    let versions = versions::load(connection).map_err(schema::failed(path))?;
    let recent = load_recent(connection).map_err(schema::failed(path))?;
    let identifiers = Identifiers::load(connection).map_err(schema::failed(path))?.into_list();
    Ok(Kept { state, versions, recent, identifiers })
}

fn load_state(connection: &Connection) -> rusqlite::Result<Vec<StateEntry>> {
    let mut query = connection.prepare("SELECT step, key, value FROM state ORDER BY step, key")?;
    let rows = query
        .query_map([], |row| Ok(StateEntry { step: row.get(0)?, key: row.get(1)?, value: row.get(2)? }))?;
    rows.collect()
}

/// Replays the fingerprints' log.
pub(super) fn load_recent(connection: &Connection) -> rusqlite::Result<Recent> {
    let mut recent = Recent::default();
    let mut query = connection.prepare("SELECT recent FROM commits WHERE recent IS NOT NULL ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        if !recent.replay(row.get_ref(0)?.as_blob().unwrap_or_default()) {
            tracing::warn!("a fingerprint log is malformed: repetitions from before may be taken twice");
        }
    }
    Ok(recent)
}
