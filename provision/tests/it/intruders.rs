//! Who is not who he says, or asks for what is not his, is refused, each with its reason.

use std::time::Duration;

use provision::attestation::derive;
use rcgen::date_time_ymd;
use wire::provisioning::{Bytes, Problem, Registration, Renew, Roster};

use crate::site::{Ca, GROUP_KEY, Identity, Site, answered, identity, request, unanswered};

fn code<T: std::fmt::Debug>(result: Result<T, (u16, Problem)>) -> String {
    let (status, problem) = result.unwrap_err();
    assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    format!("{status} {}", problem.code)
}

async fn register(site: &Site, identity: Option<&Identity>, gateway: &str) -> String {
    code(site.client(identity).post::<Registration>("/v1/register", &unanswered(gateway)).await)
}

#[tokio::test]
async fn registration_refuses_every_intruder() {
    let site = Site::start().await;
    let (own, other) = (site.ca.issue("g1"), Ca::new("other").issue("g1"));
    let expired = site.ca.issue_with("g1", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    });
    assert_eq!(register(&site, None, "g1").await, "403 not_enrolled", "no certificate");
    assert_eq!(register(&site, Some(&other), "g1").await, "403 not_enrolled", "another authority");
    assert_eq!(register(&site, Some(&expired), "g1").await, "403 not_enrolled", "expired");
    assert_eq!(register(&site, Some(&own), "g2").await, "403 not_enrolled", "another gateway's name");

    let client = site.client(None);
    let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
    let wrong = client.register_by_key("g2", Some("by-key"), &key).await.map(|_| ());
    assert_eq!(code(wrong), "403 not_enrolled", "another gateway's key");
    let guessed = client.register_by_key("nobody", None, b"guess").await.map(|_| ());
    assert_eq!(code(guessed), "403 not_enrolled", "an enrolment that is not there");
    let as_group = client.register_by_key("g1", Some("by-authority"), &key).await.map(|_| ());
    assert_eq!(code(as_group), "403 not_enrolled", "a group of another kind");

    // What was overheard is played again.
    let (overheard, _) = answered("g1", Some("by-key"), &key, client.challenge().await);
    client.post::<Registration>("/v1/register", &overheard).await.unwrap();
    let replayed = client.post::<Registration>("/v1/register", &overheard).await;
    assert_eq!(code(replayed), "403 stale_challenge");
    // The request is exchanged for the intruder's own.
    let (mut exchanged, _) = answered("g1", Some("by-key"), &key, client.challenge().await);
    exchanged.request = request("g1").0;
    assert_eq!(code(client.post::<Registration>("/v1/register", &exchanged).await), "403 not_enrolled");
    // A request in another's name.
    let (mut foreign, _) = answered("g1", Some("by-key"), &key, client.challenge().await);
    foreign.request = Bytes(vec![0; 8]);
    assert_eq!(code(client.post::<Registration>("/v1/register", &foreign).await), "403 not_enrolled");
}

#[tokio::test]
async fn an_operational_certificate_is_good_for_nothing_but_its_gateway() {
    let site = Site::start().await;
    // A gateway that calls itself like a stamp.
    let key = derive(&GROUP_KEY, &"eu-1".parse().unwrap());
    let (registered, pair) = site.client(None).register_by_key("eu-1", Some("by-key"), &key).await.unwrap();
    let gateway = identity(&registered, &pair);
    let roster = site.client(Some(&gateway)).get::<Roster>("/v1/stamps/eu-1/roster").await;
    assert_eq!(code(roster), "401 not_this_stamp");
    let (request, _) = request("g2");
    let renewed = site.client(Some(&gateway)).post::<Registration>("/v1/renew", &Renew { request }).await;
    assert_eq!(code(renewed), "400 bad_request", "a certificate in another's name");
    // Staff's certificates are no gateway's.
    let staff = site.ca.issue("eu-1");
    let asked = site.client(Some(&staff)).get::<Registration>("/v1/assignments").await;
    assert_eq!(code(asked), "401 not_registered");
}

#[tokio::test]
async fn a_stamp_asks_about_itself_alone() {
    let site = Site::start().await;
    let (eu_1, nobody) = (site.ca.issue("eu-1"), site.ca.issue("eu-9"));
    let forged = Ca::new("other").issue("eu-1");
    let ask = async |identity: Option<&Identity>, stamp: &str| {
        site.client(identity).get::<Roster>(&format!("/v1/stamps/{stamp}/roster")).await
    };
    assert!(ask(Some(&eu_1), "eu-1").await.is_ok());
    assert_eq!(code(ask(Some(&eu_1), "eu-2").await), "403 not_this_stamp");
    assert_eq!(code(ask(Some(&nobody), "eu-9").await), "403 not_this_stamp", "not registered");
    assert_eq!(code(ask(Some(&forged), "eu-1").await), "401 not_this_stamp");
    assert_eq!(code(ask(None, "eu-1").await), "401 not_this_stamp");
}

#[tokio::test]
async fn slow_and_foreign_clients_keep_nobody_out() {
    let site = Site::start().await;
    let address = site.client(None);
    let port: u16 = address.port();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let foreign = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    foreign.try_write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let served = tokio::time::timeout(Duration::from_secs(30), address.challenge()).await;
    assert_eq!(served.unwrap().0.len(), 32);
    drop(silent);
}
