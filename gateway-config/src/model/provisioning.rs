//! `[provisioning]`: who tells this gateway where its data goes.

use std::path::{Path, PathBuf};

use wire::ids::EnrolmentId;

use super::Identity;

/// The TCP port of provisioning where the endpoint names none.
pub const DEFAULT_PROVISIONING_PORT: u16 = 8443;

/// Zero-touch provisioning: stamps, endpoints and the operational certificate arrive by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    /// `endpoint`, required: `https://host:port` of `sluice-provision`; default port [`DEFAULT_PROVISIONING_PORT`].
    pub endpoint: String,
    /// `trust`, required: the CAs that the service's certificate is checked against.
    pub trust: PathBuf,
    /// `attest`, required: how this gateway proves who it is before it has an operational certificate.
    pub attest: Attest,
    /// `measure`: whether round trips to stamps are measured and told when provisioning asks for them, for tenants that go
    /// to the stamp with the lowest latency. Default true.
    pub measure: bool,
}

/// How a gateway proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attest {
    /// `{ certificate, key }`: a bootstrap certificate, enrolled by itself or by its authority. PEM files.
    Certificate {
        /// `certificate`.
        certificate: PathBuf,
        /// `key`.
        key: PathBuf,
    },
    /// `{ symmetric_key_file, group }`: a key shared with provisioning, in base64.
    Key {
        /// `symmetric_key_file`: what `sluice-provision enrolment key` shows.
        file: PathBuf,
        /// `group`: the enrolment group the key was derived from; without one, the gateway is enrolled by itself.
        group: Option<EnrolmentId>,
    },
}

impl Provisioning {
    /// The folder of what provisioning has given: certificate, key, assignments.
    #[must_use]
    pub fn folder(data_dir: &Path) -> PathBuf {
        data_dir.join("provisioned")
    }

    /// The identity that provisioning gives. Certificate and key lie in one file, so that both change at once.
    #[must_use]
    pub fn identity(data_dir: &Path) -> Identity {
        let folder = Self::folder(data_dir);
        let own = folder.join("identity.pem");
        Identity { certificate: own.clone(), key: own, trust: folder.join("trust.pem") }
    }
}
