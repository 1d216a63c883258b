//! The store against a model: random commits, landings, expiries, epochs and reopenings, compared after each.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::outbox::{Outbox, Priority};
use host::store::{Commit, Counts, DeadLetter, NewBatch, StateChange, StoreConfig, WhenFull};
use wire::ids::Sequence;
use wire::provisioning::Backlog;

use crate::store::{batch, block_on, hand_clock, losses, numbers, open_in, read};

const QUOTA: u64 = 20_000;
const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

/// xorshift64*: reproducible from a printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }
}

#[derive(Default)]
struct Model {
    last: u64,
    waiting: BTreeMap<u64, (Priority, Option<i64>, u64, Vec<u8>)>,
    given_up: BTreeMap<u64, u64>,
    lost: u64,
    landed: u64,
    emitted: u64,
    state: BTreeMap<String, Vec<u8>>,
    accepted: u64,
    dead: u64,
    epoch: u64,
}

impl Model {
    fn used(&self) -> u64 {
        let state: usize = self.state.iter().map(|(key, value)| key.len() + value.len()).sum();
        let waiting: usize = self.waiting.values().map(|batch| batch.3.len()).sum();
        (state + waiting) as u64 + self.dead * 56
    }

    fn give_up(&mut self, seq: u64) {
        let batch = self.waiting.remove(&seq).unwrap();
        self.given_up.insert(seq, batch.2);
        self.lost += batch.2;
    }

    fn expire(&mut self, now: i64) {
        let due = |batch: &(Priority, Option<i64>, u64, Vec<u8>)| batch.1.is_some_and(|at| at <= now);
        let gone: Vec<u64> = self.waiting.iter().filter(|(_, b)| due(b)).map(|(&seq, _)| seq).collect();
        gone.into_iter().for_each(|seq| self.give_up(seq));
    }

    /// Whether it is new.
    fn begin(&mut self, epoch: u64, backlog: Backlog) -> bool {
        let new = epoch > self.epoch;
        if new {
            self.epoch = epoch;
            if backlog == Backlog::Drop {
                let all: Vec<u64> = self.waiting.keys().copied().collect();
                all.into_iter().for_each(|seq| self.give_up(seq));
            }
        }
        new
    }

    fn make_room(&mut self) {
        while self.used() > QUOTA {
            let Some((_, seq)) = self.waiting.iter().map(|(&seq, batch)| (batch.0, seq)).min() else {
                return;
            };
            self.give_up(seq);
        }
    }
}

#[test]
fn random_operations_leave_the_store_as_the_model() {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>) | 1;
    println!("SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = hand_clock(1_000_000);
    let config =
        StoreConfig { quota: QUOTA, when_full: WhenFull::DropOldest, clock, ..StoreConfig::default() };
    let mut model = Model::default();
    let mut opened = open_in(folder.path(), config.clone());
    for step in 0..600 {
        let now = hand.fetch_add(random.below(50) as i64, Ordering::Relaxed);
        let now = hand.load(Ordering::Relaxed).max(now);
        match random.below(11) {
            0..=5 => {
                let commit = random_commit(&mut random, now, &mut model);
                model.expire(now);
                opened.store.commit(commit);
                model.make_room();
            }
            6..=7 => {
                let from = random.below(model.last + 2);
                let to = from + random.below(20);
                opened.store.landed(&[(Sequence(from), Sequence(to))]);
                let gone: Vec<u64> = model.waiting.range(from..=to).map(|(&seq, _)| seq).collect();
                for seq in gone {
                    model.landed += model.waiting.remove(&seq).unwrap().2;
                }
                model.given_up.retain(|seq, _| !(from..=to).contains(seq));
                model.expire(now);
            }
            8 => {
                model.expire(now);
                drop(opened);
                opened = open_in(folder.path(), config.clone());
                assert_eq!(opened.recovered as usize, model.waiting.len(), "step {step}");
            }
            9 => {
                model.expire(now);
                let epoch = (model.epoch + random.below(4)).saturating_sub(1);
                let backlog = if random.below(2) == 0 { Backlog::Drop } else { Backlog::Carry };
                let begun = block_on(opened.store.begin_epoch(epoch, backlog)).unwrap();
                assert_eq!(begun, model.begin(epoch, backlog), "step {step}");
            }
            _ => model.expire(now),
        }
        compare(&opened.store, &model, step);
    }
    let state = opened.store.kept().unwrap().state;
    let expected: Vec<_> = model.state.into_iter().collect();
    assert_eq!(state.into_iter().map(|entry| (entry.key, entry.value)).collect::<Vec<_>>(), expected);
}

fn random_commit(random: &mut Random, now: i64, model: &mut Model) -> Commit {
    let mut commit = Commit::default();
    for _ in 0..random.below(4) {
        model.last += 1;
        let priority = PRIORITIES[random.below(3) as usize];
        let keep = (random.below(3) == 0).then(|| Duration::from_nanos(200));
        let (rows, size) = (random.below(20), random.below(1_500));
        let payload = vec![model.last as u8; size as usize];
        commit.batches.push(NewBatch { keep, ..batch(priority, rows as u32, payload.clone()) });
        model.waiting.insert(model.last, (priority, keep.map(|_| now + 200), rows, payload));
        model.emitted += rows;
    }
    if random.below(3) == 0 {
        let key = format!("k{}", random.below(5));
        let value = (random.below(4) > 0).then(|| vec![3; random.below(300) as usize]);
        match &value {
            Some(value) => model.state.insert(key.clone(), value.clone()),
            None => model.state.remove(&key),
        };
        commit.state.push(StateChange { step: "s".into(), key, value });
    }
    if random.below(5) == 0 {
        commit.dead_letters.push(DeadLetter { original: vec![0; 8], ..DeadLetter::default() });
        model.dead += 1;
    }
    commit.counts = Counts { accepted: random.below(100), ..Counts::default() };
    model.accepted += commit.counts.accepted;
    commit
}

fn compare(store: &host::store::Store, model: &Model, step: u32) {
    // An empty commit takes landed ranges and expiries with it.
    store.settle();
    for priority in PRIORITIES {
        let found = read(store, priority, 0);
        let expected: Vec<u64> =
            model.waiting.iter().filter(|(_, batch)| batch.0 == priority).map(|(&seq, _)| seq).collect();
        assert_eq!(numbers(&found), expected, "step {step}, {priority:?}");
        for batch in found {
            let (_, _, rows, payload) = &model.waiting[&batch.seq.0];
            assert_eq!((u64::from(batch.rows), &batch.payload[..]), (*rows, &payload[..]));
        }
    }
    assert_eq!(store.epoch(), model.epoch, "step {step}");
    let totals = store.status().totals;
    let expected =
        (model.accepted, model.emitted, model.landed, model.lost, model.last, model.used(), model.dead);
    let found = (
        totals.counts.accepted,
        totals.emitted,
        totals.landed,
        totals.lost,
        totals.last,
        totals.used(),
        totals.dead_letters,
    );
    assert_eq!(found, expected, "step {step}");
    let mut numbers: Vec<u64> = losses(store).iter().flat_map(|loss| loss.from.0..=loss.to.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, model.given_up.keys().copied().collect::<Vec<_>>(), "step {step}: receipts");
}
