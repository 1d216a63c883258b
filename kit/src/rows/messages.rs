//! Messages for decoders, by columns as the runtime takes them.

use std::borrow::Cow;
use std::collections::HashMap;

use wire::frame::MAX_ROWS;

use super::builder;

/// A message as it was written.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    /// The device it came from.
    pub device: Cow<'a, str>,
    /// Its topic or path.
    pub topic: Cow<'a, str>,
    /// When it arrived: nanoseconds since 1970 UTC.
    pub arrived: i64,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// Messages that were gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbox {
    /// The profile for what is decoded; may be empty.
    pub profile: String,
    devices: Names,
    topics: Names,
    arrived: Vec<i64>,
    ends: Vec<u32>,
    payloads: Vec<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    entries: Vec<String>,
    known: HashMap<String, u32>,
    index: Vec<u32>,
}

/// The payload of a message in one of its written forms: `text`, `json`, `hex`, `base64`.
///
/// # Errors
/// What is wrong with it.
pub fn payload(form: &str, written: &str) -> Result<Vec<u8>, String> {
    match form {
        "hex" => builder::hex(written),
        "base64" => builder::base64(written),
        "json" => match serde_json::from_str::<serde_json::Value>(written) {
            Ok(_) => Ok(written.as_bytes().to_vec()),
            Err(error) => Err(format!("not JSON: {error}; write it as text if that is meant")),
        },
        _ => Ok(written.as_bytes().to_vec()),
    }
}

impl Inbox {
    /// Appends a message.
    ///
    /// # Errors
    /// When there are too many messages or bytes.
    pub fn push(&mut self, message: &Message<'_>) -> Result<(), String> {
        if self.arrived.len() >= MAX_ROWS {
            return Err(format!("more than {MAX_ROWS} messages: make several batches"));
        }
        let end = self.payloads.len() + message.payload.len();
        let end = u32::try_from(end).map_err(|_| "more than 4 GiB of payloads: make several batches")?;
        self.payloads.extend_from_slice(&message.payload);
        self.ends.push(end);
        self.arrived.push(message.arrived);
        self.devices.push(&message.device);
        self.topics.push(&message.topic);
        Ok(())
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arrived.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// When the latest arrived.
    #[must_use]
    pub fn latest(&self) -> Option<i64> {
        self.arrived.iter().copied().max()
    }

    /// Those from one place to another, in pieces of at most so many; with each piece, the place of its first.
    pub fn pieces(&self, most: usize) -> impl Iterator<Item = (usize, Inbox)> + '_ {
        (0..self.len()).step_by(most.max(1)).map(move |from| (from, self.piece(from, most)))
    }

    fn piece(&self, from: usize, most: usize) -> Inbox {
        let mut piece = Inbox { profile: self.profile.clone(), ..Inbox::default() };
        let mut begin = from.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        for at in from..(from + most).min(self.len()) {
            let end = self.ends.get(at).copied().unwrap_or(begin);
            let bytes = self.payloads.get(begin as usize..end as usize).unwrap_or_default();
            piece.payloads.extend_from_slice(bytes);
            piece.ends.push(u32::try_from(piece.payloads.len()).unwrap_or(u32::MAX));
            piece.arrived.extend(self.arrived.get(at));
            piece.devices.push(self.devices.get(at));
            piece.topics.push(self.topics.get(at));
            begin = end;
        }
        piece
    }

    /// As the runtime takes them.
    #[must_use]
    pub fn messages(&self) -> runtime::Messages<'_> {
        runtime::Messages {
            profile: &self.profile,
            devices: &self.devices.entries,
            device: &self.devices.index,
            arrived: &self.arrived,
            topics: &self.topics.entries,
            topic: &self.topics.index,
            ends: &self.ends,
            payloads: &self.payloads,
        }
    }
}

impl Names {
    fn push(&mut self, name: &str) {
        let index = match self.known.get(name) {
            Some(index) => *index,
            None => {
                let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push(name.to_owned());
                self.known.insert(name.to_owned(), index);
                index
            }
        };
        self.index.push(index);
    }

    fn get(&self, at: usize) -> &str {
        let index = self.index.get(at).copied().unwrap_or_default();
        self.entries.get(index as usize).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_messages() {
        let mut inbox = Inbox { profile: "p".into(), ..Inbox::default() };
        for at in 0..7u8 {
            let message = Message {
                device: format!("d{}", at % 2).into(),
                topic: "t".into(),
                arrived: i64::from(at),
                payload: vec![at; usize::from(at)],
            };
            inbox.push(&message).unwrap();
        }
        let pieces: Vec<_> = inbox.pieces(3).collect();
        assert_eq!(
            pieces.iter().map(|(from, piece)| (*from, piece.len())).collect::<Vec<_>>(),
            [(0, 3), (3, 3), (6, 1)]
        );
        let mut again = Inbox { profile: "p".into(), ..Inbox::default() };
        for (_, piece) in &pieces {
            let messages = piece.messages();
            let mut begin = 0;
            for (at, &end) in messages.ends.iter().enumerate() {
                let message = Message {
                    device: messages.devices[messages.device[at] as usize].as_str().into(),
                    topic: messages.topics[messages.topic[at] as usize].as_str().into(),
                    arrived: messages.arrived[at],
                    payload: messages.payloads[begin as usize..end as usize].to_vec(),
                };
                again.push(&message).unwrap();
                begin = end;
            }
        }
        assert_eq!(again, inbox);
    }

    #[test]
    fn payloads_are_written_in_four_forms() {
        assert_eq!(payload("text", "a"), Ok(b"a".to_vec()));
        assert_eq!(payload("json", "{}"), Ok(b"{}".to_vec()));
        assert_eq!(payload("hex", "01 02"), Ok(vec![1, 2]));
        assert_eq!(payload("base64", "AQI="), Ok(vec![1, 2]));
        assert!(payload("json", "{").unwrap_err().contains("not JSON"));
    }
}
