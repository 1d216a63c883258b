//! Golden files: expected output that the tool writes and a person reads before keeping it.
//!
//! ```toml
//! [[batch]]                            # one per batch of the case, in order
//! [[batch.expect.route.telemetry]]
//! profile = "machine"
//! types = { temperature_c = "f64" }
//! csv = '''
//! device,time,temperature_c
//! press-1,0 s,21.5
//! '''
//! ```
//! A golden file says rows by route and rejected rows, of the batches whose `expect` says neither (nor a fault: a crash is
//! never kept as what is right by itself). It is strict: profiles, types and units count.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wire::frame::{Frame, Values};

use super::expectation;
use super::life::Happened;
use super::model::{Batch, Case, Expect, Rejected};
use super::reader::{CaseFileError, Source, Table};
use crate::rows::csv::Clock;
use crate::rows::diff::Strict;
use crate::rows::{cell, moment, read_text};

/// Most rows of a golden file: nobody reads more.
const MAX_GOLDEN_ROWS: usize = 100_000;

/// Where the golden file of a case is if it names none.
#[must_use]
pub fn path(cases: &Path, name: &str) -> PathBuf {
    let word = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().map(word).collect();
    let parts: Vec<&str> = slug.split('-').filter(|part| !part.is_empty()).collect();
    cases.with_extension("golden").join(format!("{}.toml", parts.join("-")))
}

/// Whether the golden file says what must come out of a batch.
#[must_use]
pub fn covers(batch: &Batch) -> bool {
    batch.expect.as_ref().is_none_or(|expect| {
        expect.routes.is_none()
            && expect.rejected.as_ref().is_none_or(Vec::is_empty)
            && expect.fault.is_none()
    })
}

/// Adds to each batch what the golden file says.
///
/// # Errors
/// The mistake in the golden file.
pub fn merge(case: &mut Case, file: &Path, text: &str) -> Result<(), CaseFileError> {
    let source = Source::new(file, text);
    let document = source.parse()?;
    let root = Table::root(&source, &document);
    let mut said = Vec::new();
    if let Some(value) = root.get("batch") {
        let clock = Clock { start: case.start, now: case.start };
        for value in value.list()? {
            let table = value.table()?;
            said.push(table.get("expect").map(|value| expectation::read(&value, clock)).transpose()?);
            table.finish()?;
        }
    }
    root.finish()?;
    for (batch, said) in case.batches.iter_mut().zip(said) {
        let (true, Some(said)) = (covers(batch), said) else { continue };
        let expect = batch.expect.get_or_insert_with(|| Expect { line: batch.line, ..Expect::default() });
        expect.routes = Some(said.routes.unwrap_or_default());
        for rows in expect.routes.iter_mut().flat_map(|routes| routes.values_mut()).flatten() {
            rows.strict = Strict::All;
        }
        expect.rejected = said.rejected;
    }
    Ok(())
}

/// Reads a golden file; `None` if there is none yet.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path) -> Result<Option<String>, String> {
    if path.exists() { read_text(path).map(Some) } else { Ok(None) }
}

/// Writes a golden file. Returns whether it was another before.
///
/// # Errors
/// Why it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<bool, String> {
    if std::fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    std::fs::write(path, text).map_err(cannot)?;
    Ok(true)
}

/// The text of a golden file: per batch what happened, `None` where it is not covered.
///
/// # Errors
/// When there are too many rows.
pub fn text(case: &Case, batches: &[Option<&Happened>]) -> Result<String, String> {
    let rows: usize =
        batches.iter().flatten().flat_map(|batch| &batch.frames).map(|(_, frame)| frame.rows()).sum();
    if rows > MAX_GOLDEN_ROWS {
        return Err(format!(
            "{rows} rows are too many for a golden file (at most {MAX_GOLDEN_ROWS}); give the case less input"
        ));
    }
    let mut text = format!(
        "# Output of the case {:?}, written by `sluice-plugin test --update`.\n# Read the changes before you keep them.\n",
        case.name
    );
    for (happened, number) in batches.iter().zip(1..) {
        let _ = writeln!(text, "\n# Batch {number}\n[[batch]]");
        let Some(happened) = happened else { continue };
        text.push_str("[batch.expect]\n");
        if happened.frames.is_empty() {
            text.push_str("route = {}\n");
        }
        // Tables of one route have to be together.
        let mut routes: Vec<&String> = happened.frames.iter().map(|(route, _)| route).collect();
        routes.sort_unstable();
        routes.dedup();
        for route in routes {
            for (_, frame) in happened.frames.iter().filter(|(name, _)| name == route) {
                rows_text(&mut text, route, frame, case.start)?;
            }
        }
        for Rejected { frame, row, reason } in &happened.rejected {
            let _ = writeln!(
                text,
                "\n[[batch.expect.rejected]]\nframe = {frame}\nrow = {row}\nreason = {}",
                quoted(reason)
            );
        }
    }
    Ok(text)
}

fn rows_text(text: &mut String, route: &str, frame: &Frame, start: i64) -> Result<(), String> {
    let list = |entries: Vec<String>| format!("{{ {} }}", entries.join(", "));
    let _ = writeln!(text, "\n[[batch.expect.route.{}]]\nprofile = {}", key(route), quoted(&frame.profile));
    if !frame.columns.is_empty() {
        let types = frame
            .columns
            .iter()
            .map(|column| format!("{} = \"{}\"", key(&column.name), column.values.type_name()));
        let _ = writeln!(text, "types = {}", list(types.collect()));
    }
    let units: Vec<String> = frame
        .columns
        .iter()
        .filter(|column| !column.unit.is_empty())
        .map(|column| format!("{} = {}", key(&column.name), quoted(&column.unit)))
        .collect();
    if !units.is_empty() {
        let _ = writeln!(text, "units = {}", list(units));
    }
    let csv = csv(frame, start)?;
    let plain = !csv.contains("'''") && !csv.chars().any(|c| c.is_control() && c != '\n');
    match plain {
        true => drop(writeln!(text, "csv = '''\n{csv}'''")),
        false => drop(writeln!(text, "csv = {}", quoted(&csv))),
    }
    Ok(())
}

fn csv(frame: &Frame, start: i64) -> Result<String, String> {
    let failed = |error: csv::Error| format!("cannot write rows as CSV: {error}");
    let with_status = |column: &&wire::frame::Column| column.status.iter().any(|code| *code != 0);
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let mut record = vec!["device".to_owned(), "time".to_owned()];
    record.extend(frame.columns.iter().map(|column| column.name.clone()));
    record.extend(frame.columns.iter().filter(with_status).map(|column| format!("status:{}", column.name)));
    writer.write_record(&record).map_err(failed)?;
    for row in 0..frame.rows() {
        record.clear();
        record.push(frame.device_of(row).unwrap_or_default().to_owned());
        record.push(moment::show(frame.time.get(row).copied().unwrap_or_default(), start));
        record.extend(frame.columns.iter().map(|column| whole(&column.values, row)));
        let status = frame.columns.iter().filter(with_status);
        record.extend(status.map(|column| column.status.get(row).copied().unwrap_or(0).to_string()));
        writer.write_record(&record).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| format!("cannot write rows as CSV: {error}"))?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// A value to the last digit.
fn whole(values: &Values, row: usize) -> String {
    match cell::of(values, row) {
        Some(cell::Cell::Text(text)) => text.to_owned(),
        Some(cell::Cell::Blob(bytes)) => format!("hex:{}", cell::hex(bytes)),
        Some(other) => other.show(),
        None => String::new(),
    }
}

/// A key, in quotes only if it needs them.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A text in quotes, as TOML writes it.
fn quoted(text: &str) -> String {
    // JSON escapes what TOML does, but for DEL.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_files_are_named_after_their_case() {
        let path = path(Path::new("tests/cases.toml"), "Small changes (0.5 °C) are dropped!");
        assert_eq!(path, Path::new("tests/cases.golden/small-changes-0-5-c-are-dropped.toml"));
    }

    #[test]
    fn quoted_texts_are_toml() {
        for text in ["", "a\"b\\c", "tab\t\u{7f}\u{1}\nnew", "ü’"] {
            let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}
