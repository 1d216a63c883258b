//! Gateways register by each way of attestation, renew, and find the same after a crash of the service.

use provision::attestation::derive;
use wire::provisioning::{Registration, Renew};

use crate::site::{GROUP_KEY, Site, identity, request, unanswered};

#[tokio::test]
async fn a_gateway_registers_by_a_derived_key_and_renews_by_the_certificate_it_got() {
    let mut site = Site::start().await;
    let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
    let (first, pair) = site.client(None).register_by_key("g1", Some("by-key"), &key).await.unwrap();
    assert_eq!(first.assignments.len(), 1);
    let assigned = &first.assignments[0];
    assert_eq!((assigned.epoch, assigned.devices), (1, 10));
    assert_eq!(assigned.endpoints, [format!("quic://{}.example:7443", assigned.stamp)]);
    assert!(first.trust.contains("BEGIN CERTIFICATE"));
    let operational = identity(&first, &pair);
    let (request, _) = request("g1");
    let renewed: Registration =
        site.client(Some(&operational)).post("/v1/renew", &Renew { request }).await.unwrap();
    assert_eq!(renewed.assignments, first.assignments);
    assert!(renewed.certificate.is_some() && renewed.certificate != first.certificate);

    site.kill_and_restart();
    let same: Registration = site.client(Some(&operational)).get("/v1/assignments").await.unwrap();
    assert_eq!((same.assignments, same.certificate), (first.assignments, None));
}

#[tokio::test]
async fn a_gateway_registers_by_a_certificate_of_its_groups_authority() {
    let site = Site::start().await;
    let bootstrap = site.ca.issue("g2");
    let registered: Registration =
        site.client(Some(&bootstrap)).post("/v1/register", &unanswered("g2")).await.unwrap();
    assert_eq!(registered.gateway.as_str(), "g2");
    let again: Registration =
        site.client(Some(&bootstrap)).post("/v1/register", &unanswered("g2")).await.unwrap();
    assert_eq!(again.assignments, registered.assignments, "registering again changes nothing");
}

#[tokio::test]
async fn a_gateway_that_is_enrolled_by_itself_registers_by_its_own_key() {
    let site = Site::start().await;
    let (registered, _) = site.client(None).register_by_key("alone", None, b"its own").await.unwrap();
    assert_eq!(registered.gateway.as_str(), "alone");
}
