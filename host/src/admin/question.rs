//! What can be asked of a running gateway, and what it answers.
//!
//! ```text
//! {"do":"status"}                                          a Status
//! {"do":"retry_now","stamp":"eu-1"}                        a RetryReply; without stamp: all links and sources
//! {"do":"replay_letters","tenant":"acme","ids":[1,2]}      a ReplayReply
//! {"do":"drop_letters","tenant":"acme","ids":[1,2]}        a DropReply
//! {"do":"reset_state","tenant":"acme","step":"window"}     a ResetReply
//! {"do":"reload"}                                          a ReloadReply
//! {"do":"step","tenant":"acme","step":"x","order":"rollback"}  a StepReply; also: "release", "promote"
//! any                                                      {"error":"…"} if it cannot be done
//! ```
//! Names are an interface between the gateway and its command line, of one version: they are installed together.

use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::reload::StepOrder;
use crate::provisioning::Asking;
use crate::uplink::LinkState;

/// Most letters of one question; whoever has more asks again.
pub const MOST_LETTERS: usize = 256;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How everything is.
    Status,
    /// Do not wait for the next attempt.
    RetryNow {
        /// Only the link to this stamp.
        stamp: Option<String>,
    },
    /// Run dead letters through the step they failed in, and those after it.
    ReplayLetters {
        /// Whose.
        tenant: String,
        /// Which; at most [`MOST_LETTERS`].
        ids: Vec<i64>,
    },
    /// Give dead letters up.
    DropLetters {
        /// Whose.
        tenant: String,
        /// Which; at most [`MOST_LETTERS`].
        ids: Vec<i64>,
    },
    /// Take a step's state away; it starts anew.
    ResetState {
        /// Whose.
        tenant: String,
        /// The step, by the name under which its state is kept.
        step: String,
    },
    /// Read the configuration again, and take over what differs.
    Reload,
    /// Do something with a version of a step.
    Step {
        /// Whose.
        tenant: String,
        /// The step, by the name under which its state is kept.
        step: String,
        /// What.
        order: StepOrder,
    },
}

/// What is said to a question: at once, or when it is done.
pub enum Answer {
    /// A line of JSON, without its end.
    Line(Vec<u8>),
    /// The answer takes its time; others are answered meanwhile.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// "It cannot be done."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why, and what to do.
    pub error: String,
}

impl Answer {
    /// This, as JSON.
    #[must_use]
    pub fn of(reply: &impl Serialize) -> Self {
        match serde_json::to_vec(reply) {
            Ok(line) => Self::Line(line),
            Err(error) => Self::refusal(&format!("the answer cannot be written as JSON: {error}")),
        }
    }

    /// It cannot be done, and why.
    #[must_use]
    pub fn refusal(why: &str) -> Self {
        Self::Line(serde_json::json!({ "error": why }).to_string().into_bytes())
    }

    /// What this comes to. It goes on even if whoever asked has gone.
    #[must_use]
    pub fn later(answer: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }

    pub(super) async fn line(self) -> Vec<u8> {
        let mut answer = self;
        loop {
            match answer {
                Self::Line(line) => return line,
                Self::Later(later) => answer = later.await,
            }
        }
    }
}

/// What became of "retry now".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryReply {
    /// The links it was said to; none if the stamp is not in the configuration.
    pub links: Vec<RetriedLink>,
    /// What was done towards provisioning until then; it is asked now. Absent if there is none, or one stamp was named.
    #[serde(default)]
    pub provisioning: Option<Asking>,
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
    pub fn new(links: Vec<(String, LinkState)>, provisioning: Option<Asking>) -> Self {
        let links = links.into_iter().map(|(stamp, was)| RetriedLink {
            stamp,
            was,
            trying: matches!(was, LinkState::Waiting | LinkState::Parked | LinkState::GivenUp),
        });
        Self { links: links.collect(), provisioning }
    }
}

/// What became of a replay; all of it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplayReply {
    /// Letters that are gone because their rows were run again.
    pub replayed: u64,
    /// New letters of rows that could not be processed this time either.
    pub dead_again: u64,
    /// Letters that stay, and why.
    pub stay: Vec<Stays>,
}

/// A letter that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// Which.
    pub id: i64,
    /// Why, and what can be done with it.
    pub why: String,
}

/// What became of "drop".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DropReply {
    /// Letters that are gone because of this.
    pub dropped: u64,
}

/// What became of "reset".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResetReply {
    /// Keys the step had.
    pub keys: u64,
    /// Their bytes, keys included.
    pub bytes: u64,
}
