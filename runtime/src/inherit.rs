//! Values that a plugin leaves out of an output frame because they are those of the rows it comes from: `time`, and the
//! values of columns that keep name and type. They are copied here, bit for bit, and cost the boundary nothing.
//!
//! Hostile: origins may name a row many times, so every byte that is filled in counts against the call's output.

use wire::frame::{Blobs, Column, Frame, Texts, Values};

use crate::boundary::Violation;
use crate::call::Origin;
use crate::fault::FaultKind;
use crate::instance::Input;

/// Fills in what the frame leaves out. `left` is what the call may still hand over, in bytes. What is neither there nor in
/// the input stays left out, and [`Frame::check`] says so.
pub(crate) fn fill(
    frame: &mut Frame,
    origin: &Origin,
    input: &Input<'_>,
    left: &mut usize,
) -> Result<(), Violation> {
    if frame.device.is_empty() {
        return Ok(());
    }
    let (time, columns) = match input {
        Input::Frames(frames) => match frames.get(origin.frame) {
            Some(from) => (from.time.as_slice(), from.columns.as_slice()),
            None => return Ok(()),
        },
        Input::Messages(messages) => (messages.arrived, &[][..]),
        Input::Tick => return Ok(()),
    };
    let rows = origin.rows.as_deref();
    if frame.time.is_empty() {
        spend(left, frame.device.len() * size_of::<i64>())?;
        frame.time = select(time, rows);
    }
    for column in frame.columns.iter_mut().filter(|column| column.values.is_empty()) {
        if let Some(from) = columns.iter().find(|from| from.name == column.name) {
            take_over(column, from, rows, left)?;
        }
    }
    Ok(())
}

fn take_over(
    column: &mut Column,
    from: &Column,
    rows: Option<&[u32]>,
    left: &mut usize,
) -> Result<(), Violation> {
    let count = rows.map_or(from.values.len(), <[u32]>::len);
    match (&mut column.values, &from.values) {
        (Values::F64(values), Values::F64(from)) => {
            spend(left, count * size_of::<f64>())?;
            *values = select(from, rows);
        }
        (Values::I64(values), Values::I64(from)) => {
            spend(left, count * size_of::<i64>())?;
            *values = select(from, rows);
        }
        (Values::Bool(values), Values::Bool(from)) => {
            spend(left, count)?;
            *values = select(from, rows);
        }
        (Values::Text(texts), Values::Text(from)) => {
            let dictionary: usize = from.dictionary.iter().map(|text| text.len() + size_of::<String>()).sum();
            spend(left, dictionary + count * size_of::<u32>())?;
            *texts = Texts { dictionary: from.dictionary.clone(), index: select(&from.index, rows) };
        }
        (Values::Blob(blobs), Values::Blob(from)) => *blobs = select_blobs(from, rows, left)?,
        // Another type: the plugin's own, without values.
        _ => return Ok(()),
    }
    if column.status.is_empty() && !from.status.is_empty() {
        spend(left, count * size_of::<u32>())?;
        column.status = select(&from.status, rows);
    }
    Ok(())
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Violation> {
    let too_much =
        || (FaultKind::Output, "values left out take more bytes than are allowed (limits.output)".to_owned());
    *left = left.checked_sub(bytes).ok_or_else(too_much)?;
    Ok(())
}

/// The rows, which are known to exist; `None`: all.
fn select<T: Copy>(values: &[T], rows: Option<&[u32]>) -> Vec<T> {
    match rows {
        None => values.to_vec(),
        Some(rows) => rows.iter().filter_map(|&row| values.get(row as usize).copied()).collect(),
    }
}

fn select_blobs(from: &Blobs, rows: Option<&[u32]>, left: &mut usize) -> Result<Blobs, Violation> {
    let Some(rows) = rows else {
        spend(left, from.bytes.len() + from.ends.len() * size_of::<u32>())?;
        return Ok(from.clone());
    };
    let mut blobs = Blobs::default();
    for &row in rows {
        let bytes = from.get(row as usize).unwrap_or_default();
        spend(left, bytes.len() + size_of::<u32>())?;
        blobs.push(bytes);
    }
    Ok(blobs)
}
