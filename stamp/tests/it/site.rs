//! A folder with an authority, a stamp's configuration, and the stamp's process.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longest wait for a state that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, common_name: &str) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

impl Identity {
    pub(crate) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }
}

/// Gateways "plant7" (tenants acme, umbra) and "plant8" (acme) on the roster.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with("max_devices = 10_000\n")
    }

    /// With these further lines in `[stamp]`; `max_devices` must be among them.
    pub(crate) fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let stamp = authority.issue("eu-1");
        let address = free_port();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.crt", &authority.pem());
        write("stamp.crt", &stamp.certificate);
        write("stamp.key", &stamp.key);
        write(
            "stamp.toml",
            &format!(
                "[stamp]\nid = \"eu-1\"\ndata_dir = \"data\"\nlisten = \"{address}\"\nroster = \"roster.toml\"\n\
                 identity = {{ certificate = \"stamp.crt\", key = \"stamp.key\", trust = \"ca.crt\" }}\n{lines}"
            ),
        );
        let site = Self { folder, authority, address };
        site.write_roster(
            "[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\", \"umbra\"]\n\
             [[gateway]]\nid = \"plant8\"\ntenants = [\"acme\"]\n",
        );
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("stamp.toml")
    }

    pub(crate) fn write_roster(&self, text: &str) {
        std::fs::write(self.path("roster.toml"), text).unwrap();
    }

    pub(crate) fn start(&self) -> Stamp {
        let stamp = self.spawn();
        stamp.wait_for_log("receiving");
        stamp
    }

    pub(crate) fn spawn(&self) -> Stamp {
        self.spawn_by(&mut Command::new(env!("CARGO_BIN_EXE_sluice-stamp")))
    }

    /// Starts it with a data folder that is a file system of its own, of that many MiB, which goes with the process.
    pub(crate) fn spawn_on_small_disk(&self, mib: u32) -> Stamp {
        let data = self.path("data");
        std::fs::create_dir(&data).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg("mount -t tmpfs -o size=\"$0\" tmpfs \"$1\" && shift && exec \"$@\"")
            .arg(format!("{mib}m"))
            .arg(data)
            .arg(env!("CARGO_BIN_EXE_sluice-stamp"));
        self.spawn_by(&mut command)
    }

    fn spawn_by(&self, command: &mut Command) -> Stamp {
        let log = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        let child = command
            .args(["run", "--config"])
            .arg(self.config())
            .env("SLUICE_LOG", "debug")
            .stderr(log.reopen().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Stamp { child, log }
    }

    /// Runs a command of the binary with this configuration.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
            .arg(command)
            .arg("--config")
            .arg(self.config())
            .args(rest)
            .output()
            .unwrap()
    }

    /// Its standard output; it must succeed.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All rows that landed.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        let text = self.output(&["export", "--format", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A port of the loopback that is free for both UDP and TCP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if UdpSocket::bind(tcp).is_ok() {
            return tcp;
        }
    }
}

/// A running stamp; killed when dropped.
pub(crate) struct Stamp {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Stamp {
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(self.log.path()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < give_up, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A path as this process sees it.
    pub(crate) fn sees(&self, path: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.child.id())).join(path.strip_prefix("/").unwrap())
    }

    /// A command of the binary that sees the same file systems.
    pub(crate) fn beside(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--user", "--mount", "--preserve-credentials", "--target"])
            .arg(self.child.id().to_string())
            .arg(env!("CARGO_BIN_EXE_sluice-stamp"))
            .args(arguments);
        command
    }

    pub(crate) fn signal(&self, signal: i32) {
        let signal = format!("-{signal}");
        assert!(Command::new("kill").args([signal, self.child.id().to_string()]).status().unwrap().success());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "the stamp does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(15);
        self.wait()
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the stamp's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
