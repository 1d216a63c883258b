//! What an answer of provisioning means, and what it means that there is none. A client hands over HTTP's status and the bytes
//! that have come, or the error that came instead. Does no I/O, and does not say when to ask again: only what kind of failure it
//! is, which the retry rules judge.
//!
//! ```text
//! 202         Pending    throttled: not before its time
//! 2xx         the answer
//! any other   Problem    with a time: throttled until then; 4xx: misdirected; any other: transient
//! no answer              transient; where TLS says that one of both is not who it should be: misdirected
//! no sense               misdirected
//! ```
//! Misdirected: no repetition helps, but somebody at the other side may mend it, so it is looked at again after a cool-down.

use std::error::Error;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{MAX_ANSWER_BYTES, Pending, Problem};

/// HTTP's status of [`Pending`].
const ACCEPTED: u16 = 202;
/// Most characters of an answer that is no [`Problem`] that are shown.
const MAX_SHOWN: usize = 200;

/// Why a question has no answer that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or none that lasted.
    #[error("no answer from provisioning: {0}")]
    Unreachable(String),
    /// Whoever answers is not provisioning, or does not take us for who we are.
    #[error("provisioning is not to be trusted, or does not trust us: {0}")]
    Untrusted(String),
    /// It refuses.
    #[error("provisioning refuses ({}): {}", named(*.status, .problem), said(.problem))]
    Refused {
        /// HTTP's.
        status: u16,
        /// Its reason.
        problem: Problem,
    },
    /// It has understood, and wants us to come again.
    #[error("provisioning is busy with it")]
    Pending(Pending),
    /// It answers something else than it should.
    #[error("provisioning answers what cannot be: {0}")]
    Nonsense(String),
}

/// What a failure is to the retry rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// May pass by itself.
    Transient,
    /// Not before this time.
    Throttled(Duration),
    /// Does not pass by repeating.
    Misdirected,
}

impl Failure {
    /// What it is to the retry rules. A time that was named counts before all else.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let throttled = |after: u64| Kind::Throttled(Duration::from_millis(after));
        match self {
            Self::Unreachable(_) => Kind::Transient,
            Self::Untrusted(_) | Self::Nonsense(_) => Kind::Misdirected,
            Self::Pending(pending) => throttled(pending.retry_after_ms),
            Self::Refused { status, problem } => match problem.retry_after_ms {
                Some(after) => throttled(after),
                // The challenge was answered too slowly, or the service was restarted in between.
                None if problem.code == "stale_challenge" => Kind::Transient,
                None if (400..500).contains(status) => Kind::Misdirected,
                None => Kind::Transient,
            },
        }
    }
}

fn named(status: u16, problem: &Problem) -> String {
    let status = status.to_string();
    if problem.code == status { status } else { format!("{status} {}", problem.code) }
}

fn said(problem: &Problem) -> String {
    if problem.remedy.is_empty() {
        problem.message.clone()
    } else {
        format!("{}; {}", problem.message, problem.remedy)
    }
}

/// The body of an answer as it comes, [`MAX_ANSWER_BYTES`] at most.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// The next piece.
    ///
    /// # Errors
    /// [`Failure::Nonsense`] beyond the bound.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.0.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Nonsense(format!("an answer of more than {MAX_ANSWER_BYTES} bytes")));
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// The whole answer, which has come by that status of HTTP; not parsed.
    ///
    /// # Errors
    /// [`Failure::Refused`] or [`Failure::Pending`], as the status is.
    pub fn whole(self, status: u16) -> Result<Vec<u8>, Failure> {
        match status {
            ACCEPTED => Err(Failure::Pending(parse(&self.0)?)),
            200..300 => Ok(self.0),
            _ => Err(Failure::Refused { status, problem: problem(status, &self.0) }),
        }
    }

    /// The answer, which has come by that status of HTTP.
    ///
    /// # Errors
    /// As [`Body::whole`], and [`Failure::Nonsense`] where it is no `T`.
    pub fn read<T: DeserializeOwned>(self, status: u16) -> Result<T, Failure> {
        parse(&self.whole(status)?)
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Nonsense(error.to_string()))
}

/// What a refusal says; what is no [`Problem`], e.g. a proxy's page, is shown as far as there is room.
#[must_use]
pub fn problem(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        code: status.to_string(),
        message: String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect(),
        remedy: String::new(),
        retry_after_ms: None,
    })
}

/// The first cause of that type, wherever it is wrapped: what TLS has said of a connection, for one.
#[must_use]
pub fn caused_by<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        // What an I/O error wraps is not its source, but itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let inner = inner.map(|inner| inner as &(dyn Error + 'static));
        let found = error.downcast_ref().or(inner.and_then(|inner| inner.downcast_ref()));
        if found.is_some() {
            return found;
        }
        next = inner.or_else(|| error.source());
    }
    None
}

/// An error with all that it was caused by, what was said already left out.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, text: &str) -> Result<Vec<u8>, Failure> {
        let mut body = Body::default();
        body.take(text.as_bytes()).unwrap();
        body.whole(status)
    }

    /// Status and text of each answer that does not help, and what it is to the retry rules.
    #[test]
    fn each_refusal_is_of_one_kind_and_a_named_time_counts_before_all_else() {
        let plain = r#"{ "code": "x", "message": "m", "remedy": "r" }"#;
        let timed = r#"{ "code": "x", "message": "m", "retry_after_ms": 7000 }"#;
        let stale = r#"{ "code": "stale_challenge", "message": "m" }"#;
        let throttled = Kind::Throttled(Duration::from_secs(7));
        for (status, text, kind) in [
            (202, r#"{ "retry_after_ms": 7000 }"#, throttled),
            (202, "ok", Kind::Misdirected),
            (302, "elsewhere", Kind::Transient),
            (400, stale, Kind::Transient),
            (403, plain, Kind::Misdirected),
            (403, timed, throttled),
            (404, "<html>", Kind::Misdirected),
            (429, timed, throttled),
            (500, plain, Kind::Transient),
            (503, timed, throttled),
            (503, "<html>", Kind::Transient),
        ] {
            assert_eq!(answered(status, text).unwrap_err().kind(), kind, "{status} {text}");
        }
        assert_eq!(Failure::Unreachable(String::new()).kind(), Kind::Transient);
        assert_eq!(Failure::Untrusted(String::new()).kind(), Kind::Misdirected);
    }

    #[test]
    fn what_is_asked_for_is_parsed_and_nothing_else_is() {
        let mut body = Body::default();
        body.take(br#"{ "nonce": "AAA"#).unwrap();
        body.take(br#"A", "seconds": 9, "later": 1 }"#).unwrap();
        assert_eq!(body.read::<crate::provisioning::Challenge>(200).unwrap().seconds, 9);
        assert_eq!(answered(204, ""), Ok(Vec::new()));
        let nonsense = Body::default().read::<Pending>(200);
        assert!(matches!(nonsense, Err(Failure::Nonsense(_))), "{nonsense:?}");
    }

    #[test]
    fn an_answer_is_bounded() {
        let mut body = Body::default();
        body.take(&vec![b' '; MAX_ANSWER_BYTES]).unwrap();
        assert!(matches!(body.take(b" "), Err(Failure::Nonsense(_))));
    }

    #[test]
    fn a_person_reads_what_was_said_and_not_a_whole_page() {
        let refused = answered(403, r#"{ "code": "blocked", "message": "it is blocked", "remedy": "ask" }"#);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "provisioning refuses (403 blocked): it is blocked; ask"
        );
        let page = answered(502, &"x".repeat(1_000)).unwrap_err().to_string();
        assert!(page.contains("(502): x") && page.len() < MAX_SHOWN + 100, "{page}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("innermost")]
    struct Innermost;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_cause_is_found_wherever_it_is_wrapped() {
        let wrapped = Outer(std::io::Error::other(std::io::Error::other(Innermost)));
        assert!(caused_by::<Innermost>(&wrapped).is_some());
        assert!(caused_by::<std::fmt::Error>(&wrapped).is_none());
        assert_eq!(causes(&wrapped), "outer: innermost");
    }
}
