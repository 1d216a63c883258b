//! What a stamp does not take: batches with devices too many, tenants that have gone.

use bytes::Bytes;
use wire::ids::{Sequence, StampId};
use wire::message::{Admission, BatchRefusal, MAX_NAMED_BYTES, MAX_NAMED_DEVICES, RefusalReason};
use wire::ranges::RangeSet;
use wire::session::{gateway, stamp};

use crate::pair::{ACME, UMBRA, batch, greeting, open, talk};

#[test]
fn a_batch_refused_for_devices_names_as_many_as_a_message_may_hold() {
    let (mut gateway, mut stamp) = open(100);
    let mut named = |devices: Vec<String>| {
        gateway.send_batch(ACME, batch(1, Bytes::new())).unwrap();
        talk(&mut gateway, &mut stamp);
        stamp.poll_event();
        stamp.refuse_devices(ACME, Sequence(1), "beyond the quota", devices);
        talk(&mut gateway, &mut stamp);
        match gateway.poll_event() {
            Some(gateway::Event::BatchRefused { reason: BatchRefusal::Capacity, devices, .. }) => devices,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(named(vec!["a".into(), "b".into()]), ["a", "b"]);
    assert_eq!(named(vec!["x".into(); 5_000]).len(), MAX_NAMED_DEVICES);
    assert_eq!(named(vec!["x".repeat(40_000), "y".repeat(40_000)]).len(), 1);
    assert_eq!(named(vec!["x".repeat(MAX_NAMED_BYTES + 1), "y".into()]).len(), 1, "the first in any case");
}

#[test]
fn a_tenant_withdrawn_in_mid_session_is_not_heard_any_more_and_the_others_go_on() {
    let (mut gateway, mut stamp) = (greeting(), stamp::Session::new(StampId::new("eu-1").unwrap()));
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    let admitted = Admission::Admitted { landed: RangeSet::new(), device_quota: None, window: 100 };
    stamp.welcome(vec![admitted.clone(), admitted]);
    talk(&mut gateway, &mut stamp);
    while gateway.poll_event().is_some() {}
    for seq in 1..=3 {
        gateway.send_batch(ACME, batch(seq, Bytes::new())).unwrap();
    }
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    stamp.landed(ACME, Sequence(1), Sequence(1));
    stamp.withdraw(ACME, RefusalReason::Moved, "it has moved");
    stamp.withdraw(ACME, RefusalReason::Moved, "said once");
    // What it sent before it heard.
    gateway.send_batch(ACME, batch(4, Bytes::new())).unwrap();
    gateway.send_loss(ACME, (Sequence(5), Sequence(6)), 1, "quota").unwrap();
    gateway.send_batch(UMBRA, batch(1, Bytes::new())).unwrap();
    talk(&mut gateway, &mut stamp);
    stamp.landed(ACME, Sequence(2), Sequence(3));
    let mut handed_on = Vec::new();
    while let Some(event) = stamp.poll_event() {
        handed_on.push(event);
    }
    assert!(matches!(&handed_on[..], [stamp::Event::Batch(one)] if one.tenant == UMBRA), "{handed_on:?}");
    stamp.landed(UMBRA, Sequence(1), Sequence(1));
    talk(&mut gateway, &mut stamp);
    let mut told = Vec::new();
    while let Some(event) = gateway.poll_event() {
        told.push(event);
    }
    let landed = |tenant| gateway::Event::Landed { tenant, ranges: RangeSet::from_iter([Sequence(1)]) };
    let refused = gateway::Event::TenantRefused {
        tenant: ACME,
        reason: RefusalReason::Moved,
        text: "it has moved".into(),
    };
    assert_eq!(told, [landed(ACME), refused, landed(UMBRA)]);
    assert_eq!(gateway.on_the_way(ACME), (0, 0));
    assert_eq!(gateway.send_batch(ACME, batch(7, Bytes::new())), Err(gateway::SendError::NotAdmitted));
    assert!(gateway.is_open() && !stamp.is_closed());
}
