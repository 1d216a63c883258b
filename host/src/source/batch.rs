//! What one tenant's messages have come to since the last intake.
//!
//! Invariant: `messages` counts everything that was taken, so a batch that is not empty is sent within the linger time.

use std::sync::Arc;
use std::time::Instant;

use wire::ids::TenantId;

use super::columns::{IndexMap, OpenFrame, Room, Units};
use super::rows::{CustodyOf, MAX_BATCH_BYTES, MAX_FRAMES, Message};
use super::shapes::Shapes;
use crate::intake::{IdentifierChange, Intake, Raw, Undecodable};

const NONE: u32 = u32::MAX;

pub(crate) struct Batch<K> {
    frames: Vec<OpenFrame>,
    /// Per layout, the frame that is open for it.
    open: Vec<u32>,
    raw: Vec<OpenRaw>,
    undecodable: Vec<Undecodable>,
    identifiers: Vec<IdentifierChange>,
    tokens: Vec<K>,
    messages: usize,
    bytes: usize,
    opened: Option<Instant>,
    /// Frames ever opened; 0 is never one's serial.
    serial: u64,
    /// What a frame of the batch before came to.
    room: Room,
}

struct OpenRaw {
    rule: usize,
    raw: Raw,
    devices: IndexMap<u32>,
}

impl<K> Default for Batch<K> {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            open: Vec::new(),
            raw: Vec::new(),
            undecodable: Vec::new(),
            identifiers: Vec::new(),
            tokens: Vec::new(),
            messages: 0,
            bytes: 0,
            opened: None,
            serial: 0,
            room: Room::default(),
        }
    }
}

impl<K> Batch<K> {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    pub(crate) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    pub(crate) fn is_full(&self, max_rows: usize) -> bool {
        self.messages >= max_rows || self.bytes >= MAX_BATCH_BYTES || self.frames.len() >= MAX_FRAMES
    }

    /// Counts a message that was pushed, and keeps its token.
    #[inline]
    pub(crate) fn took(&mut self, bytes: usize, token: Option<K>) {
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
        self.messages += 1;
        self.bytes += bytes;
        self.tokens.extend(token);
    }

    /// The open frame of a layout.
    #[inline]
    pub(crate) fn frame(
        &mut self,
        layout: u32,
        shapes: &Shapes,
        profile: &str,
        units: &Units,
    ) -> &mut OpenFrame {
        let known = self.open.get(layout as usize).copied().unwrap_or(NONE);
        let at = if known == NONE { self.open_frame(layout, shapes, profile, units) } else { known };
        #[expect(
            clippy::indexing_slicing,
            reason = "`open` holds places in `frames` only, both are emptied together"
        )]
        &mut self.frames[at as usize]
    }

    #[cold]
    fn open_frame(&mut self, layout: u32, shapes: &Shapes, profile: &str, units: &Units) -> u32 {
        static NO_COLUMNS: super::shapes::Layout = super::shapes::Layout { columns: Vec::new() };
        let columns = shapes.layout_of(layout).unwrap_or(&NO_COLUMNS);
        let at = u32::try_from(self.frames.len()).unwrap_or(NONE);
        self.serial += 1;
        self.frames.push(OpenFrame::new(self.serial, columns, profile, units, self.room));
        if self.open.len() <= layout as usize {
            self.open.resize(layout as usize + 1, NONE);
        }
        if let Some(slot) = self.open.get_mut(layout as usize) {
            *slot = at;
        }
        at
    }

    /// Adds no more rows to the frames there are: indices of layouts or devices change their meaning.
    pub(crate) fn close_frames(&mut self) {
        self.open.clear();
        for raw in &mut self.raw {
            raw.rule = usize::MAX;
        }
    }

    pub(crate) fn push_raw(
        &mut self,
        rule: usize,
        decoder: &str,
        profile: &str,
        (device, name): (u32, &str),
        message: &Message<'_>,
    ) {
        if !self.raw.iter().any(|open| open.rule == rule) {
            let raw = Raw { decoder: decoder.to_owned(), profile: profile.to_owned(), ..Raw::default() };
            self.raw.push(OpenRaw { rule, raw, devices: IndexMap::default() });
        }
        let Some(open) = self.raw.iter_mut().find(|open| open.rule == rule) else { return };
        let names = &mut open.raw.devices;
        let place = *open.devices.entry(device).or_insert_with(|| {
            names.push(name.to_owned());
            u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
        });
        open.raw.device.push(place);
        open.raw.arrived.push(message.arrived);
        open.raw.topics.push(message.topic.to_owned());
        open.raw.payloads.push(message.payload);
    }

    pub(crate) fn push_undecodable(&mut self, device: &str, message: &Message<'_>, reason: String) {
        self.undecodable.push(Undecodable {
            device: device.to_owned(),
            topic: message.topic.to_owned(),
            arrived: message.arrived,
            payload: message.payload.to_vec(),
            reason,
        });
    }

    pub(crate) fn push_identifier(&mut self, change: IdentifierChange) {
        self.identifiers.push(change);
    }

    /// Everything as an intake; the batch is empty afterwards.
    pub(crate) fn take(
        &mut self,
        tenant: usize,
        id: &TenantId,
        source: &Arc<str>,
        custody: &CustodyOf<K>,
    ) -> Intake {
        let frames = self.frames.len().max(1);
        let room = Room { rows: self.messages / frames, bytes: self.bytes / frames };
        let serial = self.serial;
        let capacity = self.tokens.len();
        let mut open = std::mem::take(&mut self.open);
        open.clear();
        let taken = std::mem::replace(
            self,
            Self { open, serial, room, tokens: Vec::with_capacity(capacity), ..Self::default() },
        );
        Intake {
            tenant: id.clone(),
            source: Arc::clone(source),
            decoded: taken.frames.into_iter().map(|frame| frame.decoded).collect(),
            raw: taken.raw.into_iter().map(|open| open.raw).collect(),
            undecodable: taken.undecodable,
            identifiers: taken.identifiers,
            custody: custody(tenant, taken.tokens),
        }
    }
}
