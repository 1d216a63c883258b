//! Certificates that are renewed while the stamp runs.
//!
//! Looks at the files of certificate, key and trust now and then, and at once when the operator says so (SIGHUP). What they
//! hold counts for handshakes from then on, as server and towards provisioning; sessions under way go on. Files that cannot be
//! used change nothing, e.g. a certificate whose key is not written yet: the next look takes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::{error, info};

use crate::config::{Identity, Provisioning};
use crate::identity;
use crate::provisioning::Client;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Follows the files.
pub struct Renewal {
    identity: Identity,
    /// The way to provisioning, and the authorities of its certificate.
    provisioning: Option<(Client, Provisioning)>,
    tls: watch::Sender<Arc<ServerConfig>>,
    /// What was there when they were looked at last.
    seen: Vec<Option<Stamp>>,
}

/// By which a file is known to be another one: when it was written, and its bytes.
type Stamp = (SystemTime, u64);

impl Renewal {
    /// What the files hold now is in use; who serves follows what is returned.
    ///
    /// # Errors
    /// [`identity::IdentityError`] names the file.
    pub fn new(
        identity: &Identity,
        provisioning: Option<(Client, Provisioning)>,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), identity::IdentityError> {
        let seen = look(&files(identity, provisioning.as_ref()));
        let (tls, followed) = watch::channel(Arc::new(identity::server(identity)?));
        Ok((Self { identity: identity.clone(), provisioning, tls, seen }, followed))
    }

    /// Looks until `stopping` becomes true; at once when `operator` changes.
    pub async fn run(mut self, mut operator: watch::Receiver<u64>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                Ok(()) = operator.changed() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            self.take();
        }
    }

    fn take(&mut self) {
        let now = look(&files(&self.identity, self.provisioning.as_ref()));
        if now == self.seen {
            return;
        }
        let client = |(client, provisioning): &(Client, Provisioning)| {
            client.renew(&self.identity, &provisioning.trust)
        };
        let taken = identity::server(&self.identity).map_err(|error| error.to_string()).and_then(|tls| {
            self.provisioning.as_ref().map_or(Ok(()), client).map_err(|error| error.to_string())?;
            Ok(tls)
        });
        // Said once for what is there now, also where it cannot be used.
        self.seen = now;
        match taken {
            Ok(tls) => {
                info!(certificate = %self.identity.certificate.display(), "the renewed certificate is in use");
                self.tls.send_replace(Arc::new(tls));
            }
            Err(error) => {
                error!(
                    error,
                    "the renewed certificate, key or trust cannot be used; what was there before still holds"
                )
            }
        }
    }
}

fn files(identity: &Identity, provisioning: Option<&(Client, Provisioning)>) -> Vec<PathBuf> {
    let Identity { certificate, key, trust } = identity;
    let further = provisioning.map(|(_, provisioning)| &provisioning.trust);
    [certificate, key, trust].into_iter().chain(further).cloned().collect()
}

fn look(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.iter().map(|path| stamp(path)).collect()
}
