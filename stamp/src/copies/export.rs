//! Writes the copy of a tenant that has gone to `data_dir/departed/GATEWAY/TENANT-EPOCH.csv`, as `departed export` does.
//!
//! Under another name first, which is renamed when all of it is on the disk; the receipt comes after that. A stamp that is
//! killed in between begins anew. Stops before it takes the room that what arrives needs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use tracing::debug;
use wire::ids::{Digest, GatewayId, TenantId};

use super::CopyError;
use crate::landing::{Copies, Due, Export, Reader, Room, Selection};
use crate::show::csv::Csv;
use crate::show::select::Wanted;
use crate::show::{Format, ShowError, Window};

/// The folder, in the data folder.
const FOLDER: &str = "departed";
/// What a file that is not whole yet ends with.
const PART: &str = ".part";
/// So much of the disk is left to what arrives.
const LEFT_FREE: u64 = 256 << 20;
/// The room is looked at whenever so many bytes were written.
const LOOK_EVERY: u64 = 8 << 20;
/// Bytes written at a time.
const BUFFER: usize = 256 << 10;

/// Exports a copy, and gives it its receipt.
pub(super) fn export(
    folder: &Path,
    copies: &mut Copies,
    due: &Due,
    now: fn() -> i64,
    go_on: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    let name = name(due)?;
    let path = folder.join(&name);
    let failed = |cause: io::Error| CopyError::File { path: path.clone(), cause };
    let within = path.parent().unwrap_or(folder);
    fs::create_dir_all(within).map_err(failed)?;
    let part = PathBuf::from(format!("{}{PART}", path.display()));
    let written = write(folder, &part, due, go_on).inspect_err(|_| remove(&part))?;
    let Some((batches, rows, out)) = written else { return Err(CopyError::Stopped) };
    fs::rename(&part, &path).and_then(|()| File::open(within)?.sync_all()).map_err(failed)?;
    let export = Export { batches, rows, bytes: out.bytes, file: name, sha256: out.digest() };
    if copies.exported(due, &export, now())? {
        return Ok(());
    }
    remove(&path);
    Err(CopyError::Back)
}

/// Removes what exports have left that did not end.
pub(super) fn tidy(folder: &Path) {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in list(&folder.join(FOLDER)).flat_map(|gateway| list(&gateway).collect::<Vec<_>>()) {
        if path.to_string_lossy().ends_with(PART) {
            remove(&path);
        }
    }
}

/// Names hold no separator, and begin with a letter or a digit; that is checked again where they become a path.
fn name(due: &Due) -> Result<String, CopyError> {
    let names = GatewayId::new(&due.gateway).and_then(|gateway| Ok((gateway, TenantId::new(&due.tenant)?)));
    match names {
        Ok((gateway, tenant)) => Ok(format!("{FOLDER}/{gateway}/{tenant}-{}.csv", due.epoch)),
        Err(error) => Err(CopyError::File {
            path: PathBuf::from(FOLDER),
            cause: io::Error::new(io::ErrorKind::InvalidInput, error),
        }),
    }
}

/// Batches, rows, and what was written; `None`: it was told to stop.
fn write(
    folder: &Path,
    part: &Path,
    due: &Due,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<(u64, u64, Hashed)>, CopyError> {
    let selection = Selection {
        tenant: Some(due.tenant.clone()),
        gateway: Some(due.gateway.clone()),
        ..Selection::default()
    };
    let wanted = Wanted { selection, ..Wanted::default() };
    let failed = |cause: io::Error| CopyError::File { path: part.to_owned(), cause };
    room(folder)?;
    let reader = Reader::open(folder)?;
    let (mut csv, last) = Csv::of_all(&reader, &wanted)?;
    let mut out = BufWriter::with_capacity(BUFFER, Hashed::create(part).map_err(failed)?);
    csv.header(&mut out).map_err(failed)?;
    let (mut batches, mut rows, mut look_at, mut stopped) = (0, 0, LOOK_EVERY, false);
    reader.batches::<CopyError>(&wanted.selection, 0, |batch| {
        stopped = !go_on();
        if stopped || batch.id > last {
            return Ok(false);
        }
        if out.get_ref().bytes >= look_at {
            room(folder)?;
            look_at = out.get_ref().bytes + LOOK_EVERY;
        }
        batches += 1;
        rows += u64::from(batch.rows);
        match csv.batch(&batch, &wanted, &mut Window { ..Window::ALL }, &mut out) {
            Ok(()) => Ok(true),
            Err(ShowError::Output(cause)) => Err(failed(cause)),
            Err(error) => Err(error.into()),
        }
    })?;
    if stopped {
        return Ok(None);
    }
    let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
    out.file.sync_all().map_err(failed)?;
    Ok(Some((batches, rows, out)))
}

/// Whether there is room for more.
fn room(folder: &Path) -> Result<(), CopyError> {
    match Room::of(folder) {
        Ok(room) if room.free < LEFT_FREE => {
            Err(CopyError::Room { free_mib: room.free >> 20, needed_mib: LEFT_FREE >> 20 })
        }
        // Where the system does not say, writing will.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        debug!(path = %path.display(), %error, "what an export has left could not be removed");
    }
}

/// A file, with the digest of what was written.
struct Hashed {
    file: File,
    digest: Context,
    bytes: u64,
}

impl Hashed {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, digest: Context::new(&SHA256), bytes: 0 })
    }

    fn digest(self) -> Digest {
        Digest(self.digest.finish().as_ref().try_into().unwrap_or_default())
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
