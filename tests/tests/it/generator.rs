//! The load generator against a broker that is not ours: what it counts as accepted, it had published.

use e2e::broker::Broker;
use e2e::load::{Fleet, Load, Plan};

#[test]
fn every_message_is_accepted_once_also_when_the_broker_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).unwrap();
    for qos in [1, 2] {
        let plan = Plan {
            address: broker.address,
            fleets: vec![Fleet::new("acme", 10, qos)],
            rate: Some(5_000.0),
            each: Some(1_000),
            window: 16,
            cut_after: None,
            seed: 7,
        };
        let load = Load::start(plan).unwrap();
        e2e::process::wait_until("half is sent", std::time::Duration::from_secs(20), || {
            Ok(load.accepted() > 5_000)
        })
        .unwrap();
        broker.restart().unwrap();
        let broken = load.progress().broken.load(std::sync::atomic::Ordering::Relaxed);
        let ledger = load.wait().unwrap();
        assert_eq!((ledger.sent(), ledger.accepted()), (10_000, 10_000));
        assert!(broken > 0, "no connection broke");
        assert_eq!(ledger.devices[3].entries.len(), 1_000);
    }
}
