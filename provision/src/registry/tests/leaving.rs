//! Gateways that are removed, that follow their enrolment, and what is kept because something uses it.

use super::hazards::{gateway, landed, moving, to};
use super::*;

#[tokio::test]
async fn a_gateway_that_was_removed_leaves_room_and_comes_back_with_what_its_stamp_had() {
    let site = Site::new();
    site.at_eu_1().await;
    let under_way = site.begin(moving("g1", "acme", "eu-2")).await.unwrap();
    let busy = site.registry.change(|books| books.remove_gateway(&gateway("g1"))).await;
    assert!(matches!(refusal(busy), Refusal::Moving { .. }));
    site.registry.change(move |books| books.abort_operation(under_way.id)).await.unwrap();
    site.registry.change(|books| books.remove_gateway(&gateway("g1"))).await.unwrap();
    assert_eq!(site.promised().await["eu-1"], 0);
    let (epoch, gone) = site.treatment("eu-1", "g1", "acme").await;
    assert_eq!((epoch, gone), (4, Treatment::Departed { watermark_wanted: true }));
    let told = site
        .registry
        .change(|books| books.fenced(&to("eu-1"), (&gateway("g1"), &"acme".parse().unwrap()), 4, &landed(7)));
    assert_eq!(told.await.unwrap(), None);
    site.registry
        .change(|books| books.put_tenant(&Tenant { pinned: Some(to("eu-2")), ..tenant("acme") }))
        .await
        .unwrap();
    site.register("g1").await.unwrap();
    let back = site.treatment("eu-2", "g1", "acme").await;
    assert_eq!(back, (4, Treatment::Served { devices: 10, landed: landed(7) }));
    let unknown = site.registry.change(|books| books.remove_gateway(&gateway("g9"))).await;
    assert!(matches!(refusal(unknown), Refusal::Unknown { .. }));
}

#[tokio::test]
async fn a_gateway_follows_its_enrolment_as_far_as_there_is_room() {
    let site = Site::new();
    site.at_eu_1().await;
    let line = EnrolmentId::new("line").unwrap();
    let share = |tenant: &str, devices| Share { tenant: tenant.parse().unwrap(), devices };
    let change = async |shares: Vec<Share>| {
        let line = line.clone();
        site.registry
            .change(move |books| {
                books.put_tenant(&tenant("initech"))?;
                books.change_enrolment(&line, Some(&shares), None)?;
                books.again(&gateway("g1"))
            })
            .await
            .unwrap()
    };
    let after = change(vec![share("acme", 20), share("globex", 1), share("initech", 2)]).await;
    let devices: Vec<_> =
        after.assignments.iter().map(|(it, _)| (it.tenant.to_string(), it.devices)).collect();
    assert_eq!(devices, [("acme".into(), 20), ("globex".into(), 1), ("initech".into(), 2)]);
    let promised = site.promised().await;
    assert_eq!(promised["eu-1"] + promised["eu-2"], 23);
    // More than any stamp has: it keeps what it has.
    let full = change(vec![share("acme", 2_000), share("globex", 1), share("initech", 2)]).await;
    assert_eq!(full.assignments[0].0.devices, 20);
    assert_eq!(site.promised().await, promised);
    let (epoch, told) = site.treatment("eu-1", "g1", "acme").await;
    assert_eq!((epoch, told), (1, Treatment::Served { devices: 20, landed: vec![] }));
}

#[tokio::test]
async fn what_is_in_use_is_not_removed() {
    let site = Site::new();
    site.at_eu_1().await;
    let in_use = |result: Result<(), RegistryError>| matches!(refusal(result), Refusal::InUse { .. });
    assert!(in_use(site.registry.change(|books| books.remove_stamp(&to("eu-1"))).await));
    assert!(in_use(site.registry.change(|books| books.remove_tenant(&"acme".parse().unwrap())).await));
    assert!(in_use(site.registry.change(|books| books.remove_enrolment(&"line".parse().unwrap())).await));
    site.registry.change(|books| books.remove_gateway(&gateway("g1"))).await.unwrap();
    assert!(
        in_use(site.registry.change(|books| books.remove_tenant(&"acme".parse().unwrap())).await),
        "enrolled"
    );
    site.registry
        .change(|books| {
            books.remove_enrolment(&"line".parse().unwrap())?;
            books.remove_tenant(&"acme".parse().unwrap())?;
            books.remove_stamp(&to("eu-1"))
        })
        .await
        .unwrap();
    let left = site.registry.read(|db| stamps::list(db, None)).await.unwrap();
    assert!(left.iter().all(|record| record.stamp.id != to("eu-1")));
}
