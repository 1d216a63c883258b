//! One frame under construction: rows are appended cell by cell, texts and devices are kept once.
//!
//! Invariant: after every call all columns, times, devices, originals and fingerprints have one entry per row.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::LazyLock;

use wire::frame::{Column, Frame, Texts, Values};

use super::json::{Cell, Parser};
use super::shapes::{Kind, Layout, Shape};
use crate::clock::UNCERTAIN_READING;
use crate::intake::{Decoded, Originals};

/// Texts of a dictionary that are compared before anything is hashed: states and modes are few.
const COMPARED: usize = 8;

/// Drawn once per process.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// A map whose keys are indices or hashes already.
pub(crate) type IndexMap<K> = HashMap<K, u32, BuildHasherDefault<Spread>>;

/// Spreads an index of our own or a hash with a secret seed, so that no sender can aim at collisions.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        // The golden ratio, as in Knuth's multiplicative hashing (TAOCP 6.4).
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The unit of each column by its name, where the configuration says one.
pub(crate) type Units = BTreeMap<String, String>;

/// How much to expect of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// A frame that rows are added to.
pub(crate) struct OpenFrame {
    /// Unique in its gatherer: a device's place in a frame is remembered with it.
    pub(crate) serial: u64,
    pub(crate) decoded: Decoded,
    devices: IndexMap<u32>,
    texts: Vec<IndexMap<u64>>,
    /// Some rows are marked: each further one has a status.
    marked: bool,
}

/// What is known of a row besides its cells.
pub(crate) struct RowHead<'a> {
    pub(crate) device: u32,
    pub(crate) time: i64,
    pub(crate) payload: &'a [u8],
    pub(crate) fingerprint: u64,
    pub(crate) suspect: bool,
    /// Its time is made up.
    pub(crate) uncertain: bool,
}

impl OpenFrame {
    /// An empty frame of this layout with room for some rows and bytes of originals.
    pub(crate) fn new(serial: u64, layout: &Layout, profile: &str, units: &Units, room: Room) -> Self {
        let rows = room.rows;
        let columns = layout
            .columns
            .iter()
            .map(|(name, kind)| Column {
                name: name.as_ref().into(),
                unit: units.get(name.as_ref()).cloned().unwrap_or_default(),
                values: values_of(*kind, rows),
                status: Vec::new(),
            })
            .collect();
        let frame = Frame {
            profile: profile.to_owned(),
            devices: Vec::new(),
            device: Vec::with_capacity(rows),
            time: Vec::with_capacity(rows),
            columns,
        };
        let fingerprints = Vec::with_capacity(rows);
        let originals = Originals { bytes: Vec::with_capacity(room.bytes), ends: Vec::with_capacity(rows) };
        let texts = layout.columns.iter().map(|_| IndexMap::default()).collect();
        Self {
            serial,
            decoded: Decoded { frame, originals, fingerprints, suspects: Vec::new() },
            devices: IndexMap::default(),
            texts,
            marked: false,
        }
    }

    /// The place of a device in this frame.
    pub(crate) fn device(&mut self, device: u32, name: &str) -> u32 {
        let names = &mut self.decoded.frame.devices;
        *self.devices.entry(device).or_insert_with(|| {
            names.push(name.to_owned());
            u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// Appends a row.
    #[inline]
    pub(crate) fn push(&mut self, head: &RowHead<'_>, shape: &Shape, parser: &Parser) {
        let Decoded { frame, originals, fingerprints, suspects } = &mut self.decoded;
        for (cell, &at) in parser.cells().iter().zip(&shape.columns) {
            let Some(column) = frame.columns.get_mut(usize::from(at)) else { continue };
            match (&mut column.values, *cell) {
                (Values::F64(values), Cell::F64(value)) => values.push(value),
                (Values::I64(values), Cell::I64(value)) => values.push(value),
                (Values::Bool(values), Cell::Bool(value)) => values.push(value),
                (Values::Text(texts), Cell::Text(from, to)) => {
                    let text = parser.text(from, to);
                    let last = texts.index.last().copied().unwrap_or(u32::MAX);
                    let index = match texts.dictionary.get(last as usize) {
                        Some(same) if *same == *text => last,
                        _ => intern(texts, self.texts.get_mut(usize::from(at)), text),
                    };
                    texts.index.push(index);
                }
                // A shape and its layout agree on types, always.
                _ => debug_assert!(false, "a cell of another type than its column"),
            }
        }
        if head.suspect {
            suspects.push(u32::try_from(frame.time.len()).unwrap_or(u32::MAX));
        }
        if head.uncertain || self.marked {
            self.marked = true;
            mark(frame, head.uncertain);
        }
        frame.device.push(head.device);
        frame.time.push(head.time);
        originals.push(head.payload);
        fingerprints.push(head.fingerprint);
    }
}

fn values_of(kind: Kind, rows: usize) -> Values {
    match kind {
        Kind::I64 => Values::I64(Vec::with_capacity(rows)),
        Kind::Bool => Values::Bool(Vec::with_capacity(rows)),
        Kind::Text => Values::Text(Texts { dictionary: Vec::new(), index: Vec::with_capacity(rows) }),
        Kind::F64 | Kind::Null | Kind::Time | Kind::Open | Kind::Close => {
            Values::F64(Vec::with_capacity(rows))
        }
    }
}

/// Says of the row that is about to be added whether its time is made up; those before without a word are good.
#[cold]
fn mark(frame: &mut Frame, uncertain: bool) {
    for column in &mut frame.columns {
        column.status.resize(frame.time.len(), 0);
        column.status.push(if uncertain { UNCERTAIN_READING } else { 0 });
    }
}

/// The text's place in the dictionary, where it is added if new.
fn intern(texts: &mut Texts, hashed: Option<&mut IndexMap<u64>>, text: &str) -> u32 {
    let dictionary = &mut texts.dictionary;
    if let Some(found) = dictionary.iter().take(COMPARED).position(|known| known == text) {
        return u32::try_from(found).unwrap_or(u32::MAX);
    }
    let next = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
    if let (Some(hashed), true) = (hashed, dictionary.len() >= COMPARED) {
        // Keyed by content hash; in the rare case of two texts with one hash, the next number.
        let mut hash = twox_hash::XxHash3_64::oneshot_with_seed(*SEED, text.as_bytes());
        while let Some(&index) = hashed.get(&hash) {
            if dictionary.get(index as usize).is_some_and(|known| known == text) {
                return index;
            }
            hash = hash.wrapping_add(1);
        }
        hashed.insert(hash, next);
    }
    dictionary.push(text.to_owned());
    next
}
