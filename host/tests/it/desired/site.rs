//! The gateway's binary with one tenant, a device that publishes, and a stamp that says what should run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gateway_config::Limits;
use host::admin::desired::DesiredStatus;
use host::admin::reload::ReloadReply;
use host::admin::{Question, Status, ask, order_within};
use wire::message::{Condition, ConditionState};

use super::stamp::{Offer, PATIENCE, ReleaseStamp, Row};
use crate::pki::Pki;

/// A folder with everything a gateway needs.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) pki: Pki,
    pub(crate) stamp: ReleaseStamp,
    /// What stands in `[tenant.acme]` and below.
    pub(crate) tenant: String,
    /// What stands above.
    pub(crate) head: String,
    sent: i64,
}

/// A running gateway; killed when dropped.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
}

impl Site {
    pub(crate) fn new(tenant: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let stamp = ReleaseStamp::start(&pki, None);
        Self { dir, pki, stamp, tenant: tenant.to_owned(), head: String::new(), sent: 0 }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self) -> PathBuf {
        let (certificate, key) = self.pki.gateway("plant7", self.dir.path(), 1);
        let trust = self.pki.trust(self.dir.path());
        let config = self.dir.path().join("gateway.toml");
        let text = format!(
            "[gateway]\nid = \"plant7\"\ndata_dir = {:?}\nplugins_dir = {:?}\nworkers = 2\n{}\n\
             [[source]]\nname = \"floor\"\nkind = \"mqtt-listener\"\nlisten = \"127.0.0.1:0\"\n\
             [[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}/telemetry\"\nformat = \"json\"\nprofile = \"machine\"\n\
             time = {{ field = \"ts\", unit = \"ns\" }}\n\n\
             [tenant.acme]\n{}\n[uplink]\n\
             stamp = [{{ id = \"s1\", endpoints = [\"quic://127.0.0.1:{}\"], tenants = [\"acme\"] }}]\n\
             identity = {{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}\n\
             [uplink.retry]\nfirst = \"immediate\"\n\
             then = {{ kind = \"exponential\", base = \"50 ms\", factor = 2.0, cap = \"500 ms\", jitter = \"full\" }}\n\
             episode = {{ attempts = 1000, elapsed = \"15 min\" }}\nafterwards = [\"park\"]\n",
            self.data(),
            dist(),
            self.head,
            self.tenant,
            self.stamp.port()
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    pub(crate) fn start(&self) -> Running {
        let config = self.configure();
        let log = self.dir.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-gateway"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Running { child, folder: self.dir.path().to_owned() };
        self.wait("the gateway answers", || running.status().is_some_and(|status| status.running));
        running
    }

    /// Waits until something is so; shows what happened if it never is.
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !is_so() {
            if begun.elapsed() > PATIENCE {
                println!("{}", self.log());
                println!("{:#?}", self.stamp.conditions());
                panic!("waited in vain: {what}");
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until the stamp has heard that of the release.
    pub(crate) fn heard(&self, release: u64, state: ConditionState) -> Condition {
        let mut found = None;
        self.wait(&format!("release {release} is {state}"), || {
            let conditions = self.stamp.conditions();
            let last = conditions.into_iter().rfind(|condition| condition.release.0 == release);
            found = last.filter(|condition| condition.state == state);
            found.is_some()
        });
        found.unwrap()
    }

    /// Offers a release and waits until it runs.
    pub(crate) fn roll_out(&self, offer: Offer) {
        let number = offer.number;
        self.stamp.offer(offer);
        self.heard(number, ConditionState::Applied);
    }

    /// Has a device publish a message, waits until it has landed, and gives its row.
    pub(crate) fn row(&mut self, gateway: &Running) -> Row {
        self.sent += 1;
        let time = 1_700_000_000_000_000_000 + self.sent;
        gateway.publish(time);
        let mut found = None;
        self.wait("the row has landed", || {
            found = self.stamp.rows().into_iter().find(|row| row.time == time);
            found.is_some()
        });
        found.unwrap()
    }
}

impl Running {
    pub(crate) fn status(&self) -> Option<Status> {
        ask(&self.folder.join("data")).ok()
    }

    pub(crate) fn desired(&self) -> Option<DesiredStatus> {
        self.status()?.tenants.remove(0).desired
    }

    pub(crate) fn reload(&self) -> ReloadReply {
        order_within(&self.folder.join("data"), &Question::Reload, PATIENCE).unwrap()
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        cli(&self.folder, arguments)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Publishes a message of that time and waits until it is acknowledged: then it is on disk.
    fn publish(&self, time: i64) {
        let listen = self.status().unwrap().sources[0].listen.clone().unwrap();
        let mut stream = TcpStream::connect(listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connect = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02d1";
        stream.write_all(connect).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        let (topic, payload) = ("site/acme/d1/telemetry", format!("{{\"ts\":{time},\"c\":1.5}}"));
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&[0, 1]);
        body.extend_from_slice(payload.as_bytes());
        stream.write_all(&[0x32, body.len() as u8]).unwrap();
        stream.write_all(&body).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], 0x40, "acknowledged");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the command says to standard output, and its exit code.
pub(crate) fn cli(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-gateway"))
        .args(arguments)
        .arg("--config")
        .arg(folder.join("gateway.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist")
}

/// A build of a plugin of that version.
pub(crate) fn build(name: &str, version: &str) -> Vec<u8> {
    let file = dist().join(format!("{name}.wasm"));
    assert!(file.exists(), "{} is missing: run `cargo xtask guests`", file.display());
    let plugin = name.rsplit('/').next().unwrap();
    let manifest = runtime::Manifest {
        name: Some(plugin.to_owned()),
        version: Some(version.to_owned()),
        ..runtime::Manifest::default()
    };
    runtime::manifest::attach(&std::fs::read(file).unwrap(), &manifest).unwrap()
}

/// A step that writes a text into a column, by the first content of a release.
pub(crate) fn tag(content: usize, name: &str, value: &str) -> String {
    let limits = Limits::default().memory >> 20;
    format!(
        "[[tenant.acme.step]]\nname = {name:?}\nuse = \"sha256:{{{content}}}\"\nlimits = {{ memory = \"{limits} MiB\" }}\n\
         with = {{ column = {name:?}, value = {value:?} }}\n"
    )
}
