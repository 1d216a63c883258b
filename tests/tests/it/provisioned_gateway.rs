//! Gateways that know one provisioning endpoint and how they attest: everything else arrives. Real provisioning, stamps and
//! gateways.
//!
//! ```text
//! here       the cloud that all of them need; a gateway that registers and is moved
//! refusals   not enrolled, blocked, another authority, a stamp that is away; tenants that nobody has assigned
//! lasting    SIGKILLs while it registers, renewal, a certificate that ends, a promotion that it has missed
//! clock      a machine whose clock is wrong
//! ```

mod clock;
mod lasting;
mod refusals;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cloud::client::Client;
use e2e::gateway::{Gateway, Setup};
use e2e::load::{Fleet, Ledger, Load};
use e2e::oracle::{self, Account, Rules};
use e2e::pki::Identity;
use e2e::process::wait_until;
use e2e::provision::{OPERATOR, Provision, enrolment, shared_stamp, tenant};
use e2e::stamp::Stamp;
use e2e::world::{World, workload_chain};
use host::provisioning::{Asking, ProvisioningStatus};
use provision::model::Proof;
use provision::registry::Books;
use serde_json::{Value, json};

use crate::site::{PATIENCE, plan};

/// Provisioning with a group of gateways enrolled by the authority of their bootstrap certificates, and its stamps.
struct Cloud {
    provision: Provision,
    stamps: Vec<Stamp>,
    world: World,
}

impl Cloud {
    /// Starts it with these stamps (name, environment); the group's gateways begin in the first one's.
    async fn start(stamps: &[(&str, &str)], lines: &[&str]) -> Self {
        let world = World::create().unwrap();
        let mut provision = Provision::create(&world).unwrap();
        for line in lines {
            provision.configure(line).unwrap();
        }
        let made: Vec<Stamp> = stamps.iter().map(|(id, _)| provision.stamp(&world, id).unwrap()).collect();
        let records: Vec<_> = made
            .iter()
            .zip(stamps)
            .map(|(stamp, (id, environment))| {
                let endpoint = format!("quic://localhost:{}", stamp.address.port());
                (shared_stamp(id, "eu", environment, 1_000), endpoint)
            })
            .collect();
        let authority = world.pki.authority_der().unwrap();
        let first = stamps[0].1.to_owned();
        let set_up = move |books: &mut Books<'_>| {
            for (stamp, endpoint) in records {
                books.put_stamp(stamp, &[endpoint])?;
            }
            for name in ["acme", "globex"] {
                books.put_tenant(&tenant(name, None))?;
            }
            books.add_enrolment(&enrolment("plants", Proof::Authority(authority), &first, &[("acme", 10)]))
        };
        provision.change(set_up).await.unwrap();
        provision.start().unwrap();
        let mut cloud = Self { provision, stamps: made, world };
        cloud.stamps.iter_mut().for_each(|stamp| stamp.start().unwrap());
        cloud
    }

    /// A gateway whose bootstrap certificate comes from the group's authority; not started.
    fn gateway(&self, id: &str, more: &str) -> Gateway {
        let Identity { certificate, key } = self.world.pki.gateway(id).unwrap();
        self.gateway_by(id, &format!("{{ certificate = {certificate:?}, key = {key:?} }}"), more)
    }

    fn gateway_by(&self, id: &str, attest: &str, more: &str) -> Gateway {
        let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
        let setup = Setup { tenants, ..Setup::default() };
        let gateway = self.world.gateway(id, &setup, &self.stamps[0]).unwrap();
        let (endpoint, trust) = (self.provision.endpoint(), &self.provision.trust);
        let text = fs::read_to_string(&gateway.config).unwrap();
        let without = text.split("\n[uplink]").next().unwrap();
        let section = format!(
            "[provisioning]\nendpoint = {endpoint:?}\ntrust = {trust:?}\nattest = {attest}\n{more}\n"
        );
        fs::write(&gateway.config, format!("{without}\n{section}")).unwrap();
        gateway
    }

    fn stamp(&mut self, id: &str) -> &mut Stamp {
        self.stamps.iter_mut().find(|stamp| stamp.id == id).unwrap()
    }

    /// Starts an operation, as an operator does.
    async fn operate(&self, task: Value) -> Value {
        self.operator().post("/v1/admin/operations", &json!({ "task": task })).await.unwrap()
    }

    fn operator(&self) -> Client {
        let credentials = self.world.pki.credentials(OPERATOR, |_| {}).unwrap();
        self.provision.client(Some(&credentials)).unwrap()
    }

    /// What devices were acknowledged has landed once, whichever stamp has it.
    fn settle(&self, ledger: &Ledger) -> Account {
        let rows = self.stamps.iter().flat_map(|stamp| stamp.landed().unwrap());
        oracle::settle(ledger, |_| Rules::default(), rows).unwrap()
    }
}

fn status(gateway: &Gateway) -> ProvisioningStatus {
    gateway.status().unwrap().provisioning.unwrap()
}

fn wait_for(gateway: &Gateway, what: &str, is_so: impl Fn(&ProvisioningStatus) -> bool) {
    let reached = wait_until(what, PATIENCE, || Ok(is_so(&status(gateway))));
    assert!(reached.is_ok(), "{reached:?}\n{:#?}\n{}", status(gateway), gateway.log());
}

/// Waits until the gateway is connected to that stamp, and that one alone.
fn wait_at(gateway: &Gateway, stamp: &str) {
    let at = wait_until(&format!("it is at {stamp}"), PATIENCE, || {
        let uplink = gateway.status()?.uplink;
        Ok(uplink.state == "connected" && uplink.links.len() == 1 && uplink.links[0].stamp == stamp)
    });
    assert!(at.is_ok(), "{at:?}\n{:#?}\n{}", gateway.status().unwrap().uplink, gateway.log());
}

fn wait_landed(gateway: &Gateway, more: u64) {
    let landed = || gateway.tenant("acme").unwrap().landed_rows;
    let before = landed();
    let reached = wait_until("rows land", PATIENCE, || Ok(landed() >= before + more));
    assert!(reached.is_ok(), "{reached:?}\n{:#?}\n{}", gateway.status().unwrap().uplink, gateway.log());
}

fn load(gateway: &Gateway, rate: f64) -> Load {
    Load::start(plan(gateway.mqtt, vec![Fleet::new("acme", 5, 1)], rate)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_registers_by_itself_lands_data_and_is_moved_by_an_operation_within_two_seconds() {
    let mut cloud = Cloud::start(&[("a", "production"), ("b", "production")], &[]).await;
    let pin = |stamp: &'static str| {
        move |books: &mut Books<'_>| {
            let pinned = Some(stamp.parse().unwrap());
            books.put_tenant(&provision::model::Tenant { pinned, ..tenant("acme", None) })
        }
    };
    cloud.provision.change_while_down(pin("a")).await.unwrap();
    let mut gateway = cloud.gateway("edge-1", "");
    gateway.start().unwrap();
    wait_at(&gateway, "a");
    let known = status(&gateway);
    assert!(known.registered && known.state == Asking::Settled, "{known:#?}");
    assert_eq!((known.environment.as_deref(), known.questions), (Some("production"), 1));
    private_files(&gateway.data_dir);
    let load = load(&gateway, 200.0);
    wait_landed(&gateway, 200);
    // Without a backlog: what comes in goes out.
    let moved = Instant::now();
    cloud.operate(json!({ "kind": "move", "gateways": ["edge-1"], "to": "b" })).await;
    wait_at(&gateway, "b");
    let connected = moved.elapsed();
    wait_landed(&gateway, 200);
    let ledger = load.finish().unwrap();
    gateway.drain(PATIENCE).unwrap();
    let account = cloud.settle(&ledger);
    assert!(account.is_kept(), "{account:#?}\n{}", gateway.log());
    let gap = longest_gap(&cloud);
    println!(
        "connected to the new stamp {connected:?} after the operation; the longest time without a landing: {gap:?}"
    );
    assert!(gap <= Duration::from_secs(2), "{gap:?}\n{}", gateway.log());
    let epochs: Vec<_> = status(&gateway).assignments.into_iter().map(|it| (it.stamp, it.epoch)).collect();
    assert_eq!(epochs, [("b".to_owned(), 2)]);
    // It keeps all that over a restart, and works while provisioning is away.
    cloud.provision.kill().unwrap();
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait_at(&gateway, "b");
    assert_eq!((status(&gateway).questions, status(&gateway).state), (0, Asking::Settled));
    gateway.terminate().unwrap();
    assert!(!cloud.stamp("a").log().contains("ERROR"), "{}", cloud.stamp("a").log());
}

/// The longest time between two landings while the load ran.
fn longest_gap(cloud: &Cloud) -> Duration {
    let rows = cloud.stamps.iter().flat_map(|stamp| stamp.rows().unwrap());
    let mut received: Vec<i64> = rows.map(|row| row["received_ns"].as_i64().unwrap()).collect();
    received.sort_unstable();
    let longest = received.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    Duration::from_nanos(longest.unsigned_abs())
}

fn private_files(data_dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let folder = data_dir.join("provisioned");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["identity.pem", "registration.json", "trust.pem"]);
}
