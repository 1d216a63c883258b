//! A folder in which everything is made by the program itself, as its operators do it: authorities, certificates,
//! configuration, the service; and whoever it serves, in small: a stamp that follows its roster, a gateway that registers.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use wire::provisioning::{Bytes, Challenge, Fenced, Registration, Report, Roster, Treatment};

use crate::site::answered;

/// The folder, and the service that runs there.
pub(crate) struct Ground {
    folder: tempfile::TempDir,
    child: Option<Child>,
    address: Option<SocketAddr>,
}

const PROVISION: &str = r#"
[provision]
data_dir = "data"
listen = "127.0.0.1:0"
identity = { certificate = "provision.crt", key = "provision.key" }
trust = "staff-ca/ca.crt"
authority = { certificate = "gateways-ca/ca.crt", key = "gateways-ca/ca.key" }
operators = ["ops"]
"#;

impl Ground {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), child: None, address: None }
    }

    /// Authorities, certificates of the service, of `ops` and of these stamps, a service that runs, and an operator's file.
    pub(crate) fn with_service(stamps: &[&str]) -> Self {
        let mut ground = Self::empty();
        ground.good("sluice-provision authority --folder gateways-ca");
        ground.good("sluice-provision authority --folder staff-ca --name 'Example staff'");
        for name in ["provision", "ops", "stranger"].iter().chain(stamps) {
            ground.good(&format!(
                "sluice-provision certificate --authority staff-ca --name {name} --host localhost"
            ));
        }
        ground.write("provision.toml", PROVISION);
        ground.good("sluice-provision check --config provision.toml");
        ground.start();
        ground.write("operator.toml", &ground.operator());
        ground
    }

    /// What `operator.toml` says.
    fn operator(&self) -> String {
        format!(
            "[operator]\napi = \"{}\"\ncertificate = \"ops.crt\"\nkey = \"ops.key\"\ntrust = \"staff-ca/ca.crt\"\n",
            self.api()
        )
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn api(&self) -> String {
        format!("https://localhost:{}", self.address.unwrap().port())
    }

    /// Whether the service runs.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Begins to watch an operation or a rollout.
    pub(crate) fn watch(&self, what: &str, id: i64) -> Child {
        let mut command = program();
        command.args([what, "watch", &id.to_string()]).current_dir(self.path());
        command.env("SLUICE_PROVISION", "operator.toml").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Runs the service; at its old address, if it had one.
    pub(crate) fn start(&mut self) {
        let config = self.path().join("provision.toml");
        if let Some(address) = self.address {
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, text.replace("127.0.0.1:0", &address.to_string())).unwrap();
        }
        let mut command = program();
        command.args(["run", "--config"]).arg(&config).current_dir(self.path());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let before = said.len();
            assert!(log.read_line(&mut said).unwrap() > 0, "the service did not start: {said}");
            if let Some((_, rest)) = said[before..].split_once("127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            }
        };
        // The rest is read, so that the service never waits for somebody to read its log.
        std::thread::spawn(move || for _ in log.lines() {});
        (self.child, self.address) = (Some(child), Some(address));
    }

    /// SIGKILL.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Runs a line of a shell in the folder.
    pub(crate) fn sh(&self, line: &str) -> Output {
        let programs = Path::new(env!("CARGO_BIN_EXE_sluice-provision")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.path()).env("PATH", path).stdin(Stdio::null());
        command.env("SLUICE_PROVISION", "operator.toml").output().unwrap()
    }

    /// What a line prints that must succeed.
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.sh(line);
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}\n{out}{error}");
        out
    }

    /// The line of JSON that `sluice-provision LINE --json` prints.
    pub(crate) fn json(&self, line: &str) -> Value {
        let out = self.good(&format!("sluice-provision {line} --json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }

    /// The exit code of a line that must fail, and what it says on standard error.
    pub(crate) fn bad(&self, line: &str) -> (i32, String) {
        let output = self.sh(&format!("sluice-provision {line}"));
        assert!(!output.status.success(), "{line}\n{}", text(&output.stdout));
        (output.status.code().unwrap(), text(&output.stderr))
    }

    /// A stamp that lands nothing: it fences what leaves it.
    pub(crate) fn run_stamp(&self, id: &str) -> Stamp {
        let address = self.address.unwrap();
        let client = client(self.path(), address, Some(id));
        let base = format!("https://localhost:{}/v1/stamps/{id}", address.port());
        Stamp(tokio::spawn(async move {
            let report = Report { software: "test".into(), revision: 0, connected: 1, devices: 0 };
            let _ = client.post(format!("{base}/report")).json(&report).send().await;
            let mut after = 0;
            loop {
                // While the service is away there is no roster.
                let Some(roster) = roster(&client, &format!("{base}/roster?after={after}&wait=5")).await
                else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                after = roster.revision;
                for entry in roster.entries {
                    if let Treatment::Departed { watermark_wanted: true } = entry.treatment {
                        let (gateway, tenant, epoch) = (entry.gateway, entry.tenant, entry.epoch);
                        let fenced = Fenced { gateway, tenant, epoch, landed: vec![] };
                        client.post(format!("{base}/fenced")).json(&fenced).send().await.unwrap();
                    }
                }
            }
        }))
    }

    /// A gateway registers by a key in a file.
    pub(crate) async fn register(&self, gateway: &str, group: Option<&str>, key: &str) -> Registration {
        let address = self.address.unwrap();
        let (client, base) = (client(self.path(), address, None), self.api());
        let key = std::fs::read_to_string(self.path().join(key)).unwrap();
        let key = Bytes::try_from(key.trim().to_owned()).unwrap();
        let challenge = client.post(format!("{base}/v1/challenge")).json(&()).send().await.unwrap();
        let challenge: Challenge = challenge.json().await.unwrap();
        let (register, _) = answered(gateway, group, &key.0, challenge.nonce);
        let registered = client.post(format!("{base}/v1/register")).json(&register).send().await.unwrap();
        assert!(registered.status().is_success(), "{}", registered.text().await.unwrap());
        registered.json().await.unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A stamp; it ends with this.
pub(crate) struct Stamp(tokio::task::JoinHandle<()>);

impl Drop for Stamp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sluice-provision"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn roster(client: &reqwest::Client, url: &str) -> Option<Roster> {
    client.get(url).send().await.ok()?.json().await.ok()
}

/// HTTPS by the certificate of that name, or by none.
fn client(folder: &Path, address: SocketAddr, name: Option<&str>) -> reqwest::Client {
    let file = |name: PathBuf| folder.join(name);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("staff-ca/ca.crt".into())).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let tls = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_file(file(format!("{name}.crt").into())).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(format!("{name}.key").into())).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).resolve("localhost", address);
    client.build().unwrap()
}
