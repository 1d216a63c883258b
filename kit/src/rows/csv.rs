//! Rows as CSV (RFC 4180): the first line names the columns, `device` and `time` among them.
//!
//! ```text
//! device,time,temperature_c,status:temperature_c,state
//! press-1,0 s,21.5,,RUN
//! press-1,10 s,22.1,2147483648,RUN
//! ```
//! An empty cell leaves the column out of its row, unless the column is declared as text or blob. Undeclared cells are
//! read as numbers (also `NaN`, `inf`, `-inf`) or `true`/`false` where they look like it, else as text. White space around
//! cells is ignored, except in devices and in declared texts.

use std::borrow::Cow;

use super::RowsError;
use super::builder::{Builder, Declared, Row, Scalar, Type};
use super::messages::{Inbox, Message, payload};
use super::moment;

/// Where in time rows are that name none.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// What spans are relative to.
    pub start: i64,
    /// The time of rows that name none.
    pub now: i64,
}

/// What a column of the file is.
enum Head {
    Device,
    Time,
    Status(String),
    Cell(String, Option<Type>),
}

/// Appends the rows of a frame.
///
/// # Errors
/// The line and what is wrong there.
pub fn frames(text: &str, builder: &mut Builder, clock: Clock) -> Result<(), RowsError> {
    let mut reader = reader(text);
    let heads = heads(&mut reader, builder.declared())?;
    if !heads.iter().any(|head| matches!(head, Head::Device)) {
        return Err(RowsError::new(1, "the first line must name the columns, and \"device\" among them"));
    }
    each(reader, |line, record| {
        let wrong = |what: String| RowsError::new(line, what);
        let mut row = Row { time: clock.now, ..Row::default() };
        for (head, written) in heads.iter().zip(record) {
            let cell = written.trim();
            match head {
                Head::Device => row.device = Cow::Owned(written.to_owned()),
                Head::Time if cell.is_empty() => {}
                Head::Time => row.time = moment::parse(cell, clock.start).map_err(wrong)?,
                Head::Status(_) if cell.is_empty() => {}
                Head::Status(column) => {
                    let code = cell.parse().map_err(|_| {
                        wrong(format!("status:{column}: {cell:?} is no status code (0 to 4294967295)"))
                    })?;
                    row.status.push((Cow::Borrowed(column), code));
                }
                Head::Cell(name, kind) => {
                    if let Some(scalar) = scalar(written, *kind) {
                        row.cells.push((Cow::Borrowed(name), scalar));
                    }
                }
            }
        }
        builder.push(&row).map_err(wrong)
    })
}

/// Appends messages: columns `device`, `topic`, `arrived`, and one of `text`, `json`, `hex`, `base64`.
///
/// # Errors
/// The line and what is wrong there.
pub fn messages(text: &str, inbox: &mut Inbox, clock: Clock) -> Result<(), RowsError> {
    const KNOWN: &str = "device, topic, arrived, text, json, hex, base64";
    let mut reader = reader(text);
    let names: Vec<String> = header(&mut reader)?;
    if let Some(unknown) = names.iter().find(|name| !KNOWN.split(", ").any(|known| known == *name)) {
        return Err(RowsError::new(1, format!("unknown column {unknown:?}; messages have {KNOWN}")));
    }
    each(reader, |line, record| {
        let wrong = |what: String| RowsError::new(line, what);
        let mut message = Message { arrived: clock.now, ..Message::default() };
        let mut payloads = 0;
        for (name, cell) in names.iter().zip(record) {
            match name.as_str() {
                "device" => message.device = Cow::Owned(cell.to_owned()),
                "topic" => message.topic = Cow::Owned(cell.to_owned()),
                "arrived" if cell.trim().is_empty() => {}
                "arrived" => message.arrived = moment::parse(cell, clock.start).map_err(wrong)?,
                _ if cell.is_empty() => {}
                form => {
                    message.payload = payload(form, cell).map_err(wrong)?;
                    payloads += 1;
                }
            }
        }
        if payloads > 1 {
            return Err(wrong("more than one payload: fill one of text, json, hex, base64".to_owned()));
        }
        inbox.push(&message).map_err(wrong)
    })
}

fn reader(text: &str) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes())
}

fn header(reader: &mut csv::Reader<&[u8]>) -> Result<Vec<String>, RowsError> {
    let names = reader.headers().map_err(|error| told(&error))?;
    Ok(names.iter().map(str::to_owned).collect())
}

fn heads(reader: &mut csv::Reader<&[u8]>, declared: &Declared) -> Result<Vec<Head>, RowsError> {
    let heads = header(reader)?.into_iter().map(|name| match name.as_str() {
        "device" => Head::Device,
        "time" => Head::Time,
        other => match other.strip_prefix("status:") {
            Some(column) => Head::Status(column.to_owned()),
            None => Head::Cell(other.to_owned(), declared.types.get(other).copied()),
        },
    });
    Ok(heads.collect())
}

fn each(
    mut reader: csv::Reader<&[u8]>,
    mut row: impl FnMut(usize, &csv::StringRecord) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| told(&error))? {
        let line = record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
        row(line, &record)?;
    }
    Ok(())
}

fn scalar(cell: &str, kind: Option<Type>) -> Option<Scalar<'static>> {
    let text = || Scalar::Text(Cow::Owned(cell.to_owned()));
    match kind {
        Some(Type::Text | Type::Blob) => return Some(text()),
        Some(Type::F64 | Type::I64 | Type::Bool) | None => {}
    }
    let cell = cell.trim();
    if cell.is_empty() {
        return None;
    }
    // "nan", "infinity" and the like are texts: states are called all sorts of things.
    let numeric = cell.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && cell.bytes().any(|byte| byte.is_ascii_digit());
    Some(match cell {
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        "NaN" => Scalar::Float(f64::NAN),
        "inf" => Scalar::Float(f64::INFINITY),
        "-inf" => Scalar::Float(f64::NEG_INFINITY),
        _ if !numeric => text(),
        _ => match (cell.parse::<i64>(), cell.parse::<f64>()) {
            // "-0" is a float: an integer would lose the sign.
            (Ok(whole), _) if cell != "-0" => Scalar::Int(whole),
            (_, Ok(number)) => Scalar::Float(number),
            _ => text(),
        },
    })
}

fn told(error: &csv::Error) -> RowsError {
    let line = error.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(0));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            RowsError::new(line, format!("{len} cells, but the first line names {expected_len} columns"))
        }
        _ => RowsError::new(line, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use wire::frame::{Frame, Values};

    use super::*;

    fn read(text: &str) -> Result<Vec<Frame>, RowsError> {
        let mut builder = Builder::new(Declared::default());
        frames(text, &mut builder, Clock { start: 0, now: 5 })?;
        builder.finish().map_err(|what| RowsError::new(0, what))
    }

    #[test]
    fn cells_are_what_they_look_like_and_empty_ones_are_left_out() {
        let frames = read(
            "device,time,x,on,state,status:x\npress-1,1 s,21.5,true,RUN,7\n\"a, b\",,NaN,false,\"nan\",\np,,1,,,\n",
        )
        .unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].devices, ["press-1", "a, b"]);
        assert_eq!(frames[0].time, [1_000_000_000, 5]);
        assert_eq!(frames[0].column("x").unwrap().status, [7, 0]);
        let Values::Text(texts) = &frames[0].column("state").unwrap().values else { panic!("state is text") };
        assert_eq!(texts.get(1), Some("nan"));
        assert_eq!(frames[1].columns.len(), 1);
    }

    #[test]
    fn mistakes_name_their_line() {
        assert_eq!(read("x\n1\n").unwrap_err().line, 1);
        assert_eq!(read("device,x\nd,1\nd,1,2\n").unwrap_err().line, 3);
        let wrong = read("device,time,x\nd,0 s,1\nd,later,2\n").unwrap_err();
        assert_eq!(wrong.line, 3);
        assert!(wrong.what.contains("\"later\" is no time"), "{wrong}");
        assert_eq!(
            read("device,x\nd,1\nd,a\n").unwrap_err().to_string(),
            "column \"x\": expected a number, found a text"
        );
    }
}
