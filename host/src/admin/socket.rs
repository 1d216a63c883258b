//! The admin socket `<data_dir>/admin.sock`: a connection asks one thing and gets one line of JSON.
//!
//! What can be asked is a [`Question`]; who says nothing gets the status. Only the socket's owner may open it. At most
//! [`CONVERSATIONS`] are answered at once; others wait. Does not know the answers.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::question::{Answer, Question, Refusal, RetryReply};
use super::status::Status;

/// Name of the socket in the data folder.
pub const SOCKET: &str = "admin.sock";
/// Most seconds a reader may take, on both sides.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who has not asked by then wants the status.
const SILENCE: Duration = Duration::from_millis(300);
/// How long whoever asked for work waits for its end.
const WORK: Duration = Duration::from_secs(90);
/// Most bytes of a question.
const MAX_QUESTION: u64 = 16 << 10;
/// Most questions being answered at once.
const CONVERSATIONS: usize = 8;
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
    /// It cannot be done.
    #[error("{why}")]
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// The answer is not what was asked for, e.g. of another version.
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

    /// Answers each connection, for ever.
    pub async fn serve(&self, answer: impl Fn(Question) -> Answer) {
        let mut under_way = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if under_way.len() < CONVERSATIONS => {
                    let Ok((mut stream, _)) = accepted else {
                        // Out of descriptors, most likely; others are at work to free some.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    let answer = match question(&mut stream).await {
                        Ok(question) => answer(question),
                        Err(error) => Answer::refusal(&error),
                    };
                    under_way.spawn(tell(stream, answer));
                }
                Some(told) = under_way.join_next(), if !under_way.is_empty() => {
                    if let Err(error) = told {
                        tracing::error!(%error, "an answer of the admin socket failed");
                    }
                }
            }
        }
    }
}

async fn tell(mut stream: UnixStream, answer: Answer) {
    let mut line = answer.line().await;
    line.push(b'\n');
    // Whoever asked and went away needs no answer.
    tokio::time::timeout(PATIENCE, stream.write_all(&line)).await.ok();
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
    converse(data_dir, &Question::Status, PATIENCE)
}

/// Tells the gateway that uses this data folder to try its links now; all, or that of one stamp.
///
/// # Errors
/// [`AdminError::NotRunning`] or [`AdminError::Answer`].
pub fn retry_now(data_dir: &Path, stamp: Option<&str>) -> Result<RetryReply, AdminError> {
    converse(data_dir, &Question::RetryNow { stamp: stamp.map(str::to_owned) }, PATIENCE)
}

/// Has the gateway that uses this data folder do something, and waits up to [`WORK`] for the end of it.
///
/// # Errors
/// [`AdminError`].
pub fn order<T: DeserializeOwned>(data_dir: &Path, question: &Question) -> Result<T, AdminError> {
    order_within(data_dir, question, WORK)
}

/// As [`order`], for what may take another time.
///
/// # Errors
/// [`AdminError`].
pub fn order_within<T: DeserializeOwned>(
    data_dir: &Path,
    question: &Question,
    patience: Duration,
) -> Result<T, AdminError> {
    converse(data_dir, question, patience)
}

fn converse<T: DeserializeOwned>(
    data_dir: &Path,
    question: &Question,
    patience: Duration,
) -> Result<T, AdminError> {
    let path = data_dir.join(SOCKET);
    let silent = |cause| AdminError::NotRunning { path: path.clone(), cause };
    let not_understood =
        |error: serde_json::Error| AdminError::Answer { path: path.clone(), cause: error.to_string() };
    let mut stream = std::os::unix::net::UnixStream::connect(&path).map_err(silent)?;
    stream.set_read_timeout(Some(patience)).map_err(silent)?;
    let mut text = serde_json::to_vec(question).map_err(not_understood)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(silent)?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS).read_to_end(&mut answer).map_err(silent)?;
    serde_json::from_slice(&answer).map_err(|error| match serde_json::from_slice(&answer) {
        Ok(Refusal { error }) => AdminError::Refused { why: error },
        Err(_) => not_understood(error),
    })
}
