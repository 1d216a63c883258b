//! Between `wire`'s frames and the boundary's types. Into the guest everything is borrowed, out of it every list is
//! moved: no value is copied here, and nothing is touched row by row but for checking. Dictionaries alone are packed on
//! the way in and unpacked on the way out.

use wire::frame::{Blobs, Column, Frame, Texts, Values};
use wire::ids::RouteName;

use crate::bindings::sluice::plugin::types;
use crate::call::{Messages, Origin, Rejected, Routed};
use crate::fault::FaultKind;
use crate::host::cut;
use crate::inherit;
use crate::instance::Input;
use crate::limits::Limits;

/// Most frames, and most rejections, that a call may return.
const MAX_FRAMES: usize = 4_096;
/// Most entries of all dictionaries that a call may return.
const MAX_ENTRIES: usize = 1 << 20;

/// Why an output is no output.
pub(crate) type Violation = (FaultKind, String);

/// Frames, lent to a guest call in two stages, as the second borrows from the first.
pub(crate) struct LentFrames<'a> {
    frames: &'a [Frame],
    dictionaries: Vec<Dictionaries>,
}

/// The columns of lent frames.
pub(crate) type LentColumns<'a> = Vec<Vec<types::ColumnParam<'a>>>;

impl<'a> LentFrames<'a> {
    pub(crate) fn of(frames: &'a [Frame]) -> Self {
        LentFrames { frames, dictionaries: frames.iter().map(Dictionaries::of).collect() }
    }

    pub(crate) fn columns(&self) -> LentColumns<'_> {
        self.frames
            .iter()
            .zip(&self.dictionaries)
            .map(|(frame, packed)| lend_columns(frame, packed))
            .collect()
    }

    pub(crate) fn lend<'b>(&'b self, columns: &'b LentColumns<'b>) -> Vec<types::FrameParam<'b>> {
        let lend =
            |(frame, (packed, columns)): (&'b Frame, (&'b Dictionaries, &'b Vec<_>))| types::FrameParam {
                profile: &frame.profile,
                devices: packed.devices.lend(),
                device: &frame.device,
                time: &frame.time,
                columns,
            };
        self.frames.iter().zip(self.dictionaries.iter().zip(columns)).map(lend).collect()
    }
}

/// Messages, lent to a guest call.
pub(crate) struct LentMessages<'a> {
    messages: &'a Messages<'a>,
    devices: Packed,
    topics: Packed,
}

impl<'a> LentMessages<'a> {
    pub(crate) fn of(messages: &'a Messages<'a>) -> Self {
        LentMessages { messages, devices: Packed::of(messages.devices), topics: Packed::of(messages.topics) }
    }

    pub(crate) fn lend(&self) -> types::Messages<'_> {
        let messages = self.messages;
        types::Messages {
            profile: messages.profile,
            devices: self.devices.lend(),
            device: messages.device,
            arrived: messages.arrived,
            topics: types::TextsParam { dictionary: self.topics.lend(), index: messages.topic },
            payloads: types::BlobsParam { ends: messages.ends, bytes: messages.payloads },
        }
    }
}

/// Texts in one block, as they cross: a string each would cost a call into the guest's allocator each.
#[derive(Default)]
struct Packed {
    text: String,
    ends: Vec<u32>,
}

impl Packed {
    fn of(texts: &[String]) -> Self {
        let mut packed = Packed {
            text: String::with_capacity(texts.iter().map(String::len).sum()),
            ends: Vec::with_capacity(texts.len()),
        };
        for text in texts {
            packed.text.push_str(text);
            packed.ends.push(packed.text.len() as u32);
        }
        packed
    }

    fn lend(&self) -> types::DictionaryParam<'_> {
        types::DictionaryParam { text: &self.text, ends: &self.ends }
    }
}

/// The packed texts of a frame.
struct Dictionaries {
    devices: Packed,
    /// Of each column; empty unless it holds texts.
    columns: Vec<Packed>,
}

impl Dictionaries {
    fn of(frame: &Frame) -> Self {
        let columns = frame.columns.iter().map(|column| match &column.values {
            Values::Text(texts) => Packed::of(&texts.dictionary),
            _ => Packed::default(),
        });
        Dictionaries { devices: Packed::of(&frame.devices), columns: columns.collect() }
    }
}

fn lend_columns<'a>(frame: &'a Frame, packed: &'a Dictionaries) -> Vec<types::ColumnParam<'a>> {
    let lend = |(column, packed): (&'a Column, &'a Packed)| types::ColumnParam {
        name: &column.name,
        unit: &column.unit,
        values: match &column.values {
            Values::F64(values) => types::ValuesParam::F64s(values),
            Values::I64(values) => types::ValuesParam::S64s(values),
            Values::Bool(values) => types::ValuesParam::Bools(values),
            Values::Text(texts) => types::ValuesParam::Texts(types::TextsParam {
                dictionary: packed.lend(),
                index: &texts.index,
            }),
            Values::Blob(blobs) => {
                types::ValuesParam::Blobs(types::BlobsParam { ends: &blobs.ends, bytes: &blobs.bytes })
            }
        },
        status: &column.status,
    };
    frame.columns.iter().zip(&packed.columns).map(lend).collect()
}

/// Takes a call's output, fills in what it leaves out, and checks all of it.
pub(crate) fn take_output(
    output: types::Output,
    input: &Input<'_>,
    limits: &Limits,
) -> Result<(Vec<Routed>, Vec<Rejected>), Violation> {
    let inputs = input.rows();
    let inputs = inputs.as_slice();
    for (what, count) in [("frames", output.frames.len()), ("rejections", output.rejected.len())] {
        if count > MAX_FRAMES {
            return Err((FaultKind::Output, format!("{count} {what}, at most {MAX_FRAMES} are allowed")));
        }
    }
    let mut rows = 0;
    let mut left = Left { entries: MAX_ENTRIES, bytes: limits.output_bytes };
    let mut frames = Vec::with_capacity(output.frames.len());
    for (index, routed) in output.frames.into_iter().enumerate() {
        rows += routed.frame.device.len().max(routed.frame.time.len());
        if rows > limits.output_rows {
            return Err((
                FaultKind::Output,
                format!("more than {} rows (limits.output_rows)", limits.output_rows),
            ));
        }
        if !routed.frame.device.is_empty() || !routed.frame.time.is_empty() {
            let at = |(kind, what)| (kind, format!("output frame {index}: {what}"));
            frames.push(take_routed(routed, inputs, input, &mut left).map_err(at)?);
        }
    }
    let rejected = output.rejected.into_iter().map(|rejected| {
        take_rejected(rejected, inputs)
            .map_err(|what| (FaultKind::InvalidOutput, format!("rejected rows: {what}")))
    });
    Ok((frames, rejected.collect::<Result<_, _>>()?))
}

/// What a call may still hand over.
struct Left {
    /// Entries of dictionaries.
    entries: usize,
    /// Bytes that are filled in.
    bytes: usize,
}

fn take_routed(
    routed: types::Routed,
    inputs: &[usize],
    input: &Input<'_>,
    left: &mut Left,
) -> Result<Routed, Violation> {
    let invalid = |what: String| (FaultKind::InvalidOutput, what);
    let route = RouteName::new(&routed.route).map_err(|error| invalid(error.to_string()))?;
    let mut frame = take_frame(routed.frame, &mut left.entries).map_err(invalid)?;
    let rows = frame.device.len();
    let origin =
        routed.origin.map(|origin| take_origin(origin, rows, inputs)).transpose().map_err(invalid)?;
    if let Some(origin) = &origin {
        inherit::fill(&mut frame, origin, input, &mut left.bytes)?;
    }
    frame.check().map_err(|error| invalid(error.to_string()))?;
    Ok(Routed { route, frame, origin })
}

fn take_origin(origin: types::Origin, rows: usize, inputs: &[usize]) -> Result<Origin, String> {
    let input = input_rows(origin.frame, inputs)?;
    let length = if origin.rows.is_empty() { input } else { origin.rows.len() };
    if length != rows {
        return Err(format!("its origin has {length} rows, the frame has {rows}"));
    }
    check_rows(&origin.rows, input)?;
    let rows = (!origin.rows.is_empty()).then_some(origin.rows);
    Ok(Origin { frame: origin.frame as usize, rows })
}

fn take_rejected(rejected: types::Rejected, inputs: &[usize]) -> Result<Rejected, String> {
    let input = input_rows(rejected.frame, inputs)?;
    check_rows(&rejected.rows, input)?;
    let rows = if rejected.rows.is_empty() { (0..input as u32).collect() } else { rejected.rows };
    Ok(Rejected { frame: rejected.frame as usize, rows, reason: cut(rejected.reason) })
}

fn input_rows(frame: u32, inputs: &[usize]) -> Result<usize, String> {
    let missing = || format!("there is no input frame {frame}, there were {}", inputs.len());
    inputs.get(frame as usize).copied().ok_or_else(missing)
}

fn check_rows(rows: &[u32], input: usize) -> Result<(), String> {
    match rows.iter().find(|&&row| row as usize >= input) {
        None => Ok(()),
        Some(row) => Err(format!("there is no input row {row}, there were {input}")),
    }
}

fn take_frame(frame: types::FrameResult, entries: &mut usize) -> Result<Frame, String> {
    let devices = unpack(&frame.devices, entries).map_err(|what| format!("devices: {what}"))?;
    let columns = frame.columns.into_iter().map(|column| {
        let values = take_values(column.values, entries)
            .map_err(|what| format!("column {:?}: {what}", column.name))?;
        Ok(Column { name: column.name, unit: column.unit, values, status: column.status })
    });
    let columns = columns.collect::<Result<_, String>>()?;
    Ok(Frame { profile: frame.profile, devices, device: frame.device, time: frame.time, columns })
}

fn take_values(values: types::ValuesResult, entries: &mut usize) -> Result<Values, String> {
    Ok(match values {
        types::ValuesResult::F64s(values) => Values::F64(values),
        types::ValuesResult::S64s(values) => Values::I64(values),
        types::ValuesResult::Bools(values) => Values::Bool(values),
        types::ValuesResult::Texts(texts) => {
            Values::Text(Texts { dictionary: unpack(&texts.dictionary, entries)?, index: texts.index })
        }
        types::ValuesResult::Blobs(blobs) => Values::Blob(Blobs { ends: blobs.ends, bytes: blobs.bytes }),
    })
}

/// The entries of a dictionary, each on its own. `left` bounds them over a whole call, as a string of our own takes
/// much more memory than an entry without text.
fn unpack(dictionary: &types::DictionaryResult, left: &mut usize) -> Result<Vec<String>, String> {
    *left = left
        .checked_sub(dictionary.ends.len())
        .ok_or_else(|| format!("more than {MAX_ENTRIES} entries in all dictionaries"))?;
    let mut texts = Vec::with_capacity(dictionary.ends.len());
    let mut from = 0;
    for (entry, &end) in dictionary.ends.iter().enumerate() {
        let Some(text) = dictionary.text.get(from as usize..end as usize) else {
            let length = dictionary.text.len();
            return Err(format!(
                "entry {entry} ends at {end}: before its begin {from}, past {length}, or in a character"
            ));
        };
        texts.push(text.to_owned());
        from = end;
    }
    Ok(texts)
}
