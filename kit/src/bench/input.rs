//! What a plugin is fed while it is measured: made rows of a machine park, or a file of the author's.

use std::path::Path;

use wire::frame::{Column, Frame, Texts, Values};

use crate::rows::builder::{Builder, Declared};
use crate::rows::csv::{self, Clock};
use crate::rows::messages::Inbox;
use crate::rows::{RowsError, cut, jsonl, moment, read_text};

/// Different calls that are made in turn.
const CALLS: usize = 16;
/// Devices of made rows.
const DEVICES: usize = 200;

/// Calls of about so many rows each.
#[derive(Debug)]
pub enum Calls {
    /// For a processor.
    Frames(Vec<Vec<Frame>>),
    /// For a decoder.
    Messages(Vec<Inbox>),
}

/// Rows of machines: `temperature_c`, `pressure_kpa`, `rpm` and `state` of 200 devices, a second apart.
#[must_use]
pub fn made(rows: usize) -> Calls {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // xorshift64*: reproducible, and no need for more.
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f64 / f64::from(1 << 24)
    };
    let calls = (0..CALLS).map(|call| {
        let mut number = |scale: f64, offset: f64, steps: f64| {
            Values::F64((0..rows).map(|_| ((offset + next() * scale) * steps).round() / steps).collect())
        };
        let column = |name: &str, unit: &str, values| Column {
            name: name.to_owned(),
            unit: unit.to_owned(),
            values,
            status: Vec::new(),
        };
        let state = Texts {
            dictionary: ["RUN", "IDLE", "STOP"].map(str::to_owned).to_vec(),
            index: (0..rows).map(|row| (row % 7 % 3) as u32).collect(),
        };
        vec![Frame {
            profile: "machine".to_owned(),
            devices: (0..DEVICES.min(rows)).map(|device| format!("press-{device}")).collect(),
            device: (0..rows).map(|row| (row % DEVICES) as u32).collect(),
            time: (0..rows)
                .map(|row| moment::START + ((call * rows + row) / DEVICES) as i64 * 1_000_000_000)
                .collect(),
            columns: vec![
                column("temperature_c", "Cel", number(3.0, 20.0, 100.0)),
                column("pressure_kpa", "kPa", number(40.0, 300.0, 10.0)),
                column("rpm", "1/min", number(600.0, 900.0, 1.0)),
                column("state", "", Values::Text(state)),
            ],
        }]
    });
    Calls::Frames(calls.collect())
}

/// The rows of a file (`.csv`, `.jsonl`, `.json`), cut into calls.
///
/// # Errors
/// The line and what is wrong there.
pub fn frames(path: &Path, rows: usize) -> Result<Calls, String> {
    let text = read_text(path)?;
    let mut builder = Builder::new(Declared::default());
    let mut whole = Vec::new();
    let clock = Clock { start: moment::START, now: moment::START };
    let read = match is_csv(path) {
        true => csv::frames(&text, &mut builder, clock),
        false => jsonl::frames(&text, &mut builder, clock, |frame| whole.push(frame)),
    };
    read.map_err(|error| told(path, &error))?;
    let mut frames = builder.finish().map_err(|what| format!("{}: {what}", path.display()))?;
    frames.extend(whole);
    let calls: Vec<Vec<Frame>> = cut::calls(&frames, rows)
        .into_iter()
        .map(|pieces| pieces.into_iter().map(|(_, _, frame)| frame).collect())
        .collect();
    if calls.is_empty() { Err(format!("{} holds no rows", path.display())) } else { Ok(Calls::Frames(calls)) }
}

/// The messages of a file, cut into calls.
///
/// # Errors
/// The line and what is wrong there.
pub fn messages(path: &Path, rows: usize) -> Result<Calls, String> {
    let text = read_text(path)?;
    let mut inbox = Inbox::default();
    let clock = Clock { start: moment::START, now: moment::START };
    let read = match is_csv(path) {
        true => csv::messages(&text, &mut inbox, clock),
        false => jsonl::messages(&text, &mut inbox, clock),
    };
    read.map_err(|error| told(path, &error))?;
    if inbox.is_empty() {
        return Err(format!("{} holds no messages", path.display()));
    }
    Ok(Calls::Messages(inbox.pieces(rows).map(|(_, piece)| piece).collect()))
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "csv")
}

fn told(path: &Path, error: &RowsError) -> String {
    format!("{}:{}: {}", path.display(), error.line, error.what)
}

impl Calls {
    /// Different calls.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Calls::Frames(calls) => calls.len(),
            Calls::Messages(calls) => calls.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows or messages of a call.
    #[must_use]
    pub fn rows(&self, call: usize) -> usize {
        match self {
            Calls::Frames(calls) => calls.get(call).map_or(0, |frames| frames.iter().map(Frame::rows).sum()),
            Calls::Messages(calls) => calls.get(call).map_or(0, Inbox::len),
        }
    }
}
