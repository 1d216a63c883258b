//! What each device sent and what was acknowledged: the obligations that the oracle holds against what landed.

use super::reading::Reading;

/// Everything the devices did.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By device, in the order of the plan.
    pub devices: Vec<DeviceLedger>,
}

/// What one device did.
#[derive(Debug)]
pub struct DeviceLedger {
    /// Its tenant.
    pub tenant: String,
    /// Its name, unique over all tenants here.
    pub device: String,
    /// How it published.
    pub qos: u8,
    /// By sequence number − 1.
    pub entries: Vec<Entry>,
    /// Sessions that the server should have kept and did not.
    pub sessions_lost: u64,
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Device time in milliseconds since 1970 UTC.
    pub ts: i64,
    /// Hundredths of a degree Celsius.
    pub centi_celsius: i32,
    /// PUBACK or PUBREC came: it must land, once.
    pub accepted: bool,
    /// It was sent more than once.
    pub repeated: bool,
}

impl DeviceLedger {
    /// Remembers that a reading is about to be sent.
    pub(super) fn sent(&mut self, reading: &Reading) {
        debug_assert_eq!(self.entries.len() + 1, reading.seq as usize);
        let Reading { ts, centi_celsius, .. } = *reading;
        self.entries.push(Entry { ts, centi_celsius, accepted: false, repeated: false });
    }

    /// Remembers that a message was acknowledged.
    pub(super) fn accepted(&mut self, seq: u32) {
        self.entries[seq as usize - 1].accepted = true;
    }

    /// Remembers that a message was sent again.
    pub(super) fn repeated(&mut self, seq: u32) {
        self.entries[seq as usize - 1].repeated = true;
    }
}

impl Ledger {
    /// All entries with their devices.
    pub fn entries(&self) -> impl Iterator<Item = (&DeviceLedger, &Entry)> {
        self.devices.iter().flat_map(|device| device.entries.iter().map(move |entry| (device, entry)))
    }

    /// Messages sent, each counted once.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.devices.iter().map(|device| device.entries.len() as u64).sum()
    }

    /// Messages acknowledged.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.entries().filter(|(_, entry)| entry.accepted).count() as u64
    }

    /// Messages sent more than once.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.entries().filter(|(_, entry)| entry.repeated).count() as u64
    }

    /// Sessions that the server should have kept and did not.
    #[must_use]
    pub fn sessions_lost(&self) -> u64 {
        self.devices.iter().map(|device| device.sessions_lost).sum()
    }
}
