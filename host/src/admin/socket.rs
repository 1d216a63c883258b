//! The admin socket `<data_dir>/admin.sock`: a connection asks one thing and gets one line of JSON.
//!
//! ```text
//! → {"do":"status"}                          ← a Status; also for who says nothing
//! → {"do":"retry_now","stamp":"eu-1"}        ← a RetryReply; without stamp: all links, and sources that wait for a broker
//! ```
//! Only its owner may open the socket. There is nothing to be done over it that harms. Does not gather the status.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::status::Status;
use crate::uplink::LinkState;

/// Name of the socket in the data folder.
pub const SOCKET: &str = "admin.sock";
/// Most seconds a reader may take, on both sides.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who has not asked by then wants the status.
const SILENCE: Duration = Duration::from_millis(300);
/// Most bytes of a question.
const MAX_QUESTION: u64 = 4 << 10;
/// Most bytes of a status that are read.
const MAX_STATUS: u64 = 16 << 20;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Question {
    Status,
    RetryNow { stamp: Option<String> },
}

/// What became of "retry now".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryReply {
    /// The links it was said to; none if the stamp is not in the configuration.
    pub links: Vec<RetriedLink>,
}

/// One link that was told to retry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedLink {
    /// Its stamp.
    pub stamp: String,
    /// How it stood.
    pub was: LinkState,
    /// Whether it tries now because of this; otherwise it was connected or connecting anyway.
    pub trying: bool,
}

impl RetryReply {
    /// From the links and how they stood.
    #[must_use]
    pub fn new(links: Vec<(String, LinkState)>) -> Self {
        let links = links.into_iter().map(|(stamp, was)| RetriedLink {
            stamp,
            was,
            trying: matches!(was, LinkState::Waiting | LinkState::Parked | LinkState::GivenUp),
        });
        Self { links: links.collect() }
    }
}

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

    /// Answers each connection, one after the other, for ever.
    pub async fn serve(&self, status: impl Fn() -> Status, retry_now: impl Fn(Option<&str>) -> RetryReply) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely; others are at work to free some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let answer = match question(&mut stream).await {
                Ok(Question::Status) => serde_json::to_vec(&status()),
                Ok(Question::RetryNow { stamp }) => serde_json::to_vec(&retry_now(stamp.as_deref())),
                Err(error) => serde_json::to_vec(&serde_json::json!({ "error": error })),
            };
            match answer {
                Ok(mut text) => {
                    text.push(b'\n');
                    // Whoever asked and went away needs no answer.
                    tokio::time::timeout(PATIENCE, stream.write_all(&text)).await.ok();
                }
                Err(error) => tracing::warn!(%error, "an answer cannot be written as JSON"),
            }
        }
    }
}

/// What a connection asks, or what is wrong with it.
async fn question(stream: &mut UnixStream) -> Result<Question, String> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(MAX_QUESTION));
    let read = tokio::time::timeout(SILENCE, reader.read_line(&mut line)).await;
    match read {
        Ok(Ok(length)) if length > 0 => serde_json::from_str(&line).map_err(|error| error.to_string()),
        _ => Ok(Question::Status),
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // If it cannot be removed, the next start does.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Asks the gateway that uses this data folder for its status.
///
/// # Errors
/// [`AdminError::NotRunning`] or [`AdminError::Answer`].
pub fn ask(data_dir: &Path) -> Result<Status, AdminError> {
    converse(data_dir, &Question::Status)
}

/// Tells the gateway that uses this data folder to try its links now; all, or that of one stamp.
///
/// # Errors
/// [`AdminError::NotRunning`] or [`AdminError::Answer`].
pub fn retry_now(data_dir: &Path, stamp: Option<&str>) -> Result<RetryReply, AdminError> {
    converse(data_dir, &Question::RetryNow { stamp: stamp.map(str::to_owned) })
}

fn converse<T: DeserializeOwned>(data_dir: &Path, question: &Question) -> Result<T, AdminError> {
    let path = data_dir.join(SOCKET);
    let silent = |cause| AdminError::NotRunning { path: path.clone(), cause };
    let not_understood =
        |error: serde_json::Error| AdminError::Answer { path: path.clone(), cause: error.to_string() };
    let mut stream = std::os::unix::net::UnixStream::connect(&path).map_err(silent)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    let mut text = serde_json::to_vec(question).map_err(not_understood)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(silent)?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut answer).map_err(silent)?;
    serde_json::from_slice(&answer).map_err(not_understood)
}
