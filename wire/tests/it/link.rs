//! A connection in virtual time, from a seed.

use std::collections::VecDeque;

use bytes::Bytes;

/// A small generator of numbers from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// One direction: bytes arrive in order after a delay, in pieces of any size.
#[derive(Default)]
pub(crate) struct Wire {
    chunks: VecDeque<(u64, Bytes)>,
}

impl Wire {
    pub(crate) fn write(&mut self, now: u64, random: &mut Random, bytes: Bytes) {
        let arrives = self.chunks.back().map_or(0, |(at, _)| *at).max(now + 1 + random.below(5));
        self.chunks.push_back((arrives, bytes));
    }

    pub(crate) fn read(&mut self, now: u64, random: &mut Random) -> Option<Bytes> {
        let (at, bytes) = self.chunks.front_mut()?;
        if *at > now {
            return None;
        }
        let piece = bytes.split_to(bytes.len().min(1 + random.below(300) as usize));
        if bytes.is_empty() {
            self.chunks.pop_front();
        }
        Some(piece)
    }
}
