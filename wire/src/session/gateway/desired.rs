//! What should run for the tenants, as a gateway hears of it: contents asked for piece by piece, conditions said.

use super::{Event, SendError, Session, State, addressed};
use crate::ids::Digest;
use crate::message::{Condition, Content, Desired, Fetch, MAX_CHUNK_BYTES, TenantIndex, ToStamp, short};
use crate::session::ProtocolError;

/// Conditions of a tenant that wait to be written; the oldest makes room.
pub const MAX_CONDITIONS: usize = 4;

impl Session {
    /// Asks for a piece of a content from a byte on; [`Event::Content`] answers. One at a time, over all tenants.
    ///
    /// # Errors
    /// [`SendError::OnItsWay`] while another is not answered, [`SendError::NotWelcomed`], [`SendError::Closed`].
    pub fn fetch(&mut self, digest: Digest, offset: u64) -> Result<(), SendError> {
        match self.state {
            State::Greeting => return Err(SendError::NotWelcomed),
            State::Closed => return Err(SendError::Closed),
            State::Open if self.fetching.is_some() => return Err(SendError::OnItsWay),
            State::Open => {}
        }
        let message = ToStamp::Fetch(Fetch { digest, offset });
        self.transmit.push(&message).map_err(|error| SendError::Unsendable(error.to_string()))?;
        self.fetching = Some((digest, offset));
        Ok(())
    }

    /// The piece that was asked for and has not come.
    #[must_use]
    pub fn fetching(&self) -> Option<(Digest, u64)> {
        self.fetching
    }

    /// Says what runs for a tenant and how it does, with the next `poll_transmit`. What was said of the same release and is
    /// not written yet is replaced: the latest counts.
    ///
    /// # Errors
    /// [`SendError`] if the session is not open or the tenant not admitted.
    pub fn condition(&mut self, mut condition: Condition) -> Result<(), SendError> {
        self.ready(condition.tenant)?;
        condition.reason = short(condition.reason);
        let tenant = self.tenants.get_mut(usize::from(condition.tenant.0)).ok_or(SendError::NotAdmitted)?;
        tenant.conditions.retain(|before| before.release != condition.release);
        if tenant.conditions.len() >= MAX_CONDITIONS {
            tenant.conditions.remove(0);
        }
        tenant.conditions.push(condition);
        self.conditions_due = true;
        Ok(())
    }

    pub(super) fn write_conditions(&mut self) {
        if !std::mem::take(&mut self.conditions_due) || self.state != State::Open {
            return;
        }
        for condition in self.tenants.iter_mut().flat_map(|tenant| tenant.conditions.drain(..)) {
            // Of few bytes: never too large.
            let _ = self.transmit.push(&ToStamp::Condition(condition));
        }
    }

    pub(super) fn desired(&mut self, desired: Desired) -> Result<(), ProtocolError> {
        let TenantIndex(index) = desired.tenant;
        if !addressed(&mut self.tenants, desired.tenant)?.admitted {
            return Err(ProtocolError::NotAdmitted(index));
        }
        self.events.push_back(Event::Desired(desired));
        Ok(())
    }

    pub(super) fn content(&mut self, content: Content) -> Result<(), ProtocolError> {
        let Content { digest, offset, total, bytes } = &content;
        if self.fetching != Some((*digest, *offset)) {
            return Err(ProtocolError::NotFetched { digest: *digest, offset: *offset });
        }
        let end = offset.saturating_add(bytes.len() as u64);
        let missing = *total == 0 && bytes.is_empty();
        if !missing && (bytes.is_empty() || bytes.len() > MAX_CHUNK_BYTES || end > *total) {
            return Err(ProtocolError::Piece { bytes: bytes.len(), offset: *offset, total: *total });
        }
        self.fetching = None;
        self.events.push_back(Event::Content(content));
        Ok(())
    }
}
