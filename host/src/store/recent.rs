//! Fingerprints of recently committed messages: how a QoS 1 repetition is recognised.
//!
//! Remembered are the last ones of each device, for a device that comes back after hours with what it had in flight; and
//! the last ones of all devices together, for a broker or a concentrator that has thousands in flight, of few devices.
//!
//! Kept in memory by the lane and, as an append-only log, in the store: each commit carries the entries it added, and
//! when the log has grown the writer replaces it by a snapshot in the same format. One entry is
//!
//! ```text
//! define    varint(slot * 2 + 1)  varint(length)  name     the slot now belongs to this device and is empty
//! remember  varint(slot * 2)      8 bytes, little endian   a fingerprint of the slot's device
//! latest    varint(DEVICES * 2)   8 bytes, little endian   a fingerprint of whatever device, in snapshots
//! ```
//! so a message costs 8 bytes and one or two for the slot. Does not compute fingerprints ([`crate::intake::fingerprint`]
//! does; they contain the device) and does not decide what a suspect is.
//!
//! Invariants: at most [`DEVICES`] devices with [`PER_DEVICE`] fingerprints each, and the [`LATEST`] of all; a replayed
//! log knows all that the memory knew that wrote it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most devices remembered; beyond, one not heard of lately is forgotten (its next repetition would be taken twice).
pub const DEVICES: usize = 10_000;
/// Fingerprints remembered for a device: more than the 20 to 50 messages a client keeps in flight.
pub const PER_DEVICE: usize = 64;
/// Fingerprints remembered whatever their device: four times what a broker session may have in flight by default.
pub const LATEST: usize = 16_384;
/// In a log, instead of a slot: the fingerprint is one of the latest of all.
const OF_ANY: u32 = DEVICES as u32;
/// Bytes of one row of a snapshot, about.
const CHUNK: usize = 64 << 10;

/// The fingerprints.
#[derive(Debug, Default)]
pub struct Recent {
    numbers: HashMap<Arc<str>, u32>,
    slots: Vec<Slot>,
    /// Where the search for a device to forget goes on (second chance).
    hand: usize,
    /// Of all devices, oldest first.
    latest: VecDeque<u64>,
    log: Vec<u8>,
}

#[derive(Debug)]
struct Slot {
    device: Arc<str>,
    /// A ring once it is full: `next` is where the oldest stands.
    ring: Vec<u64>,
    next: usize,
    /// Heard of since the hand last passed.
    touched: bool,
}

impl Slot {
    fn new(device: Arc<str>) -> Self {
        Self { device, ring: Vec::new(), next: 0, touched: true }
    }

    fn push(&mut self, fingerprint: u64) {
        self.touched = true;
        if self.ring.len() < PER_DEVICE {
            self.ring.push(fingerprint);
        } else if let Some(oldest) = self.ring.get_mut(self.next) {
            *oldest = fingerprint;
            self.next = (self.next + 1) % PER_DEVICE;
        }
    }

    fn oldest_first(&self) -> impl Iterator<Item = u64> + '_ {
        let (newer, older) = self.ring.split_at(self.next.min(self.ring.len()));
        older.iter().chain(newer).copied()
    }
}

impl Recent {
    /// The device's slot, given anew where it has none.
    pub fn slot(&mut self, device: &str) -> u32 {
        if let Some(&slot) = self.numbers.get(device) {
            return slot;
        }
        let slot = if self.slots.len() < DEVICES { self.slots.len() } else { self.forget_one() };
        let number = u32::try_from(slot).unwrap_or(u32::MAX);
        write_define(&mut self.log, number, device);
        self.define(slot, device);
        number
    }

    /// Whether this fingerprint is among the slot's last ones, or the last ones of all.
    #[must_use]
    pub fn contains(&self, slot: u32, fingerprint: u64) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.ring.contains(&fingerprint))
            || self.latest.contains(&fingerprint)
    }

    /// Adds a fingerprint.
    pub fn remember(&mut self, slot: u32, fingerprint: u64) {
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            entry.push(fingerprint);
            write_remember(&mut self.log, slot, fingerprint);
            self.push_latest(fingerprint);
        }
    }

    fn push_latest(&mut self, fingerprint: u64) {
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(fingerprint);
    }

    /// What was added since the last call, for the commit.
    pub fn take_log(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.log)
    }

    /// Applies logged entries. Returns false if the log is malformed; what came before that place counts.
    pub fn replay(&mut self, mut log: &[u8]) -> bool {
        while !log.is_empty() {
            if self.replay_one(&mut log).is_none() {
                return false;
            }
        }
        true
    }

    /// Everything as logs of about 64 KiB each, to be replayed in order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut chunk = Vec::new();
        for (number, slot) in (0u32..).zip(&self.slots) {
            write_define(&mut chunk, number, &slot.device);
            for fingerprint in slot.oldest_first() {
                write_remember(&mut chunk, number, fingerprint);
            }
            if chunk.len() >= CHUNK {
                chunks.push(std::mem::take(&mut chunk));
            }
        }
        // Last, since replaying the devices' own fingerprints makes them the latest.
        for &fingerprint in &self.latest {
            write_remember(&mut chunk, OF_ANY, fingerprint);
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        chunks
    }

    /// Devices remembered.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.slots.len()
    }

    fn replay_one(&mut self, log: &mut &[u8]) -> Option<()> {
        let tag = read_varint(log)?;
        let slot = usize::try_from(tag / 2).ok()?;
        if tag % 2 == 1 {
            let length = usize::try_from(read_varint(log)?).ok()?;
            let (name, rest) = log.split_at_checked(length)?;
            *log = rest;
            let name = std::str::from_utf8(name).ok()?;
            // Slots are given in order, so a definition is at most one past the end.
            (slot <= self.slots.len() && slot < DEVICES).then(|| self.define(slot, name))
        } else {
            let (bytes, rest) = log.split_first_chunk::<8>()?;
            *log = rest;
            let fingerprint = u64::from_le_bytes(*bytes);
            if slot != OF_ANY as usize {
                self.slots.get_mut(slot)?.push(fingerprint);
            }
            self.push_latest(fingerprint);
            Some(())
        }
    }

    fn define(&mut self, slot: usize, device: &str) {
        let device: Arc<str> = device.into();
        match self.slots.get_mut(slot) {
            Some(entry) => {
                self.numbers.remove(&entry.device);
                *entry = Slot::new(device.clone());
            }
            None => self.slots.push(Slot::new(device.clone())),
        }
        self.numbers.insert(device, u32::try_from(slot).unwrap_or(u32::MAX));
    }

    /// The next slot not touched since the hand was there: at most two rounds.
    fn forget_one(&mut self) -> usize {
        for _ in 0..2 * self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            if let Some(slot) = self.slots.get_mut(self.hand)
                && !std::mem::take(&mut slot.touched)
            {
                break;
            }
        }
        self.hand
    }
}

fn write_define(log: &mut Vec<u8>, slot: u32, device: &str) {
    write_varint(log, u64::from(slot) * 2 + 1);
    write_varint(log, device.len() as u64);
    log.extend_from_slice(device.as_bytes());
}

fn write_remember(log: &mut Vec<u8>, slot: u32, fingerprint: u64) {
    write_varint(log, u64::from(slot) * 2);
    log.extend_from_slice(&fingerprint.to_le_bytes());
}

/// LEB128, as in Protobuf.
fn write_varint(log: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        log.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    log.push(value as u8);
}

fn read_varint(log: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = log.split_first()?;
        *log = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_of_a_device_stay_known_whatever_the_others_send() {
        let mut recent = Recent::default();
        let slot = recent.slot("press-1");
        (1..=100).for_each(|n| recent.remember(slot, n));
        let other = recent.slot("press-2");
        (1_000..).take(LATEST).for_each(|n| recent.remember(other, n));
        let mut copy = Recent::default();
        assert!(recent.snapshot().iter().all(|chunk| copy.replay(chunk)));
        for recent in [&recent, &copy] {
            assert!((1..=36).all(|n| !recent.contains(slot, n)));
            assert!((37..=100).all(|n| recent.contains(slot, n)));
        }
    }

    #[test]
    fn what_one_device_has_in_flight_at_a_broker_is_known() {
        let mut recent = Recent::default();
        let slot = recent.slot("press-1");
        (1..).take(LATEST + 1).for_each(|n| recent.remember(slot, n));
        let (mut replayed, mut copy) = (Recent::default(), Recent::default());
        assert!(replayed.replay(&recent.take_log()));
        assert!(recent.snapshot().iter().all(|chunk| copy.replay(chunk)));
        for recent in [&recent, &replayed, &copy] {
            assert!(!recent.contains(slot, 1));
            assert!((2..).take(LATEST).all(|n| recent.contains(slot, n)));
        }
    }

    #[test]
    fn a_replayed_log_and_a_snapshot_give_the_same_contents() {
        let mut recent = Recent::default();
        let mut replayed = Recent::default();
        for n in 0..20_000u64 {
            let slot = recent.slot(&format!("device-{}", n % 300));
            recent.remember(slot, n * 7919);
            if n % 50 == 0 {
                assert!(replayed.replay(&recent.take_log()));
            }
        }
        assert!(replayed.replay(&recent.take_log()));
        let mut compacted = Recent::default();
        assert!(recent.snapshot().iter().all(|chunk| compacted.replay(chunk)));
        for copy in [&replayed, &compacted] {
            assert_eq!(copy.devices(), 300);
            for (device, &slot) in &recent.numbers {
                let same = copy.numbers[device];
                let of = |recent: &Recent, slot: u32| {
                    recent.slots[slot as usize].oldest_first().collect::<Vec<_>>()
                };
                assert_eq!(of(&recent, slot), of(copy, same));
            }
        }
    }

    #[test]
    fn devices_beyond_the_bound_take_the_place_of_silent_ones() {
        let mut recent = Recent::default();
        let mut replayed = Recent::default();
        for n in 0..DEVICES + 500 {
            let busy = recent.slot("busy");
            recent.remember(busy, 1 + n as u64);
            let slot = recent.slot(&format!("d{n}"));
            recent.remember(slot, 5);
            assert!(replayed.replay(&recent.take_log()));
        }
        assert_eq!(recent.devices(), DEVICES);
        let busy = recent.slot("busy");
        assert!(recent.contains(busy, (DEVICES + 500) as u64), "a device that keeps sending is kept");
        assert!(!recent.numbers.contains_key("d0"));
        assert_eq!(replayed.numbers, recent.numbers);
    }

    #[test]
    fn a_malformed_log_is_noticed() {
        for log in [&[0x80][..], &[1, 200, b'a'], &[0, 1, 2], &[9, 1, b'x'], &[0, 1, 2, 3, 4, 5, 6, 7, 8]] {
            assert!(!Recent::default().replay(log), "{log:?}");
        }
    }
}
