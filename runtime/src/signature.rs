//! Signatures of plugins: ed25519 (RFC 8032) over everything in the file before the signature.
//!
//! ```text
//! custom section "sluice:signature", the last of the file:
//!     version 1 (1 byte) ++ key id (8) ++ signature (64)
//! key id  = first 8 bytes of SHA-256 of the public key
//! message = "sluice plugin signature v1\0" ++ SHA-256 of all bytes before the section (32)
//! ```
//! A public key is written `ed25519:` and its 32 bytes in base64; a secret one is a file, PKCS#8 as PEM.
//!
//! Invariant: whatever follows a signature, or is signed twice, is wrong: a signature covers the whole file.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use crate::sections;

/// The custom section that holds it.
pub(crate) const SECTION: &str = "sluice:signature";
const DOMAIN: &[u8] = b"sluice plugin signature v1\0";
const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const KEY_PREFIX: &str = "ed25519:";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Characters of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// The key that a signature is checked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// Names a public key within a signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_BYTES]);

/// The key that signs.
pub struct SecretKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

/// Why a text or file is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a public key.
    #[error("a public key is written \"{KEY_PREFIX}\" and 44 characters of base64, this is not")]
    Public,
    /// Not a secret key.
    #[error("not an ed25519 secret key: expected a PEM file that begins with {PEM_BEGIN}")]
    Secret,
    /// The system has no randomness.
    #[error("the system gave no random numbers for a new key")]
    Random,
}

/// The file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the component is damaged: its sections cannot be read")]
pub struct Damaged;

/// The public keys that are trusted, with the names of who holds them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRing(Vec<(String, PublicKey)>);

/// What a file's signature is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Signed {
        /// The key's name in the ring.
        by: String,
    },
    /// There is none.
    Unsigned,
    /// It was made with a key that the ring does not have.
    UnknownKey {
        /// The key.
        key: KeyId,
    },
    /// It does not match the file: one of both was changed.
    Wrong,
}

/// Which plugins are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// The keys that are trusted.
    pub ring: KeyRing,
    /// Whether a plugin must be signed with one of them.
    pub required: bool,
}

impl KeyRing {
    /// Adds a key; the name is for messages.
    pub fn insert(&mut self, name: impl Into<String>, key: PublicKey) {
        self.0.push((name.into(), key));
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, PublicKey)> for KeyRing {
    fn from_iter<I: IntoIterator<Item = (String, PublicKey)>>(keys: I) -> Self {
        KeyRing(keys.into_iter().collect())
    }
}

/// The component with a signature at its end, in place of one it had.
///
/// # Errors
/// [`Damaged`] if its sections cannot be read.
pub fn sign(component: &[u8], key: &SecretKey) -> Result<Vec<u8>, Damaged> {
    let mut signed = sections::without(component, SECTION).ok_or(Damaged)?;
    let mut content = vec![VERSION];
    content.extend_from_slice(&key.public().id().0);
    content.extend_from_slice(key.pair.sign(&message(&signed)).as_ref());
    sections::append(&mut signed, SECTION, &content);
    Ok(signed)
}

/// What the signature of a component is worth.
#[must_use]
pub fn verify(component: &[u8], ring: &KeyRing) -> Verdict {
    let (before, key, signature) = match find(component) {
        Found::None => return Verdict::Unsigned,
        Found::Broken => return Verdict::Wrong,
        Found::One { before, key, signature } => (before, key, signature),
    };
    let mut known = ring.0.iter().filter(|(_, public)| public.id() == key).peekable();
    if known.peek().is_none() {
        return Verdict::UnknownKey { key };
    }
    let message = message(before);
    known
        .find(|(_, public)| UnparsedPublicKey::new(&ED25519, public.0).verify(&message, signature).is_ok())
        .map_or(Verdict::Wrong, |(name, _)| Verdict::Signed { by: name.clone() })
}

/// The key that a component says it was signed with; not whether it was.
#[must_use]
pub fn signer(component: &[u8]) -> Option<KeyId> {
    if let Found::One { key, .. } = find(component) { Some(key) } else { None }
}

enum Found<'a> {
    None,
    Broken,
    One { before: &'a [u8], key: KeyId, signature: &'a [u8] },
}

fn find(component: &[u8]) -> Found<'_> {
    // A damaged file is refused elsewhere, in better words.
    let Some(sections) = sections::outermost(component) else { return Found::None };
    let is_signature =
        |section: &sections::Section| section.custom.as_ref().is_some_and(|(name, _)| name == SECTION);
    let Some(first) = sections.iter().position(is_signature) else { return Found::None };
    let Some((section, [])) = sections.get(first..).and_then(<[_]>::split_first) else {
        return Found::Broken;
    };
    let content = section.custom.as_ref().and_then(|(_, content)| component.get(content.clone()));
    let parts = content.and_then(|content| {
        let (version, rest) = content.split_first()?;
        let (key, signature) = rest.split_first_chunk::<ID_BYTES>()?;
        (*version == VERSION && signature.len() == 64).then_some((KeyId(*key), signature))
    });
    match (parts, component.get(..section.whole.start)) {
        (Some((key, signature)), Some(before)) => Found::One { before, key, signature },
        _ => Found::Broken,
    }
}

fn message(before: &[u8]) -> Vec<u8> {
    [DOMAIN, &Sha256::digest(before)].concat()
}

impl PublicKey {
    /// Its name within signatures.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0);
        KeyId(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl SecretKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
    }

    /// Reads a key as [`SecretKey::to_pem`] writes it, or as other tools do (PKCS#8, e.g.
    /// `openssl genpkey -algorithm ed25519`).
    ///
    /// # Errors
    /// [`KeyError::Secret`] if it is none.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem.split_once(PEM_BEGIN).and_then(|(_, rest)| rest.split_once(PEM_END));
        let body: String = body.ok_or(KeyError::Secret)?.0.split_ascii_whitespace().collect();
        Self::from_pkcs8(BASE64.decode(body).map_err(|_| KeyError::Secret)?)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| KeyError::Secret)?;
        Ok(SecretKey { pair, pkcs8 })
    }

    /// The key as a file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let body = BASE64.encode(&self.pkcs8);
        let lines: Vec<&str> = (0..body.len())
            .step_by(PEM_LINE)
            .filter_map(|at| body.get(at..body.len().min(at + PEM_LINE)))
            .collect();
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", lines.join("\n"))
    }

    /// The key that its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(key)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let body = text.trim().strip_prefix(KEY_PREFIX).ok_or(KeyError::Public)?;
        let bytes = BASE64.decode(body).map_err(|_| KeyError::Public)?;
        bytes.try_into().map(PublicKey).map_err(|_| KeyError::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::cache::hex(&self.0))
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Vec<u8> {
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        sections::append(&mut component, "some", &[5; 200]);
        component
    }

    #[test]
    fn any_change_of_a_signed_file_is_found() {
        let key = SecretKey::generate().unwrap();
        let ring: KeyRing = [("acme".to_owned(), key.public())].into_iter().collect();
        let signed = sign(&component(), &key).unwrap();
        assert_eq!(verify(&signed, &ring), Verdict::Signed { by: "acme".into() });
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            let verdict = verify(&changed, &ring);
            assert!(!matches!(verdict, Verdict::Signed { .. }), "byte {at}: {verdict:?}");
        }
        let mut longer = signed.clone();
        sections::append(&mut longer, "more", b"");
        assert_eq!(verify(&longer, &ring), Verdict::Wrong, "it covers the whole file");
        assert_eq!(sign(&signed, &key), Ok(signed), "signed again it is the same");
    }

    #[test]
    fn a_signature_of_somebody_else_is_no_signature_of_ours() {
        let (ours, theirs) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let ring: KeyRing = [("ours".to_owned(), ours.public())].into_iter().collect();
        let signed = sign(&component(), &theirs).unwrap();
        assert_eq!(verify(&signed, &ring), Verdict::UnknownKey { key: theirs.public().id() });
        assert_eq!(signer(&signed), Some(theirs.public().id()));
        assert_eq!(verify(&component(), &ring), Verdict::Unsigned);
    }

    #[test]
    fn keys_are_read_back_and_nonsense_is_refused() {
        let key = SecretKey::generate().unwrap();
        assert_eq!(SecretKey::from_pem(&key.to_pem()).unwrap().public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert_eq!("ed25519:AAAA".parse::<PublicKey>(), Err(KeyError::Public));
        assert_eq!("rsa:AAAA".parse::<PublicKey>(), Err(KeyError::Public));
        assert!(SecretKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
        assert!(!format!("{key:?}").contains(&BASE64.encode(&key.pkcs8)));
        // As `openssl genpkey -algorithm ed25519` writes it: PKCS#8 version 1, without the public key (RFC 8410, 10.3).
        let openssl = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = SecretKey::from_pem(openssl).unwrap().public();
        assert_eq!(public.to_string(), "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    }
}
