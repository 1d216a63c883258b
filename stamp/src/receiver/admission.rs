//! Who may send what: the roster's answer to a hello.
//!
//! Pure: `(hello, name in the certificate, roster) → decision`.

use std::collections::HashSet;

use wire::message::{Hello, RefusalReason, TenantStream};

use crate::roster::{Entry, Roster};

/// Why a session is declined.
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
    pub entry: Entry,
    /// Per tenant of the hello, whether it is served.
    pub tenants: Vec<bool>,
}

impl Allowed {
    /// The streams of the tenants that are served.
    pub fn streams<'a>(&'a self, hello: &'a Hello) -> impl Iterator<Item = &'a TenantStream> {
        hello.tenants.iter().zip(&self.tenants).filter(|(_, served)| **served).map(|(stream, _)| stream)
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
    let Some(entry) = roster.get(gateway) else {
        return declined(
            RefusalReason::UnknownGateway,
            format!("gateway {gateway} is not on this stamp's roster"),
        );
    };
    let tenants: Vec<bool> =
        hello.tenants.iter().map(|stream| entry.tenants.contains(&stream.tenant)).collect();
    if !tenants.contains(&true) {
        let text = format!("none of the tenants of gateway {gateway} is on this stamp's roster");
        return declined(RefusalReason::NotAssigned, text);
    }
    Ok(Allowed { entry: entry.clone(), tenants })
}
