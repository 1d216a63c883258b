//! Dead letters of one cycle: what could not be processed, with the bytes the device sent, and the row as it entered the
//! step that failed, so that a replay goes on from there.
//!
//! Invariant: at most [`BYTES`] of letters a cycle; messages beyond are counted as dead, and the count of letters without
//! bytes is logged.

use serde_json::{Map, Value, json};
use wire::codec::Encoder;
use wire::frame::{Frame, Values};

use super::flow::{Flow, Lines, Messages};
use crate::store::{DeadLetter, LetterKind};

/// Most bytes of dead letters of one cycle (of up to some thousand rows).
const BYTES: usize = 4 << 20;
/// Rows that died together of which so many carry the back trace: it is the same for all.
const TRACES: usize = 16;

/// Why rows are dead.
#[derive(Clone, Default)]
pub(super) struct Cause {
    pub(super) kind: LetterKind,
    pub(super) step: String,
    pub(super) plugin: String,
    pub(super) digest: String,
    pub(super) config: String,
    pub(super) reason: String,
    pub(super) trace: String,
}

/// The letters.
#[derive(Default)]
pub(super) struct Letters {
    letters: Vec<DeadLetter>,
    bytes: usize,
    /// Made with the first letter.
    encoder: Option<Encoder>,
    /// Messages and rows, those whose bytes were not kept included.
    pub(super) count: u64,
    /// Those whose bytes were not kept.
    pub(super) without_bytes: u64,
}

impl Letters {
    /// Adds a letter, or only counts it when there are too many bytes.
    pub(super) fn push(&mut self, make: impl FnOnce() -> DeadLetter) {
        self.count += 1;
        if self.bytes >= BYTES {
            self.without_bytes += 1;
            return;
        }
        let letter = make();
        self.bytes += letter.weight();
        self.letters.push(letter);
    }

    /// Adds rows of a frame.
    pub(super) fn push_rows(
        &mut self,
        (frame, lines): (&Frame, &Lines),
        rows: impl IntoIterator<Item = u32>,
        messages: &Messages,
        cause: &Cause,
    ) {
        let mut encoder = self.encoder.take();
        for (number, row) in rows.into_iter().enumerate() {
            self.push(|| {
                let at = row as usize;
                let original = lines.get(row).and_then(|line| messages.get(line));
                let (original, topic) = match original {
                    Some((payload, topic)) => (payload.to_vec(), topic.to_owned()),
                    None => (row_as_json(frame, at).to_string().into_bytes(), String::new()),
                };
                DeadLetter {
                    device: frame.device_of(at).unwrap_or_default().to_owned(),
                    topic,
                    time: frame.time.get(at).copied().unwrap_or_default(),
                    kind: cause.kind,
                    step: cause.step.clone(),
                    plugin: cause.plugin.clone(),
                    digest: cause.digest.clone(),
                    config: cause.config.clone(),
                    reason: cause.reason.clone(),
                    trace: if number < TRACES { cause.trace.clone() } else { String::new() },
                    frame: row_encoded(frame, row, encoder.get_or_insert_with(Encoder::new)),
                    original,
                }
            });
        }
        self.encoder = encoder;
    }

    /// Adds all rows of a flow.
    pub(super) fn push_flow(&mut self, flow: &Flow, messages: &Messages, cause: &Cause) {
        for (frame, lines) in flow.iter() {
            let rows = u32::try_from(frame.rows()).unwrap_or(u32::MAX);
            self.push_rows((frame, lines), 0..rows, messages, cause);
        }
    }

    /// The letters, for the commit.
    pub(super) fn take(&mut self) -> Vec<DeadLetter> {
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

/// The row as a frame of its own, by the wire codec; empty for a message that never was a row.
fn row_encoded(frame: &Frame, row: u32, encoder: &mut Encoder) -> Vec<u8> {
    let mut encoded = Vec::new();
    if !frame.columns.is_empty() && encoder.encode(&[frame.take_rows(&[row])], &mut encoded).is_err() {
        encoded.clear();
    }
    encoded
}

/// A row whose message is not known, for a person: blobs in hexadecimal.
fn row_as_json(frame: &Frame, row: usize) -> Value {
    let mut columns = Map::new();
    for column in &frame.columns {
        let value = match &column.values {
            Values::F64(values) => values.get(row).map(|value| json!(value)),
            Values::I64(values) => values.get(row).map(|value| json!(value)),
            Values::Bool(values) => values.get(row).map(|value| json!(value)),
            Values::Text(texts) => texts.get(row).map(|value| json!(value)),
            Values::Blob(blobs) => blobs
                .get(row)
                .map(|bytes| json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        };
        columns.insert(column.name.clone(), value.unwrap_or(Value::Null));
    }
    json!({
        "profile": frame.profile,
        "device": frame.device_of(row),
        "time": frame.time.get(row),
        "columns": columns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::Column;

    #[test]
    fn letters_beyond_the_bound_are_counted_without_bytes() {
        let mut letters = Letters::default();
        for _ in 0..10 {
            letters.push(|| DeadLetter { original: vec![0; 1 << 20], ..DeadLetter::default() });
        }
        assert_eq!((letters.count, letters.without_bytes), (10, 6));
        assert_eq!(letters.take().len(), 4);
    }

    #[test]
    fn a_row_a_plugin_made_is_kept_as_json() {
        let frame = Frame {
            profile: "window".into(),
            devices: vec!["d".into()],
            device: vec![0],
            time: vec![5],
            columns: vec![Column {
                name: "mean".into(),
                unit: String::new(),
                values: Values::F64(vec![1.5]),
                status: vec![],
            }],
        };
        let mut flow = Flow::default();
        flow.push(frame, Lines::Unknown);
        let mut letters = Letters::default();
        let cause = Cause { trace: "f\ng".into(), ..Cause::default() };
        letters.push_flow(&flow, &Messages::default(), &cause);
        let letter = letters.take().remove(0);
        let again = wire::codec::decode(&letter.frame, &wire::codec::Limits::default()).unwrap();
        assert_eq!(again, flow.frames);
        let row: Value = serde_json::from_slice(&letter.original).unwrap();
        assert_eq!(row, json!({"profile": "window", "device": "d", "time": 5, "columns": {"mean": 1.5}}));
        assert_eq!((letter.device.as_str(), letter.time, letter.trace.as_str()), ("d", 5, "f\ng"));
    }
}
