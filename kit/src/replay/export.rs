//! Lines that a gateway exported: batches of its store (`sluice-gateway frames export`) and dead letters
//! (`sluice-gateway dead-letters export`). One line is in memory at a time, of at most [`MAX_LINE`] bytes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use runtime::Kind;
use serde_json::{Map, Value};
use wire::frame::Frame;

use crate::rows::builder;
use crate::rows::messages::{Inbox, Message};

/// Longest line.
const MAX_LINE: u64 = 64 << 20;

/// What a plugin can be given of a line.
#[derive(Debug)]
pub(super) enum Item {
    /// Rows, for a processor.
    Frame(Frame),
    /// A message as it arrived, for a decoder.
    Messages(Inbox),
}

/// A file of lines.
pub(super) struct Export {
    lines: BufReader<File>,
    file: String,
    kind: Kind,
    number: usize,
    /// Lines that hold nothing for this kind of plugin.
    pub(super) skipped: usize,
}

impl Export {
    /// Opens a file for a kind of plugin.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(Export {
            lines: BufReader::new(file),
            file: path.display().to_string(),
            kind,
            number: 0,
            skipped: 0,
        })
    }

    /// The next line that holds something for the plugin, with its number; `None` at the end.
    ///
    /// # Errors
    /// The line and what is wrong with it.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Item)>, String> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            let wrong = |what: String| format!("{}:{}: {what}", self.file, self.number);
            let read = (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut line);
            if read.map_err(|error| wrong(error.to_string()))? == 0 {
                return Ok(None);
            }
            if line.len() as u64 >= MAX_LINE {
                return Err(wrong(format!("longer than {MAX_LINE} bytes")));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_slice(&line)
                .map_err(|error| wrong(format!("not a JSON object: {error}")))?;
            let object = value.as_object().ok_or_else(|| wrong("expected a JSON object".to_owned()))?;
            match item(object, self.kind).map_err(wrong)? {
                Some(item) => return Ok(Some((self.number, item))),
                None => self.skipped += 1,
            }
        }
    }
}

fn item(object: &Map<String, Value>, kind: Kind) -> Result<Option<Item>, String> {
    match kind {
        Kind::Processor => {
            let frame = match object.get("frame") {
                Some(Value::Null) => return Ok(None),
                Some(frame) => frame,
                None if object.contains_key("columns") => &Value::Object(object.clone()),
                None if object.contains_key("reason") => return Ok(None),
                None => {
                    return Err("no \"frame\": export lines with sluice-gateway frames export, or dead-letters export".to_owned());
                }
            };
            let frame = wire::frame_json::from_json(frame).map_err(|error| format!("frame: {error}"))?;
            Ok((frame.rows() > 0).then_some(Item::Frame(frame)))
        }
        Kind::Decoder => {
            let Some(payload) = original(object)? else { return Ok(None) };
            let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let message = Message {
                device: Cow::Owned(text("device")),
                topic: Cow::Owned(text("topic")),
                arrived: object.get("time").and_then(Value::as_i64).unwrap_or_default(),
                payload,
            };
            let mut inbox = Inbox::default();
            inbox.push(&message)?;
            Ok(Some(Item::Messages(inbox)))
        }
    }
}

fn original(object: &Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    match (text("original"), text("original_base64")) {
        (Some(text), _) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(digits)) => {
            builder::base64(digits).map(Some).map_err(|what| format!("original_base64: {what}"))
        }
        (None, None) => Ok(None),
    }
}

impl Item {
    /// The latest time in it: nanoseconds since 1970.
    #[must_use]
    pub(super) fn latest(&self) -> i64 {
        match self {
            Item::Frame(frame) => frame.time.iter().copied().max().unwrap_or_default(),
            Item::Messages(inbox) => inbox.latest().unwrap_or_default(),
        }
    }

    /// Rows or messages.
    #[must_use]
    pub(super) fn rows(&self) -> usize {
        match self {
            Item::Frame(frame) => frame.rows(),
            Item::Messages(inbox) => inbox.len(),
        }
    }
}
