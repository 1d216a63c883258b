//! Keys that survive a restart, so that a stamp can tell gateways at once that the connections of its former life are gone:
//! QUIC's stateless reset (RFC 9000, 10.3).
//!
//! ```text
//! data_dir/quic-reset.key (0600): 64 bytes key of the reset tokens ‖ 8 bytes key of the connection ids
//! ```
//! A gateway learns the token of each connection id inside the encrypted connection. A stamp that was killed and is back
//! knows no connection, but makes the same token of the id in a packet, and the gateway believes it. Who has the file can end
//! connections of this stamp, no more. Each stamp has its own. Does not know quinn.
//!
//! Invariant: without the file, or with a damaged one, new keys are made and kept; then gateways find out by silence.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::warn;

/// In the data folder.
const FILE: &str = "quic-reset.key";
/// Bytes of the key of the tokens: a block of HMAC-SHA-256.
const TOKEN_BYTES: usize = 64;
const ID_BYTES: usize = 8;

/// What makes tokens and connection ids of a stamp, over all its lives.
#[derive(Clone, PartialEq, Eq)]
pub struct ResetKeys {
    /// Key of the reset tokens (HMAC-SHA-256).
    pub(super) token: [u8; TOKEN_BYTES],
    /// Key of the connection ids: a stamp answers for those alone that it made itself.
    pub(super) connection_id: u64,
}

impl ResetKeys {
    /// Those in the data folder; made and kept there if there are none.
    ///
    /// # Errors
    /// When there is no randomness, or a good file cannot be read. Keys that cannot be written are used all the same,
    /// with a warning: they last as long as the process.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => match Self::from_bytes(&bytes) {
                Some(keys) => return Ok(keys),
                None => warn!(file = %path.display(), "the reset keys are damaged; new ones are made"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let keys = Self::random()?;
        if let Err(error) = keys.write(&path) {
            warn!(file = %path.display(), %error, "the reset keys cannot be kept: after a crash gateways find out late");
        }
        Ok(keys)
    }

    fn random() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES + ID_BYTES];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| io::Error::other("the system has no randomness"))?;
        Self::from_bytes(&bytes).ok_or_else(|| io::Error::other("keys have a fixed length"))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (token, connection_id) = bytes.split_at_checked(TOKEN_BYTES)?;
        let connection_id = u64::from_le_bytes(connection_id.try_into().ok()?);
        Some(Self { token: token.try_into().ok()?, connection_id })
    }

    /// Whole or not at all, and readable for nobody else at any time.
    fn write(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        // What a crash has left may have been made by somebody else, with another mode.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&self.token)?;
        file.write_all(&self.connection_id.to_le_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let made = ResetKeys::open(dir.path()).unwrap();
        assert!(ResetKeys::open(dir.path()).unwrap() == made);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert!(ResetKeys::open(other.path()).unwrap() != made);
    }

    #[test]
    fn damaged_keys_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for damage in [&b""[..], &[7; 71], &[7; 73]] {
            fs::write(dir.path().join(FILE), damage).unwrap();
            let keys = ResetKeys::open(dir.path()).unwrap();
            assert!(keys.token != [7; TOKEN_BYTES]);
            assert!(ResetKeys::open(dir.path()).unwrap() == keys);
        }
    }

    #[test]
    fn a_folder_that_takes_no_file_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ResetKeys::open(&dir.path().join("absent")).is_ok());
    }
}
