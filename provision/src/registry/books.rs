//! The books as a change sees them: the transaction, and the promises in memory, which are taken back with it.

use std::path::Path;

use rusqlite::Connection;
use wire::ids::{StampId, TenantId};

use super::RegistryError;
use crate::allocation::{Stamp, Stamps};

/// What a change works on. Whatever it does counts only if it succeeds and is committed.
pub struct Books<'a> {
    pub(super) db: &'a Connection,
    path: &'a Path,
    stamps: &'a mut Stamps,
    revision: &'a mut u64,
    revision_before: u64,
    now: i64,
    undo: Vec<Undo>,
    /// Stamps whose roster has changed.
    pub(super) touched: Vec<StampId>,
}

enum Undo {
    Release(StampId, TenantId, u32),
    Promise(StampId, TenantId, u32),
    Adjust(StampId, u32, u32),
    Put(Stamp),
    Remove(StampId),
}

impl<'a> Books<'a> {
    pub(super) fn new(
        db: &'a Connection,
        path: &'a Path,
        stamps: &'a mut Stamps,
        revision: &'a mut u64,
        now: i64,
    ) -> Self {
        let revision_before = *revision;
        Self { db, path, stamps, revision, revision_before, now, undo: Vec::new(), touched: Vec::new() }
    }

    /// Nanoseconds since 1970 UTC, the same during a commit.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The stamps and their promises, for an allocation.
    #[must_use]
    pub fn stamps(&self) -> &Stamps {
        self.stamps
    }

    pub(super) fn promise(
        &mut self,
        stamp: &StampId,
        tenant: &TenantId,
        devices: u32,
    ) -> Result<(), RegistryError> {
        self.stamps.promise(stamp, tenant, devices).map_err(super::Refusal::from)?;
        self.undo.push(Undo::Release(stamp.clone(), tenant.clone(), devices));
        Ok(())
    }

    pub(super) fn release(&mut self, stamp: &StampId, tenant: &TenantId, devices: u32) {
        self.stamps.release(stamp, tenant, devices);
        self.undo.push(Undo::Promise(stamp.clone(), tenant.clone(), devices));
    }

    /// Another number of devices for a promise that is there.
    pub(super) fn adjust(&mut self, stamp: &StampId, from: u32, to: u32) -> Result<(), RegistryError> {
        self.stamps.adjust(stamp, from, to).map_err(super::Refusal::from)?;
        self.undo.push(Undo::Adjust(stamp.clone(), to, from));
        Ok(())
    }

    /// Takes a stamp out to which nothing is promised.
    pub(super) fn remove(&mut self, id: &StampId) {
        if let Some(before) = self.stamps.get(id).cloned() {
            self.undo.push(Undo::Put(before));
            self.stamps.remove(id);
        }
    }

    pub(super) fn put(&mut self, stamp: Stamp) {
        self.undo.push(match self.stamps.get(&stamp.id) {
            Some(before) => Undo::Put(before.clone()),
            None => Undo::Remove(stamp.id.clone()),
        });
        self.stamps.put(stamp);
    }

    /// A number for the next change of an assignment, larger than all before.
    pub(super) fn next_revision(&mut self) -> i64 {
        *self.revision += 1;
        i64::try_from(*self.revision).unwrap_or(i64::MAX)
    }

    /// The roster of a stamp has changed: it is to be told.
    pub(super) fn touch(&mut self, stamp: &StampId) {
        self.touched.push(stamp.clone());
    }

    /// The change failed.
    pub(super) fn take_back(&mut self) {
        self.touched.clear();
        *self.revision = self.revision_before;
        for undo in self.undo.drain(..).rev() {
            match undo {
                Undo::Release(stamp, tenant, devices) => self.stamps.release(&stamp, &tenant, devices),
                // What was released fits again: nothing came in between.
                Undo::Promise(stamp, tenant, devices) => self.stamps.restore(&stamp, &tenant, devices),
                Undo::Adjust(stamp, from, to) => self.stamps.readjust(&stamp, from, to),
                Undo::Put(stamp) => self.stamps.put(stamp),
                Undo::Remove(stamp) => self.stamps.remove(&stamp),
            }
        }
    }

    /// An error of SQLite as one of the registry.
    pub(super) fn failed(&self, error: &rusqlite::Error) -> RegistryError {
        RegistryError::storage(self.path, error)
    }
}
