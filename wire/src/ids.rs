//! Names and numbers, each of its own type. Parsed once at the edge, never checked again inside.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What the text should have been, e.g. "tenant id".
        kind: &'static str,
    },
    /// The text has more bytes than such a name may have.
    #[error("a {kind} has at most {limit} bytes, this one has {length}")]
    TooLong {
        /// What the text should have been.
        kind: &'static str,
        /// The most bytes allowed.
        limit: usize,
        /// The bytes it has.
        length: usize,
    },
    /// A character that such a name may not hold.
    #[error("a {kind} must not contain {character:?}: use {allowed}")]
    Character {
        /// What the text should have been.
        kind: &'static str,
        /// The first offending character.
        character: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
}

/// Names that appear in file names, topics and configuration keys: lower-case and short.
fn check_slug(kind: &'static str, text: &str) -> Result<(), NameError> {
    const LIMIT: usize = 63;
    check_length(kind, text, LIMIT)?;
    match text.char_indices().find(|&(at, c)| {
        !(c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && matches!(c, '-' | '_' | '.')))
    }) {
        None => Ok(()),
        Some((_, character)) => Err(NameError::Character {
            kind,
            character,
            allowed: "a-z, 0-9, and after the first character also '-', '_' and '.'",
        }),
    }
}

fn check_length(kind: &'static str, text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty { kind }),
        length if length > limit => Err(NameError::TooLong { kind, limit, length }),
        _ => Ok(()),
    }
}

fn check_device(kind: &'static str, text: &str) -> Result<(), NameError> {
    const LIMIT: usize = 256;
    check_length(kind, text, LIMIT)?;
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(character) => Err(NameError::Character { kind, character, allowed: "printable characters" }),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses and checks the text.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long or holds a character that is not allowed.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($kind, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// A customer or department whose data is kept apart from all others'.
    TenantId, "tenant id", check_slug
);
name!(
    /// A gateway, as named in its certificate.
    GatewayId, "gateway id", check_slug
);
name!(
    /// A cloud unit that receives from gateways.
    StampId, "stamp id", check_slug
);
name!(
    /// A gateway or a group of gateways that provisioning knows of.
    EnrolmentId, "enrolment id", check_slug
);
name!(
    /// Where a stamp is, and where a tenant's data may go: `eu`, `us-east`.
    Region, "region", check_slug
);
name!(
    /// What a stamp is for: `test`, `production`.
    Environment, "environment", check_slug
);
name!(
    /// A named output of a lane, e.g. "telemetry" or "alarms".
    RouteName, "route name", check_slug
);
name!(
    /// One thing on a site; unique within its tenant.
    DeviceId, "device id", check_device
);

impl RouteName {
    /// The route of everything a step does not send elsewhere.
    pub const TELEMETRY: &'static str = "telemetry";
}

/// The place of a batch in one tenant's stream from one gateway: 1, 2, 3 … without gaps, kept across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a tenant's store file, drawn at random when the file is made. A store that had to be set aside is
/// followed by another whose sequence starts anew: without this number its batches would pass for repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One installation of a gateway (a data folder), drawn at random when it is made: tells a gateway that reconnects
/// from a second one that was given the same identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallationId(pub u64);

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A tenant's release: a document and contents that its gateways are to run, numbered by provisioning: 1, 2, 3 … over all
/// tenants. 0 is none: the gateway runs what its own file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Release(pub u64);

impl Release {
    /// No release: the gateway's own configuration.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of a content, e.g. of a plugin's file. 64 hexadecimal digits as text, 32 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl std::str::FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
        let mut bytes = [0; 32];
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(DigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(DigestError) };
            *byte = digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low).ok_or(DigestError)?;
        }
        Ok(Self(bytes))
    }
}

/// A text is not a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is written as 64 digits of 0-9 and a-f")]
pub struct DigestError;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hexadecimal_for_people_and_bytes_on_the_wire() {
        let digest = Digest(std::array::from_fn(|place| place as u8 * 7));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{digest}\"")).unwrap(), digest);
        assert_eq!(postcard::to_allocvec(&digest).unwrap(), digest.0);
        assert_eq!(postcard::from_bytes::<Digest>(&digest.0).unwrap(), digest);
        for bad in ["", "00", &"g".repeat(64), &"AB".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
    }

    #[test]
    fn names_are_checked_where_they_enter() {
        assert!(TenantId::new("acme").is_ok());
        assert!(TenantId::new("plant7-line2.b_c").is_ok());
        assert_eq!(TenantId::new(""), Err(NameError::Empty { kind: "tenant id" }));
        assert!(matches!(TenantId::new("../etc"), Err(NameError::Character { character: '.', .. })));
        assert!(matches!(TenantId::new("a/b"), Err(NameError::Character { character: '/', .. })));
        assert!(matches!(TenantId::new(&"a".repeat(64)), Err(NameError::TooLong { .. })));
        assert!(DeviceId::new("Pump 7 / Süd").is_ok());
        assert!(DeviceId::new("a\nb").is_err());
    }

    #[test]
    fn a_name_that_arrives_is_checked_too() {
        let bytes = postcard::to_allocvec("no/slash").unwrap();
        assert!(postcard::from_bytes::<TenantId>(&bytes).is_err());
    }
}
