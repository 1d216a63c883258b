//! The gateway's binary before a stamp that acknowledges twice, or never: what waited lands once, over kills and restarts.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use host::admin::{Status, ask};
use host::outbox::Priority;
use host::store::{Commit, DataFolder, NewBatch, Store, StoreConfig};
use wire::ids::{RouteName, TenantId};

use crate::stamp::{Manner, Pki, TestStamp};
use crate::wait_until;

/// Batches that wait from the start.
const BATCHES: u64 = 300;

struct Site {
    dir: tempfile::TempDir,
    pki: Pki,
}

/// A running gateway; killed when dropped.
struct Running<'a>(&'a Site, Child);

impl Site {
    /// With batches in its store.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let folder = Arc::new(DataFolder::lock(&dir.path().join("data")).unwrap());
        let acme = TenantId::new("acme").unwrap();
        let store = Store::open(&folder, &acme, StoreConfig::default()).unwrap().store;
        for n in 0..BATCHES {
            let batch = NewBatch {
                route: RouteName::new("telemetry").unwrap(),
                priority: Priority::Normal,
                keep: None,
                rows: 1,
                payload: Bytes::from(vec![n as u8; 2_000]),
            };
            store.commit(Commit { batches: vec![batch], ..Commit::default() });
        }
        store.settle();
        store.close();
        Self { dir, pki }
    }

    fn start(&self, stamp: &TestStamp) -> Running<'_> {
        let (certificate, key) = self.pki.gateway("plant7", self.dir.path(), 1);
        let trust = self.pki.trust(self.dir.path());
        let config = self.dir.path().join("gateway.toml");
        let text = format!(
            "[gateway]\nid = \"plant7\"\ndata_dir = {:?}\n\n\
             [[source]]\nname = \"floor\"\nkind = \"mqtt-listener\"\nlisten = \"127.0.0.1:0\"\n\
             [[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}/telemetry\"\nformat = \"json\"\nprofile = \"machine\"\n\n\
             [tenant.acme]\n\n[uplink]\n\
             stamp = [{{ id = \"s1\", endpoints = [\"quic://127.0.0.1:{}\"], tenants = [\"acme\"] }}]\n\
             identity = {{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}\n",
            self.dir.path().join("data"),
            stamp.port()
        );
        std::fs::write(&config, text).unwrap();
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-gateway"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Running(self, child);
        wait_until("the gateway answers", || running.status().is_some());
        running
    }
}

impl Running<'_> {
    fn status(&self) -> Option<Status> {
        ask(&self.0.dir.path().join("data")).ok()
    }

    fn waiting(&self) -> u64 {
        self.status().map_or(u64::MAX, |status| status.tenants[0].outbox.batches)
    }

    fn assert_within_ledger(&self) {
        let uplink = self.status().unwrap().uplink;
        assert!(uplink.links[0].attempts <= uplink.retries.granted + 1, "{uplink:#?}");
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.1.kill().ok();
        self.1.wait().ok();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.0.dir.path().join("log")).unwrap_or_default());
        }
    }
}

#[test]
fn what_is_acknowledged_twice_is_settled_once() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::AckTwice);
    let gateway = site.start(&stamp);
    wait_until("the outbox is empty", || gateway.waiting() == 0);
    assert_eq!(stamp.landed("acme"), (1..=BATCHES).collect::<Vec<_>>());
    assert_eq!(stamp.received("acme").len() as u64, BATCHES, "nothing was sent twice");
    let link = gateway.status().unwrap().uplink.links.remove(0);
    assert_eq!((link.connections, link.attempts), (1, 1), "{link:#?}");
}

#[test]
fn what_is_never_acknowledged_stays_over_kills_and_lands_once_when_it_is() {
    let site = Site::new();
    let stamp = TestStamp::start(&site.pki, Manner::AckWhenTold);
    for life in 1..=3 {
        let gateway = site.start(&stamp);
        wait_until("all are on their way", || stamp.received("acme").len() as u64 == life * BATCHES);
        assert_eq!(gateway.waiting(), BATCHES);
        gateway.assert_within_ledger();
        drop(gateway);
        // Its sessions with the dead, which it would keep for a while.
        stamp.break_all();
    }
    assert_eq!(stamp.landed("acme").len(), 0);
    stamp.set(Manner::Honest);
    let gateway = site.start(&stamp);
    wait_until("the outbox is empty", || gateway.waiting() == 0);
    assert_eq!(stamp.landed("acme"), (1..=BATCHES).collect::<Vec<_>>());
    gateway.assert_within_ledger();
}
