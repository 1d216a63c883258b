//! A gateway and a stamp over a connection that breaks at random points, with a stamp that lands in groups and dies
//! between a commit and its acknowledgement. The oracle: everything lands exactly once, and the gateway is told of
//! exactly what landed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StampId, StreamId, TenantId};
use wire::message::{
    Admission, BatchRefusal, CloseReason, MAX_PAYLOAD_BYTES, RefusalReason, TenantIndex, TenantStream,
};
use wire::ranges::RangeSet;
use wire::session::{ProtocolError, gateway, stamp};

use crate::link::{Random, Wire};

const BATCHES: u64 = 400;
const WINDOW: u32 = 2_000;

/// What is durable at the gateway: per tenant the batches that wait, and what it was told has landed.
#[derive(Default)]
struct Store {
    waiting: BTreeMap<u64, Bytes>,
    lost: Vec<(Sequence, Sequence)>,
    told: BTreeSet<u64>,
}

/// What is durable at the stamp: how often each number landed, per tenant.
#[derive(Default)]
struct Landing {
    landed: BTreeMap<u64, u32>,
    receipts: BTreeSet<u64>,
    ranges: RangeSet,
}

fn tenants() -> Vec<TenantStream> {
    ["acme", "umbra"]
        .into_iter()
        .zip(1..)
        .map(|(tenant, stream)| TenantStream {
            tenant: TenantId::new(tenant).unwrap(),
            stream: StreamId(stream),
            next: Sequence(BATCHES + 1),
            epoch: 0,
        })
        .collect()
}

pub(crate) fn greeting() -> gateway::Session {
    gateway::Session::new(gateway::Config {
        gateway: GatewayId::new("plant7").unwrap(),
        installation: InstallationId(1),
        software: "test".into(),
        tenants: tenants(),
    })
    .unwrap()
}

pub(crate) fn batch(seq: u64, payload: Bytes) -> gateway::Outgoing {
    let route = RouteName::new("telemetry").unwrap();
    gateway::Outgoing { seq: Sequence(seq), route, created: 7, rows: 1, payload }
}

struct Connection {
    gateway: gateway::Session,
    stamp: stamp::Session,
    up: Wire,
    down: Wire,
    /// Handed to the landing and not committed yet: (tenant, first, last, is a batch).
    queued: Vec<(usize, Sequence, Sequence, bool)>,
}

struct World {
    random: Random,
    now: u64,
    stores: Vec<Store>,
    landings: Vec<Landing>,
    connection: Option<Connection>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let stores = (0..2)
            .map(|_| Store {
                waiting: (1..=BATCHES)
                    .map(|seq| (seq, Bytes::from(vec![seq as u8; random.below(900) as usize])))
                    .collect(),
                ..Store::default()
            })
            .collect();
        Self {
            random,
            now: 0,
            stores,
            landings: vec![Landing::default(), Landing::default()],
            connection: None,
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let mut connection = self.connection.take().unwrap_or_else(|| Connection {
            gateway: greeting(),
            stamp: stamp::Session::new(StampId::new("eu-1").unwrap()),
            up: Wire::default(),
            down: Wire::default(),
            queued: Vec::new(),
        });
        self.gateway(&mut connection);
        self.stamp(&mut connection);
        // Both directions break at once: what was on its way, and what was committed and not told, is gone.
        if !self.random.one_in(120) {
            self.connection = Some(connection);
        }
    }

    fn gateway(&mut self, connection: &mut Connection) {
        let Connection { gateway, up, down, .. } = connection;
        while let Some(bytes) = down.read(self.now, &mut self.random) {
            gateway.receive(&bytes);
        }
        while let Some(event) = gateway.poll_event() {
            match event {
                gateway::Event::Admitted { tenant, landed: ranges, .. }
                | gateway::Event::Landed { tenant, ranges } => {
                    let store = &mut self.stores[usize::from(tenant.0)];
                    for seq in ranges.iter().flat_map(|(from, to)| from.0..=to.0) {
                        store.waiting.remove(&seq);
                        store.told.insert(seq);
                    }
                    store.lost.retain(|(from, to)| ranges.missing(*from, *to).next().is_some());
                }
                gateway::Event::Welcomed { .. } | gateway::Event::Paced => {}
                other => panic!("{other:?}"),
            }
        }
        for (index, store) in (0..).map(TenantIndex).zip(&mut self.stores) {
            // A store under quota gives up a batch now and then, even one on its way.
            if self.random.one_in(60) && !store.waiting.is_empty() {
                let place = self.random.below(store.waiting.len() as u64) as usize;
                let seq = *store.waiting.keys().nth(place).unwrap();
                store.waiting.remove(&seq);
                store.lost.push((Sequence(seq), Sequence(seq)));
            }
            for loss in &store.lost {
                let _ = gateway.send_loss(index, *loss, 1, "quota");
            }
            // Live first, at times: from the back.
            let mut order: Vec<u64> = store.waiting.keys().copied().collect();
            if self.random.one_in(4) {
                order.reverse();
            }
            for seq in order.into_iter().take(1 + self.random.below(6) as usize) {
                let _ = gateway.send_batch(index, batch(seq, store.waiting[&seq].clone()));
                let (batches, bytes) = gateway.on_the_way(index);
                assert!(bytes <= u64::from(WINDOW) || batches == 1);
            }
        }
        while let Some(bytes) = gateway.poll_transmit() {
            up.write(self.now, &mut self.random, bytes);
        }
    }

    fn stamp(&mut self, connection: &mut Connection) {
        let Connection { stamp, up, down, queued, .. } = connection;
        while let Some(bytes) = up.read(self.now, &mut self.random) {
            stamp.receive(&bytes);
        }
        while let Some(event) = stamp.poll_event() {
            match event {
                stamp::Event::Hello(hello) => {
                    assert_eq!(hello.tenants, tenants());
                    let admit = |landing: &Landing| Admission::Admitted {
                        landed: landing.ranges.clone(),
                        device_quota: None,
                        window: WINDOW,
                    };
                    stamp.welcome(self.landings.iter().map(admit).collect());
                }
                stamp::Event::Batch(batch) => {
                    assert!(batch.payload.iter().all(|byte| *byte == batch.seq.0 as u8));
                    queued.push((usize::from(batch.tenant.0), batch.seq, batch.seq, true));
                }
                stamp::Event::Loss(loss) => {
                    queued.push((usize::from(loss.tenant.0), loss.from, loss.to, false))
                }
                other => panic!("{other:?}"),
            }
        }
        if self.random.one_in(3) {
            let acknowledged = !self.random.one_in(40);
            for (tenant, from, to, is_batch) in queued.drain(..) {
                let landing = &mut self.landings[tenant];
                for seq in from.0..=to.0 {
                    // As the landing's key does: a number that has landed is not landed again.
                    if landing.ranges.insert(Sequence(seq)) {
                        if is_batch {
                            *landing.landed.entry(seq).or_default() += 1;
                        } else {
                            landing.receipts.insert(seq);
                        }
                    }
                }
                if acknowledged {
                    stamp.landed(TenantIndex(tenant as u16), from, to);
                }
            }
        }
        while let Some(bytes) = stamp.poll_transmit() {
            down.write(self.now, &mut self.random, bytes);
        }
    }

    fn is_done(&self) -> bool {
        self.stores.iter().all(|store| store.waiting.is_empty() && store.lost.is_empty())
    }
}

#[test]
fn everything_lands_exactly_once_however_often_the_connection_breaks() {
    for seed in 0..150 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        while !world.is_done() {
            world.step();
            assert!(world.now < 100_000, "seed {seed}: does not drain");
        }
        for (store, landing) in world.stores.iter().zip(&world.landings) {
            assert!(landing.landed.values().all(|times| *times == 1), "seed {seed}");
            let all: BTreeSet<u64> = landing.landed.keys().chain(&landing.receipts).copied().collect();
            assert_eq!(all, (1..=BATCHES).collect(), "seed {seed}: a batch or its receipt");
            assert_eq!(store.told, all, "seed {seed}: told of what landed");
            assert_eq!(landing.ranges.len(), 1, "seed {seed}: ranges are compact in the end");
        }
    }
}

/// Both ends without anything between them.
pub(crate) fn talk(gateway: &mut gateway::Session, stamp: &mut stamp::Session) {
    while let Some(bytes) = gateway.poll_transmit() {
        stamp.receive(&bytes);
    }
    while let Some(bytes) = stamp.poll_transmit() {
        gateway.receive(&bytes);
    }
}

fn admitted(window: u32) -> Admission {
    Admission::Admitted { landed: RangeSet::new(), device_quota: Some(10), window }
}

/// Both ends after the welcome; the second tenant is refused.
pub(crate) fn open(window: u32) -> (gateway::Session, stamp::Session) {
    let mut gateway = greeting();
    let mut stamp = stamp::Session::new(StampId::new("eu-1").unwrap());
    talk(&mut gateway, &mut stamp);
    assert!(matches!(stamp.poll_event(), Some(stamp::Event::Hello(_))));
    assert_eq!(
        gateway.send_batch(TenantIndex(0), batch(1, Bytes::new())),
        Err(gateway::SendError::NotWelcomed)
    );
    let no = Admission::Refused { reason: RefusalReason::NotAssigned, text: "not here".into() };
    stamp.welcome(vec![admitted(window), no]);
    talk(&mut gateway, &mut stamp);
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Welcomed { .. })));
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Admitted { .. })));
    assert!(matches!(
        gateway.poll_event(),
        Some(gateway::Event::TenantRefused { tenant: TenantIndex(1), .. })
    ));
    assert_eq!(gateway.poll_event(), None);
    (gateway, stamp)
}

pub(crate) const ACME: TenantIndex = TenantIndex(0);
pub(crate) const UMBRA: TenantIndex = TenantIndex(1);

#[test]
fn a_tenant_not_admitted_cannot_send() {
    let (mut gateway, _) = open(100);
    assert_eq!(gateway.send_batch(UMBRA, batch(1, Bytes::new())), Err(gateway::SendError::NotAdmitted));
    assert_eq!(
        gateway.send_batch(TenantIndex(7), batch(1, Bytes::new())),
        Err(gateway::SendError::NotAdmitted)
    );
    assert_eq!(gateway.room(UMBRA), 0);
}

#[test]
fn the_window_holds_and_one_batch_may_always_go() {
    let (mut gateway, mut stamp) = open(100);
    assert!(gateway.send_batch(ACME, batch(1, Bytes::from(vec![0; 5_000]))).is_ok());
    assert_eq!(
        gateway.send_batch(ACME, batch(2, Bytes::from_static(b"x"))),
        Err(gateway::SendError::WindowFull)
    );
    talk(&mut gateway, &mut stamp);
    assert!(matches!(stamp.poll_event(), Some(stamp::Event::Batch(batch)) if batch.payload.len() == 5_000));
    stamp.landed(ACME, Sequence(1), Sequence(1));
    talk(&mut gateway, &mut stamp);
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Landed { .. })));
    assert_eq!(gateway.room(ACME), 100);
    stamp.pace(None, 10);
    talk(&mut gateway, &mut stamp);
    assert_eq!(gateway.poll_event(), Some(gateway::Event::Paced));
    assert_eq!(gateway.room(ACME), 10);
}

#[test]
fn what_landed_before_is_not_sent_again() {
    let (mut gateway, mut stamp) = open(100);
    assert_eq!(gateway.send_batch(ACME, batch(1, Bytes::new())), Ok(gateway::Sent::OnItsWay));
    assert_eq!(gateway.send_batch(ACME, batch(1, Bytes::new())), Err(gateway::SendError::OnItsWay));
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    stamp.landed(ACME, Sequence(1), Sequence(1));
    talk(&mut gateway, &mut stamp);
    gateway.poll_event();
    assert_eq!(gateway.send_batch(ACME, batch(1, Bytes::new())), Ok(gateway::Sent::LandedBefore));
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Landed { .. })));
    assert_eq!(gateway.poll_transmit(), None);
}

#[test]
fn a_batch_refused_frees_its_window_and_can_be_sent_again() {
    let (mut gateway, mut stamp) = open(100);
    gateway.send_batch(ACME, batch(1, Bytes::from(vec![0; 100]))).unwrap();
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    stamp.refuse_batch(ACME, Sequence(1), BatchRefusal::Capacity, "full");
    talk(&mut gateway, &mut stamp);
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::BatchRefused { seq: Sequence(1), .. })));
    gateway.send_batch(ACME, batch(1, Bytes::from(vec![0; 100]))).unwrap();
    talk(&mut gateway, &mut stamp);
    assert!(matches!(stamp.poll_event(), Some(stamp::Event::Batch(_))));
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    let (mut gateway, _) = open(100);
    let huge = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    for bad in [batch(1, huge), batch(0, Bytes::new()), batch(u64::MAX, Bytes::new())] {
        assert!(matches!(gateway.send_batch(ACME, bad), Err(gateway::SendError::Unsendable(_))));
    }
    assert!(gateway.send_loss(ACME, (Sequence(3), Sequence(2)), 1, "quota").is_err());
    assert_eq!(gateway.poll_transmit(), None);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_session() {
    let (mut gateway, mut stamp) = open(100);
    stamp.landed(ACME, Sequence(9), Sequence(9));
    talk(&mut gateway, &mut stamp);
    let error = ProtocolError::NotSent { tenant: 0, seq: Sequence(9) };
    assert_eq!(gateway.poll_event(), Some(gateway::Event::Closed(gateway::Closed::Protocol(error))));
    talk(&mut gateway, &mut stamp);
    assert!(matches!(stamp.poll_event(), Some(stamp::Event::Closed(stamp::Closed::Bye(_)))));
}

#[test]
fn a_gateway_that_ignores_its_window_is_told_and_closed() {
    let (mut gateway, mut stamp) = open(1_000);
    let (_, mut strict) = open(10);
    gateway.send_batch(ACME, batch(1, Bytes::from(vec![0; 6]))).unwrap();
    gateway.send_batch(ACME, batch(2, Bytes::from(vec![0; 6]))).unwrap();
    talk(&mut gateway, &mut strict);
    assert!(matches!(strict.poll_event(), Some(stamp::Event::Batch(_))));
    let Some(stamp::Event::Closed(stamp::Closed::Protocol(error))) = strict.poll_event() else {
        panic!("the second batch is too much");
    };
    assert_eq!(error, ProtocolError::Window { tenant: 0, bytes: 12, window: 10 });
    talk(&mut gateway, &mut strict);
    let Some(gateway::Event::Closed(gateway::Closed::ByStamp(close))) = gateway.poll_event() else {
        panic!("the gateway is told");
    };
    assert_eq!(close.reason, CloseReason::Protocol);
    assert_eq!(stamp.poll_event(), None);
}

#[test]
fn a_foreign_client_and_another_version_are_answered() {
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], RefusalReason::Malformed),
        (b"SLUICE\x01\n\x03\x00\x00\x00\x01\x01\x09", RefusalReason::Version),
    ] {
        let mut stamp = stamp::Session::new(StampId::new("eu-1").unwrap());
        stamp.receive(bytes);
        assert!(matches!(stamp.poll_event(), Some(stamp::Event::Closed(stamp::Closed::Protocol(_)))));
        let mut gateway = greeting();
        while let Some(bytes) = stamp.poll_transmit() {
            gateway.receive(&bytes);
        }
        let Some(gateway::Event::Closed(gateway::Closed::Refused(refused))) = gateway.poll_event() else {
            panic!("the gateway is told");
        };
        assert_eq!(refused.reason, reason);
    }
}

#[test]
fn acknowledgements_are_written_before_a_close() {
    let (mut gateway, mut stamp) = open(100);
    gateway.send_batch(ACME, batch(1, Bytes::new())).unwrap();
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    stamp.landed(ACME, Sequence(1), Sequence(1));
    stamp.close(CloseReason::ShuttingDown, "down", None);
    talk(&mut gateway, &mut stamp);
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Landed { .. })));
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Closed(gateway::Closed::ByStamp(_)))));
    assert_eq!(gateway.poll_event(), None);
    assert_eq!(gateway.send_batch(ACME, batch(2, Bytes::new())), Err(gateway::SendError::Closed));
}
