//! Who may: operators, by their certificates. And what they do is written down.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Serialize;

use crate::api::peers::Peer;
use crate::api::problem::Refused;
use crate::api::{Service, now};
use crate::registry::audit::Deed;
use crate::registry::{Books, RegistryError};

/// An operator who asks. As the first argument of a route it comes before the question is read.
#[derive(Debug, Clone)]
pub(in crate::api) struct Operator {
    /// The Common Name of the certificate.
    pub(in crate::api) name: String,
    /// From where.
    pub(in crate::api) address: String,
}

impl FromRequestParts<Arc<Service>> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Refused> {
        let path = parts.uri.path();
        let Some(peer) = parts.extensions.get::<Peer>() else {
            return Err(refused("the connection is not known".to_owned()));
        };
        let judged = match service.peers.staff(peer, now()) {
            Ok(name) if service.peers.is_operator(&name) => Ok(name),
            Ok(name) => Err(format!("the certificate is {name:?}'s, who is no operator")),
            Err(error) => Err(error.to_string()),
        };
        let name = judged.map_err(|reason| {
            tracing::warn!(address = %peer.address, method = %parts.method, path, reason, "refused");
            refused(reason)
        })?;
        tracing::debug!(operator = name, address = %peer.address, method = %parts.method, path, "asked");
        Ok(Self { name, address: peer.address.to_string() })
    }
}

fn refused(reason: String) -> Refused {
    Refused::new(
        StatusCode::FORBIDDEN,
        "not_operator",
        reason,
        "use a certificate from provision.trust whose Common Name is among provision.operators",
    )
}

impl Operator {
    /// Makes a change, writes it down in the same commit, and logs it. `detail` must hold no secret.
    pub(in crate::api) async fn act<T, F>(
        &self,
        service: &Service,
        action: &'static str,
        subject: impl Into<String>,
        detail: &impl Serialize,
        change: F,
    ) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    {
        let deed = Deed {
            operator: self.name.clone(),
            address: self.address.clone(),
            action: action.to_owned(),
            subject: subject.into(),
            detail: serde_json::to_string(detail).unwrap_or_default(),
        };
        let Deed { operator, address, subject, .. } = deed.clone();
        let result = service.registry.change(move |books| {
            let changed = change(books)?;
            books.audit(&deed)?;
            Ok(changed)
        });
        match result.await {
            Ok(changed) => {
                tracing::info!(operator, address, action, subject, "changed by an operator");
                Ok(changed)
            }
            Err(error) => {
                tracing::warn!(operator, address, action, subject, %error, "a change was refused");
                Err(error.into())
            }
        }
    }
}
