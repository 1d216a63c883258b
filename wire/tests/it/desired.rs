//! What should run, told over a connection that breaks at random points while it changes. The oracle: in the end the
//! gateway runs what was said last, with contents of the right bytes, and the stamp has heard so.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::{Digest, Release, Sequence, StampId};
use wire::message::{
    Admission, Condition, ConditionState, ContentRef, Desired, MAX_CHUNK_BYTES, MAX_CONTENTS,
    MAX_DOCUMENT_BYTES, TenantIndex,
};
use wire::ranges::RangeSet;
use wire::session::{ProtocolError, gateway, stamp};

use crate::link::{Random, Wire};
use crate::pair::{ACME, UMBRA, greeting, open, talk};

const CHANGES: u64 = 12;

/// A content's bytes follow from its name.
fn body(digest: Digest) -> Vec<u8> {
    let [name, length, ..] = digest.0;
    (0..u32::from(length) * 23 + 1).map(|place| (place as u8).wrapping_mul(31) ^ name).collect()
}

fn digest(number: u8) -> Digest {
    Digest(std::array::from_fn(|place| if place == 0 { number } else { number.wrapping_mul(7) }))
}

fn desired(tenant: TenantIndex, release: u64, contents: &[u8]) -> Desired {
    let named =
        |number: &u8| ContentRef { digest: digest(*number), size: body(digest(*number)).len() as u64 };
    Desired {
        tenant,
        release: Release(release),
        rollback: false,
        contents: contents.iter().map(named).collect(),
        document: Bytes::from(format!("release = {release}")),
    }
}

fn condition(tenant: TenantIndex, release: Release, state: ConditionState) -> Condition {
    Condition {
        tenant,
        release,
        state,
        reason: String::new(),
        rows: 1,
        faults: 0,
        rejected: 0,
        cpu_ns: 2,
        memory: 3,
    }
}

/// What survives a broken connection: at the gateway contents, whole or begun, and what runs.
#[derive(Default)]
struct Gateway {
    wanted: BTreeMap<u16, Desired>,
    contents: BTreeMap<Digest, Vec<u8>>,
    runs: BTreeMap<u16, Release>,
}

impl Gateway {
    /// The first piece that is missing of what is wanted.
    fn next(&self) -> Option<(Digest, u64)> {
        let have =
            |content: &ContentRef| self.contents.get(&content.digest).map_or(0, |bytes| bytes.len() as u64);
        self.wanted
            .values()
            .flat_map(|desired| &desired.contents)
            .find(|content| have(content) < content.size)
            .map(|content| (content.digest, have(content)))
    }

    fn take(&mut self, event: gateway::Event) {
        match event {
            gateway::Event::Desired(desired) => {
                self.wanted.insert(desired.tenant.0, desired);
            }
            gateway::Event::Content(content) if content.total > 0 => {
                let kept = self.contents.entry(content.digest).or_default();
                assert_eq!(kept.len() as u64, content.offset, "a piece goes where the last one ended");
                kept.extend_from_slice(&content.bytes);
            }
            gateway::Event::Closed(closed) => panic!("{closed:?}"),
            _ => {}
        }
    }
}

struct World {
    random: Random,
    now: u64,
    gateway: Gateway,
    desired: BTreeMap<u16, Desired>,
    heard: BTreeMap<u16, Release>,
    changes: u64,
}

struct Connection {
    gateway: gateway::Session,
    stamp: stamp::Session,
    up: Wire,
    down: Wire,
    said: BTreeMap<u16, Release>,
}

impl World {
    fn gateway(&mut self, Connection { gateway, up, down, said, .. }: &mut Connection) {
        while let Some(bytes) = down.read(self.now, &mut self.random) {
            gateway.receive(&bytes);
        }
        while let Some(event) = gateway.poll_event() {
            self.gateway.take(event);
        }
        match self.gateway.next() {
            Some((digest, offset)) if gateway.is_open() && gateway.fetching().is_none() => {
                gateway.fetch(digest, offset).unwrap();
            }
            Some(_) => {}
            None => {
                let wanted = self.gateway.wanted.iter().map(|(index, desired)| (*index, desired.release));
                self.gateway.runs.extend(wanted);
            }
        }
        for (&index, &release) in &self.gateway.runs {
            if said.get(&index) != Some(&release)
                && gateway.condition(condition(TenantIndex(index), release, ConditionState::Applied)).is_ok()
            {
                said.insert(index, release);
            }
        }
        while let Some(bytes) = gateway.poll_transmit() {
            up.write(self.now, &mut self.random, bytes);
        }
    }

    fn stamp(&mut self, Connection { stamp, up, down, .. }: &mut Connection) {
        while let Some(bytes) = up.read(self.now, &mut self.random) {
            stamp.receive(&bytes);
        }
        while let Some(event) = stamp.poll_event() {
            match event {
                stamp::Event::Hello(hello) => {
                    let admit =
                        |_| Admission::Admitted { landed: RangeSet::new(), device_quota: None, window: 9 };
                    stamp.welcome(hello.tenants.iter().map(admit).collect());
                    self.desired.values().for_each(|desired| stamp.desired(desired.clone()).unwrap());
                }
                stamp::Event::Fetch(fetch) => {
                    let named = self.desired.values().flat_map(|desired| &desired.contents);
                    assert!(
                        named.clone().any(|content| content.digest == fetch.digest),
                        "only what is desired now"
                    );
                    let body = body(fetch.digest);
                    let end = body.len().min(fetch.offset as usize + 1 + self.random.below(400) as usize);
                    stamp.content(
                        body.len() as u64,
                        Bytes::copy_from_slice(&body[fetch.offset as usize..end]),
                    );
                }
                stamp::Event::Condition(condition) => {
                    self.heard.insert(condition.tenant.0, condition.release);
                }
                other => panic!("{other:?}"),
            }
        }
        if self.changes < CHANGES && self.random.one_in(15) {
            self.changes += 1;
            let index = TenantIndex(self.random.below(2) as u16);
            let contents: Vec<u8> =
                (0..self.random.below(4)).map(|_| self.random.below(250) as u8 + 1).collect();
            let desired = desired(index, self.changes, &contents);
            stamp.desired(desired.clone()).unwrap();
            self.desired.insert(index.0, desired);
        }
        while let Some(bytes) = stamp.poll_transmit() {
            down.write(self.now, &mut self.random, bytes);
        }
    }

    fn is_done(&self) -> bool {
        let desired: BTreeMap<u16, Release> =
            self.desired.iter().map(|(index, desired)| (*index, desired.release)).collect();
        self.changes == CHANGES && self.gateway.runs == desired && self.heard == desired
    }
}

#[test]
fn what_was_desired_last_runs_in_the_end_however_often_the_connection_breaks() {
    for seed in 0..200 {
        println!("seed {seed}");
        let (gateway, desired, heard) = Default::default();
        let mut world = World { random: Random(seed), now: 0, gateway, desired, heard, changes: 0 };
        let mut connection: Option<Connection> = None;
        while !world.is_done() {
            world.now += 1;
            assert!(world.now < 100_000, "seed {seed}: does not come to an end");
            let mut now = connection.take().unwrap_or_else(|| Connection {
                gateway: greeting(),
                stamp: stamp::Session::new(StampId::new("eu-1").unwrap()),
                up: Wire::default(),
                down: Wire::default(),
                said: BTreeMap::new(),
            });
            world.gateway(&mut now);
            world.stamp(&mut now);
            connection = (!world.random.one_in(90)).then_some(now);
        }
        for content in world.desired.values().flat_map(|desired| &desired.contents) {
            assert_eq!(world.gateway.contents[&content.digest], body(content.digest), "seed {seed}");
        }
    }
}

#[test]
fn of_a_tenant_not_admitted_nothing_is_said_and_nothing_asked() {
    let (mut gateway, mut stamp) = open(100);
    stamp.desired(desired(UMBRA, 1, &[1])).unwrap();
    talk(&mut gateway, &mut stamp);
    assert_eq!(gateway.poll_event(), None);
    let applied = condition(UMBRA, Release(1), ConditionState::Applied);
    assert_eq!(gateway.condition(applied), Err(gateway::SendError::NotAdmitted));
    gateway.fetch(digest(1), 0).unwrap();
    talk(&mut gateway, &mut stamp);
    assert_eq!(stamp.poll_event(), None, "another tenant's contents are not served");
    talk(&mut gateway, &mut stamp);
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Content(content)) if content.total == 0));
}

#[test]
fn a_content_no_longer_desired_is_said_to_be_missing_and_the_next_can_be_asked_for() {
    let (mut gateway, mut stamp) = open(100);
    stamp.desired(desired(ACME, 1, &[1])).unwrap();
    talk(&mut gateway, &mut stamp);
    gateway.fetch(digest(1), 0).unwrap();
    stamp.desired(desired(ACME, 2, &[2])).unwrap();
    talk(&mut gateway, &mut stamp);
    assert_eq!(stamp.poll_event(), None);
    talk(&mut gateway, &mut stamp);
    for release in [1, 2] {
        let told = gateway.poll_event();
        assert!(
            matches!(told, Some(gateway::Event::Desired(desired)) if desired.release == Release(release))
        );
    }
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Content(content)) if content.total == 0));
    assert_eq!(gateway.fetch(digest(2), 0), Ok(()));
    assert_eq!(gateway.fetch(digest(2), 0), Err(gateway::SendError::OnItsWay));
}

#[test]
fn a_gateway_that_asks_twice_at_once_breaks_the_protocol() {
    let (mut one, mut stamp) = open(100);
    let (mut other, _) = open(100);
    stamp.desired(desired(ACME, 1, &[1])).unwrap();
    for gateway in [&mut one, &mut other] {
        gateway.fetch(digest(1), 0).unwrap();
        while let Some(bytes) = gateway.poll_transmit() {
            stamp.receive(&bytes);
        }
    }
    assert!(matches!(stamp.poll_event(), Some(stamp::Event::Fetch(_))));
    assert!(matches!(
        stamp.poll_event(),
        Some(stamp::Event::Closed(stamp::Closed::Protocol(ProtocolError::Unexpected {
            message: "fetch",
            ..
        })))
    ));
}

#[test]
fn a_piece_that_was_not_asked_for_or_cannot_be_ends_the_session() {
    for (offset, total, bytes) in [(0, 10, 11), (0, 10, 0), (5, 4, 1), (0, 0, 1)] {
        let (mut gateway, mut stamp) = open(100);
        stamp.desired(desired(ACME, 1, &[1])).unwrap();
        gateway.fetch(digest(1), offset).unwrap();
        talk(&mut gateway, &mut stamp);
        assert!(matches!(stamp.poll_event(), Some(stamp::Event::Fetch(_))));
        stamp.content(total, Bytes::from(vec![0; bytes]));
        talk(&mut gateway, &mut stamp);
        assert!(matches!(gateway.poll_event(), Some(gateway::Event::Desired(_))));
        let error = ProtocolError::Piece { bytes, offset, total };
        assert_eq!(gateway.poll_event(), Some(gateway::Event::Closed(gateway::Closed::Protocol(error))));
    }
}

#[test]
fn a_piece_is_never_longer_than_acknowledgements_may_wait() {
    let (mut gateway, mut stamp) = open(100);
    let whole = Bytes::from(vec![7; 3 * MAX_CHUNK_BYTES]);
    stamp.desired(desired(ACME, 1, &[1])).unwrap();
    gateway.fetch(digest(1), 0).unwrap();
    talk(&mut gateway, &mut stamp);
    stamp.poll_event();
    stamp.content(whole.len() as u64, whole);
    talk(&mut gateway, &mut stamp);
    gateway.poll_event();
    let Some(gateway::Event::Content(content)) = gateway.poll_event() else { panic!("the piece comes") };
    assert_eq!(content.bytes.len(), MAX_CHUNK_BYTES);
}

#[test]
fn conditions_of_a_release_said_between_two_writes_are_one() {
    let (mut gateway, mut stamp) = open(100);
    let said = [
        condition(ACME, Release(1), ConditionState::Applied),
        condition(ACME, Release(2), ConditionState::Fetching),
        condition(ACME, Release(2), ConditionState::Refused),
    ];
    said.iter().for_each(|condition| gateway.condition(condition.clone()).unwrap());
    talk(&mut gateway, &mut stamp);
    assert_eq!(stamp.poll_event(), Some(stamp::Event::Condition(said[0].clone())));
    assert_eq!(stamp.poll_event(), Some(stamp::Event::Condition(said[2].clone())));
    assert_eq!(stamp.poll_event(), None);
    assert_eq!(gateway.poll_transmit(), None);
    for release in 0..100 {
        gateway.condition(condition(ACME, Release(release), ConditionState::Applied)).unwrap();
    }
    talk(&mut gateway, &mut stamp);
    let heard = std::iter::from_fn(|| stamp.poll_event()).count();
    assert_eq!(heard, gateway::MAX_CONDITIONS, "bounded, however much is said");
}

#[test]
fn a_release_too_large_is_not_said() {
    let (mut gateway, mut stamp) = open(100);
    let mut large = desired(ACME, 1, &[]);
    large.document = Bytes::from(vec![b'#'; MAX_DOCUMENT_BYTES + 1]);
    assert!(stamp.desired(large).is_err());
    let many = desired(ACME, 1, &[1; MAX_CONTENTS + 1]);
    assert!(stamp.desired(many).is_err());
    stamp.landed(UMBRA, Sequence(1), Sequence(1));
    talk(&mut gateway, &mut stamp);
    assert!(!matches!(gateway.poll_event(), Some(gateway::Event::Desired(_))));
}
