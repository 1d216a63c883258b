//! Addresses of peers as URLs: `quic://host:port`, `mqtt://host`, `mqtts://[::1]:8883`. Only what Sluice speaks.

/// The parts of such a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// In front of `://`.
    pub(crate) scheme: String,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// Where one is given.
    pub(crate) port: Option<u16>,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("{0:?} has no scheme")]
    NoScheme(String),
    #[error("{0:?} names no host")]
    NoHost(String),
    #[error("{0:?} is no port: it must be a number from 1 to 65535")]
    Port(String),
    #[error("user and password do not belong into an address")]
    Credentials,
    #[error("a path ({0:?}) does not belong into the address")]
    Path(String),
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| AddressError::NoScheme(text.to_owned()))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !matches!(path, "" | "/") {
            return Err(AddressError::Path(path.to_owned()));
        }
        if authority.contains('@') {
            return Err(AddressError::Credentials);
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(AddressError::Port(port.to_owned())),
            },
        };
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |text: &str| Address::parse(text).map(|a| (a.scheme, a.host, a.port));
        assert_eq!(
            parts("quic://stamp.example:7443"),
            Ok(("quic".into(), "stamp.example".into(), Some(7443)))
        );
        assert_eq!(parts("mqtt://broker/"), Ok(("mqtt".into(), "broker".into(), None)));
        assert_eq!(parts("mqtts://[::1]:8883"), Ok(("mqtts".into(), "::1".into(), Some(8883))));
        assert_eq!(parts("broker:1883"), Err(AddressError::NoScheme("broker:1883".into())));
        assert_eq!(parts("mqtt://:1883"), Err(AddressError::NoHost("mqtt://:1883".into())));
        assert_eq!(parts("mqtt://b:0"), Err(AddressError::Port("0".into())));
        assert_eq!(parts("mqtt://me:secret@b"), Err(AddressError::Credentials));
        assert_eq!(parts("mqtt://b/x"), Err(AddressError::Path("/x".into())));
    }
}
