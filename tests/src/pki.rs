//! A throwaway certificate authority and certificates for trying things: `cargo xtask pki`, the demo, the tests.
//!
//! Every certificate is valid until the end of the next year and usable as server and as client, so that one folder
//! serves a whole installation. Not for production: the authority's key lies beside the certificates.
//!
//! ```text
//! DIR/ca.crt  ca.key  stamp.crt  stamp.key  mqtt.crt  mqtt.key  gateway[-<id>].crt/.key  device-<user>.crt/.key
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Names a server certificate is made out to, so that it works on one machine by any of them.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate authority in a folder.
pub struct Pki {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM (PKCS 8).
    pub key: PathBuf,
}

impl Pki {
    /// Makes an authority and writes `ca.crt` and `ca.key` into the folder, which is created.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut params = params("Sluice throwaway CA", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        write(&dir.join("ca.crt"), &authority.pem())?;
        write_secret(&dir.join("ca.key"), &authority.key().serialize_pem())?;
        Ok(Self { dir: dir.to_owned(), authority })
    }

    /// The authority's certificate: what both sides trust.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A server certificate for localhost: the stamp's or the MQTT listener's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn server(&self, name: &str) -> Result<Identity> {
        self.issue(name, name, &SERVER_NAMES)
    }

    /// A stamp's certificate: a server certificate for localhost whose common name is the stamp's id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn stamp(&self, id: &str) -> Result<Identity> {
        self.issue(&format!("stamp-{id}"), id, &SERVER_NAMES)
    }

    /// A gateway's certificate: its common name is the gateway id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gateway(&self, id: &str) -> Result<Identity> {
        self.issue(&format!("gateway-{id}"), id, &[])
    }

    /// A gateway's certificate that has expired; [`Pki::gateway`] renews it in the same files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn expired_gateway(&self, id: &str) -> Result<Identity> {
        let mut params = params(id, &[])?;
        // More than a year ago.
        params.not_after = params.not_before;
        self.sign(params, &format!("gateway-{id}"))
    }

    /// A gateway's certificate under another file name, as the README has it for a single gateway.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn gateway_as(&self, file: &str, id: &str) -> Result<Identity> {
        self.issue(file, id, &[])
    }

    /// A device's certificate: its common name is the MQTT user.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn device(&self, user: &str) -> Result<Identity> {
        self.issue(&format!("device-{user}"), user, &[])
    }

    fn issue(&self, file: &str, common_name: &str, names: &[&str]) -> Result<Identity> {
        self.sign(params(common_name, names)?, file)
    }

    fn sign(&self, mut params: CertificateParams, file: &str) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        let identity = Identity {
            certificate: self.dir.join(format!("{file}.crt")),
            key: self.dir.join(format!("{file}.key")),
        };
        write(&identity.certificate, &certificate.pem())?;
        write_secret(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

fn params(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let year = i32::try_from(1970 + seconds / 31_556_952).context("the clock is too far ahead")?;
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 2, 1, 1);
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
