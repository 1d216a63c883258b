//! Who may send what: the roster's answer to a hello.
//!
//! Pure: `(hello, name in the certificate, roster) → decision`. Epochs count where the roster comes from provisioning: an
//! older one than the roster's has moved, a newer one is not known here yet. A gateway that names none (0) is taken as the
//! roster has it.

use std::collections::HashSet;
use std::sync::Arc;

use wire::message::{Hello, RefusalReason, TenantStream};

use crate::roster::{Entry, Origin, Place, Roster};

/// Why a session or a tenant is declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// The reason on the wire.
    pub reason: RefusalReason,
    /// For a person.
    pub text: String,
}

/// What a gateway may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Its place on the roster.
    pub entry: Arc<Entry>,
    /// Per tenant of the hello, of how many devices it is served (`None`: no limit of its own), or why not.
    pub tenants: Vec<Result<Option<u32>, Declined>>,
}

impl Allowed {
    /// The streams of the tenants that are served, each with its quota.
    pub fn streams<'a>(&'a self, hello: &'a Hello) -> impl Iterator<Item = (&'a TenantStream, Option<u32>)> {
        let both = hello.tenants.iter().zip(&self.tenants);
        both.filter_map(|(stream, answer)| answer.as_ref().ok().map(|quota| (stream, *quota)))
    }
}

/// Decides about a hello.
///
/// # Errors
/// [`Declined`] if there can be no session at all.
pub fn decide(hello: &Hello, certificate_name: &str, roster: &Roster) -> Result<Allowed, Declined> {
    let declined = |reason, text: String| Err(Declined { reason, text });
    let gateway = &hello.gateway;
    if gateway.as_str() != certificate_name {
        let text = format!("the certificate was issued to {certificate_name:?}, not to gateway {gateway}");
        return declined(RefusalReason::IdentityMismatch, text);
    }
    let mut names = HashSet::new();
    if let Some(twice) = hello.tenants.iter().find(|stream| !names.insert(&stream.tenant)) {
        return declined(
            RefusalReason::Malformed,
            format!("tenant {} occurs twice in the hello", twice.tenant),
        );
    }
    let known = roster.get(gateway);
    let entry = known.cloned().unwrap_or_default();
    let tenants: Vec<_> =
        hello.tenants.iter().map(|stream| tenant(hello, stream, &entry, roster.origin())).collect();
    if tenants.iter().any(Result::is_ok) {
        return Ok(Allowed { entry, tenants });
    }
    // Who is to come again comes again for all; who has moved finds all of it out where it asks.
    let first = |reason| {
        tenants.iter().find_map(|answer| answer.as_ref().err().filter(|declined| declined.reason == reason))
    };
    if let Some(declined) = first(RefusalReason::NotYet).or(first(RefusalReason::Moved)) {
        return Err(declined.clone());
    }
    if known.is_none() {
        return declined(
            RefusalReason::UnknownGateway,
            format!("gateway {gateway} is not on this stamp's roster"),
        );
    }
    if let Some(blocked) = entry.tenants.values().find(|place| matches!(place, Place::Blocked { .. })) {
        let text = format!("an operator has blocked gateway {gateway} (epoch {})", blocked.epoch());
        return declined(RefusalReason::NotAssigned, text);
    }
    let text = format!("none of the tenants of gateway {gateway} is on this stamp's roster");
    declined(RefusalReason::NotAssigned, text)
}

fn tenant(
    hello: &Hello,
    stream: &TenantStream,
    entry: &Entry,
    origin: Origin,
) -> Result<Option<u32>, Declined> {
    let (gateway, TenantStream { tenant, epoch, .. }) = (&hello.gateway, stream);
    let declined = |reason, text: String| Err(Declined { reason, text });
    let place = entry.tenants.get(tenant).copied();
    let nothing_said = origin == Origin::Provisioning(None);
    if nothing_said || (origin != Origin::File && *epoch > place.map_or(0, Place::epoch)) {
        let text = format!("epoch {epoch} of tenant {tenant} of gateway {gateway} is not known here yet");
        return declined(RefusalReason::NotYet, text);
    }
    match place {
        Some(Place::Served { epoch: now, devices }) => {
            if origin != Origin::File && *epoch != 0 && *epoch < now {
                let text = format!("tenant {tenant} of gateway {gateway} is at epoch {now}, not at {epoch}");
                return declined(RefusalReason::Moved, text);
            }
            Ok(devices)
        }
        Some(Place::Departed { epoch: since }) => declined(
            RefusalReason::Moved,
            format!("tenant {tenant} of gateway {gateway} has moved to another stamp at epoch {since}"),
        ),
        Some(Place::Blocked { .. }) => {
            declined(RefusalReason::NotAssigned, format!("an operator has blocked gateway {gateway}"))
        }
        None => declined(
            RefusalReason::NotAssigned,
            format!("tenant {tenant} of this gateway is not on this stamp's roster"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::{GatewayId, InstallationId, Sequence, StreamId, TenantId};
    use wire::provisioning::{RosterEntry, Treatment};

    use super::*;

    fn hello(tenants: &[(&str, u64)]) -> Hello {
        let streams = tenants.iter().map(|(tenant, epoch)| TenantStream {
            tenant: TenantId::new(tenant).unwrap(),
            stream: StreamId(1),
            next: Sequence(1),
            epoch: *epoch,
        });
        Hello {
            versions: vec![1],
            gateway: GatewayId::new("a").unwrap(),
            installation: InstallationId(1),
            software: String::new(),
            tenants: streams.collect(),
        }
    }

    fn roster(entries: &[(&str, u64, Treatment)]) -> Roster {
        let entries: Vec<_> = entries
            .iter()
            .map(|(tenant, epoch, treatment)| RosterEntry {
                gateway: GatewayId::new("a").unwrap(),
                tenant: TenantId::new(tenant).unwrap(),
                epoch: *epoch,
                treatment: treatment.clone(),
            })
            .collect();
        Roster::provisioned(Some(1), &entries)
    }

    #[test]
    fn an_older_epoch_has_moved_and_a_newer_one_is_not_known_yet() {
        let served = Treatment::Served { devices: 7, landed: Vec::new() };
        let departed = Treatment::Departed { watermark_wanted: true };
        let roster = roster(&[("come", 3, served), ("gone", 3, departed), ("bad", 3, Treatment::Blocked)]);
        let reason = |tenant, epoch| match decide(&hello(&[(tenant, epoch)]), "a", &roster) {
            Ok(allowed) => {
                assert_eq!(allowed.tenants, [Ok(Some(7))]);
                None
            }
            Err(declined) => Some(declined.reason),
        };
        use RefusalReason::{Moved, NotAssigned, NotYet};
        for (tenant, epoch, expected) in [
            ("come", 3, None),
            ("come", 0, None),
            ("come", 2, Some(Moved)),
            ("come", 4, Some(NotYet)),
            ("gone", 2, Some(Moved)),
            ("gone", 3, Some(Moved)),
            ("gone", 0, Some(Moved)),
            ("gone", 4, Some(NotYet)),
            ("bad", 3, Some(NotAssigned)),
            ("other", 1, Some(NotYet)),
            ("other", 0, Some(NotAssigned)),
        ] {
            assert_eq!(reason(tenant, epoch), expected, "{tenant} {epoch}");
        }
        // Each tenant by itself where one is served; for all together, the answer after which it comes again.
        let allowed = decide(&hello(&[("gone", 2), ("come", 3)]), "a", &roster).unwrap();
        assert!(allowed.tenants[0].is_err() && allowed.tenants[1].is_ok());
        let all = decide(&hello(&[("gone", 2), ("come", 4)]), "a", &roster).unwrap_err();
        assert_eq!(all.reason, NotYet);
    }

    #[test]
    fn before_anything_was_said_everybody_is_to_come_again() {
        let declined = decide(&hello(&[("come", 0)]), "a", &Roster::provisioned(None, &[])).unwrap_err();
        assert_eq!(declined.reason, RefusalReason::NotYet);
    }
}
