//! Who may connect, and for which tenant.
//!
//! A user is known by name and password, or by the Common Name of a client certificate; a user with a password needs it
//! unless a certificate says the name. Does not read files after the start. Invariants: passwords are compared in
//! constant time by their digests; nothing here is logged.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_config::{SecretError, User};
use sha2::{Digest, Sha256};
use wire::ids::TenantId;

use super::control::Refusal;

/// Who a client turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User name; `None`: anonymous.
    pub(crate) user: Option<Arc<str>>,
    /// The only tenant it may publish for; `None`: all.
    pub(crate) tenant: Option<TenantId>,
}

struct Known {
    name: Arc<str>,
    password: Option<[u8; 32]>,
    tenant: Option<TenantId>,
}

/// The users of a listener.
pub(crate) struct Access {
    users: HashMap<String, Known>,
    allow_anonymous: bool,
}

impl Access {
    /// Reads the users' secrets.
    pub(crate) fn new(listener: &gateway_config::Listener) -> Result<Self, SecretError> {
        let known = |user: &User| -> Result<Known, SecretError> {
            let password = user.password.as_ref().map(|secret| secret.read()).transpose()?;
            Ok(Known {
                name: user.name.as_str().into(),
                password: password.map(|password| digest(password.as_bytes())),
                tenant: user.tenant.clone(),
            })
        };
        let users = listener
            .users
            .iter()
            .map(|(name, user)| Ok((name.clone(), known(user)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self { users, allow_anonymous: listener.allow_anonymous })
    }

    /// Decides. `certificate` is the Common Name of a verified client certificate.
    pub(crate) fn identify(
        &self,
        certificate: Option<&str>,
        name: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Identity, Refusal> {
        if let Some(common_name) = certificate {
            // A certificate speaks for its name only.
            if name.is_some_and(|name| name != common_name) {
                return Err(Refusal::NotAuthorized);
            }
            return match self.users.get(common_name) {
                Some(user) => Ok(user.identity()),
                // Without a list of users, whoever the CA vouches for may publish.
                None if self.users.is_empty() => {
                    Ok(Identity { user: Some(common_name.into()), tenant: None })
                }
                None => Err(Refusal::NotAuthorized),
            };
        }
        let Some(name) = name else {
            let anonymous = Identity { user: None, tenant: None };
            return if self.allow_anonymous { Ok(anonymous) } else { Err(Refusal::NotAuthorized) };
        };
        let given = digest(password.unwrap_or_default());
        let user = self.users.get(name);
        let wanted = user.and_then(|user| user.password);
        // An unknown name costs as much time as a wrong password.
        let equal = same(&given, &wanted.unwrap_or_default());
        match user {
            Some(user) if equal && wanted.is_some() && password.is_some() => Ok(user.identity()),
            None if self.users.is_empty() && self.allow_anonymous => {
                Ok(Identity { user: Some(name.into()), tenant: None })
            }
            _ => Err(Refusal::Password),
        }
    }
}

impl Known {
    fn identity(&self) -> Identity {
        Identity { user: Some(Arc::clone(&self.name)), tenant: self.tenant.clone() }
    }
}

fn digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(password).into()
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(users: &[(&str, Option<&str>, Option<&str>)], allow_anonymous: bool) -> Access {
        let known = |&(name, password, tenant): &(&str, Option<&str>, Option<&str>)| {
            let known = Known {
                name: name.into(),
                password: password.map(|password| digest(password.as_bytes())),
                tenant: tenant.map(|tenant| TenantId::new(tenant).unwrap()),
            };
            (name.to_owned(), known)
        };
        Access { users: users.iter().map(known).collect(), allow_anonymous }
    }

    #[test]
    fn a_name_needs_its_password() {
        let access = access(&[("ada", Some("secret"), Some("acme")), ("cert-only", None, None)], false);
        let ada = access.identify(None, Some("ada"), Some(b"secret")).unwrap();
        assert_eq!(ada.tenant, Some(TenantId::new("acme").unwrap()));
        assert_eq!(access.identify(None, Some("ada"), Some(b"wrong")), Err(Refusal::Password));
        assert_eq!(access.identify(None, Some("ada"), None), Err(Refusal::Password));
        assert_eq!(access.identify(None, Some("bob"), Some(b"secret")), Err(Refusal::Password));
        assert_eq!(access.identify(None, Some("cert-only"), None), Err(Refusal::Password));
        assert_eq!(access.identify(None, Some("cert-only"), Some(b"")), Err(Refusal::Password));
        assert_eq!(access.identify(None, None, None), Err(Refusal::NotAuthorized));
    }

    #[test]
    fn a_certificate_speaks_for_its_own_name_only() {
        let with_users = access(&[("ada", Some("secret"), Some("acme"))], false);
        assert!(with_users.identify(Some("ada"), None, None).is_ok());
        assert!(with_users.identify(Some("ada"), Some("ada"), None).is_ok());
        assert_eq!(with_users.identify(Some("ada"), Some("bob"), None), Err(Refusal::NotAuthorized));
        assert_eq!(with_users.identify(Some("eve"), None, None), Err(Refusal::NotAuthorized));
        assert!(access(&[], false).identify(Some("eve"), None, None).is_ok());
    }

    #[test]
    fn anonymous_clients_are_let_in_only_where_allowed() {
        assert!(access(&[], true).identify(None, None, None).is_ok());
        assert!(access(&[], true).identify(None, Some("any"), Some(b"thing")).is_ok());
        assert!(access(&[], false).identify(None, Some("any"), Some(b"thing")).is_err());
        assert!(access(&[("ada", Some("x"), None)], true).identify(None, Some("eve"), Some(b"x")).is_err());
    }
}
