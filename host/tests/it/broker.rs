//! The subscription at an existing broker, against Debian's mosquitto: restarts, kills before and after the commit, a
//! wrong password, a clean stop. The lane is played here: it commits as the real one does, dropping what it knows.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_config::{Config, Severity, SourceKind, check_text};
use host::intake::{Custody, Intake, Undecodable};
use host::source::listener::Unrouted;
use host::source::mqtt::Subscription;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::wait_until;

/// A broker that keeps its sessions over a restart.
struct Mosquitto {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

/// A port that was free a moment ago: mosquitto cannot be told to choose one.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Mosquitto {
    fn start(extra: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\n{}\n",
            folder.path().display(),
            extra(folder.path()),
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = spawn(folder.path());
        let broker = Self { folder, port, child };
        broker.wait_ready();
        broker
    }

    /// Ends in good order, so that it saves its sessions, and starts again.
    fn restart(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
        self.child = spawn(self.folder.path());
        self.wait_ready();
    }

    fn wait_ready(&self) {
        wait_until("mosquitto listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    let program = PathBuf::from("/usr/sbin/mosquitto");
    assert!(program.exists(), "mosquitto is missing; run: apt-get install -y mosquitto");
    let log = std::fs::File::create(folder.join("mosquitto.log")).unwrap();
    Command::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A device that publishes with QoS 1 (MQTT 3.1.1) and waits for each acknowledgement.
struct Device(TcpStream);

impl Device {
    fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let connect = [&b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04"[..], b"dev1"].concat();
        stream.write_all(&connect).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
        Self(stream)
    }

    /// Publishes messages with these numbers in them.
    fn publish(&mut self, ids: std::ops::Range<u64>) {
        for id in ids.clone() {
            let topic = b"site/acme/dev1";
            let payload = format!("{{\"ts\":{},\"id\":{id}}}", 1_760_000_000_000 + id);
            let length = 2 + topic.len() + 2 + payload.len();
            let mut packet = vec![0x32, u8::try_from(length).unwrap(), 0, topic.len() as u8];
            packet.extend_from_slice(topic);
            packet.extend_from_slice(&(((id % 60_000) + 1) as u16).to_be_bytes());
            packet.extend_from_slice(payload.as_bytes());
            self.0.write_all(&packet).unwrap();
        }
        let mut answers = vec![0; 4 * usize::try_from(ids.end - ids.start).unwrap()];
        self.0.read_exact(&mut answers).unwrap();
        assert!(answers.chunks(4).all(|answer| answer[..2] == [0x40, 2]));
    }
}

/// How the lane behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Commit,
    /// What comes is held, neither committed nor refused.
    Hold,
    /// Commits, but the process dies before anybody is told.
    CommitAndDie,
}

/// What the lane has on its disk: survives the "process".
#[derive(Default)]
struct Disk {
    ids: Vec<u64>,
    fingerprints: HashSet<u64>,
    dropped: usize,
    held: Vec<Intake>,
    seen: usize,
}

#[derive(Clone)]
struct Lane {
    disk: Arc<Mutex<Disk>>,
    mode: Arc<Mutex<Mode>>,
}

impl Lane {
    fn new() -> Self {
        Self { disk: Arc::default(), mode: Arc::new(Mutex::new(Mode::Commit)) }
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Takes intakes until the source is gone.
    async fn run(self, mut intakes: mpsc::Receiver<Intake>) {
        while let Some(intake) = intakes.recv().await {
            let mut disk = self.disk.lock().unwrap();
            disk.seen += rows(&intake);
            match *self.mode.lock().unwrap() {
                Mode::Hold => disk.held.push(intake),
                Mode::Commit => commit(&mut disk, intake).committed(),
                Mode::CommitAndDie => drop(commit(&mut disk, intake)),
            }
        }
    }

    fn commit_held(&self) {
        let mut disk = self.disk.lock().unwrap();
        for intake in std::mem::take(&mut disk.held) {
            commit(&mut disk, intake).committed();
        }
    }

    fn committed(&self) -> usize {
        self.disk.lock().unwrap().ids.len()
    }

    fn seen(&self) -> usize {
        self.disk.lock().unwrap().seen
    }
}

fn rows(intake: &Intake) -> usize {
    intake.decoded.iter().map(|decoded| decoded.frame.rows()).sum()
}

fn commit(disk: &mut Disk, intake: Intake) -> Box<dyn Custody> {
    assert!(intake.raw.is_empty() && intake.undecodable.is_empty());
    for decoded in &intake.decoded {
        let column = decoded.frame.column("id").unwrap();
        let wire::frame::Values::F64(ids) = &column.values else { panic!("ids are numbers") };
        for (row, id) in ids.iter().enumerate() {
            let fingerprint = decoded.fingerprints[row];
            let suspect = decoded.suspects.contains(&(row as u32));
            if suspect && disk.fingerprints.contains(&fingerprint) {
                disk.dropped += 1;
                continue;
            }
            disk.fingerprints.insert(fingerprint);
            disk.ids.push(*id as u64);
        }
    }
    intake.custody
}

struct Nowhere;

impl Unrouted for Nowhere {
    fn keep(&mut self, message: Undecodable, _custody: Box<dyn Custody>) {
        panic!("{} belongs to a tenant", message.topic);
    }
}

fn config(port: u16, more: &str) -> Config {
    config_at(&format!("mqtt://127.0.0.1:{port}"), more)
}

fn config_at(broker: &str, more: &str) -> Config {
    let text = format!(
        "[gateway]\nid = \"g\"\ndata_dir = \"/nowhere\"\n\
         [[source]]\nname = \"hall\"\nkind = \"mqtt\"\nbroker = \"{broker}\"\nmax_rows = 64\n{more}\n\
         retry = {{ first = \"scheduled\", then = {{ base = \"20 ms\", cap = \"200 ms\" }} }}\n\
         [[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}\"\ntime = {{ field = \"ts\", unit = \"ms\" }}\n\
         [tenant.acme]\n"
    );
    let report = check_text(Path::new("/nowhere/gateway.toml"), &text);
    assert!(
        report.problems.iter().all(|problem| problem.severity == Severity::Warning),
        "{:#?}",
        report.problems
    );
    report.config.unwrap()
}

fn subscribe(runtime: &Runtime, config: &Config, lane: &Lane) -> Subscription {
    let _inside = runtime.enter();
    let (sender, receiver) = mpsc::channel(1);
    runtime.spawn(lane.clone().run(receiver));
    let source = &config.sources[0];
    let SourceKind::Mqtt(broker) = &source.kind else { panic!("a broker") };
    let lanes = vec![("acme".parse().unwrap(), sender)];
    Subscription::start(source, broker, lanes, Box::new(Nowhere)).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn wait_connected(subscription: &Subscription) {
    wait_until("connected", || subscription.status().connected);
}

#[test]
fn no_message_is_lost_or_taken_twice_across_restarts_and_kills() {
    let runtime = runtime();
    let mut broker = Mosquitto::start(|_| "allow_anonymous true".to_owned());
    let config = config(broker.port, "");
    let lane = Lane::new();
    let mut subscription = subscribe(&runtime, &config, &lane);
    wait_connected(&subscription);
    let mut device = Device::connect(broker.port);
    device.publish(0..2_000);
    wait_until("all committed", || lane.committed() == 2_000);

    // The gateway is killed with messages that are taken but not committed.
    lane.set(Mode::Hold);
    device.publish(2_000..2_500);
    wait_until("some are held", || lane.seen() > 2_000);
    drop(subscription);
    device.publish(2_500..2_800);
    lane.disk.lock().unwrap().held.clear();
    lane.set(Mode::Commit);
    subscription = subscribe(&runtime, &config, &lane);
    wait_until("what was held is delivered again", || lane.committed() == 2_800);

    // It is killed after the commit, before the broker is told.
    lane.set(Mode::CommitAndDie);
    device.publish(2_800..3_000);
    wait_until("some are committed", || lane.committed() > 2_800);
    drop(subscription);
    lane.set(Mode::Commit);
    subscription = subscribe(&runtime, &config, &lane);
    wait_until("the others are delivered", || lane.committed() == 3_000);
    wait_until("what was committed comes again and is known", || lane.disk.lock().unwrap().dropped > 0);

    // The broker restarts while messages wait for their commit.
    lane.set(Mode::Hold);
    let seen = lane.seen();
    device.publish(3_000..3_400);
    wait_until("some are held", || lane.seen() > seen);
    let connections = subscription.status().connections;
    broker.restart();
    wait_until("connected again", || {
        let status = subscription.status();
        status.connected && status.connections > connections
    });
    lane.set(Mode::Commit);
    lane.commit_held();
    wait_until("all committed", || lane.committed() == 3_400);
    Device::connect(broker.port).publish(3_400..3_500);
    wait_until("all committed", || lane.committed() == 3_500);
    assert!(subscription.status().repeated > 0, "the broker delivered nothing again");

    let mut ids = lane.disk.lock().unwrap().ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, (0..3_500).collect::<Vec<_>>());
    runtime.block_on(subscription.stop(Duration::from_secs(5)));
}

#[test]
fn a_stop_acknowledges_what_was_committed_and_leaves_the_rest_to_the_broker() {
    let runtime = runtime();
    let broker = Mosquitto::start(|_| "allow_anonymous true".to_owned());
    let config = config(broker.port, "linger = \"10 s\"");
    let lane = Lane::new();
    let subscription = subscribe(&runtime, &config, &lane);
    wait_connected(&subscription);
    let mut device = Device::connect(broker.port);
    device.publish(0..10);
    wait_until("all taken", || subscription.status().messages == 10);
    runtime.block_on(subscription.stop(Duration::from_secs(10)));
    assert_eq!(lane.committed(), 10, "taken, gathered, and not thrown away");

    device.publish(10..20);
    let subscription = subscribe(&runtime, &config, &lane);
    wait_until("the session was kept", || subscription.status().messages == 10);
    runtime.block_on(subscription.stop(Duration::from_secs(10)));
    assert_eq!(lane.disk.lock().unwrap().ids, (0..20).collect::<Vec<_>>());
    assert_eq!(lane.disk.lock().unwrap().dropped, 0, "all were acknowledged before the goodbye");
}

#[test]
fn a_wrong_password_is_said_once_and_not_tried_again_until_someone_acts() {
    let runtime = runtime();
    let broker = Mosquitto::start(|folder| {
        let file = folder.join("passwords");
        let mut make = Command::new("mosquitto_passwd");
        make.args(["-b", "-c"]).arg(&file).args(["sluice", "right"]);
        assert!(make.status().unwrap().success());
        format!("allow_anonymous false\npassword_file {}", file.display())
    });
    let secret = broker.folder.path().join("secret");
    std::fs::write(&secret, "wrong\n").unwrap();
    let more = format!("username = \"sluice\"\npassword = {{ file = {secret:?} }}");
    let subscription = subscribe(&runtime, &config(broker.port, &more), &Lane::new());
    wait_until("refused", || subscription.status().why.starts_with("given up"));
    let status = subscription.status();
    assert_eq!(status.refused, 1);
    assert!(status.why.contains("correct username and password"), "{}", status.why);
    assert!(!status.why.contains("wrong"), "{}", status.why);

    std::fs::write(&secret, "right\n").unwrap();
    subscription.retry_now();
    wait_connected(&subscription);
    assert_eq!(subscription.status().refused, 1);
    runtime.block_on(subscription.stop(Duration::from_secs(5)));
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let runtime = runtime();
    let subscription = subscribe(&runtime, &config(free_port(), ""), &Lane::new());
    wait_until("waiting", || subscription.status().why.starts_with("waiting, next try in"));
    assert!(subscription.status().why.contains("refused"), "{}", subscription.status().why);
    runtime.block_on(subscription.stop(Duration::from_secs(5)));
}

/// Writes an authority and a broker's certificate by it; returns the authority's file.
fn pki(folder: &Path, name: &str) -> PathBuf {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &authority).unwrap();
    let path = |end: &str| folder.join(format!("{name}.{end}"));
    std::fs::write(path("ca"), authority.pem()).unwrap();
    std::fs::write(path("crt"), certificate.pem()).unwrap();
    std::fs::write(path("key"), own.serialize_pem()).unwrap();
    path("ca")
}

#[test]
fn a_broker_is_trusted_by_its_authority_and_by_no_other() {
    let runtime = runtime();
    let broker = Mosquitto::start(|folder| {
        pki(folder, "broker");
        let file = |end: &str| folder.join(format!("broker.{end}")).display().to_string();
        format!("allow_anonymous true\ncertfile {}\nkeyfile {}", file("crt"), file("key"))
    });
    let folder = broker.folder.path();
    let address = format!("mqtts://127.0.0.1:{}", broker.port);
    let trusting = |authority: &Path| config_at(&address, &format!("trust = {authority:?}"));
    let (lane, other) = (Lane::new(), pki(folder, "other"));
    let subscription = subscribe(&runtime, &trusting(&other), &lane);
    wait_until("refused", || subscription.status().why.starts_with("parked"));
    let why = subscription.status().why;
    assert!(why.contains("the broker's certificate is not trusted"), "{why}");
    drop(subscription);

    let subscription = subscribe(&runtime, &trusting(&folder.join("broker.ca")), &lane);
    wait_connected(&subscription);
    runtime.block_on(subscription.stop(Duration::from_secs(5)));
}
