//! What a command leaves behind: words or JSON on standard output, or a failure with what to do about it on standard error.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::operator::{AccessError, OperatorError};

/// The exit code for "the service does not answer".
const NO_ANSWER: u8 = 3;
/// The exit code for wrong usage, as clap has it.
const USAGE: u8 = 2;

/// What becomes of a command.
pub(super) type Reply = Result<ExitCode, Failure>;

/// Why a command failed.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    /// In one word, for programs.
    code: String,
    /// For a person.
    message: String,
    /// What to do; may be empty.
    remedy: String,
    #[serde(skip)]
    exit: u8,
}

impl Failure {
    /// Something went wrong.
    pub(super) fn new(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), remedy: remedy.into(), exit: 1 }
    }

    /// It was asked in a way that cannot be.
    pub(super) fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new("usage", message, remedy) }
    }

    /// Tells it on standard error: in words, or as one line of JSON.
    pub(super) fn tell(&self, json: bool) -> ExitCode {
        match serde_json::to_string(self) {
            Ok(line) if json => eprintln!("{line}"),
            _ => {
                eprintln!("error: {}", self.message);
                if !self.remedy.is_empty() {
                    eprintln!("what to do: {}", self.remedy);
                }
            }
        }
        ExitCode::from(self.exit)
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        let exit = match &error {
            OperatorError::Unreachable { .. } => NO_ANSWER,
            OperatorError::Address { .. } => USAGE,
            _ => 1,
        };
        Self { exit, ..Self::new(error.code(), error.to_string(), error.remedy()) }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::usage(error.to_string(), error.remedy())
    }
}

/// Prints an answer: as it came, or in words.
pub(super) fn answer<T: Serialize>(json: bool, value: &T, words: impl FnOnce(&T) -> String) -> Reply {
    if json {
        line(value)?
    } else {
        print(&words(value))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one line of JSON.
pub(super) fn line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new("nonsense", format!("cannot write this as JSON: {error}"), ""))?;
    print(&(text + "\n"))
}

/// Prints text. Whoever reads it may have had enough (`| head`): that is no error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new("output", format!("cannot write to standard output: {error}"), ""))
        }
        _ => Ok(()),
    }
}

/// What is gone is told as this.
#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

/// Something was removed.
pub(super) fn removed(json: bool, what: &str, id: &str) -> Reply {
    answer(json, &Removed { removed: id }, |_| format!("{what} {id} is removed\n"))
}
