//! What a batch is expected to bring, as it is written.

use std::collections::BTreeMap;

use runtime::{FaultKind, Level};
use wire::ids::RouteName;

use super::model::{Expect, Fault, Log, Rejected};
use super::read::text;
use super::reader::{CaseFileError, Table, Value, suggestion};
use super::tables;
use crate::rows::csv::Clock;

/// Kinds of faults by the name they have in files and reports.
pub const FAULTS: [(&str, FaultKind); 10] = [
    ("instance", FaultKind::Instance),
    ("configure", FaultKind::Configure),
    ("trap", FaultKind::Trap),
    ("timeout", FaultKind::Timeout),
    ("memory", FaultKind::Memory),
    ("output", FaultKind::Output),
    ("invalid-output", FaultKind::InvalidOutput),
    ("state-quota", FaultKind::StateQuota),
    ("guest", FaultKind::Guest),
    ("authority", FaultKind::Authority),
];

const LEVELS: [(&str, Level); 4] =
    [("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];

/// The name of a kind of fault.
#[must_use]
pub fn fault_name(kind: FaultKind) -> &'static str {
    FAULTS.iter().find(|(_, known)| *known == kind).map_or("other", |(name, _)| *name)
}

/// The name of a level.
#[must_use]
pub fn level_name(level: Level) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("", |(name, _)| *name)
}

/// Reads `expect`.
pub(super) fn read(value: &Value<'_>, clock: Clock) -> Result<Expect, CaseFileError> {
    let table = value.table()?;
    let mut expect = Expect { line: value.line(), ..Expect::default() };
    let rejections = expect.rejected.insert(Vec::new());
    if let Some(rows) = tables::expected(&table, clock)? {
        expect.routes = Some(BTreeMap::from([(RouteName::TELEMETRY.to_owned(), rows)]));
    }
    if let Some(routes) = table.get("route") {
        let all = expect.routes.get_or_insert_default();
        for (name, value) in routes.table()?.entries() {
            if let Err(error) = RouteName::new(name) {
                return Err(value.error(error.to_string()));
            }
            if all.contains_key(name) {
                return Err(value.error("its rows are written in expect already"));
            }
            let mut rows = Vec::new();
            for value in value.one_or_more()? {
                let table = value.table()?;
                let read = tables::expected(&table, clock)?;
                rows.extend(read.ok_or_else(|| table.error(format!("no rows: write {}", tables::FORMS)))?);
                table.finish()?;
            }
            all.insert(name.to_owned(), rows);
        }
    }
    if let Some(rejected) = table.get("rejected") {
        for value in rejected.one_or_more()? {
            rejections.extend(self::rejected(&value.table()?)?);
        }
    }
    expect.fault = table.get("fault").map(|value| fault(&value)).transpose()?;
    if let Some(logs) = table.get("logs") {
        expect.logs = Some(logs.one_or_more()?.iter().map(log).collect::<Result<_, _>>()?);
    }
    if let Some(state) = table.get("state") {
        for (key, value) in state.table()?.entries() {
            let gone = !value.is_text() && !value.is_table() && !value.boolean()?;
            let bytes = if gone { None } else { Some(tables::bytes(&value)?) };
            expect.state.insert(key.to_owned(), bytes);
        }
    }
    if let Some(metrics) = table.get("metrics") {
        for (name, value) in metrics.table()?.entries() {
            expect.metrics.insert(name.to_owned(), value.number()?);
        }
    }
    table.finish()?;
    Ok(expect)
}

/// One or more rows that are rejected for one reason.
fn rejected(table: &Table<'_>) -> Result<Vec<Rejected>, CaseFileError> {
    let place = |value: &Value<'_>| {
        usize::try_from(value.integer()?).map_err(|_| value.error("must not be negative"))
    };
    let frame = table.get("frame").map(|value| place(&value)).transpose()?.unwrap_or(0);
    // Decoders have messages instead of rows.
    let [row, rows, message, messages] = ["row", "rows", "message", "messages"].map(|key| table.get(key));
    let rows = match (row.or(message), rows.or(messages)) {
        (Some(row), None) => vec![place(&row)?],
        (None, Some(rows)) => rows.list()?.iter().map(place).collect::<Result<_, _>>()?,
        _ => {
            return Err(
                table.error("which row? write row = 0, or rows = [0, 1] (message or messages for decoders)")
            );
        }
    };
    let reason = text(table, "reason")?.unwrap_or_default();
    table.finish()?;
    Ok(rows.into_iter().map(|row| Rejected { frame, row, reason: reason.clone() }).collect())
}

fn fault(value: &Value<'_>) -> Result<Fault, CaseFileError> {
    let kind = |value: &Value<'_>| {
        let written = value.text()?;
        let known = FAULTS.iter().find(|(name, _)| *name == written);
        known.map(|(_, kind)| *kind).ok_or_else(|| {
            let names = FAULTS.map(|(name, _)| name);
            value.error(format!("{written:?} is no kind of fault{}", suggestion(written, &names)))
        })
    };
    if value.is_text() {
        return Ok(Fault { kind: kind(value)?, message: String::new() });
    }
    let table = value.table()?;
    let fault = Fault {
        kind: match table.get("kind") {
            Some(value) => kind(&value)?,
            None => return Err(table.error("kind is missing, e.g. kind = \"trap\"")),
        },
        message: text(&table, "message")?.unwrap_or_default(),
    };
    table.finish()?;
    Ok(fault)
}

fn log(value: &Value<'_>) -> Result<Log, CaseFileError> {
    if value.is_text() {
        return Ok(Log { level: None, message: value.text()?.to_owned() });
    }
    let table = value.table()?;
    let level = match table.get("level") {
        None => None,
        Some(value) => {
            let written = value.text()?;
            let known = LEVELS.iter().find(|(name, _)| *name == written);
            let unknown =
                || value.error(format!("{written:?} is no level: write debug, info, warn or error"));
            Some(known.map(|(_, level)| *level).ok_or_else(unknown)?)
        }
    };
    let log = Log { level, message: text(&table, "message")?.unwrap_or_default() };
    table.finish()?;
    Ok(log)
}
