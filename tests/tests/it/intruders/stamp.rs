//! Intruders at a stamp that follows provisioning.

use e2e::cloud::edge::{Edge, Greeting, Hello, admitted};
use e2e::pki::Credentials;
use e2e::process::wait_until;
use e2e::stamp::Stamp;
use e2e::world::World;
use provision::registry::Books;
use wire::provisioning::Backlog;

use super::{
    ANOTHER_AUTHORITY, ANOTHER_NAME, ANOTHER_TENANT, BLOCKED, Cloud, Door, EXPIRED, FORGED_ROSTER,
    NO_CERTIFICATE, REPLAYED, expired, of_gateway,
};
use crate::site::PATIENCE;

const ACME: &[(&str, u64)] = &[("acme", 1)];

async fn greeting(
    stamp: &Stamp,
    world: &World,
    credentials: Option<&Credentials>,
    hello: &Hello<'_>,
) -> String {
    let connected = Edge::connect(stamp.address, &world.pki.trust(), credentials, hello).await;
    match connected {
        Ok(mut edge) => format!("{:?}", edge.greeted().await),
        // The stamp may say so before the handshake is done.
        Err(_) => format!("{:?}", Greeting::Lost),
    }
}

fn hello<'a>(gateway: &'a str, tenants: &'a [(&'a str, u64)]) -> Hello<'a> {
    Hello { gateway, installation: 1, tenants }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_intruder_is_refused_and_logged_by_a_stamp() {
    let mut cloud = Cloud::start().await;
    let own = cloud.register("edge-1").await;
    let blocked = cloud.register("edge-2").await;
    let mut stamp = cloud.service.stamp(&cloud.world, "a").unwrap();
    stamp.start().unwrap();
    let trust = cloud.world.pki.trust();
    let (mut edge, _) = admitted(stamp.address, &trust, &own, &hello("edge-1", ACME)).await.unwrap();
    edge.land(1, "x").await;
    let log = stamp.config.with_extension("log");
    let mut door = Door::new("a stamp", move || std::fs::read_to_string(&log).unwrap());

    let none = greeting(&stamp, &cloud.world, None, &hello("edge-1", ACME)).await;
    door.refused(NO_CERTIFICATE, "says hello", (none, "Lost"), &["handshake failed", "certificate"]);
    let forged = cloud.strange.credentials("edge-1", of_gateway).unwrap();
    let strange = greeting(&stamp, &cloud.world, Some(&forged), &hello("edge-1", ACME)).await;
    door.refused(
        ANOTHER_AUTHORITY,
        "says hello",
        (strange, "Lost"),
        &["handshake failed", "invalid peer certificate"],
    );
    let authority = cloud.service.authority().unwrap();
    let change = |params: &mut _| {
        of_gateway(params);
        expired(params);
    };
    let ended = authority.credentials("edge-1", change).unwrap();
    let ended = greeting(&stamp, &cloud.world, Some(&ended), &hello("edge-1", ACME)).await;
    door.refused(EXPIRED, "says hello", (ended, "Lost"), &["handshake failed", "xpired"]);
    let another = greeting(&stamp, &cloud.world, Some(&own), &hello("edge-2", ACME)).await;
    door.refused(
        ANOTHER_NAME,
        "says hello",
        (another, "IdentityMismatch"),
        &["gateway refused", "edge-1", "not to gateway edge-2"],
    );
    let alone = greeting(&stamp, &cloud.world, Some(&own), &hello("edge-1", &[("globex", 0)])).await;
    door.refused(ANOTHER_TENANT, "alone", (alone, "NotAssigned"), &["gateway refused", "edge-1"]);
    let both =
        greeting(&stamp, &cloud.world, Some(&own), &hello("edge-1", &[("globex", 0), ("acme", 1)])).await;
    door.refused(
        ANOTHER_TENANT,
        "beside its own",
        (both, "NotAssigned"),
        &["tenant refused", "edge-1", "tenant=globex"],
    );
    // The same identity at another place, as from a copied disk, while the first one is there.
    let (_edge, _) = admitted(stamp.address, &trust, &own, &hello("edge-1", ACME)).await.unwrap();
    let twin = Hello { installation: 2, ..hello("edge-1", ACME) };
    let twin = greeting(&stamp, &cloud.world, Some(&own), &twin).await;
    door.refused(
        REPLAYED,
        "a copy of its identity",
        (twin, "IdentityInUse"),
        &["gateway refused", "edge-1", "is connected under this identity"],
    );

    // It moves away: what once was right is not any more, neither where it was nor where it is.
    let mut other = cloud.service.stamp(&cloud.world, "b").unwrap();
    other.start().unwrap();
    let (gateway, tenant) = ("edge-1".parse().unwrap(), "acme".parse().unwrap());
    let (to, production) = ("b".parse().unwrap(), "production".parse().unwrap());
    let begin = move |books: &mut Books<'_>| {
        books.begin_move(&gateway, &tenant, Some(&to), &production, (Backlog::Carry, None))
    };
    cloud.service.change_while_down(begin).await.unwrap();
    for stamp in [&mut stamp, &mut other] {
        stamp.process().unwrap().signal("HUP").unwrap();
    }
    let arrived = admitted(other.address, &trust, &own, &hello("edge-1", &[("acme", 2)])).await;
    let (_edge, landed) = arrived.unwrap();
    assert_eq!(landed.count(), 1, "what the former stamp has");
    let replayed = greeting(&stamp, &cloud.world, Some(&own), &hello("edge-1", ACME)).await;
    door.refused(
        REPLAYED,
        "what it said before it moved",
        (replayed, "Moved"),
        &["gateway refused", "edge-1", "has moved"],
    );
    let other_log = other.config.with_extension("log");
    let mut other_door = Door::new("a stamp", move || std::fs::read_to_string(&other_log).unwrap());
    let replayed = greeting(&other, &cloud.world, Some(&own), &hello("edge-1", ACME)).await;
    other_door.refused(
        REPLAYED,
        "what it said before it moved, to its new stamp",
        (replayed, "Moved"),
        &["gateway refused", "edge-1", "is at epoch 2, not at 1"],
    );

    let block = |books: &mut Books<'_>| books.block_gateway(&"edge-2".parse().unwrap(), true);
    let (_edge, _) = admitted(stamp.address, &trust, &blocked, &hello("edge-2", ACME)).await.unwrap();
    cloud.service.change_while_down(block).await.unwrap();
    stamp.process().unwrap().signal("HUP").unwrap();
    wait_until("the stamp knows", PATIENCE, || {
        Ok(stamp.log().contains("an operator has blocked the gateway"))
    })
    .unwrap();
    let refused = greeting(&stamp, &cloud.world, Some(&blocked), &hello("edge-2", ACME)).await;
    door.refused(
        BLOCKED,
        "says hello",
        (refused, "NotAssigned"),
        &["gateway refused", "edge-2", "an operator has blocked"],
    );
    stamp.terminate().unwrap();
    other.terminate().unwrap();

    // Who answers at provisioning's address is not of the authority that this stamp trusts.
    let mut deceived = cloud.service.stamp(&cloud.world, "c").unwrap();
    deceived.follow(&cloud.service.endpoint(), &cloud.strange.trust()).unwrap();
    deceived.start().unwrap();
    let log = deceived.config.with_extension("log");
    let mut deceived_door = Door::new("a stamp", move || std::fs::read_to_string(&log).unwrap());
    deceived_door.seen = 0;
    let greeted = greeting(&deceived, &cloud.world, Some(&own), &hello("edge-1", ACME)).await;
    deceived_door.refused(
        FORGED_ROSTER,
        "another service gives one out",
        (greeted, "NotYet"),
        &["provisioning cannot be followed", "not to be trusted"],
    );
    deceived.terminate().unwrap();
    door.tried.extend(deceived_door.tried);
    door.complete();
}
