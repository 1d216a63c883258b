//! Releases and rollouts: the real service, and stamps that say what the test wants to be said.
//!
//! Stamps `eu-1` (ring fast), `eu-2` and `test-1` (ring slow); tenant `acme`.

use std::time::Duration;

use provision::allocation::Ring;
use provision::api::releases::dto::{
    ContentView, DesiredView, NewRelease, NewRollout, Page, ReleaseDetail, ReleaseView, RolloutDetail,
};
use provision::rollout::{Gate, RolloutState};
use ring::digest;
use serde_json::json;
use wire::ids::{Digest, Release};
use wire::provisioning::{Conditions, DesiredState, DesiredStates, ReleaseCondition, TenantConditions};

use crate::site::{Client, Site};

const STAMPS: [&str; 3] = ["eu-1", "eu-2", "test-1"];

fn sha256(bytes: &[u8]) -> Digest {
    Digest(digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap())
}

/// A stamp that says what it is told to.
struct Stamp {
    id: &'static str,
    client: Client,
    known: DesiredStates,
    state: Option<DesiredState>,
}

impl Stamp {
    fn new(site: &Site, id: &'static str) -> Self {
        let client = site.client(Some(&site.ca.issue(id)));
        let known =
            DesiredStates { ring: String::new(), revision: 0, more: false, full: false, states: vec![] };
        Self { id, client, known, state: None }
    }

    /// Follows until there is something new of the tenant, for at most so many seconds; whether there was.
    async fn follow(&mut self, wait: u64) -> bool {
        loop {
            let DesiredStates { ring, revision, .. } = &self.known;
            let path = format!("/v1/stamps/{}/desired?after={revision}&ring={ring}&wait={wait}", self.id);
            self.known = self.client.get(&path).await.unwrap();
            let news = self.known.states.iter().find(|state| state.tenant.as_str() == "acme").cloned();
            let is_new = news.is_some();
            self.state = news.or(self.state.take());
            // The first answer is a full one, of what there is by then.
            if is_new || !self.known.full {
                return is_new;
            }
        }
    }

    fn release(&self) -> (u64, bool) {
        self.state.as_ref().map_or((0, false), |state| (state.release.0, state.rollback))
    }

    /// Says that it follows, and how the release that it knows does at two gateways.
    async fn says(&self, is: ReleaseCondition) {
        let mut releases = vec![ReleaseCondition { release: Release(self.release().0), ..is }];
        if let Some(before) = releases[0].release.0.checked_sub(1) {
            // What ran before is remembered, too.
            releases.push(ReleaseCondition { release: Release(before), ..well(10_000) });
        }
        let tenant = TenantConditions { tenant: "acme".parse().unwrap(), connected: 2, releases };
        let conditions = Conditions { revision: self.known.revision, tenants: vec![tenant] };
        let path = format!("/v1/stamps/{}/conditions", self.id);
        self.client.post::<()>(&path, &conditions).await.unwrap();
    }
}

fn well(rows: u64) -> ReleaseCondition {
    ReleaseCondition { applied: 2, rows, cpu_ns: rows * 100, ..ReleaseCondition::default() }
}

struct World {
    site: Site,
    ops: Client,
    stamps: [Stamp; 3],
}

impl World {
    async fn new() -> Self {
        let site = Site::start().await;
        let ops = site.client(Some(&site.ca.issue("ops")));
        let fast = ops.patch::<serde_json::Value>("/v1/admin/stamps/eu-1", &json!({"ring": "fast"})).await;
        assert_eq!(fast.unwrap()["ring"], "fast");
        let stamps = STAMPS.map(|id| Stamp::new(&site, id));
        Self { site, ops, stamps }
    }

    /// SIGKILL; everybody finds it again at its new port.
    fn kill_and_restart(&mut self) {
        self.site.kill_and_restart();
        self.ops = self.site.client(Some(&self.site.ca.issue("ops")));
        for stamp in &mut self.stamps {
            stamp.client = self.site.client(Some(&self.site.ca.issue(stamp.id)));
        }
    }

    async fn publish(&self, bytes: &[u8]) -> ReleaseView {
        let sha256 = sha256(bytes);
        let view: ContentView = self.ops.put(&format!("/v1/admin/contents/{sha256}"), bytes).await.unwrap();
        assert_eq!(view, ContentView { sha256, size: bytes.len() as u64 });
        let document = format!("[[tenant.acme.step]]\nuse = \"sha256:{sha256}\"\n");
        self.ops.post("/v1/admin/releases", &new_release(&document)).await.unwrap()
    }

    async fn start(&self, release: Release, soak_seconds: u64) -> i64 {
        let detail: RolloutDetail =
            self.ops.post("/v1/admin/rollouts", &new_rollout(release, soak_seconds)).await.unwrap();
        detail.rollout.id
    }

    async fn rollout(&self, id: i64) -> RolloutDetail {
        self.ops.get(&format!("/v1/admin/rollouts/{id}")).await.unwrap()
    }

    async fn wait(&self, id: i64, is: impl Fn(&RolloutDetail) -> bool) -> RolloutDetail {
        let started = std::time::Instant::now();
        loop {
            let detail = self.rollout(id).await;
            if is(&detail) {
                return detail;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{detail:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Rolls a release out, with stamps that say that all is well.
    async fn roll_out(&mut self, release: Release) {
        let id = self.start(release, 0).await;
        let [fast, slow, test] = &mut self.stamps;
        assert!(fast.follow(10).await);
        fast.says(well(10_000)).await;
        assert!(slow.follow(10).await && test.follow(10).await);
        slow.says(well(10_000)).await;
        test.says(well(10_000)).await;
        let detail = self.wait(id, |it| it.rollout.state != RolloutState::Running).await;
        assert_eq!(detail.rollout.state, RolloutState::Finished, "{detail:#?}");
    }
}

fn new_release(document: &str) -> NewRelease {
    NewRelease { tenant: "acme".parse().unwrap(), document: document.to_owned(), note: "a try".to_owned() }
}

fn new_rollout(release: Release, soak_seconds: u64) -> NewRollout {
    let (tenant, rings, gate) = ("acme".parse().unwrap(), vec![Ring::Fast, Ring::Slow], Gate::default());
    NewRollout { tenant, release, rings, soak_seconds, gate }
}

#[tokio::test]
async fn a_release_goes_from_ring_to_ring_each_after_its_soak() {
    let mut world = World::new().await;
    let plugin: Vec<u8> = (0..300_000_u32).map(|place| place as u8).collect();
    let release = world.publish(&plugin).await;
    assert_eq!(release.contents, [ContentView { sha256: sha256(&plugin), size: 300_000 }]);
    let detail: ReleaseDetail = world.ops.get(&format!("/v1/admin/releases/{}", release.id)).await.unwrap();
    assert_eq!(sha256(detail.document.as_bytes()), release.document.sha256);

    let [fast, slow, _] = &mut world.stamps;
    assert!(!fast.follow(0).await && !slow.follow(0).await);
    let started = std::time::Instant::now();
    let id = world.start(release.id, 2).await;
    let [fast, slow, test] = &mut world.stamps;
    assert!(fast.follow(10).await, "told at once");
    assert_eq!(fast.release(), (release.id.0, false));
    let state = fast.state.clone().unwrap();
    let content = fast.client.bytes(&format!("/v1/stamps/eu-1/contents/{}", state.contents[0].digest)).await;
    assert_eq!(content, plugin);
    let document =
        fast.client.bytes(&format!("/v1/stamps/eu-1/contents/{}", state.document.unwrap().digest)).await;
    assert_eq!(document, detail.document.as_bytes());
    fast.says(well(10_000)).await;
    assert!(slow.follow(10).await, "the next ring");
    assert!(started.elapsed() >= Duration::from_secs(2), "the soak is kept");
    assert!(test.follow(10).await);
    test.says(well(5_000)).await;
    let waits = world.wait(id, |it| it.rollout.step.contains("waits for 1 stamps to follow: eu-2")).await;
    assert_eq!(waits.rollout.reached.len(), 2);
    world.stamps[1].says(well(5_000)).await;
    let detail = world.wait(id, |it| it.rollout.state != RolloutState::Running).await;
    assert_eq!(detail.rollout.state, RolloutState::Finished);
    let journal: Vec<&str> = detail.journal.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(
        journal[..2],
        [
            "release 1 begun by ops",
            "ring fast: from the gateways' own files to release 1; nothing is known of before, so the cost is not judged"
        ]
    );
    assert_eq!(journal.last(), Some(&"finished"));
    let view: DesiredView = world.ops.get("/v1/admin/tenants/acme/desired").await.unwrap();
    let rings: Vec<_> =
        view.rings.iter().map(|it| (it.ring, it.release, it.connected, it.behind.len())).collect();
    assert_eq!(rings, [(Ring::Fast, release.id, 2, 0), (Ring::Slow, release.id, 4, 0)]);
    let page: Page<ReleaseView> = world.ops.get("/v1/admin/releases?tenant=acme&limit=1").await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_gate_that_fails_takes_back_every_ring_that_was_reached() {
    let mut world = World::new().await;
    let good = world.publish(b"good").await.id;
    world.roll_out(good).await;
    let bad = [
        (ReleaseCondition { faults: 100, ..well(10_000) }, "100 faults in 10000 rows"),
        (ReleaseCondition { rejected: 100, ..well(10_000) }, "100 rejected rows in 10000 rows"),
        (
            ReleaseCondition { refused: 1, reasons: vec!["p7: no signature".into()], ..well(0) },
            "p7: no signature",
        ),
        (ReleaseCondition { cpu_ns: 3_000_000, ..well(10_000) }, "3.00 times as much"),
    ];
    for (is, said) in bad {
        let release = world.publish(said.as_bytes()).await.id;
        let id = world.start(release, 0).await;
        let [fast, slow, _] = &mut world.stamps;
        while fast.release().0 != release.0 {
            assert!(fast.follow(10).await);
        }
        // The figures of before are those of the good one.
        fast.says(well(10_000)).await;
        while slow.release().0 != release.0 {
            assert!(slow.follow(10).await);
        }
        slow.says(is).await;
        let detail = world.wait(id, |it| it.rollout.state != RolloutState::Running).await;
        assert_eq!(detail.rollout.state, RolloutState::RolledBack, "{said}");
        assert!(detail.rollout.step.contains(said), "{said:?} is not in {:?}", detail.rollout.step);
        let [fast, slow, _] = &mut world.stamps;
        for stamp in [fast, slow] {
            assert!(stamp.follow(10).await, "{said}");
            assert_eq!(stamp.release(), (good.0, true), "{said}: back, code and state");
            stamp.says(well(10_000)).await;
        }
        let view: ReleaseDetail = world.ops.get(&format!("/v1/admin/releases/{release}")).await.unwrap();
        assert_eq!(view.release.withdrawn, Some(id));
        let again: Result<RolloutDetail, _> =
            world.ops.post("/v1/admin/rollouts", &new_rollout(release, 0)).await;
        assert_eq!(again.unwrap_err().1.code, "withdrawn");
    }
}

#[tokio::test]
async fn a_rollout_goes_on_after_a_sigkill_and_waits_until_its_stamps_have_reported_anew() {
    let mut world = World::new().await;
    let release = world.publish(b"plugin").await.id;
    let id = world.start(release, 1).await;
    world.kill_and_restart();
    assert!(world.stamps[0].follow(10).await);
    world.stamps[0].says(well(10_000)).await;
    world.kill_and_restart();
    // The soak is over, and what was said before is forgotten.
    let detail = world.wait(id, |it| it.rollout.step.contains("waits for 1 stamps to follow: eu-1")).await;
    assert_eq!(detail.rollout.reached.len(), 1);
    world.stamps[0].says(well(10_000)).await;
    assert!(world.stamps[1].follow(10).await);
    world.kill_and_restart();
    let [fast, slow, test] = &mut world.stamps;
    assert!(test.follow(10).await);
    for stamp in [fast, slow, test] {
        stamp.says(well(10_000)).await;
    }
    let detail = world.wait(id, |it| it.rollout.state != RolloutState::Running).await;
    assert_eq!(detail.rollout.state, RolloutState::Finished);
    let begun = detail.journal.iter().filter(|line| line.text.starts_with("ring fast: from")).count();
    assert_eq!(begun, 1, "no step twice");
}

#[tokio::test]
async fn an_aborted_rollout_leaves_every_ring_as_it_was() {
    let mut world = World::new().await;
    let release = world.publish(b"plugin").await.id;
    let id = world.start(release, 3_600).await;
    assert!(world.stamps[0].follow(10).await);
    assert_eq!(world.stamps[0].release(), (release.0, false));
    let second: Result<RolloutDetail, _> =
        world.ops.post("/v1/admin/rollouts", &new_rollout(release, 0)).await;
    assert_eq!(second.unwrap_err().1.code, "running");
    let path = format!("/v1/admin/rollouts/{id}/abort");
    let detail: RolloutDetail = world.ops.post(&path, &()).await.unwrap();
    assert_eq!(detail.rollout.state, RolloutState::Aborted);
    assert_eq!(detail.rollout.step, "aborted by ops: ring fast has the gateways' own files again");
    assert!(world.stamps[0].follow(10).await, "told at once");
    assert_eq!(world.stamps[0].release(), (0, true));
    assert_eq!(world.stamps[0].state.as_ref().unwrap().document, None);
    assert!(!world.stamps[1].follow(0).await, "a ring that was not reached hears nothing");
    let again: Result<RolloutDetail, _> = world.ops.post(&path, &()).await;
    assert_eq!(again.unwrap_err().0, 404);
}

#[tokio::test]
async fn what_cannot_run_is_not_published_and_nobody_else_may() {
    let world = World::new().await;
    let (hello, other) = (sha256(b"hello"), sha256(b"other"));
    let refused = |result: Result<ContentView, (u16, wire::provisioning::Problem)>| result.unwrap_err();
    let wrong = refused(world.ops.put(&format!("/v1/admin/contents/{other}"), b"hello").await);
    assert_eq!((wrong.0, wrong.1.code.as_str()), (400, "bad_content"));
    assert_eq!(refused(world.ops.get(&format!("/v1/admin/contents/{other}")).await).0, 404);
    assert_eq!(refused(world.ops.put("/v1/admin/contents/ab", b"hello").await).0, 400);
    let document = format!("[[tenant.acme.step]]\nuse = \"sha256:{hello}\"\n");
    for (tenant, document, code) in [
        ("acme", document.as_str(), "missing_content"),
        ("acme", "[[tenant.acme.step]\n", "bad_document"),
        ("acme", "[tenant.umbra]\n", "bad_document"),
        ("acme", "[[tenant.acme.step]]\nuse = \"plugins/a.wasm\"\n", "bad_document"),
        ("nobody", "[tenant.nobody]\n", "unknown"),
    ] {
        let release = NewRelease { tenant: tenant.parse().unwrap(), ..new_release(document) };
        let result: Result<ReleaseView, _> = world.ops.post("/v1/admin/releases", &release).await;
        assert_eq!(result.unwrap_err().1.code, code, "{document}");
    }
    let gate = Gate { faults: 2.0, ..Gate::default() };
    let rollout = NewRollout { gate, ..new_rollout(Release::NONE, 0) };
    let result: Result<RolloutDetail, _> = world.ops.post("/v1/admin/rollouts", &rollout).await;
    assert_eq!(result.unwrap_err().0, 400);
    let result: Result<RolloutDetail, _> =
        world.ops.post("/v1/admin/rollouts", &new_rollout(Release(9), 0)).await;
    assert_eq!(result.unwrap_err().0, 404);

    let stamp = &world.stamps[0].client;
    let result: Result<ReleaseView, _> =
        stamp.post("/v1/admin/releases", &new_release("[tenant.acme]\n")).await;
    assert_eq!(result.unwrap_err().1.code, "not_operator");
    assert_eq!(
        refused(stamp.put(&format!("/v1/admin/contents/{hello}"), b"hello").await).1.code,
        "not_operator"
    );
    let nobody = world.site.client(None);
    for path in [format!("/v1/stamps/eu-1/contents/{hello}"), "/v1/stamps/eu-1/desired".to_owned()] {
        assert_eq!(nobody.get::<()>(&path).await.unwrap_err().0, 401, "{path}");
        let result = world.stamps[1].client.get::<()>(&path).await;
        assert_eq!(result.unwrap_err().0, 403, "{path}: another stamp's");
    }
}

#[tokio::test]
async fn a_release_is_removed_once_no_ring_has_it_or_would_go_back_to_it() {
    let mut world = World::new().await;
    let remove = async |world: &World, release: Release| {
        world.ops.delete(&format!("/v1/admin/releases/{release}")).await
    };
    let (first, second) = (world.publish(b"first").await.id, world.publish(b"second").await.id);
    let third = world.publish(b"third").await;
    let said = |refused: Result<(), (u16, wire::provisioning::Problem)>| {
        let (status, problem) = refused.unwrap_err();
        assert_eq!((status, problem.code.as_str()), (409, "in_use"), "{problem:?}");
        problem.message
    };
    world.roll_out(first).await;
    let refused = said(remove(&world, first).await);
    assert!(refused.contains("ring fast of tenant acme has it"), "{refused}");
    world.roll_out(second).await;
    let refused = said(remove(&world, first).await);
    assert!(refused.contains("would go back to it from what rollout 2 has brought"), "{refused}");
    let id = world.start(third.id, 3_600).await;
    let refused = said(remove(&world, third.id).await);
    assert!(refused.contains("has it") || refused.contains("rollout 3 brings it"), "{refused}");
    remove(&world, first).await.unwrap_err();
    assert!(world.stamps[0].follow(10).await);
    world.ops.post::<RolloutDetail>(&format!("/v1/admin/rollouts/{id}/abort"), &()).await.unwrap();
    remove(&world, third.id).await.unwrap();
    assert_eq!(remove(&world, third.id).await.unwrap_err().0, 404);
    // What it was made of is there for another day, and the number is not used again.
    let content = format!("/v1/admin/contents/{}", third.contents[0].sha256);
    assert_eq!(world.ops.get::<ContentView>(&content).await.unwrap(), third.contents[0]);
    assert_eq!(world.publish(b"third").await.id, Release(third.id.0 + 1));
}

#[tokio::test]
async fn a_tenant_that_is_removed_takes_its_releases_with_it_and_leaves_nothing_to_the_next_of_its_name() {
    let mut world = World::new().await;
    let release = world.publish(b"plugin").await.id;
    world.roll_out(release).await;
    for gateway in ["g1", "g2", "g3", "g4"] {
        let key = provision::attestation::derive(&crate::site::GROUP_KEY, &gateway.parse().unwrap());
        world.site.client(None).register_by_key(gateway, Some("by-key"), &key).await.unwrap();
    }
    let running = world.start(release, 3_600).await;
    let (status, problem) = world.ops.delete("/v1/admin/tenants/acme").await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (409, "in_use"));
    assert_eq!(
        problem.message,
        format!(
            "tenant acme cannot go: gateways serve it: g1, g2, g3 and 1 more; enrolments have a share of it: alone, \
             by-authority, by-key; rollout {running} of it runs"
        )
    );
    world.ops.post::<RolloutDetail>(&format!("/v1/admin/rollouts/{running}/abort"), &()).await.unwrap();
    for stamp in &mut world.stamps {
        while stamp.follow(1).await {}
        assert_eq!(stamp.release().0, release.0);
    }
    for gateway in ["g1", "g2", "g3", "g4"] {
        world.ops.delete(&format!("/v1/admin/gateways/{gateway}")).await.unwrap();
    }
    for enrolment in ["alone", "by-authority", "by-key"] {
        world.ops.delete(&format!("/v1/admin/enrolments/{enrolment}")).await.unwrap();
    }
    let started = std::time::Instant::now();
    let ops = world.ops.clone();
    let [fast, ..] = &mut world.stamps;
    let (removed, told) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ops.delete("/v1/admin/tenants/acme").await
        },
        fast.follow(30)
    );
    removed.unwrap();
    assert!(told && started.elapsed() < Duration::from_secs(20), "told at once");
    for stamp in &mut world.stamps[1..] {
        assert!(stamp.follow(10).await);
    }
    for stamp in &world.stamps {
        assert_eq!((stamp.release(), stamp.state.as_ref().unwrap().document), ((0, false), None));
    }
    world.ops.post::<serde_json::Value>("/v1/admin/tenants", &json!({"id": "acme"})).await.unwrap();
    let page: Page<ReleaseView> = world.ops.get("/v1/admin/releases?tenant=acme").await.unwrap();
    assert!(page.items.is_empty(), "{page:?}");
    let fresh = &mut Stamp::new(&world.site, "eu-1");
    fresh.follow(0).await;
    assert_eq!(fresh.release(), (0, false), "nothing is desired of the new one");
    let result: Result<RolloutDetail, _> =
        world.ops.post("/v1/admin/rollouts", &new_rollout(release, 0)).await;
    assert_eq!(result.unwrap_err().0, 404);
}
