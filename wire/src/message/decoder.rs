//! From a stream of bytes to messages.

use bytes::{Buf, BytesMut};

use super::{Message, MessageError, PREAMBLE};

/// Cuts one direction of a stream into messages. Feed bytes, then take messages until there is none.
///
/// Holds at most one message and what was fed beyond it, and no memory where there is neither: a stamp has thousands of
/// silent ones. After an error it yields nothing more.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    opened: bool,
    failed: bool,
}

impl Decoder {
    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// [`MessageError`] if the stream is not the protocol; it is of no use from then on.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, MessageError> {
        let result = self.try_next();
        if result.is_err() {
            self.failed = true;
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Bytes fed and not yet taken as messages.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// [`MessageError::Truncated`] if it ended inside a message.
    pub fn end(&self) -> Result<(), MessageError> {
        match self.buffer.len() {
            0 => Ok(()),
            length => Err(MessageError::Truncated(length)),
        }
    }

    fn try_next<M: Message>(&mut self) -> Result<Option<M>, MessageError> {
        if self.failed || (!self.opened && !self.open()?) {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            return Ok(None);
        }
        let Some(([a, b, c, d, kind], _)) = self.buffer.split_first_chunk::<5>().map(|(h, r)| (*h, r)) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let limit = M::limit(kind).ok_or(MessageError::UnknownKind(kind))?;
        if length == 0 {
            return Err(MessageError::Malformed { kind: "message", cause: "it is empty".to_owned() });
        }
        if length > limit {
            return Err(MessageError::TooLarge { length, limit });
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        M::decode(kind, self.buffer.split_to(length - 1).freeze()).map(Some)
    }

    fn open(&mut self) -> Result<bool, MessageError> {
        let seen = self.buffer.len().min(PREAMBLE.len());
        let foreign =
            |buffer: &BytesMut| MessageError::Foreign(buffer.iter().take(PREAMBLE.len()).copied().collect());
        let matches = self.buffer.iter().zip(PREAMBLE).position(|(have, want)| *have != want).unwrap_or(seen);
        match (matches, seen) {
            (8, _) => {
                self.buffer.advance(PREAMBLE.len());
                self.opened = true;
                Ok(true)
            }
            (same, seen) if same == seen => Ok(false),
            (6, _) => Err(MessageError::Framing(self.buffer.get(6).copied().unwrap_or_default())),
            _ => Err(foreign(&self.buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bye, ToStamp};
    use super::*;

    #[test]
    fn a_decoder_with_nothing_to_do_holds_no_memory() {
        let mut bytes = BytesMut::from(&PREAMBLE[..]);
        for _ in 0..100 {
            let bye = ToStamp::Bye(Bye { text: "x".repeat(900) });
            assert!(bye.encode(&mut bytes).unwrap().is_none());
        }
        let mut decoder = Decoder::default();
        for part in bytes.chunks(60_000) {
            decoder.feed(part);
            while decoder.next_message::<ToStamp>().unwrap().is_some() {}
        }
        assert_eq!((decoder.buffered(), decoder.buffer.capacity()), (0, 0));
    }
}
