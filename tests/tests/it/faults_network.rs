//! A network that comes up on the gateway's machine: what is parked tries at once. In a network namespace of the test's own.

use std::process::{Child, Command, Stdio};

use e2e::gateway::{Gateway, Setup, Upstream};
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;
use host::uplink::LinkState;

use crate::site::{PATIENCE, Site, plan};

/// A network namespace with nothing but a loopback; gone when dropped.
struct Namespace(Child);

impl Namespace {
    fn create() -> Self {
        // Says that it is ready, and then waits for its end.
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            "ip link set lo up && echo && exec cat",
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).expect("unshare and ip");
        Self(child)
    }

    /// What runs a program in it.
    fn entry(&self) -> Vec<String> {
        let target = format!("--target={}", self.0.id());
        ["nsenter", "--user", "--net", "--preserve-credentials", &target, "--"].map(str::to_owned).into()
    }

    fn run(&self, command: &str) {
        let entry = self.entry();
        let status = Command::new(&entry[0]).args(&entry[1..]).args(["sh", "-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_parked_link_tries_at_once_when_an_address_appears() {
    // Parks after a few attempts, for minutes.
    let uplink = "retry = { then = { kind = \"exponential\", base = \"100 ms\", factor = 2.0, cap = \"200 ms\", \
                  jitter = \"full\" }, episode = { attempts = 2, elapsed = \"1 min\" } }\n";
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let setup = Setup { tenants, uplink: uplink.to_owned(), ..Setup::default() };
    let mut site = Site::create(&setup);
    let upstream = site.world.upstream(&site.stamp, site.world.pki.gateway("edge-1").unwrap());
    let upstream = Upstream { transport: "tls", ..upstream };
    site.gateway = Gateway::create(site.world.path(), "edge-1", &setup, &upstream).unwrap();
    site.gateway.start().unwrap();
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 5, 1)], 0.0);
    (all.each, all.rate) = (Some(400), None);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.gateway.kill().unwrap();

    let namespace = Namespace::create();
    (site.gateway.within, site.stamp.within) = (namespace.entry(), namespace.entry());
    site.gateway.spawn().unwrap();
    wait_until("it is parked", PATIENCE, || {
        Ok(site.gateway.status().is_ok_and(|status| status.uplink.links[0].state == LinkState::Parked))
    })
    .unwrap();
    site.stamp.start().unwrap();
    let parked = site.link();
    assert_eq!((parked.state, parked.attempts), (LinkState::Parked, 3), "{parked:#?}");
    // An address like any other, for which no further interface is needed.
    namespace.run("ip addr add 10.77.0.1/24 dev lo");
    site.settle(&ledger);
    let link = site.link();
    assert_eq!((link.attempts, link.connections), (4, 1), "{link:#?}");
    assert!(site.gateway.log().contains("a network has come up"), "{}", site.gateway.log());
}
