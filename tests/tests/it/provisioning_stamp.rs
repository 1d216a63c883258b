//! Stamps that follow provisioning: who is let in, tenants that move under load with SIGKILLs at the fence, seeds, quotas,
//! provisioning that is down, intruders. Real services; the gateway is `wire`'s session over TLS, so that each number sent
//! and acknowledged is known.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::cloud::edge::{self, Edge, Greeting, Hello};
use e2e::pki::{Identity, Pki};
use e2e::process::wait_until;
use e2e::provision::{Provision, enrolment, shared_stamp, tenant};
use e2e::stamp::Stamp;
use e2e::world::World;
use provision::model::{Proof, Tenant};
use provision::registry::{Books, Registering, RegistryError};
use wire::ids::{GatewayId, Sequence, TenantId};
use wire::message::{BatchRefusal, CloseReason, RefusalReason};
use wire::provisioning::Backlog;
use wire::ranges::RangeSet;
use wire::session::gateway::{Closed, Event};

use crate::site::{PATIENCE, seed};

/// Provisioning with stamps `a` and `b`, and gateway `edge-1` with tenant `acme` of two devices at `a`.
async fn start(world: &World) -> Provision {
    let mut service = Provision::create(world).unwrap();
    service.change(set_up).await.unwrap();
    service.start().unwrap();
    service
}

fn set_up(books: &mut Books<'_>) -> Result<(), RegistryError> {
    for id in ["a", "b"] {
        books
            .put_stamp(shared_stamp(id, "eu", "production", 1_000), &[format!("tls://{id}.example:7443")])?;
    }
    books.put_tenant(&Tenant { pinned: Some("a".parse().unwrap()), ..tenant("acme", None) })?;
    books.add_enrolment(&enrolment(
        "edge-1",
        Proof::Key(b"its own".to_vec()),
        "production",
        &[("acme", 2)],
    ))?;
    let (gateway, enrolment) = (edge_1(), "edge-1".parse().unwrap());
    books.register(&Registering { gateway, enrolment, latencies: vec![] })?;
    Ok(())
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn edge_1() -> GatewayId {
    "edge-1".parse().unwrap()
}

async fn answer(stamp: &Stamp, world: &World, gateway: &str, epoch: u64) -> Result<RangeSet, RefusalReason> {
    let own = world.pki.gateway(gateway).unwrap().credentials().unwrap();
    let hello = Hello { gateway, installation: 1, tenants: &[("acme", epoch)] };
    let mut edge = Edge::connect(stamp.address, &world.pki.trust(), Some(&own), &hello).await.unwrap();
    match edge.greeted().await {
        Greeting::Admitted(landed) => Ok(landed),
        Greeting::Refused(reason, _) => Err(reason),
        Greeting::Lost => panic!("no session\n{}", stamp.log()),
    }
}

/// Comes again, as a gateway does, while the stamp has not been told yet.
async fn admitted(stamp: &Stamp, world: &World, epoch: u64) -> (Edge, RangeSet) {
    let own = world.pki.gateway("edge-1").unwrap().credentials().unwrap();
    let hello = Hello { gateway: "edge-1", installation: 1, tenants: &[("acme", epoch)] };
    let admitted = edge::admitted(stamp.address, &world.pki.trust(), &own, &hello).await;
    admitted.unwrap_or_else(|refused| panic!("{refused}\n{}", stamp.log()))
}

/// An operator does not wait until the stamp asks by itself.
fn ask_now(stamp: &mut Stamp) {
    stamp.process().unwrap().signal("HUP").unwrap();
}

fn wait_log(stamp: &Stamp, text: &str, times: usize) {
    let said = wait_until(&format!("{} says {text:?}", stamp.id), PATIENCE, || {
        Ok(stamp.log().matches(text).count() >= times)
    });
    assert!(said.is_ok(), "{said:?}\n{}", stamp.log());
}

fn status(stamp: &Stamp) -> serde_json::Value {
    let output = stamp.cli("status", &["--json"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn landed_in(status: &serde_json::Value, of: &str) -> RangeSet {
    let ranges = status["gateways"][0]["streams"][0][of].clone();
    let pairs: Vec<(u64, u64)> = serde_json::from_value(ranges).unwrap();
    let mut set = RangeSet::new();
    for (from, to) in pairs {
        set.insert_range(Sequence(from), Sequence(to));
    }
    set
}

/// How often each number is in the rows of a stamp.
fn count_rows(stamp: &Stamp, times: &mut BTreeMap<u64, u32>) {
    for row in stamp.rows().unwrap() {
        *times.entry(row["id"].as_f64().unwrap() as u64).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_follows_its_roster_and_works_on_while_provisioning_is_down() {
    let world = World::create().unwrap();
    let mut service = start(&world).await;
    let mut stamp = service.stamp(&world, "a").unwrap();
    stamp.start().unwrap();
    let (mut edge, _) = admitted(&stamp, &world, 1).await;
    edge.land(1, "x").await;
    edge.land(2, "y").await;
    edge.send(3, "z");
    let Event::BatchRefused { reason, text, .. } = edge.next().await else { panic!("beyond its quota") };
    assert_eq!(reason, BatchRefusal::Capacity);
    assert!(text.contains("\"z\"") && text.contains("quota of 2"), "{text}");
    assert_eq!(answer(&stamp, &world, "edge-1", 2).await, Err(RefusalReason::NotYet));
    assert_eq!(answer(&stamp, &world, "edge-2", 0).await, Err(RefusalReason::UnknownGateway));
    // It is down, and the stamp is killed: it works on by what it has kept.
    service.kill().unwrap();
    stamp.kill().unwrap();
    stamp.start().unwrap();
    let (mut edge, landed) = admitted(&stamp, &world, 1).await;
    assert_eq!(landed.count(), 2);
    edge.land(3, "x").await;
    let shown = status(&stamp);
    assert!(shown["roster"]["revision"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(shown["roster"]["source"], service.endpoint());
    assert!(shown["provisioning_heard_ns"].as_i64().unwrap() > 0, "{shown}");
    service.change(|books| books.block_gateway(&edge_1(), true)).await.unwrap();
    service.start().unwrap();
    ask_now(&mut stamp);
    let closed = loop {
        if let Event::Closed(closed) = edge.next().await {
            break closed;
        }
    };
    assert!(
        matches!(&closed, Closed::ByStamp(close) if close.reason == CloseReason::RosterChanged),
        "{closed:?}"
    );
    assert_eq!(answer(&stamp, &world, "edge-1", 1).await, Err(RefusalReason::NotAssigned));
    wait_log(&stamp, "an operator has blocked", 1);
    stamp.terminate().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_under_load_with_a_sigkill_at_the_fence_and_comes_back_and_lands_once() {
    let world = World::create().unwrap();
    let mut service = start(&world).await;
    let mut stamps = [service.stamp(&world, "a").unwrap(), service.stamp(&world, "b").unwrap()];
    for stamp in &mut stamps {
        stamp.start().unwrap();
    }
    let mut random = seed();
    let (mut last, mut fenced) = (0, [0, 0]);
    for round in 0..4_usize {
        let (from, to, epoch) = (round % 2, 1 - round % 2, round as u64 + 1);
        let (edge, landed) = admitted(&stamps[from], &world, epoch).await;
        let load = tokio::spawn(edge.load(landed));
        let destination = stamps[to].id.parse().unwrap();
        service
            .change_while_down(move |books| {
                let production = "production".parse().unwrap();
                books.begin_move(&edge_1(), &acme(), Some(&destination), &production, (Backlog::Carry, None))
            })
            .await
            .unwrap();
        stamps.iter_mut().for_each(ask_now);
        fenced[from] += 1;
        wait_log(&stamps[from], "nothing more of it lands here", fenced[from]);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(random >> 50));
        stamps[from].kill().unwrap();
        let (acknowledged, sent) = load.await.unwrap();
        last = last.max(sent);
        stamps[from].start().unwrap();
        // It may have been killed before the fence was durable, and is told again then.
        fenced[from] = stamps[from].log().matches("nothing more of it lands here").count();
        let (_, seeded) = admitted(&stamps[to], &world, epoch + 1).await;
        fenced[from] = fenced[from].max(stamps[from].log().matches("nothing more of it lands here").count());
        assert!(acknowledged.iter().all(|(from, to)| seeded.missing(from, to).next().is_none()));
        assert_eq!(
            landed_in(&status(&stamps[from]), "landed"),
            seeded,
            "round {round}: the watermark is what landed"
        );
        assert_eq!(answer(&stamps[from], &world, "edge-1", epoch).await, Err(RefusalReason::Moved));
        let fence = &status(&stamps[from])["fences"][0];
        assert_eq!(fence["epoch"], epoch + 1);
    }
    // What is left is sent to the last one, and then each number is there once.
    let (mut edge, landed) = admitted(&stamps[0], &world, 5).await;
    for (from, to) in landed.missing(Sequence(1), Sequence(last)) {
        for seq in from.0..=to.0 {
            edge.land(seq, "x").await;
        }
    }
    let mut times = BTreeMap::new();
    for stamp in &stamps {
        count_rows(stamp, &mut times);
    }
    let wrong: Vec<_> = (1..=last).filter(|seq| times.get(seq) != Some(&1)).collect();
    assert!(last > 100 && wrong.is_empty() && times.len() as u64 == last, "{wrong:?} of {last}");
    let shown = status(&stamps[0]);
    assert!(landed_in(&shown, "landed_elsewhere").count() > 0, "{shown}");
    assert!(shown["rows"].as_u64().unwrap() < last, "rows of the other stamp are not counted here");
    for stamp in &mut stamps {
        stamp.terminate().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_service_and_another_stamps_certificate_are_refused_and_logged() {
    let world = World::create().unwrap();
    let service = start(&world).await;
    // The service at the address is not of the authority that this stamp trusts.
    let strange = Pki::create(&world.path().join("strange")).unwrap();
    let mut deceived = world.stamp("a", &[]).unwrap();
    deceived.follow(&service.endpoint(), &strange.trust()).unwrap();
    deceived.start().unwrap();
    wait_log(&deceived, "not to be trusted", 1);
    assert_eq!(answer(&deceived, &world, "edge-1", 1).await, Err(RefusalReason::NotYet));
    assert!(status(&deceived)["roster"]["revision"].is_null());
    deceived.terminate().unwrap();
    // Stamp b asks for a's roster.
    let other = world.pki.stamp("b").unwrap();
    let mut intruder = service.stamp(&world, "a").unwrap();
    let trust = world.pki.trust();
    let Identity { certificate, key } = other;
    let identity = format!("{{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}");
    intruder.configure("identity", &identity).unwrap();
    intruder.start().unwrap();
    wait_log(&intruder, "provisioning refuses (403", 1);
    let log = service.log();
    assert!(log.contains("the certificate is \\\"b\\\"'s"), "{log}");
    assert_eq!(answer(&intruder, &world, "edge-1", 1).await, Err(RefusalReason::NotYet));
    intruder.terminate().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_that_is_mended_ends_the_wait_after_an_untrusted_certificate_with_and_without_an_operators_word()
 {
    let world = World::create().unwrap();
    let service = start(&world).await;
    let strange = Pki::create(&world.path().join("strange")).unwrap();
    for (id, word) in [("a", true), ("b", false)] {
        let trust = world.path().join(format!("{id}-trusts.crt"));
        std::fs::copy(strange.trust(), &trust).unwrap();
        let mut stamp = world.stamp(id, &[]).unwrap();
        stamp.follow(&service.endpoint(), &trust).unwrap();
        stamp.start().unwrap();
        // Who follows the roster and who follows what is desired both wait for minutes now.
        wait_log(&stamp, "not to be trusted", 2);
        std::fs::copy(world.pki.trust(), &trust).unwrap();
        if word {
            ask_now(&mut stamp);
        }
        wait_log(&stamp, "provisioning answers", 1);
        wait_log(&stamp, "desired states followed", 1);
        stamp.terminate().unwrap();
    }
}
