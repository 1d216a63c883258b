//! The admin socket `<data_dir>/admin.sock`: each connection gets one JSON status and is closed.
//!
//! Takes no commands, so whoever may open the socket (its owner) can only look. Does not gather the status.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::status::Status;

/// Name of the socket in the data folder.
pub const SOCKET: &str = "admin.sock";
/// Most seconds a reader may take, on both sides.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a status that are read.
const MAX_STATUS: u64 = 16 << 20;

/// Why the socket cannot be served or asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket cannot be made.
    #[error("cannot open the admin socket {}: {cause} (a socket's path has at most 107 bytes)", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Nobody answers: the gateway does not run.
    #[error("no gateway answers at {}: {cause}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The answer is no status, e.g. of another version.
    #[error("the gateway at {} gave an answer this version does not understand: {cause}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// The open socket.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Opens the socket for the user the gateway runs as. A socket left by a killed gateway is replaced: the caller
    /// holds the lock of the folder.
    ///
    /// # Errors
    /// [`AdminError::Bind`].
    pub fn open(data_dir: &Path) -> Result<Self, AdminError> {
        let path = data_dir.join(SOCKET);
        let failed = |cause| AdminError::Bind { path: path.clone(), cause };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Answers each connection with `status()`, one after the other, for ever.
    pub async fn serve(&self, status: impl Fn() -> Status) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely; others are at work to free some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match serde_json::to_vec(&status()) {
                Ok(mut text) => {
                    text.push(b'\n');
                    // Whoever asked and went away needs no answer.
                    tokio::time::timeout(PATIENCE, stream.write_all(&text)).await.ok();
                }
                Err(error) => tracing::warn!(%error, "status cannot be written as JSON"),
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // If it cannot be removed, the next start does.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Asks the gateway that uses this data folder.
///
/// # Errors
/// [`AdminError::NotRunning`] or [`AdminError::Answer`].
pub fn ask(data_dir: &Path) -> Result<Status, AdminError> {
    let path = data_dir.join(SOCKET);
    let silent = |cause| AdminError::NotRunning { path: path.clone(), cause };
    let stream = std::os::unix::net::UnixStream::connect(&path).map_err(silent)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    let mut text = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut text).map_err(silent)?;
    serde_json::from_slice(&text)
        .map_err(|error| AdminError::Answer { path: path.clone(), cause: error.to_string() })
}
