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
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Names a server certificate is made out to, so that it works on one machine by any of them.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate authority in a folder.
pub struct Pki {
    dir: PathBuf,
    authority: Issuer<'static, KeyPair>,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM (PKCS 8).
    pub key: PathBuf,
}

/// A certificate, with those behind it, and its key: what a client shows in a handshake.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl Credentials {
    /// Of PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(certificates: &str, key: &str) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<_, _>>()?;
        Ok(Self { chain, key: Arc::new(PrivateKeyDer::from_pem_slice(key.as_bytes())?) })
    }

    /// SHA-256 of the certificate, by which a single gateway is enrolled.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let own = self.chain.first().map_or(&[][..], |own| own.as_ref());
        ring::digest::digest(&ring::digest::SHA256, own).as_ref().try_into().unwrap_or_default()
    }
}

impl Identity {
    /// What is in the files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn credentials(&self) -> Result<Credentials> {
        Credentials::of(&fs::read_to_string(&self.certificate)?, &fs::read_to_string(&self.key)?)
    }
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
        let key = KeyPair::generate()?;
        write(&dir.join("ca.crt"), &params.self_signed(&key)?.pem())?;
        write_secret(&dir.join("ca.key"), &key.serialize_pem())?;
        Self::open(dir)
    }

    /// The authority that is in a folder, also one that somebody else has made there: for certificates that its owner would
    /// not issue.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let authority = Issuer::from_ca_cert_pem(&read("ca.crt")?, KeyPair::from_pem(&read("ca.key")?)?)?;
        Ok(Self { dir: dir.to_owned(), authority })
    }

    /// The authority's certificate: what both sides trust.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The authority's certificate, DER: by which a group is enrolled.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn authority_der(&self) -> Result<Vec<u8>> {
        Ok(CertificateDer::from_pem_file(self.trust())?.to_vec())
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

    /// A certificate for localhost with that common name, changed as a test wants it; in memory alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn credentials(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Credentials> {
        let mut params = params(common_name, &SERVER_NAMES)?;
        change(&mut params);
        let (certificate, key) = self.signed(params)?;
        Credentials::of(&certificate, &key)
    }

    /// A certificate for these names, changed as a test wants it, in files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn identity(
        &self,
        file: &str,
        common_name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Identity> {
        let mut params = params(common_name, names)?;
        change(&mut params);
        self.sign(params, file)
    }

    fn issue(&self, file: &str, common_name: &str, names: &[&str]) -> Result<Identity> {
        self.sign(params(common_name, names)?, file)
    }

    /// Certificate and key, PEM.
    fn signed(&self, mut params: CertificateParams) -> Result<(String, String)> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn sign(&self, params: CertificateParams, file: &str) -> Result<Identity> {
        let (certificate, key) = self.signed(params)?;
        let identity = Identity {
            certificate: self.dir.join(format!("{file}.crt")),
            key: self.dir.join(format!("{file}.key")),
        };
        write(&identity.certificate, &certificate)?;
        write_secret(&identity.key, &key)?;
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
