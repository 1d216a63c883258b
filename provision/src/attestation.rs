//! How a gateway proves who it is.
//!
//! - *X.509*: it shows its certificate in the TLS handshake, which proves that it has the key. The certificate is enrolled
//!   itself (by its SHA-256), or comes from an authority that is enrolled for a group and has the gateway id as its Common
//!   Name.
//! - *Symmetric key*: it asks for a challenge, a number used once, and answers HMAC-SHA256 over challenge, gateway id and
//!   signing request. So no clock of the gateway is needed, what was overheard cannot be played again, and a proof is for
//!   one request only. A group's key never leaves the service: each gateway has HMAC-SHA256(group key, gateway id).
//!
//! Pure but for [`Challenges`], which keeps what was given out. Time is a parameter.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use wire::ids::GatewayId;
use wire::provisioning::ANSWER_CONTEXT;

/// A number used once.
pub type Nonce = [u8; 32];

/// A challenge is answered within this time.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);
/// Most challenges given out and not answered; beyond, whoever asks comes again later.
pub const MAX_CHALLENGES: usize = 100_000;

/// The key of a gateway of a group.
#[must_use]
pub fn derive(group_key: &[u8], gateway: &GatewayId) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, group_key);
    hmac::sign(&key, gateway.as_str().as_bytes()).as_ref().to_vec()
}

/// The answer to a challenge.
#[must_use]
pub fn answer(key: &[u8], nonce: &Nonce, gateway: &GatewayId, request: &[u8]) -> Vec<u8> {
    context(key, nonce, gateway, request).sign().as_ref().to_vec()
}

/// Whether an answer is right; takes the same time whatever it is.
#[must_use]
pub fn is_answer(key: &[u8], nonce: &Nonce, gateway: &GatewayId, request: &[u8], answer: &[u8]) -> bool {
    // Of two MACs under a key of this moment: equal exactly if the answers are, and nothing is learnt from the time.
    let right = context(key, nonce, gateway, request).sign();
    let blind = hmac::Key::new(hmac::HMAC_SHA256, nonce);
    hmac::verify(&blind, answer, hmac::sign(&blind, right.as_ref()).as_ref()).is_ok()
}

fn context(key: &[u8], nonce: &Nonce, gateway: &GatewayId, request: &[u8]) -> hmac::Context {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(ANSWER_CONTEXT);
    context.update(nonce);
    // The length parts the name from what follows.
    context.update(&(gateway.as_str().len() as u64).to_le_bytes());
    context.update(gateway.as_str().as_bytes());
    context.update(request);
    context
}

/// Challenges given out and not answered yet.
pub struct Challenges {
    random: SystemRandom,
    open: Mutex<HashMap<Nonce, i64>>,
}

impl Default for Challenges {
    fn default() -> Self {
        Self { random: SystemRandom::new(), open: Mutex::new(HashMap::new()) }
    }
}

impl Challenges {
    /// A new challenge; `None` if too many are open. `now` is in seconds since 1970 UTC.
    #[must_use]
    pub fn give(&self, now: i64) -> Option<Nonce> {
        let mut nonce = [0; 32];
        self.random.fill(&mut nonce).ok()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_CHALLENGES {
            open.retain(|_, until| *until > now);
            if open.len() >= MAX_CHALLENGES {
                return None;
            }
        }
        open.insert(nonce, now.saturating_add(CHALLENGE_LIFE.as_secs() as i64));
        Some(nonce)
    }

    /// Uses a challenge up. `false`: it was never given out, is used or too old.
    #[must_use]
    pub fn take(&self, nonce: &Nonce, now: i64) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(nonce).is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(id: &str) -> GatewayId {
        GatewayId::new(id).unwrap()
    }

    #[test]
    fn an_answer_is_for_one_challenge_gateway_request_and_key() {
        let (key, nonce, request) = (derive(b"group", &gateway("g1")), [1; 32], b"csr");
        let right = answer(&key, &nonce, &gateway("g1"), request);
        assert!(is_answer(&key, &nonce, &gateway("g1"), request, &right));
        assert!(!is_answer(&key, &[2; 32], &gateway("g1"), request, &right));
        assert!(!is_answer(&key, &nonce, &gateway("g2"), request, &right));
        assert!(!is_answer(&key, &nonce, &gateway("g1"), b"other", &right));
        assert!(!is_answer(&derive(b"group", &gateway("g2")), &nonce, &gateway("g1"), request, &right));
        assert!(!is_answer(&key, &nonce, &gateway("g1"), request, &right[..31]));
        // The end of the name cannot become the beginning of the request.
        assert!(!is_answer(&key, &nonce, &gateway("g"), b"1csr", &right));
    }

    #[test]
    fn a_challenge_is_good_once_and_for_a_minute() {
        let challenges = Challenges::default();
        let nonce = challenges.give(0).unwrap();
        assert!(challenges.take(&nonce, 59));
        assert!(!challenges.take(&nonce, 59), "used");
        assert!(!challenges.take(&challenges.give(0).unwrap(), 60), "too old");
        assert!(!challenges.take(&[0; 32], 0), "never given");
    }

    #[test]
    fn open_challenges_are_bounded_and_old_ones_make_room() {
        let challenges = Challenges::default();
        for _ in 0..MAX_CHALLENGES {
            challenges.give(0).unwrap();
        }
        assert_eq!(challenges.give(30), None);
        assert!(challenges.give(60).is_some());
    }
}
