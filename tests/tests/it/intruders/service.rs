//! Intruders at provisioning's API.

use e2e::cloud::client::{Asking, Client, Failure};
use e2e::pki::Credentials;
use provision::attestation::derive;
use serde_json::Value;
use wire::provisioning::{Fenced, Registration, Renew, Roster};

use super::{
    ANOTHER_AUTHORITY, ANOTHER_NAME, ANOTHER_TENANT, BLOCKED, Cloud, Door, EXPIRED, FORGED_ROSTER, GROUP,
    NO_CERTIFICATE, REPLAYED, expired, key_of, of_gateway,
};

/// The code of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, Failure>) -> String {
    match answer {
        Ok(taken) => format!("taken: {taken:?}"),
        Err(refused) => refused.code(),
    }
}

/// Each route that a certificate opens, tried with one: what, the answer, what the log must say beside the reason.
async fn every_route(client: &Client, gateway: &str) -> [(&'static str, String, &'static str); 6] {
    let asking = Asking::new(gateway).unwrap();
    let renew = Renew { request: asking.request() };
    [
        ("registers", code(client.register(&asking.unanswered()).await), "registration refused"),
        ("renews", code(client.post::<Registration>("/v1/renew", &renew).await), "refused"),
        ("asks for assignments", code(client.get::<Registration>("/v1/assignments").await), "refused"),
        ("asks for a roster", code(client.get::<Roster>("/v1/stamps/a/roster").await), "refused"),
        (
            "says what has landed",
            code(client.post::<Value>("/v1/stamps/a/fenced", &fenced(9)).await),
            "refused",
        ),
        ("operates", code(client.get::<Value>("/v1/admin/stamps").await), "refused"),
    ]
}

fn fenced(epoch: u64) -> Fenced {
    let (gateway, tenant) = ("edge-1".parse().unwrap(), "acme".parse().unwrap());
    Fenced { gateway, tenant, epoch, landed: vec![] }
}

/// Everything is tried with this certificate, which is good for nothing.
async fn good_for_nothing(
    door: &mut Door,
    cloud: &Cloud,
    intruder: &'static str,
    credentials: Option<&Credentials>,
    reason: &str,
) {
    let client = cloud.service.client(credentials).unwrap();
    for (what, answer, line) in every_route(&client, "edge-1").await {
        let expected = match what {
            "registers" => "403 not_enrolled",
            "operates" => "403 not_operator",
            _ => "401",
        };
        // Who registers learns little; the others hear what is wrong with their certificate.
        let reason = if what == "registers" && credentials.is_some() { "not enrolled" } else { reason };
        door.refused(intruder, what, (answer, expected), &[line, reason]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_intruder_is_refused_and_logged_by_provisioning() {
    let mut cloud = Cloud::start().await;
    let own = cloud.register("edge-1").await;
    cloud.register("edge-2").await;
    let folder = cloud.service.folder.clone();
    let mut door = Door::new("provisioning", move || std::fs::read_to_string(folder.join("log")).unwrap());

    good_for_nothing(&mut door, &cloud, NO_CERTIFICATE, None, "no certificate was shown").await;
    // It says that it is a gateway's, a stamp's, an operator's, and another authority has signed it.
    for (name, is_gateway) in [("edge-1", true), ("a", false), (e2e::provision::OPERATOR, false)] {
        let change = |params: &mut _| {
            if is_gateway {
                of_gateway(params)
            }
        };
        let forged = cloud.strange.credentials(name, change).unwrap();
        let client = cloud.service.client(Some(&forged)).unwrap();
        for (what, answer, line) in every_route(&client, "edge-1").await {
            door.refused(ANOTHER_AUTHORITY, what, (answer, "40"), &[line]);
        }
    }
    let ended = cloud.plants.credentials("edge-1", expired).unwrap();
    good_for_nothing(&mut door, &cloud, EXPIRED, Some(&ended), "").await;
    let authority = cloud.service.authority().unwrap();
    let operational = |params: &mut _| {
        of_gateway(params);
        expired(params);
    };
    let ended = authority.credentials("edge-1", operational).unwrap();
    let client = cloud.service.client(Some(&ended)).unwrap();
    door.refused(
        EXPIRED,
        "asks for assignments by the certificate it once got",
        (code(client.get::<Registration>("/v1/assignments").await), "401 not_registered"),
        &["refused", "xpired"],
    );
    let ended = cloud.world.pki.credentials("a", expired).unwrap();
    let client = cloud.service.client(Some(&ended)).unwrap();
    door.refused(
        EXPIRED,
        "a stamp asks for its roster",
        (code(client.get::<Roster>("/v1/stamps/a/roster").await), "401 not_this_stamp"),
        &["refused", "xpired"],
    );

    another_name(&mut door, &cloud, &own).await;
    another_tenant(&mut door, &cloud, &own).await;
    replayed(&mut door, &cloud).await;
    forged_roster(&mut door, &cloud).await;

    // Blocked last: its certificate was good until now.
    cloud
        .service
        .change_while_down(|books| books.block_gateway(&"edge-1".parse().unwrap(), true))
        .await
        .unwrap();
    let client = cloud.service.client(Some(&own)).unwrap();
    let asking = Asking::new("edge-1").unwrap();
    let renew = Renew { request: asking.request() };
    let again = client.register_by_key(&asking, Some(GROUP), &key_of("edge-1")).await;
    for (what, answer, line) in [
        ("registers", code(again), "registration refused"),
        ("renews", code(client.post::<Registration>("/v1/renew", &renew).await), "refused"),
        ("asks for assignments", code(client.get::<Registration>("/v1/assignments").await), "refused"),
    ] {
        door.refused(BLOCKED, what, (answer, "403 blocked"), &[line, "edge-1", "is blocked"]);
    }
    let asking = Asking::new("other-1").unwrap();
    let key = derive(b"others", &"other-1".parse().unwrap());
    let of_blocked = client.register_by_key(&asking, Some("others"), &key).await;
    door.refused(
        BLOCKED,
        "registers by a blocked enrolment",
        (code(of_blocked), "403 blocked"),
        &["registration refused", "other-1", "enrolment others is blocked"],
    );
    // All this has changed nothing.
    cloud.service.kill().unwrap();
    let found: Vec<(String, String, i64)> = cloud
        .service
        .read(|db| {
            let mut all = db.prepare("SELECT gateway, stamp, epoch FROM assignments ORDER BY gateway")?;
            let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })
        .await
        .unwrap();
    let expected = ["b", "edge-1", "edge-2"].map(|gateway| (gateway.to_owned(), "a".to_owned(), 1));
    assert_eq!(found, expected);
    door.complete();
}

async fn another_name(door: &mut Door, cloud: &Cloud, own: &Credentials) {
    let asking = Asking::new("edge-2").unwrap();
    let bootstrap = cloud.plants.credentials("edge-1", |_| {}).unwrap();
    let client = cloud.service.client(Some(&bootstrap)).unwrap();
    door.refused(
        ANOTHER_NAME,
        "registers by its own certificate",
        (code(client.register(&asking.unanswered()).await), "403 not_enrolled"),
        &["registration refused", "edge-2"],
    );
    let by_key = client.register_by_key(&asking, Some(GROUP), &key_of("edge-1")).await;
    door.refused(
        ANOTHER_NAME,
        "registers by its own key",
        (code(by_key), "403 not_enrolled"),
        &["registration refused", "edge-2", "the answer to the challenge is wrong"],
    );
    let client = cloud.service.client(Some(own)).unwrap();
    let renewed = client.post::<Registration>("/v1/renew", &Renew { request: asking.request() }).await;
    door.refused(
        ANOTHER_NAME,
        "has a certificate renewed",
        (code(renewed), "400 bad_request"),
        &["refused", "edge-1", "edge-2"],
    );
}

async fn another_tenant(door: &mut Door, cloud: &Cloud, own: &Credentials) {
    // A gateway that calls itself like a stamp, a stamp that asks about another.
    let as_stamp = cloud.register("b").await;
    let of_b = cloud.world.pki.credentials("b", |_| {}).unwrap();
    for (what, who, expected, reason) in [
        ("a gateway asks for a roster", own, "401 not_this_stamp", "is gateway edge-1's"),
        ("a gateway of a stamp's name asks for a roster", &as_stamp, "401 not_this_stamp", "is gateway b's"),
        ("another stamp asks for a roster", &of_b, "403 not_this_stamp", "b"),
    ] {
        let client = cloud.service.client(Some(who)).unwrap();
        let answer = code(client.get::<Roster>("/v1/stamps/a/roster").await);
        door.refused(ANOTHER_TENANT, what, (answer, expected), &["refused", "stamp=\"a\"", reason]);
    }
    let client = cloud.service.client(Some(own)).unwrap();
    let operates = code(client.get::<Value>("/v1/admin/tenants").await);
    door.refused(ANOTHER_TENANT, "a gateway operates", (operates, "40"), &["refused", "edge-1"]);
    let client = cloud.service.client(Some(&of_b)).unwrap();
    let operates = code(client.get::<Value>("/v1/admin/tenants").await);
    door.refused(ANOTHER_TENANT, "a stamp operates", (operates, "403"), &["refused", "b"]);
}

async fn replayed(door: &mut Door, cloud: &Cloud) {
    let client = cloud.service.client(None).unwrap();
    let asking = Asking::new("edge-1").unwrap();
    let overheard = asking.answering(client.challenge().await.unwrap(), Some(GROUP), &key_of("edge-1"));
    client.register(&overheard).await.unwrap();
    door.refused(
        REPLAYED,
        "as it was overheard",
        (code(client.register(&overheard).await), "403 stale_challenge"),
        &["registration refused", "edge-1", "stale_challenge"],
    );
    // The answer was intercepted, and comes with another's signing request before the right one.
    let mut exchanged = asking.answering(client.challenge().await.unwrap(), Some(GROUP), &key_of("edge-1"));
    let intercepted = exchanged.clone();
    exchanged.request = Asking::new("edge-1").unwrap().request();
    door.refused(
        REPLAYED,
        "with another request",
        (code(client.register(&exchanged).await), "403 not_enrolled"),
        &["registration refused", "edge-1", "the answer to the challenge is wrong"],
    );
    door.refused(
        REPLAYED,
        "the same challenge once more",
        (code(client.register(&intercepted).await), "403 stale_challenge"),
        &["registration refused", "edge-1", "stale_challenge"],
    );
}

async fn forged_roster(door: &mut Door, cloud: &Cloud) {
    let forged = cloud.strange.credentials("a", |_| {}).unwrap();
    let of_b = cloud.world.pki.credentials("b", |_| {}).unwrap();
    for (what, who, expected) in
        [("a false stamp", &forged, "401 not_this_stamp"), ("another stamp", &of_b, "403 not_this_stamp")]
    {
        let client = cloud.service.client(Some(who)).unwrap();
        let answer = code(client.post::<Value>("/v1/stamps/a/fenced", &fenced(2)).await);
        door.refused(FORGED_ROSTER, what, (answer, expected), &["refused", "stamp=\"a\""]);
    }
}
