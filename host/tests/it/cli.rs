//! The binary `sluice-gateway` as people and service managers use it. The plugins are built by `cargo xtask guests`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use host::admin::{Status, ask};
use wire::message::RefusalReason;

use crate::stamp::{Manner, Pki, TestStamp};
use crate::wait_until;

/// A folder with a configuration, and the binary run on it.
struct Site {
    dir: tempfile::TempDir,
    pki: Pki,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        Self { dir, pki }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes `gateway.toml`: one listener on a free port, then `more`.
    fn configure(&self, more: &str) -> PathBuf {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist");
        let text = format!(
            r#"
[gateway]
id = "plant7"
data_dir = {:?}
plugins_dir = {plugins:?}

[[source]]
name = "floor"
kind = "mqtt-listener"
listen = "127.0.0.1:0"
linger = "5 ms"
[[source.topic]]
filter = "site/{{tenant}}/{{device}}/telemetry"
format = "json"
time = {{ field = "ts", unit = "ms" }}

{more}
"#,
            self.data_dir()
        );
        let path = self.path("gateway.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// An `[uplink]` to a test stamp.
    fn uplink(&self, stamp: &TestStamp, tenants: &[&str]) -> String {
        let (certificate, key) = self.pki.gateway("plant7", self.dir.path(), 1);
        let trust = self.pki.trust(self.dir.path());
        format!(
            "[uplink]\nstamp = [{{ id = \"s1\", endpoints = [\"quic://127.0.0.1:{}\"], tenants = {tenants:?} }}]\n\
             identity = {{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}\n",
            stamp.port()
        )
    }

    fn run(&self) -> Gateway {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-gateway"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(self.path("gateway.toml"))
            .stderr(log)
            .spawn()
            .unwrap();
        let gateway = Gateway { child, data_dir: self.data_dir() };
        wait_until("the gateway answers", || ask(&gateway.data_dir).is_ok());
        gateway
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }
}

/// A running gateway; killed when dropped.
struct Gateway {
    child: Child,
    data_dir: PathBuf,
}

impl Gateway {
    fn status(&self) -> Status {
        ask(&self.data_dir).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.status().sources[0].listen.as_ref().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM; its exit code.
    fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn cli(arguments: &[&str], config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-gateway"))
        .arg(arguments[0])
        .arg("--config")
        .arg(config)
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A device with MQTT 3.1.1, as plain bytes.
struct Device(TcpStream);

impl Device {
    fn connect(address: SocketAddr, client: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut packet = vec![0x10, 12 + client.len() as u8, 0, 4];
        packet.extend_from_slice(b"MQTT\x04\x02\x00\x3c\x00");
        packet.push(client.len() as u8);
        packet.extend_from_slice(client.as_bytes());
        stream.write_all(&packet).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
        Self(stream)
    }

    /// Publishes with QoS 1.
    fn publish(&mut self, topic: &str, payload: &str, packet: u16) {
        let length = 2 + topic.len() + 2 + payload.len();
        let mut bytes = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8];
        bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&packet.to_be_bytes());
        bytes.extend_from_slice(payload.as_bytes());
        self.0.write_all(&bytes).unwrap();
    }

    /// Waits for a PUBACK; its packet identifier.
    fn acknowledged(&mut self) -> u16 {
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..2], [0x40, 2], "PUBACK");
        u16::from_be_bytes([answer[2], answer[3]])
    }
}

const CHAIN: &str = "
[tenant.acme]
[[tenant.acme.step]]
use = \"builtin:range\"
with = { column = \"temperature_c\", min = -40.0, max = 125.0 }
";

#[test]
fn check_tells_every_mistake_at_once_with_line_key_and_remedy() {
    let site = Site::new();
    let config = site.configure(
        "[tenant.acme]\nqueue = 0\ncolour = \"red\"\n\
         [[tenant.acme.step]]\nuse = \"builtin:no-such-plugin\"\n",
    );
    let output = cli(&["check"], &config);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in ["tenant.acme.queue", "colour", "no-such-plugin", "gateway.toml:19:"] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
}

#[test]
fn check_gives_each_plugin_its_settings() {
    let site = Site::new();
    let broken = CHAIN.replace("column", "colum");
    let config = site.configure(&broken);
    let output = cli(&["check"], &config);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("gateway.toml:20:7: error: tenant.acme.step[0].use"), "{told}");
    assert!(!site.data_dir().exists(), "a check leaves nothing behind");
    let good = site.configure(CHAIN);
    let output = cli(&["check"], &good);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn check_looks_into_certificates() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = site.uplink(&stamp, &["acme"]);
    let (expired, _) = site.pki.gateway("plant7", &site.path("old"), -1);
    std::fs::copy(expired, site.path("plant7.crt")).unwrap();
    let output = cli(&["check"], &site.configure(&format!("{CHAIN}{uplink}")));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("uplink.identity") && told.contains("expired"), "{told}");
}

#[test]
fn a_message_is_acknowledged_lands_and_is_counted_and_sigterm_ends_well() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    site.configure(&format!("{CHAIN}{}", site.uplink(&stamp, &["acme"])));
    let gateway = site.run();
    let mut device = Device::connect(gateway.address(), "press-1");
    device.publish("site/acme/press-1/telemetry", r#"{"ts":1760000000123,"temperature_c":21.5}"#, 1);
    device.publish("site/acme/press-1/telemetry", r#"{"ts":1760000000124,"temperature_c":921.5}"#, 2);
    device.publish("site/acme/press-1/telemetry", "no json", 3);
    device.publish("site/nobody/press-1/telemetry", r#"{"ts":1760000000125}"#, 4);
    let mut acknowledged: Vec<_> = (0..4).map(|_| device.acknowledged()).collect();
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, [1, 2, 3, 4]);
    wait_until("the row has landed", || gateway.status().tenants[0].landed_rows == 1);
    let status = gateway.status();
    let tenant = &status.tenants[0];
    assert_eq!(
        (tenant.accepted_rows, tenant.filtered_rows, tenant.dead_letters, tenant.outbox.batches),
        (3, 1, 1, 0)
    );
    assert_eq!((status.uplink.state.as_str(), status.unrouted.kept), ("connected", 1));
    let source = &status.sources[0];
    assert_eq!((source.messages, source.unrouted, source.connections), (3, 1, 1));
    assert!(status.process.rss_bytes > 0 && status.process.threads > 0);
    assert_eq!(stamp.landed("acme").len(), 1);

    let seen = text(&cli(&["status"], &site.path("gateway.toml")).stdout);
    assert!(seen.contains("s1: connected to quic://127.0.0.1"), "{seen}");
    assert_eq!(gateway.terminate(), Some(0), "{}", site.log());
    assert_eq!(stamp.goodbyes(), 1);

    let output = cli(&["status", "--json"], &site.path("gateway.toml"));
    assert_eq!(output.status.code(), Some(3), "it does not run");
    let status: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!status.running);
    assert_eq!(status.tenants[0].accepted_rows, 3);
    for line in site.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn what_was_acknowledged_before_sigkill_lands_after_the_restart() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::AckWhenTold);
    site.configure(&format!("{CHAIN}{}", site.uplink(&stamp, &["acme"])));
    let gateway = site.run();
    let mut device = Device::connect(gateway.address(), "press-1");
    for packet in 1..=50 {
        let payload = format!("{{\"ts\":{},\"temperature_c\":21.5}}", 1_760_000_000_000 + u64::from(packet));
        device.publish("site/acme/press-1/telemetry", &payload, packet);
    }
    for _ in 1..=50 {
        device.acknowledged();
    }
    gateway.signal("-KILL");
    drop(gateway);
    let seen = cli(&["status", "--json"], &site.path("gateway.toml"));
    let status: Status = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((status.running, status.tenants[0].outbox.rows), (false, 50));
    stamp.set(Manner::Honest);
    let gateway = site.run();
    wait_until("all have landed", || gateway.status().tenants[0].outbox.batches == 0);
    assert_eq!(gateway.status().tenants[0].landed_rows, 50);
    assert_eq!(gateway.terminate(), Some(0), "{}", site.log());
}

#[test]
fn a_second_gateway_on_the_same_folder_is_told_who_has_it() {
    let site = Site::new();
    let config = site.configure(CHAIN);
    let gateway = site.run();
    let second = cli(&["run"], &config);
    assert_eq!(second.status.code(), Some(1));
    let told = text(&second.stderr);
    assert!(told.contains("in use") && told.contains(&gateway.child.id().to_string()), "{told}");
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn a_data_folder_that_cannot_be_is_an_error_that_names_it() {
    let site = Site::new();
    let config = site.configure(CHAIN);
    std::fs::write(site.data_dir(), "a file").unwrap();
    let output = cli(&["run"], &config);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("gateway.data_dir") && told.contains("data"), "{told}");
}

#[test]
fn sighup_makes_a_parked_link_try_again() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::NotAssigned, None));
    site.configure(&format!("{CHAIN}{}", site.uplink(&stamp, &["acme"])));
    let gateway = site.run();
    wait_until("the link is parked", || gateway.status().uplink.state == "parked");
    stamp.set(Manner::Honest);
    gateway.signal("-HUP");
    wait_until("the link is connected", || gateway.status().uplink.state == "connected");
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn help_teaches_with_an_example() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-gateway")).arg("--help").output().unwrap();
    let told = text(&output.stdout);
    assert!(told.contains("[[source]]") && told.contains("mosquitto_pub"), "{told}");
}

#[test]
fn why_says_what_it_waits_for_and_retry_now_ends_the_wait() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::NotAssigned, None));
    let config = site.configure(&format!("{CHAIN}{}", site.uplink(&stamp, &["acme"])));
    assert_eq!(cli(&["why"], &config).status.code(), Some(3), "it does not run");
    assert_eq!(cli(&["retry-now"], &config).status.code(), Some(3));
    let gateway = site.run();
    wait_until("the link is parked", || gateway.status().uplink.state == "parked");
    let output = cli(&["why", "--json"], &config);
    let why: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let link = &why["uplinks"][0];
    assert_eq!((&link["stamp"], &link["state"]), (&"s1".into(), &"parked".into()), "{why}");
    assert!(link["cause"].as_str().unwrap().contains("not_assigned"), "{why}");
    assert!(link["until"].as_i64() > link["since"].as_i64(), "{why}");
    assert_eq!((&link["attempts"], &link["parked"]), (&1.into(), &1.into()));
    assert_eq!((&why["retries"]["tokens"], &why["retries"]["granted"]), (&500.into(), &0.into()));
    let told = text(&cli(&["why"], &config).stdout);
    for part in ["s1: parked", "next try in", "not responsible", "quic://127.0.0.1", "500 of 500"] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    let output = cli(&["retry-now", "--stamp", "s2"], &config);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no stamp \"s2\""));
    stamp.set(Manner::Honest);
    let output = cli(&["retry-now", "--stamp", "s1"], &config);
    assert_eq!(text(&output.stdout), "s1: was parked, tries now\n", "{}", text(&output.stderr));
    wait_until("the link is connected", || gateway.status().uplink.state == "connected");
    assert_eq!(text(&cli(&["retry-now"], &config).stdout), "s1: is connected\n");
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn whoever_says_nothing_to_the_admin_socket_gets_the_status_and_nonsense_gets_an_error() {
    let site = Site::new();
    site.configure(CHAIN);
    let gateway = site.run();
    let ask = |question: &[u8]| {
        let mut stream = std::os::unix::net::UnixStream::connect(site.data_dir().join("admin.sock")).unwrap();
        stream.write_all(question).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    assert_eq!(ask(b"")["gateway"], "plant7");
    assert_eq!(ask(b"{\"do\":\"status\"}\n")["gateway"], "plant7");
    assert!(ask(b"{\"do\":\"dance\"}\n")["error"].as_str().unwrap().contains("dance"));
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn status_tells_how_long_an_outage_is_covered() {
    let site = Site::new();
    let config = site.configure(CHAIN);
    let gateway = site.run();
    let mut device = Device::connect(gateway.address(), "press-1");
    let mut packet = 0;
    // The rate is known after ten seconds.
    wait_until("the rate is known", || gateway.status().tenants[0].outage.fill_bytes_per_second.is_some());
    for _ in 0..20 {
        packet += 1;
        let payload = format!("{{\"ts\":{},\"temperature_c\":21.5}}", 1_760_000_000_000 + u64::from(packet));
        device.publish("site/acme/press-1/telemetry", &payload, packet);
        device.acknowledged();
    }
    wait_until("data counts", || gateway.status().tenants[0].outage.covered_hours.is_some());
    let tenant = gateway.status().tenants.remove(0);
    let outage = tenant.outage;
    assert!(outage.fill_bytes_per_second.is_some_and(|rate| rate > 0.0), "{outage:?}");
    assert!(outage.quota_left_bytes < tenant.quota_bytes && outage.quota_left_bytes > 0);
    assert!(outage.covered_hours.is_some_and(|hours| hours > 0.1) && outage.disk_free_bytes.is_some());
    assert_eq!((tenant.outbox.rows, tenant.outbox.batches > 0), (20, true));
    let told = text(&cli(&["status"], &config).stdout);
    assert!(told.contains("COVERS") && told.contains("B/s"), "{told}");
    assert_eq!(gateway.terminate(), Some(0));
}
