//! How a session or an attempt ended, and what that means to the retry rules.
//!
//! What this gateway's operator alone can mend (its identity files, an endpoint that is no name) is *permanent*: no
//! attempt until the files change or the operator says so. What someone at the other end can mend (its certificate, its
//! roster, its version) is *misdirected*: the link parks at once and looks again after the cool-down, since nobody will
//! walk to a thousand sites for a certificate that was renewed in the cloud. A time that the stamp names is kept. All else
//! is *transient*.

use std::time::Duration;

use backoff::Outcome;
use wire::ids::{StampId, TenantId};
use wire::message::{CloseReason, MessageError, RefusalReason};
use wire::session::gateway::Closed;

use super::transport::LinkError;

/// How a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The stamp refused or closed it, or does not keep to the protocol.
    Closed(Closed),
    /// The connection broke.
    Lost(LinkError),
    /// The stamp did not answer the hello.
    NoWelcome,
    /// It is another stamp than configured.
    WrongStamp { found: StampId },
    /// No tenant was admitted: the stamp's reason and words. Where it is to come again for one of them, those.
    NobodyAdmitted { reason: RefusalReason, text: String },
    /// The hello cannot be written.
    Hello(MessageError),
    /// We said goodbye: the gateway goes down, or the link is no longer wanted.
    Stopped,
    /// We said goodbye to come again at once, for tenants that were not taken. Its token is paid.
    Again,
}

/// What the retry rules must know of a session that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The stamp has accepted it.
    Welcomed,
    /// It takes all tenants, but those of which it says that they are not its own.
    Complete,
    /// It does not take some tenants for now, while it takes others: one of the reasons. To be answered with the moment at
    /// which to ask again.
    LeftOut(String),
    /// It refuses these tenants for good, while it may take others: one of the reasons.
    Astray(Vec<TenantId>, String),
    /// The stamp has acknowledged something.
    Acknowledged,
}

/// What an end means to the retry rules; `None` if it was our own wish.
pub(super) fn classify(ended: Ended) -> Option<Outcome> {
    Some(match ended {
        Ended::Stopped | Ended::Again => return None,
        Ended::Lost(error) => classify_loss(&error),
        Ended::NoWelcome => Outcome::transient("the stamp accepts the connection but does not answer"),
        Ended::Hello(error) => Outcome::permanent(error.to_string()),
        Ended::WrongStamp { found } => {
            Outcome::misdirected(format!("stamp {found} answers at this endpoint: correct uplink.stamp"))
        }
        Ended::NobodyAdmitted { reason, text } => refusal(reason, &text, None),
        Ended::Closed(Closed::Refused(refused)) => {
            refusal(refused.reason, &refused.text, refused.retry_after)
        }
        Ended::Closed(Closed::ByStamp(close)) => {
            let cause = said(&close.reason.to_string(), &close.text);
            match (close.return_after, close.reason) {
                (Some(after), _) => Outcome::throttled(cause, after),
                (None, CloseReason::Protocol) => Outcome::misdirected(cause),
                (None, _) => Outcome::transient(cause),
            }
        }
        Ended::Closed(Closed::Protocol(error)) => {
            Outcome::misdirected(format!("the stamp does not keep to the protocol: {error}"))
        }
    })
}

fn classify_loss(error: &LinkError) -> Outcome {
    match error {
        LinkError::Identity(_) | LinkError::ServerName { .. } => Outcome::permanent(error.to_string()),
        error if error.is_permanent() => Outcome::misdirected(error.to_string()),
        error => Outcome::transient(error.to_string()),
    }
}

fn refusal(reason: RefusalReason, text: &str, retry_after: Option<Duration>) -> Outcome {
    let cause = said(&reason.to_string(), text);
    match retry_after {
        Some(after) => Outcome::throttled(cause, after),
        None if reason.is_permanent() => Outcome::misdirected(cause),
        None => Outcome::transient(cause),
    }
}

/// A reason and the words that came with it.
pub(super) fn said(reason: &str, text: &str) -> String {
    if text.is_empty() { reason.to_owned() } else { format!("{reason}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::{Close, Refused};

    fn refused(reason: RefusalReason, retry_after: Option<Duration>) -> Ended {
        Ended::Closed(Closed::Refused(Refused { reason, text: String::new(), retry_after }))
    }

    #[test]
    fn what_the_other_end_can_mend_parks_and_what_we_must_mend_gives_up() {
        assert!(matches!(
            classify(refused(RefusalReason::NotAssigned, None)),
            Some(Outcome::Misdirected { .. })
        ));
        assert!(matches!(classify(refused(RefusalReason::Version, None)), Some(Outcome::Misdirected { .. })));
        let own = LinkError::ServerName { host: "no name".to_owned() };
        assert!(matches!(classify(Ended::Lost(own)), Some(Outcome::Permanent { .. })));
        let theirs = LinkError::Certificate { side: "the stamp's certificate", cause: "expired".to_owned() };
        assert!(matches!(classify(Ended::Lost(theirs)), Some(Outcome::Misdirected { .. })));
    }

    #[test]
    fn a_time_the_stamp_names_wins_over_its_reason() {
        let after = Duration::from_secs(7);
        for reason in [RefusalReason::IdentityInUse, RefusalReason::NotAssigned, RefusalReason::Full] {
            assert!(matches!(
                classify(refused(reason, Some(after))),
                Some(Outcome::Throttled { retry_after, .. }) if retry_after == after
            ));
        }
        let close =
            Close { reason: CloseReason::ShuttingDown, text: String::new(), return_after: Some(after) };
        assert!(matches!(
            classify(Ended::Closed(Closed::ByStamp(close))),
            Some(Outcome::Throttled { retry_after, .. }) if retry_after == after
        ));
    }

    #[test]
    fn a_goodbye_of_ours_is_no_failure() {
        assert_eq!(classify(Ended::Stopped), None);
    }
}
