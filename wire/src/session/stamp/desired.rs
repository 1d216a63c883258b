//! What should run for the tenants, as a stamp says it: contents in pieces, conditions heard.

use bytes::Bytes;

use super::{Event, Session, State};
use crate::message::{
    Condition, Content, Desired, Fetch, MAX_CHUNK_BYTES, MAX_CONTENTS, MAX_DOCUMENT_BYTES, MessageError,
    TenantIndex, ToGateway, short,
};
use crate::session::{ProtocolError, tenant_error};

impl Session {
    /// Says what should run for an admitted tenant, in place of what was said before. From now on its contents, and no
    /// longer those of before, are served to this gateway. Nothing is said of a tenant that is not admitted.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`] if the document is above [`MAX_DOCUMENT_BYTES`] or there are too many contents; nothing
    /// is said then.
    pub fn desired(&mut self, desired: Desired) -> Result<(), MessageError> {
        let too_large = |length, limit| Err(MessageError::TooLarge { length, limit });
        let (document, contents) = (desired.document.len(), desired.contents.len());
        if document > MAX_DOCUMENT_BYTES {
            return too_large(document, MAX_DOCUMENT_BYTES);
        }
        if contents > MAX_CONTENTS {
            return too_large(contents, MAX_CONTENTS);
        }
        let Some(tenant) = self.tenants.get_mut(usize::from(desired.tenant.0)) else { return Ok(()) };
        if self.state != State::Open || !tenant.admitted {
            return Ok(());
        }
        tenant.offered = desired.contents.iter().map(|content| content.digest).collect();
        self.transmit.push(&ToGateway::Desired(desired))
    }

    /// The piece asked for by the last [`Event::Fetch`]. Says nothing if none was.
    ///
    /// `total` are the bytes of the whole content. Of `bytes` at most [`MAX_CHUNK_BYTES`] are sent.
    pub fn content(&mut self, total: u64, mut bytes: Bytes) {
        bytes.truncate(MAX_CHUNK_BYTES);
        if let Some(Fetch { digest, offset }) = self.fetching.take()
            && self.state == State::Open
        {
            self.send(ToGateway::Content(Content { digest, offset, total, bytes }));
        }
    }

    /// The content asked for by the last [`Event::Fetch`] is not to be had here.
    pub fn content_missing(&mut self) {
        self.content(0, Bytes::new());
    }

    pub(super) fn fetch(&mut self, fetch: Fetch) -> Result<(), ProtocolError> {
        if self.fetching.is_some() {
            return Err(ProtocolError::Unexpected { message: "fetch", state: "before the last is answered" });
        }
        self.fetching = Some(fetch);
        // It may have been desired until a moment ago, so it is no offence to ask for it.
        if self.tenants.iter().any(|tenant| tenant.offered.contains(&fetch.digest)) {
            self.events.push_back(Event::Fetch(fetch));
        } else {
            self.content_missing();
        }
        Ok(())
    }

    pub(super) fn condition(&mut self, mut condition: Condition) -> Result<(), ProtocolError> {
        let TenantIndex(index) = condition.tenant;
        let count = self.tenants.len();
        let Some(tenant) = self.tenants.get(usize::from(index)) else {
            return Err(tenant_error(condition.tenant, count));
        };
        if tenant.withdrawn {
            return Ok(());
        }
        if !tenant.admitted {
            // It may have been until a moment ago.
            return Ok(());
        }
        condition.reason = short(condition.reason);
        self.events.push_back(Event::Condition(condition));
        Ok(())
    }
}
