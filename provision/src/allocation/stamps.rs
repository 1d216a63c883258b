//! The stamps and what was promised to each: the table that allocation looks at.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::{Environment, Region, StampId, TenantId};

use super::request::Request;

/// How soon a stamp is updated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Ring {
    /// Early and often.
    Fast,
    /// Late and rarely.
    #[default]
    Slow,
}

/// Who shares a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tenancy {
    /// Many tenants.
    #[default]
    Shared,
    /// One tenant, whichever comes first.
    Single,
}

/// Whether a stamp takes anybody new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StampState {
    /// It does.
    #[default]
    Active,
    /// Those it has stay, nobody comes.
    Cordoned,
    /// Those it has are being moved away.
    Draining,
    /// It is gone.
    Down,
}

/// A stamp as it was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its name.
    pub id: StampId,
    /// Where it is.
    pub region: Region,
    /// What it is for: `test`, `production`.
    pub environment: Environment,
    /// Who shares it.
    pub tenancy: Tenancy,
    /// When it is updated.
    pub ring: Ring,
    /// Its part of what is hashed, beside those of the others; 0: nothing unless it is the only one.
    pub weight: u32,
    /// Devices that it was built for.
    pub max_devices: u32,
    /// Whether it takes anybody.
    pub state: StampState,
}

/// Why a stamp may not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Misfit {
    /// It takes nobody new.
    State {
        /// Its state.
        state: StampState,
    },
    /// It belongs to another environment.
    Environment {
        /// Its own.
        environment: Environment,
    },
    /// It lies elsewhere.
    Region {
        /// Where.
        region: Region,
    },
    /// It is of another ring.
    Ring {
        /// Its own.
        ring: Ring,
    },
    /// The tenant wants a stamp of its own, and this one is shared.
    NotDedicated,
    /// It is for one tenant, which is not this one.
    Occupied {
        /// Whose it is; `None`: of the first dedicated tenant that comes.
        by: Option<TenantId>,
    },
    /// The tenant is pinned to another stamp.
    NotPinned,
    /// It is the stamp that is being left.
    Excepted,
    /// It has no room for so many devices.
    Full {
        /// Devices it could still take.
        room: u32,
        /// Devices that are asked for.
        wanted: u32,
    },
}

impl Misfit {
    /// In one word, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Misfit::State { .. } => "state",
            Misfit::Environment { .. } => "environment",
            Misfit::Region { .. } => "region",
            Misfit::Ring { .. } => "ring",
            Misfit::NotDedicated => "not_dedicated",
            Misfit::Occupied { .. } => "occupied",
            Misfit::NotPinned => "not_pinned",
            Misfit::Excepted => "excepted",
            Misfit::Full { .. } => "full",
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::State { state: StampState::Cordoned } => {
                f.write_str("it is cordoned: it takes nobody new")
            }
            Misfit::State { state: StampState::Draining } => f.write_str("it is being drained"),
            Misfit::State { .. } => f.write_str("it is down"),
            Misfit::Environment { environment } => write!(f, "its environment is {environment}"),
            Misfit::Region { region } => write!(f, "its region is {region}"),
            Misfit::Ring { ring: Ring::Fast } => f.write_str("it is of the fast ring"),
            Misfit::Ring { ring: Ring::Slow } => f.write_str("it is of the slow ring"),
            Misfit::NotDedicated => f.write_str("it is shared, and the tenant wants one of its own"),
            Misfit::Occupied { by: Some(tenant) } => write!(f, "it is tenant {tenant}'s alone"),
            Misfit::Occupied { by: None } => f.write_str("it is kept for a tenant that wants one of its own"),
            Misfit::NotPinned => f.write_str("the tenant is pinned to another stamp"),
            Misfit::Excepted => f.write_str("it is the one that is being left"),
            Misfit::Full { room, wanted } => write!(f, "it has room for {room} devices, {wanted} are wanted"),
        }
    }
}

/// Why a promise is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromiseError {
    /// There is no such stamp.
    #[error("there is no stamp {0}")]
    Unknown(StampId),
    /// It would be promised more than it was built for.
    #[error("stamp {stamp} has room for {room} devices, {wanted} are wanted")]
    Full {
        /// Which stamp.
        stamp: StampId,
        /// Devices it could still take.
        room: u32,
        /// Devices asked for.
        wanted: u32,
    },
    /// It is another tenant's alone.
    #[error("stamp {stamp} is tenant {by}'s alone")]
    Occupied {
        /// Which stamp.
        stamp: StampId,
        /// Whose.
        by: TenantId,
    },
}

/// A stamp and its promises.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    /// Of its name, for rendezvous hashing.
    pub(super) hash: u64,
    promised: u32,
    /// Promises of each tenant; kept for single tenancy alone, where it holds at most one.
    occupants: BTreeMap<TenantId, u32>,
}

/// All stamps.
#[derive(Debug, Clone, Default)]
pub struct Stamps {
    entries: Vec<Entry>,
    places: HashMap<StampId, usize>,
}

impl Stamps {
    /// Adds a stamp, or changes the one of that name; what was promised to it stays. A `max_devices` below what is
    /// promised is taken: nobody comes any more.
    pub fn put(&mut self, stamp: Stamp) {
        if let Some(entry) = self.places.get(&stamp.id).and_then(|&place| self.entries.get_mut(place)) {
            entry.stamp = stamp;
            return;
        }
        self.places.insert(stamp.id.clone(), self.entries.len());
        let hash = twox_hash::XxHash3_64::oneshot(stamp.id.as_str().as_bytes());
        self.entries.push(Entry { stamp, hash, promised: 0, occupants: BTreeMap::new() });
    }

    /// A stamp.
    #[must_use]
    pub fn get(&self, id: &StampId) -> Option<&Stamp> {
        self.entry(id).map(|entry| &entry.stamp)
    }

    /// All, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Stamp> {
        self.entries.iter().map(|entry| &entry.stamp)
    }

    /// Devices promised to a stamp.
    #[must_use]
    pub fn promised(&self, id: &StampId) -> u32 {
        self.entry(id).map_or(0, |entry| entry.promised)
    }

    /// Promises devices of a tenant to a stamp.
    ///
    /// # Errors
    /// [`PromiseError`]: nothing was promised.
    pub fn promise(&mut self, id: &StampId, tenant: &TenantId, devices: u32) -> Result<(), PromiseError> {
        let entry = self.entry_mut(id).ok_or_else(|| PromiseError::Unknown(id.clone()))?;
        let room = entry.room();
        if devices > room {
            return Err(PromiseError::Full { stamp: id.clone(), room, wanted: devices });
        }
        if let Some(by) = entry.occupant().filter(|by| *by != tenant) {
            return Err(PromiseError::Occupied { stamp: id.clone(), by: by.clone() });
        }
        self.restore(id, tenant, devices);
        Ok(())
    }

    /// Takes a promise back.
    pub fn release(&mut self, id: &StampId, tenant: &TenantId, devices: u32) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.promised = entry.promised.saturating_sub(devices);
        if let Some(count) = entry.occupants.get_mut(tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                entry.occupants.remove(tenant);
            }
        }
    }

    /// Makes a promise larger or smaller.
    ///
    /// # Errors
    /// [`PromiseError`]: it is as it was.
    pub fn adjust(&mut self, id: &StampId, from: u32, to: u32) -> Result<(), PromiseError> {
        let entry = self.entry(id).ok_or_else(|| PromiseError::Unknown(id.clone()))?;
        let (room, wanted) = (entry.room(), to.saturating_sub(from));
        if wanted > room {
            return Err(PromiseError::Full { stamp: id.clone(), room, wanted });
        }
        self.readjust(id, from, to);
        Ok(())
    }

    /// As [`Stamps::adjust`], whatever the limits are now: when a change is taken back.
    pub(crate) fn readjust(&mut self, id: &StampId, from: u32, to: u32) {
        if let Some(entry) = self.entry_mut(id) {
            entry.promised = entry.promised.saturating_sub(from).saturating_add(to);
        }
    }

    /// Promises what was promised before, whatever the limits are now: at a start, and when a change is taken back.
    pub(crate) fn restore(&mut self, id: &StampId, tenant: &TenantId, devices: u32) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.promised = entry.promised.saturating_add(devices);
        if entry.stamp.tenancy == Tenancy::Single {
            *entry.occupants.entry(tenant.clone()).or_default() += 1;
        }
    }

    /// Takes a stamp out to which nothing is promised.
    pub(crate) fn remove(&mut self, id: &StampId) {
        let Some(place) = self.places.remove(id) else { return };
        self.entries.remove(place);
        self.places.values_mut().filter(|other| **other > place).for_each(|other| *other -= 1);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entry(&self, id: &StampId) -> Option<&Entry> {
        self.places.get(id).and_then(|&place| self.entries.get(place))
    }

    fn entry_mut(&mut self, id: &StampId) -> Option<&mut Entry> {
        self.places.get(id).and_then(|&place| self.entries.get_mut(place))
    }
}

impl Entry {
    /// Devices it could still take.
    pub(super) fn room(&self) -> u32 {
        self.stamp.max_devices.saturating_sub(self.promised)
    }

    /// The part of its capacity that is promised.
    pub(super) fn filled(&self) -> f64 {
        f64::from(self.promised) / f64::from(self.stamp.max_devices.max(1))
    }

    pub(super) fn occupant(&self) -> Option<&TenantId> {
        self.occupants.keys().next()
    }

    /// Why it may not serve the request; `None`: it may.
    pub(super) fn misfit(&self, request: &Request<'_>) -> Option<Misfit> {
        let stamp = &self.stamp;
        if stamp.state != StampState::Active {
            return Some(Misfit::State { state: stamp.state });
        }
        if stamp.environment != *request.environment {
            return Some(Misfit::Environment { environment: stamp.environment.clone() });
        }
        if !request.regions.is_empty() && !request.regions.contains(&stamp.region) {
            return Some(Misfit::Region { region: stamp.region.clone() });
        }
        if request.ring.is_some_and(|ring| ring != stamp.ring) {
            return Some(Misfit::Ring { ring: stamp.ring });
        }
        match (request.dedicated, stamp.tenancy) {
            (true, Tenancy::Shared) => return Some(Misfit::NotDedicated),
            (false, Tenancy::Single) => return Some(Misfit::Occupied { by: self.occupant().cloned() }),
            (true, Tenancy::Single) if self.occupant().is_some_and(|by| by != request.tenant) => {
                return Some(Misfit::Occupied { by: self.occupant().cloned() });
            }
            _ => {}
        }
        if request.pinned.is_some_and(|pinned| *pinned != stamp.id) {
            return Some(Misfit::NotPinned);
        }
        if request.except == Some(&stamp.id) {
            return Some(Misfit::Excepted);
        }
        let room = self.room();
        (request.devices > room).then_some(Misfit::Full { room, wanted: request.devices })
    }
}
