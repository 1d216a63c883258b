//! Stamps that tell gateways what to run: real services; the gateway is `wire`'s session over TLS, and says what the test
//! wants to be said.

use std::time::Duration;

use e2e::cloud::client::Client;
use e2e::cloud::edge::{self, Edge, Hello};
use e2e::process::wait_until;
use e2e::provision::{OPERATOR, Provision, enrolment, shared_stamp, tenant};
use e2e::stamp::Stamp;
use e2e::world::World;
use provision::allocation::{self, Ring};
use provision::api::releases::dto::{
    ConditionView, ContentView, DesiredView, NewRelease, NewRollout, ReleaseView, RolloutDetail,
};
use provision::model::{Proof, Tenant};
use provision::registry::Registering;
use provision::rollout::{Gate, RolloutState};
use ring::digest;
use wire::ids::{Digest, Release};
use wire::message::{Condition, ConditionState, Desired, MAX_CHUNK_BYTES, TenantIndex};
use wire::session::gateway::Event;

use crate::site::PATIENCE;

fn sha256(bytes: &[u8]) -> Digest {
    Digest(digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap())
}

/// Provisioning, its operator, and stamp `a` of ring fast with gateway `edge-1` and tenant `acme`.
struct Cloud {
    world: World,
    service: Provision,
    ops: Client,
    stamp: Stamp,
}

impl Cloud {
    async fn start() -> Self {
        let world = World::create().unwrap();
        let mut service = Provision::create(&world).unwrap();
        let set_up = service.change(|books| {
            let stamp = shared_stamp("a", "eu", "production", 1_000);
            let stamp = allocation::Stamp { ring: Ring::Fast, ..stamp };
            books.put_stamp(stamp, &["tls://a.example:7443".to_owned()])?;
            books.put_tenant(&Tenant { pinned: Some("a".parse().unwrap()), ..tenant("acme", None) })?;
            let key = Proof::Key(b"its own".to_vec());
            books.add_enrolment(&enrolment("edge-1", key, "production", &[("acme", 2)]))?;
            let (gateway, enrolment) = ("edge-1".parse().unwrap(), "edge-1".parse().unwrap());
            books.register(&Registering { gateway, enrolment, latencies: vec![] })?;
            Ok(())
        });
        set_up.await.unwrap();
        service.start().unwrap();
        let ops = world.pki.stamp(OPERATOR).unwrap().credentials().unwrap();
        let ops = service.client(Some(&ops)).unwrap();
        let mut stamp = service.stamp(&world, "a").unwrap();
        stamp.start().unwrap();
        Self { world, service, ops, stamp }
    }

    async fn connect(&self) -> Edge {
        let own = self.world.pki.gateway("edge-1").unwrap().credentials().unwrap();
        let hello = Hello { gateway: "edge-1", installation: 1, tenants: &[("acme", 1)] };
        let admitted = edge::admitted(self.stamp.address, &self.world.pki.trust(), &own, &hello).await;
        admitted.unwrap_or_else(|refused| panic!("{refused}\n{}", self.stamp.log())).0
    }

    async fn publish(&self, plugin: &[u8]) -> Release {
        let name = sha256(plugin);
        let path = format!("/v1/admin/contents/{name}");
        let _: ContentView = self.ops.put(&path, plugin.to_vec()).await.unwrap();
        let document = format!("[[tenant.acme.step]]\nuse = \"sha256:{name}\"\n");
        let new = NewRelease { tenant: "acme".parse().unwrap(), document, note: String::new() };
        self.ops.post::<ReleaseView>("/v1/admin/releases", &new).await.unwrap().id
    }

    async fn roll_out(&self, release: Release) -> i64 {
        let (tenant, rings, gate) = ("acme".parse().unwrap(), vec![Ring::Fast], Gate::default());
        let new = NewRollout { tenant, release, rings, soak_seconds: 0, gate };
        self.ops.post::<RolloutDetail>("/v1/admin/rollouts", &new).await.unwrap().rollout.id
    }

    async fn ended(&self, id: i64) -> RolloutDetail {
        let give_up = std::time::Instant::now() + PATIENCE;
        loop {
            let detail: RolloutDetail = self.ops.get(&format!("/v1/admin/rollouts/{id}")).await.unwrap();
            if detail.rollout.state != RolloutState::Running {
                return detail;
            }
            assert!(std::time::Instant::now() < give_up, "{detail:#?}\n{}", self.stamp.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How a release does in the ring, as soon as `is` says that it is there.
    async fn condition(&self, release: Release, is: impl Fn(&ConditionView) -> bool) -> (u32, ConditionView) {
        let give_up = std::time::Instant::now() + PATIENCE;
        loop {
            let view: DesiredView = self.ops.get("/v1/admin/tenants/acme/desired").await.unwrap();
            let ring = view.rings.first().cloned();
            let found = ring.and_then(|ring| {
                let connected = ring.connected;
                ring.conditions
                    .into_iter()
                    .find(|it| it.release == release && is(it))
                    .map(|it| (connected, it))
            });
            if let Some(found) = found {
                return found;
            }
            assert!(std::time::Instant::now() < give_up, "{view:#?}\n{}", self.stamp.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn desired(edge: &mut Edge) -> Desired {
    loop {
        if let Event::Desired(desired) = edge.next().await {
            return desired;
        }
    }
}

/// All of a content, piece by piece; and how many there were.
async fn whole(edge: &mut Edge, digest: Digest) -> (Vec<u8>, usize) {
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    loop {
        let content = edge.fetch(digest, bytes.len() as u64).await;
        assert!(content.bytes.len() <= MAX_CHUNK_BYTES);
        bytes.extend_from_slice(&content.bytes);
        pieces += 1;
        if bytes.len() as u64 >= content.total {
            return (bytes, pieces);
        }
    }
}

fn condition(release: Release, state: ConditionState, rows: u64) -> Condition {
    let reason = if state == ConditionState::Applied { String::new() } else { "no signature".to_owned() };
    let (tenant, faults, rejected) = (TenantIndex(0), 0, 0);
    Condition { tenant, release, state, reason, rows, faults, rejected, cpu_ns: rows * 100, memory: 1 << 20 }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_get_a_release_from_their_stamp_also_while_provisioning_is_down() {
    let mut cloud = Cloud::start().await;
    let mut edge = cloud.connect().await;
    let plugin: Vec<u8> = (0..1_500_000_u32).map(|place| (place >> 3) as u8).collect();
    let release = cloud.publish(&plugin).await;
    let rollout = cloud.roll_out(release).await;
    let told = desired(&mut edge).await;
    assert_eq!((told.release, told.rollback), (release, false));
    assert_eq!(
        told.contents.iter().map(|it| (it.digest, it.size)).collect::<Vec<_>>(),
        [(sha256(&plugin), 1_500_000)]
    );
    assert!(String::from_utf8_lossy(&told.document).contains("[[tenant.acme.step]]"));
    edge.say(condition(release, ConditionState::Fetching, 0)).await;
    let (bytes, pieces) = whole(&mut edge, sha256(&plugin)).await;
    assert!(bytes == plugin && pieces > 5, "{pieces} pieces");
    // Nobody gets what no release of its own names.
    let foreign = edge.fetch(sha256(b"another tenant's"), 0).await;
    assert_eq!((foreign.total, foreign.bytes.len()), (0, 0));
    // Data goes on meanwhile, in the same session.
    edge.land(1, "x").await;
    edge.say(condition(release, ConditionState::Applied, 5_000)).await;
    let (connected, is) = cloud.condition(release, |it| it.applied == 1).await;
    assert_eq!((connected, is.fetching, is.rows, is.cpu_ns, is.memory), (1, 0, 5_000, 500_000, 1 << 20));
    assert_eq!(cloud.ended(rollout).await.rollout.state, RolloutState::Finished);

    cloud.service.kill().unwrap();
    cloud.stamp.kill().unwrap();
    cloud.stamp.start().unwrap();
    let mut edge = cloud.connect().await;
    assert_eq!(desired(&mut edge).await, told, "told by what is kept");
    assert_eq!(whole(&mut edge, sha256(&plugin)).await.0, plugin);
    edge.land(2, "x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_a_gateway_refuses_is_taken_back_and_the_reason_is_told() {
    let cloud = Cloud::start().await;
    let mut edge = cloud.connect().await;
    let good = cloud.publish(b"good").await;
    let rollout = cloud.roll_out(good).await;
    assert_eq!(desired(&mut edge).await.release, good);
    edge.say(condition(good, ConditionState::Applied, 5_000)).await;
    assert_eq!(cloud.ended(rollout).await.rollout.state, RolloutState::Finished);
    let bad = cloud.publish(b"bad").await;
    let rollout = cloud.roll_out(bad).await;
    assert_eq!(desired(&mut edge).await.release, bad);
    edge.say(condition(bad, ConditionState::Refused, 0)).await;
    edge.say(condition(good, ConditionState::Applied, 6_000)).await;
    let detail = cloud.ended(rollout).await;
    assert_eq!(detail.rollout.state, RolloutState::RolledBack);
    assert!(detail.rollout.step.contains("edge-1: no signature"), "{}", detail.rollout.step);
    let back = desired(&mut edge).await;
    assert_eq!((back.release, back.rollback), (good, true));
    assert_eq!(whole(&mut edge, sha256(b"good")).await.0, b"good");
    let (_, is) = cloud.condition(bad, |it| it.refused == 1).await;
    assert_eq!(is.reasons, ["edge-1: no signature"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_was_cut_off_or_is_damaged_is_fetched_again() {
    let mut cloud = Cloud::start().await;
    let plugin = vec![7; 900_000];
    let release = cloud.publish(&plugin).await;
    cloud.roll_out(release).await;
    let contents = cloud.stamp.config.parent().unwrap().join("a/contents");
    let file = contents.join(sha256(&plugin).to_string());
    wait_until("the content is there", PATIENCE, || Ok(file.exists())).unwrap();
    cloud.stamp.kill().unwrap();
    std::fs::write(&file, &plugin[..1_000]).unwrap();
    std::fs::write(contents.join(format!("{}.part", sha256(&plugin))), b"begun").unwrap();
    cloud.stamp.start().unwrap();
    let mut edge = cloud.connect().await;
    assert_eq!(desired(&mut edge).await.release, release);
    assert_eq!(whole(&mut edge, sha256(&plugin)).await.0, plugin);
}
