//! Who is let in.

use std::time::Duration;

use wire::message::{CloseReason, RefusalReason};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Making, PLANT7, UMBRA, connect, frame};
use crate::site::{Authority, Site};

async fn refused(gateway: &Making<'_>, site: &Site) -> wire::message::Refused {
    let mut gateway = gateway.connect(site).await;
    match gateway.closed().await {
        Closed::Refused(refused) => refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_on_the_roster_is_refused_for_good() {
    let site = Site::new();
    let _stamp = site.start();
    let refused = refused(&Making { name: "plant9", ..PLANT7 }, &site).await;
    assert_eq!(refused.reason, RefusalReason::UnknownGateway);
    assert!(refused.reason.is_permanent());
}

#[tokio::test]
async fn a_tenant_that_is_not_on_the_roster_is_refused_and_the_others_are_served() {
    let site = Site::new();
    let _stamp = site.start();
    let mut gateway = Making { tenants: &[("acme", 1), ("globex", 2)], ..PLANT7 }.connect(&site).await;
    assert!(matches!(gateway.next().await, Event::Welcomed { .. }));
    assert!(matches!(gateway.next().await, Event::Admitted { .. }));
    let Event::TenantRefused { reason, .. } = gateway.next().await else { panic!("globex is not served") };
    assert_eq!(reason, RefusalReason::NotAssigned);
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 1).await;
    let none = refused(&Making { tenants: &[("globex", 2)], ..PLANT7 }, &site).await;
    assert_eq!(none.reason, RefusalReason::NotAssigned);
}

#[tokio::test]
async fn a_name_other_than_the_certificates_is_refused() {
    let site = Site::new();
    let _stamp = site.start();
    let mut gateway = PLANT7.connect_as(&site, &site.authority.issue("plant8")).await;
    let Closed::Refused(refused) = gateway.closed().await else { panic!("the certificate is plant8's") };
    assert_eq!(refused.reason, RefusalReason::IdentityMismatch);
}

#[tokio::test]
async fn a_stranger_or_nobody_gets_no_session() {
    let site = Site::new();
    let stamp = site.start();
    let stranger = Authority::new().issue("plant7");
    for identity in [Some(&stranger), None] {
        // With TLS 1.3 the client may believe in the connection until the server's alert arrives.
        if let Ok(mut stream) = connect(&site, identity).await {
            let mut session = PLANT7.session();
            while let Some(bytes) = session.poll_transmit() {
                let _ = stream.write(&bytes).await;
            }
            assert!(stream.rest().await.is_err(), "no word from the stamp");
        }
    }
    stamp.wait_for_log("handshake failed");
    assert_eq!(site.rows().len(), 0);
}

#[tokio::test]
async fn a_second_installation_under_one_identity_is_refused_while_the_first_is_there_and_for_a_while() {
    let site = Site::with("max_devices = 10_000\nidentity_hold = \"1 h\"\n");
    let mut stamp = site.start();
    let mut first = PLANT7.welcomed(&site).await;
    let second = Making { installation: 2, ..PLANT7 };
    let refusal = refused(&second, &site).await;
    assert_eq!(refusal.reason, RefusalReason::IdentityInUse);
    assert!(refusal.retry_after.is_some_and(|after| after.as_secs() == 3_600));
    first.send(ACME, 1, &[frame(&["a"], 1)]).await;
    first.landed_up_to(ACME, 1).await;
    first.bye().await;
    assert_eq!(refused(&second, &site).await.reason, RefusalReason::IdentityInUse);
    // The stamp remembers over its own restart.
    assert!(stamp.terminate().success());
    let _stamp = site.start();
    assert_eq!(refused(&second, &site).await.reason, RefusalReason::IdentityInUse);
    PLANT7.welcomed(&site).await.bye().await;
}

#[tokio::test]
async fn after_the_hold_another_installation_takes_over() {
    let site = Site::with("max_devices = 10_000\nidentity_hold = \"0 s\"\n");
    let _stamp = site.start();
    PLANT7.welcomed(&site).await.bye().await;
    let second = Making { installation: 2, ..PLANT7 };
    // The first one's place is free once its connection has been noticed to be gone.
    let gateway = loop {
        let mut gateway = second.connect(&site).await;
        match gateway.next().await {
            Event::Welcomed { .. } => break gateway,
            Event::Closed(Closed::Refused(refused)) => {
                assert_eq!(refused.reason, RefusalReason::IdentityInUse)
            }
            other => panic!("{other:?}"),
        }
    };
    gateway.bye().await;
}

#[tokio::test]
async fn the_same_installation_takes_over_from_its_old_connection() {
    let site = Site::new();
    let _stamp = site.start();
    let mut old = PLANT7.welcomed(&site).await;
    let mut new = PLANT7.welcomed(&site).await;
    let Closed::ByStamp(close) = old.closed().await else { panic!("closed by the stamp") };
    assert_eq!(close.reason, CloseReason::Superseded);
    new.send(ACME, 1, &[frame(&["a"], 1)]).await;
    new.landed_up_to(ACME, 1).await;
}

#[tokio::test]
async fn a_changed_roster_holds_after_sighup_and_a_wrong_one_changes_nothing() {
    let site = Site::new();
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    let mut other = Making { name: "plant8", tenants: &[("acme", 3)], ..PLANT7 }.welcomed(&site).await;
    site.write_roster("[[gateway]]\nid = \"plant7\"\ntenant = 5\n");
    stamp.signal(1);
    stamp.wait_for_log("the roster is wrong");
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 1).await;
    site.write_roster("[[gateway]]\nid = \"plant7\"\ntenants = [\"umbra\"]\n[[gateway]]\nid = \"plant8\"\ntenants = [\"acme\"]\n");
    stamp.signal(1);
    // The tenant that is gone is withdrawn, also from what is on its way; the other one and other gateways go on.
    let withdrawn = gateway.next().await;
    assert!(
        matches!(withdrawn, Event::TenantRefused { tenant: ACME, reason: RefusalReason::NotAssigned, .. }),
        "{withdrawn:?}"
    );
    gateway.send(UMBRA, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(UMBRA, 1).await;
    other.send(ACME, 1, &[frame(&["a"], 1)]).await;
    other.landed_up_to(ACME, 1).await;
    let mut again = PLANT7.connect(&site).await;
    assert!(matches!(again.next().await, Event::Welcomed { .. }));
    assert!(matches!(again.next().await, Event::TenantRefused { tenant: ACME, .. }));
    // For one that is served now and was not, and where none is left, it is to come again.
    let both = "[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\", \"umbra\"]\n";
    for roster in [both, "[[gateway]]\nid = \"plant8\"\ntenants = [\"acme\"]\n"] {
        site.write_roster(roster);
        stamp.signal(1);
        let Closed::ByStamp(close) = again.closed().await else { panic!("closed by the stamp") };
        assert_eq!((close.reason, close.return_after), (CloseReason::RosterChanged, Some(Duration::ZERO)));
        if roster == both {
            again = PLANT7.welcomed(&site).await;
        }
    }
}
