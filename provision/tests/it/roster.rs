//! A stamp follows its roster while gateways register.

use std::time::Duration;

use provision::attestation::derive;
use wire::provisioning::{Roster, Treatment};

use crate::site::{GROUP_KEY, Site};

#[tokio::test]
async fn a_waiting_stamp_hears_of_a_registration_at_once_and_of_nothing_twice() {
    let site = Site::start().await;
    let mut followers = Vec::new();
    for id in ["eu-1", "eu-2"] {
        let client = site.client(Some(&site.ca.issue(id)));
        let before: Roster = client.get(&format!("/v1/stamps/{id}/roster")).await.unwrap();
        assert!(before.entries.is_empty());
        let path = format!("/v1/stamps/{id}/roster?after={}&wait=30", before.revision);
        followers.push((id, client, path));
    }
    let waiting = {
        let (first, second) = (&followers[0], &followers[1]);
        async move {
            tokio::select! {
                roster = first.1.get::<Roster>(&first.2) => (first.0, roster.unwrap()),
                roster = second.1.get::<Roster>(&second.2) => (second.0, roster.unwrap()),
            }
        }
    };
    let registering = async {
        let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
        site.client(None).register_by_key("g1", Some("by-key"), &key).await.unwrap().0
    };
    let both = async { tokio::join!(waiting, registering) };
    let ((stamp, roster), registered) = tokio::time::timeout(Duration::from_secs(25), both).await.unwrap();
    assert_eq!(registered.assignments[0].stamp.as_str(), stamp);
    assert_eq!(roster.entries.len(), 1);
    assert_eq!(roster.entries[0].treatment, Treatment::Served { devices: 10, landed: vec![] });
    let (_, client, _) = followers.iter().find(|(id, ..)| *id == stamp).unwrap();
    let after: Roster =
        client.get(&format!("/v1/stamps/{stamp}/roster?after={}", roster.revision)).await.unwrap();
    assert!(after.entries.is_empty());
}
