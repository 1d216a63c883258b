//! Stamps and the tenants of one gateway: one moves while the other goes on, what stays of it is deleted, and a registry that
//! was restored from a backup is noticed.

use std::process::Command;

use e2e::cloud::edge::{self, Edge, Greeting, Hello};
use e2e::process::{binary, wait_until};
use e2e::provision::{Provision, enrolment, shared_stamp, tenant};
use e2e::stamp::Stamp;
use e2e::world::World;
use provision::model::{Proof, Tenant};
use provision::registry::{Books, Registering, RegistryError};
use serde_json::Value;
use wire::ids::{GatewayId, TenantId};
use wire::message::{RefusalReason, TenantIndex};
use wire::provisioning::Backlog;
use wire::session::gateway::Event;

use crate::site::PATIENCE;

/// Provisioning with stamps `a` and `b`, and gateway `edge-1` with tenants `acme` and `umbra` at `a`.
async fn start(world: &World) -> Provision {
    let mut service = Provision::create(world).unwrap();
    service.change(set_up).await.unwrap();
    service.start().unwrap();
    service
}

fn set_up(books: &mut Books<'_>) -> Result<(), RegistryError> {
    for id in ["a", "b"] {
        let stamp = shared_stamp(id, "eu", "production", 1_000);
        books.put_stamp(stamp, &[format!("tls://{id}.example:7443")])?;
    }
    for id in ["acme", "umbra"] {
        books.put_tenant(&Tenant { pinned: Some("a".parse().unwrap()), ..tenant(id, None) })?;
    }
    let proof = Proof::Key(b"its own".to_vec());
    books.add_enrolment(&enrolment("edge-1", proof, "production", &[("acme", 5), ("umbra", 5)]))?;
    let (gateway, enrolment) = (edge_1(), "edge-1".parse().unwrap());
    books.register(&Registering { gateway, enrolment, latencies: vec![] })?;
    Ok(())
}

fn edge_1() -> GatewayId {
    "edge-1".parse().unwrap()
}

/// The first tenant is the one that [`Edge`] sends for.
const BOTH: Hello<'_> = Hello { gateway: "edge-1", installation: 1, tenants: &[("umbra", 1), ("acme", 1)] };
const ACME: Hello<'_> = Hello { gateway: "edge-1", installation: 1, tenants: &[("acme", 1)] };

async fn admitted(stamp: &Stamp, world: &World, hello: &Hello<'_>) -> Edge {
    let own = world.pki.gateway("edge-1").unwrap().credentials().unwrap();
    let admitted = edge::admitted(stamp.address, &world.pki.trust(), &own, hello).await;
    admitted.unwrap_or_else(|refused| panic!("{refused}\n{}", stamp.log())).0
}

fn ask_now(stamp: &mut Stamp) {
    stamp.process().unwrap().signal("HUP").unwrap();
}

fn wait_log(stamp: &Stamp, text: &str) {
    let said =
        wait_until(&format!("{} says {text:?}", stamp.id), PATIENCE, || Ok(stamp.log().contains(text)));
    assert!(said.is_ok(), "{said:?}\n{}", stamp.log());
}

fn departed(stamp: &Stamp, command: &str, more: &[&str]) -> Value {
    let mut cli = Command::new(binary("sluice-stamp").unwrap());
    cli.args(["departed", command, "--json", "--config"]).arg(&stamp.config).args(more);
    let output = cli.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_moves_and_the_other_goes_on_in_the_same_session() {
    let world = World::create().unwrap();
    let mut service = start(&world).await;
    let mut stamp = service.stamp(&world, "a").unwrap();
    stamp.start().unwrap();
    let mut acme = admitted(&stamp, &world, &ACME).await;
    acme.land(1, "x").await;
    drop(acme);
    let mut edge = admitted(&stamp, &world, &BOTH).await;
    assert!(matches!(edge.next().await, Event::Admitted { tenant: TenantIndex(1), .. }));
    edge.land(1, "y").await;
    let moved = service
        .change_while_down(|books| {
            let (acme, b, production) =
                ("acme".parse::<TenantId>().unwrap(), "b".parse().unwrap(), "production".parse().unwrap());
            books.begin_move(&edge_1(), &acme, Some(&b), &production, (Backlog::Carry, None))
        })
        .await
        .unwrap();
    assert_eq!(moved.epoch, 2);
    ask_now(&mut stamp);
    let withdrawn = edge.next().await;
    let moved = matches!(
        withdrawn,
        Event::TenantRefused { tenant: TenantIndex(1), reason: RefusalReason::Moved, .. }
    );
    assert!(moved, "{withdrawn:?}\n{}", stamp.log());
    edge.land(2, "y").await;
    // Its copy is there until an operator deletes it, which leaves the other's rows.
    wait_log(&stamp, "provisioning has the watermark");
    wait_until("the copy may be deleted", PATIENCE, || Ok(departed(&stamp, "list", &[])[0]["told"] == true))
        .unwrap();
    assert_eq!(departed(&stamp, "list", &[])[0]["rows"], 1);
    let receipt = departed(&stamp, "delete", &["--gateway", "edge-1", "--tenant", "acme", "--yes"]);
    assert_eq!(
        (&receipt["rows"], &receipt["streams"][0][1]),
        (&Value::from(1), &serde_json::json!([[1, 1]]))
    );
    assert_eq!(departed(&stamp, "receipts", &[]), Value::Array(vec![receipt]));
    edge.land(3, "y").await;
    assert_eq!(stamp.rows().unwrap().len(), 3);
    stamp.terminate().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_restored_from_a_backup_is_noticed_and_followed_again() {
    let world = World::create().unwrap();
    let mut service = start(&world).await;
    let mut stamp = service.stamp(&world, "a").unwrap();
    stamp.start().unwrap();
    let mut edge = admitted(&stamp, &world, &BOTH).await;
    edge.next().await;
    let (data, backup) = (service.folder.join("data"), service.folder.join("backup"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::remove_dir_all(to).ok();
        let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    service.kill().unwrap();
    copy(&data, &backup);
    let block = |blocked| move |books: &mut Books<'_>| books.block_gateway(&edge_1(), blocked);
    for blocked in [true, false] {
        service.change(block(blocked)).await.unwrap();
    }
    let revision = |stamp: &Stamp| {
        let output = stamp.cli("status", &["--json"]).unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        status["roster"]["revision"].as_u64().unwrap_or_default()
    };
    let before = revision(&stamp);
    service.start().unwrap();
    ask_now(&mut stamp);
    wait_until("the stamp has heard", PATIENCE, || Ok(revision(&stamp) > before)).unwrap();
    service.kill().unwrap();
    copy(&backup, &data);
    service.start().unwrap();
    ask_now(&mut stamp);
    wait_log(&stamp, "registry is older than what it has told before");
    wait_until("the stamp follows it again", PATIENCE, || Ok(revision(&stamp) == before)).unwrap();
    // What it serves goes on, and what is decided from now on holds.
    edge.land(1, "y").await;
    service.change_while_down(block(true)).await.unwrap();
    ask_now(&mut stamp);
    let own = world.pki.gateway("edge-1").unwrap().credentials().unwrap();
    wait_until("the gateway is blocked", PATIENCE, || Ok(revision(&stamp) > before)).unwrap();
    let mut blocked = Edge::connect(stamp.address, &world.pki.trust(), Some(&own), &BOTH).await.unwrap();
    assert_eq!(blocked.greeted().await, Greeting::Refused(RefusalReason::NotAssigned, None));
    stamp.terminate().unwrap();
}
