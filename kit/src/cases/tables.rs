//! Tables of rows and messages in a file of cases, in all the forms they may have.
//!
//! A table of rows has `rows = [{…}]`, `csv = """…"""` or `file = "x.csv"` (also `.jsonl`, `.json`), and may declare
//! `profile`, `types` and `units`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use wire::frame::Frame;

use super::reader::{CaseFileError, Table, Value};
use crate::rows::builder::{Builder, Declared, Row, Type};
use crate::rows::csv::{self, Clock};
use crate::rows::diff::{Expected, Strict};
use crate::rows::messages::{Inbox, Message, payload};
use crate::rows::{RowsError, jsonl, read_text};

/// The keys that hold rows.
pub(super) const FORMS: &str = "rows, csv or file";

/// Frames of a table; `None` if it holds no rows.
pub(super) fn frames(table: &Table<'_>, clock: Clock) -> Result<Option<Vec<Frame>>, CaseFileError> {
    let declared = declared(table)?;
    Ok(read(table, declared, clock)?.map(|(frames, whole)| frames.into_iter().chain(whole).collect()))
}

/// Rows that must come; `None` if the table holds no rows.
pub(super) fn expected(table: &Table<'_>, clock: Clock) -> Result<Option<Vec<Expected>>, CaseFileError> {
    let declared = declared(table)?;
    let columns = match table.get("columns") {
        None => None,
        Some(value) => {
            let names = value.list()?;
            Some(
                names
                    .iter()
                    .map(|name| Ok(name.text()?.to_owned()))
                    .collect::<Result<Vec<_>, CaseFileError>>()?,
            )
        }
    };
    let strict = Strict::Declared {
        profile: declared.profile.is_some(),
        types: declared.types.keys().cloned().collect(),
        units: declared.units.keys().cloned().collect(),
    };
    let Some((frames, whole)) = read(table, declared, clock)? else { return Ok(None) };
    let loose =
        frames.into_iter().map(|frame| Expected { frame, strict: strict.clone(), columns: columns.clone() });
    let whole =
        whole.into_iter().map(|frame| Expected { columns: columns.clone(), ..Expected::exactly(frame) });
    Ok(Some(loose.chain(whole).collect()))
}

/// Messages: a list of tables, or a table with `rows`, `csv` or `file`, and `profile`.
pub(super) fn messages(value: &Value<'_>, clock: Clock) -> Result<Inbox, CaseFileError> {
    let mut inbox = Inbox::default();
    if !value.is_table() {
        push_messages(&value.list()?, &mut inbox, clock)?;
        return Ok(inbox);
    }
    let table = value.table()?;
    if let Some(profile) = table.get("profile") {
        inbox.profile = profile.text()?.to_owned();
    }
    let form = form(&table)?;
    match form {
        Some(Form::Rows(rows)) => push_messages(&rows.list()?, &mut inbox, clock)?,
        Some(Form::Csv(text)) => within(&text, csv::messages(text.text()?, &mut inbox, clock))?,
        Some(Form::File(path)) => {
            let kind = extension(&path)?;
            let file = path.source.path(path.text()?);
            let text = read_text(&file).map_err(|what| path.error(what))?;
            let read = match kind {
                Kind::Csv => csv::messages(&text, &mut inbox, clock),
                Kind::Json => jsonl::messages(&text, &mut inbox, clock),
            };
            read.map_err(|error| in_file(&path, &error))?;
        }
        None => return Err(table.error(format!("no messages: write {FORMS}"))),
    }
    table.finish()?;
    Ok(inbox)
}

/// What a table declares.
fn declared(table: &Table<'_>) -> Result<Declared, CaseFileError> {
    let mut declared = Declared::default();
    if let Some(profile) = table.get("profile") {
        declared.profile = Some(profile.text()?.to_owned());
    }
    if let Some(types) = table.get("types") {
        for (column, value) in types.table()?.entries() {
            let written = value.text()?;
            let known = Type::NAMES.iter().find(|(name, _)| *name == written);
            let (_, kind) = known.ok_or_else(|| {
                value.error(format!("{written:?} is no type: write f64, i64, bool, text or blob"))
            })?;
            declared.types.insert(column.to_owned(), *kind);
        }
    }
    if let Some(units) = table.get("units") {
        let units = units.table()?.entries();
        let unit = |(column, value): &(&str, Value<'_>)| Ok(((*column).to_owned(), value.text()?.to_owned()));
        declared.units = units.iter().map(unit).collect::<Result<BTreeMap<_, _>, CaseFileError>>()?;
    }
    Ok(declared)
}

enum Form<'r> {
    Rows(Value<'r>),
    Csv(Value<'r>),
    File(Value<'r>),
}

fn form<'r>(table: &Table<'r>) -> Result<Option<Form<'r>>, CaseFileError> {
    let forms = [
        table.get("rows").map(Form::Rows),
        table.get("csv").map(Form::Csv),
        table.get("file").map(Form::File),
    ];
    let mut forms = forms.into_iter().flatten();
    let first = forms.next();
    match forms.next() {
        None => Ok(first),
        Some(Form::Rows(second) | Form::Csv(second) | Form::File(second)) => {
            Err(second.error(format!("there are rows already: write only one of {FORMS}")))
        }
    }
}

/// Frames of friendly rows, and those that were written whole.
type Read = (Vec<Frame>, Vec<Frame>);

fn read(table: &Table<'_>, declared: Declared, clock: Clock) -> Result<Option<Read>, CaseFileError> {
    let mut builder = Builder::new(declared);
    let mut whole = Vec::new();
    match form(table)? {
        None => return Ok(None),
        Some(Form::Rows(rows)) => {
            for value in rows.list()? {
                let row = row(&value, clock)?;
                builder.push(&row).map_err(|what| value.error(what))?;
            }
        }
        Some(Form::Csv(text)) => within(&text, csv::frames(text.text()?, &mut builder, clock))?,
        Some(Form::File(path)) => {
            let kind = extension(&path)?;
            let file = path.source.path(path.text()?);
            let text = read_text(&file).map_err(|what| path.error(what))?;
            let read = match kind {
                Kind::Csv => csv::frames(&text, &mut builder, clock),
                Kind::Json => jsonl::frames(&text, &mut builder, clock, |frame| whole.push(frame)),
            };
            read.map_err(|error| in_file(&path, &error))?;
        }
    }
    let frames = builder.finish().map_err(|what| table.error(what))?;
    Ok(Some((frames, whole)))
}

enum Kind {
    Csv,
    Json,
}

fn extension(path: &Value<'_>) -> Result<Kind, CaseFileError> {
    let written = path.text()?;
    match std::path::Path::new(written).extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Kind::Csv),
        Some("jsonl" | "json" | "ndjson") => Ok(Kind::Json),
        _ => Err(path.error(format!("{written:?} must end in .csv, .jsonl or .json"))),
    }
}

/// The row of a table in `rows`.
fn row<'r>(value: &Value<'r>, clock: Clock) -> Result<Row<'r>, CaseFileError> {
    let mut row = Row { time: clock.now, ..Row::default() };
    let mut device = None;
    for (name, cell) in value.table()?.entries() {
        match name {
            "device" => device = Some(cell.text()?),
            "time" => row.time = cell.time(clock.start)?,
            _ => match name.strip_prefix("status:") {
                Some(column) => {
                    let code = u32::try_from(cell.integer()?).map_err(|_| {
                        cell.error("a status code is a number from 0 to 4294967295 (OPC UA; 0 is good)")
                    })?;
                    row.status.push((Cow::Borrowed(column), code));
                }
                None => cells(&mut row, name.to_owned(), &cell)?,
            },
        }
    }
    let device = device.ok_or_else(|| value.error("a row needs a device, e.g. device = \"press-1\""))?;
    row.device = Cow::Borrowed(device);
    Ok(row)
}

/// Nested tables are columns whose names are joined by dots.
fn cells<'r>(row: &mut Row<'r>, name: String, value: &Value<'r>) -> Result<(), CaseFileError> {
    if value.is_table() {
        for (key, inner) in value.table()?.entries() {
            cells(row, format!("{name}.{key}"), &inner)?;
        }
        return Ok(());
    }
    row.cells.push((Cow::Owned(name), value.scalar()?));
    Ok(())
}

fn push_messages(list: &[Value<'_>], inbox: &mut Inbox, clock: Clock) -> Result<(), CaseFileError> {
    for value in list {
        let table = value.table()?;
        let text = |key| table.get(key).map(|value: Value<'_>| value.text().map(str::to_owned)).transpose();
        let mut message = Message { arrived: clock.now, ..Message::default() };
        message.device = Cow::Owned(
            text("device")?
                .ok_or_else(|| table.error("a message needs a device, e.g. device = \"pump-1\""))?,
        );
        message.topic = Cow::Owned(text("topic")?.unwrap_or_default());
        if let Some(arrived) = table.get("arrived") {
            message.arrived = arrived.time(clock.start)?;
        }
        let mut payloads = 0;
        for form in ["text", "hex", "base64"] {
            if let Some(written) = table.get(form) {
                message.payload = payload(form, written.text()?).map_err(|what| written.error(what))?;
                payloads += 1;
            }
        }
        if let Some(json) = table.get("json") {
            message.payload = json.json()?.to_string().into_bytes();
            payloads += 1;
        }
        if payloads != 1 {
            return Err(table.error("a message has one payload: write one of text, json, hex, base64"));
        }
        table.finish()?;
        inbox.push(&message).map_err(|what| table.error(what))?;
    }
    Ok(())
}

/// A mistake in a text that is written within the file of cases.
fn within(text: &Value<'_>, read: Result<(), RowsError>) -> Result<(), CaseFileError> {
    read.map_err(|error| {
        let line = text.content_line() + error.line.saturating_sub(1);
        text.source.error(line, &text.path, error.what)
    })
}

/// A mistake in a file that the file of cases names.
fn in_file(path: &Value<'_>, error: &RowsError) -> CaseFileError {
    let written = path.text().unwrap_or_default();
    match error.line {
        0 => path.error(format!("{written}: {}", error.what)),
        line => path.error(format!("{written}:{line}: {}", error.what)),
    }
}

/// Bytes of the state: a text, or a table with one of `text`, `hex`, `base64`, or a number in little-endian order.
pub(super) fn bytes(value: &Value<'_>) -> Result<Vec<u8>, CaseFileError> {
    if value.is_text() {
        return Ok(value.text()?.as_bytes().to_vec());
    }
    let table = value.table()?;
    let mut found = Vec::new();
    for form in ["text", "hex", "base64"] {
        if let Some(written) = table.get(form) {
            found.push(payload(form, written.text()?).map_err(|what| written.error(what))?);
        }
    }
    if let Some(number) = table.get("u32") {
        let least = u32::try_from(number.integer()?).map_err(|_| number.error("does not fit 32 bits"))?;
        found.push(least.to_le_bytes().to_vec());
    }
    if let Some(number) = table.get("u64") {
        let least = u64::try_from(number.integer()?).map_err(|_| number.error("must not be negative"))?;
        found.push(least.to_le_bytes().to_vec());
    }
    if let Some(number) = table.get("i64") {
        found.push(number.integer()?.to_le_bytes().to_vec());
    }
    if let Some(number) = table.get("f64") {
        found.push(number.number()?.to_le_bytes().to_vec());
    }
    table.finish()?;
    match <[Vec<u8>; 1]>::try_from(found) {
        Ok([bytes]) => Ok(bytes),
        Err(_) => {
            Err(table.error("write one of text, hex, base64, u32, u64, i64, f64 (numbers are little-endian)"))
        }
    }
}
