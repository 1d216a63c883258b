//! A service in a folder of its own, with certificates, and clients of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use provision::allocation::{self, Policy, Ring, StampState, Tenancy};
use provision::attestation;
use provision::model::{Enrolment, Proof, Share, Tenant};
use provision::registry::{Books, Registry, RegistryError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::provisioning::{
    Answer, Bytes, Challenge, FenceAnswer, Fenced, Problem, Register, Registration, Roster, RosterEntry,
    Treatment,
};

pub(crate) const GROUP_KEY: [u8; 32] = [7; 32];

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<PrivateKeyDer<'static>>,
}

/// A certificate authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params(name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: Arc::new(key) }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// The service.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) config: PathBuf,
    pub(crate) ca: Ca,
    child: Option<Child>,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// A service with two environments and a group enrolled in each way.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, ca) = (folder.path(), Ca::new("staff"));
        let server = KeyPair::generate().unwrap();
        let certificate = params("provision").signed_by(&server, &ca.0).unwrap();
        std::fs::write(path.join("provision.crt"), certificate.pem()).unwrap();
        std::fs::write(path.join("provision.key"), server.serialize_pem()).unwrap();
        std::fs::write(path.join("ca.crt"), ca.0.pem()).unwrap();
        let made = program().arg("authority").arg("--folder").arg(path.join("gateways")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let config = path.join("provision.toml");
        std::fs::write(&config, CONFIG).unwrap();
        set_up(&path.join("data"), &ca).await;
        let address = ([127, 0, 0, 1], 0).into();
        let log = Arc::default();
        let mut site = Self { config, ca, folder, child: None, address, log };
        site.run();
        site
    }

    /// What the service has logged up to now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Does something to the registry while the service is down.
    pub(crate) async fn while_down(
        &mut self,
        change: impl FnOnce(&mut Books<'_>) -> Result<(), RegistryError> + Send + 'static,
    ) {
        self.kill();
        in_registry(&self.folder.path().join("data"), change).await;
        self.run();
    }

    fn run(&mut self) {
        let mut child =
            program().args(["run", "--config"]).arg(&self.config).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        self.address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service did not start");
            if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break ([127, 0, 0, 1], port.parse().unwrap()).into();
            }
        };
        // The rest is read too, so that the service never waits for somebody to read its log.
        let kept = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
    }

    /// SIGKILL, and another life on another port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.run();
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn client(&self, identity: Option<&Identity>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.der())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let tls = match identity {
            None => builder.with_no_client_auth(),
            Some(it) => builder.with_client_auth_cert(it.chain.clone(), it.key.clone_key()).unwrap(),
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .resolve("localhost", self.address)
            .build()
            .unwrap();
        Client { http, base: format!("https://localhost:{}", self.address.port()) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const CONFIG: &str = r#"
[provision]
data_dir = "data"
listen = "127.0.0.1:0"
identity = { certificate = "provision.crt", key = "provision.key" }
trust = "ca.crt"
authority = { certificate = "gateways/ca.crt", key = "gateways/ca.key" }
operators = ["ops"]
"#;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sluice-provision"))
}

/// Stamps, tenants and enrolments, as an operator would have made them.
async fn set_up(data: &Path, ca: &Ca) {
    let authority = ca.der();
    in_registry(data, move |books| {
        for (id, environment) in [("test-1", "test"), ("eu-1", "production"), ("eu-2", "production")] {
            let stamp = allocation::Stamp {
                id: id.parse().unwrap(),
                region: "eu".parse().unwrap(),
                environment: environment.parse().unwrap(),
                tenancy: Tenancy::Shared,
                ring: Ring::Slow,
                weight: 100,
                max_devices: 1_000,
                state: StampState::Active,
            };
            books.put_stamp(stamp, &[format!("quic://{id}.example:7443")])?;
        }
        let id = "acme".parse().unwrap();
        let policy = Policy::Hashed;
        books.put_tenant(&Tenant {
            id,
            regions: vec![],
            ring: None,
            dedicated: false,
            pinned: None,
            policy,
        })?;
        for (id, proof) in [
            ("by-key", Proof::GroupKey(GROUP_KEY.to_vec())),
            ("by-authority", Proof::Authority(authority.clone())),
            ("alone", Proof::Key(b"its own".to_vec())),
        ] {
            books.add_enrolment(&Enrolment {
                id: id.parse().unwrap(),
                proof,
                environment: "production".parse().unwrap(),
                shares: vec![Share { tenant: "acme".parse().unwrap(), devices: 10 }],
                blocked: false,
            })?;
        }
        Ok(())
    })
    .await;
}

async fn in_registry(
    data: &Path,
    change: impl FnOnce(&mut Books<'_>) -> Result<(), RegistryError> + Send + 'static,
) {
    let (registry, writer) = Registry::open(data).unwrap();
    registry.change(change).await.unwrap();
    drop(registry);
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
}

/// A stamp in small: it follows its roster, and says at once that it has landed nothing of what leaves it.
pub(crate) struct Stamp(tokio::task::JoinHandle<()>);

impl Stamp {
    pub(crate) fn follow(site: &Site, id: &str) -> Self {
        let (client, id) = (site.client(Some(&site.ca.issue(id))), id.to_owned());
        Self(tokio::spawn(async move {
            let mut after = 0;
            loop {
                let path = format!("/v1/stamps/{id}/roster?after={after}&wait=30");
                let roster: Roster = client.get(&path).await.unwrap();
                after = roster.revision;
                for RosterEntry { gateway, tenant, epoch, treatment } in roster.entries {
                    if treatment == (Treatment::Departed { watermark_wanted: true }) {
                        let fenced = Fenced { gateway, tenant, epoch, landed: vec![] };
                        client
                            .post::<FenceAnswer>(&format!("/v1/stamps/{id}/fenced"), &fenced)
                            .await
                            .unwrap();
                    }
                }
            }
        }))
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, (u16, Problem)> {
        answer(self.http.post(format!("{}{path}", self.base)).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, (u16, Problem)> {
        answer(self.http.patch(format!("{}{path}", self.base)).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), (u16, Problem)> {
        answer(self.http.delete(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    /// Whatever is asked, e.g. what is no JSON.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<serde_json::Value, (u16, Problem)> {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(body.into());
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, (u16, Problem)> {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: &[u8],
    ) -> Result<T, (u16, Problem)> {
        answer(self.http.put(format!("{}{path}", self.base)).body(bytes.to_vec()).send().await.unwrap()).await
    }

    /// What is no JSON.
    pub(crate) async fn bytes(&self, path: &str) -> Vec<u8> {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        response.bytes().await.unwrap().to_vec()
    }

    pub(crate) fn port(&self) -> u16 {
        self.base.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn challenge(&self) -> Bytes {
        self.post::<Challenge>("/v1/challenge", &()).await.unwrap().nonce
    }

    /// Registers by a symmetric key.
    pub(crate) async fn register_by_key(
        &self,
        gateway: &str,
        group: Option<&str>,
        key: &[u8],
    ) -> Result<(Registration, KeyPair), (u16, Problem)> {
        let (register, key) = answered(gateway, group, key, self.challenge().await);
        self.post("/v1/register", &register).await.map(|registration| (registration, key))
    }
}

/// A registration with the answer to a challenge.
pub(crate) fn answered(gateway: &str, group: Option<&str>, key: &[u8], nonce: Bytes) -> (Register, KeyPair) {
    let (request, pair) = request(gateway);
    let gateway = gateway.parse().unwrap();
    let number: [u8; 32] = nonce.0.as_slice().try_into().unwrap();
    let mac = Bytes(attestation::answer(key, &number, &gateway, &request.0));
    let answer = Some(Answer { nonce, group: group.map(|group| group.parse().unwrap()), mac });
    (Register { gateway, request, answer, latencies: vec![], software: "test".into() }, pair)
}

/// A registration by the certificate of the connection.
pub(crate) fn unanswered(gateway: &str) -> Register {
    let request = request(gateway).0;
    Register {
        gateway: gateway.parse().unwrap(),
        request,
        answer: None,
        latencies: vec![],
        software: String::new(),
    }
}

/// A signing request and its key.
pub(crate) fn request(gateway: &str) -> (Bytes, KeyPair) {
    let pair = KeyPair::generate().unwrap();
    let der = params(gateway).serialize_request(&pair).unwrap().der().to_vec();
    (Bytes(der), pair)
}

/// What was issued, as an identity.
pub(crate) fn identity(registration: &Registration, pair: &KeyPair) -> Identity {
    let chain = registration.certificate.as_ref().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.serialize_pem().as_bytes()).unwrap();
    Identity {
        chain: CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap(),
        key: Arc::new(key),
    }
}

async fn answer<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, (u16, Problem)> {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    if status < 300 {
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return Ok(serde_json::from_slice(body).unwrap());
    }
    let problem = serde_json::from_slice(&body)
        .unwrap_or_else(|error| panic!("{status}: {error}: {}", String::from_utf8_lossy(&body)));
    Err((status, problem))
}
