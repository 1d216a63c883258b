//! From the text of a file of cases to what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use runtime::imports::{Import, Imports};
use runtime::{Limits, Link, Uplink};

use super::expectation;
use super::golden;
use super::model::{Batch, Case, Input, PowerCut, Reload, Setup, Suite};
use super::reader::{CaseFileError, Source, Table, Value};
use super::tables;
use crate::project::quantity;
use crate::rows::csv::Clock;
use crate::rows::moment;

/// How far floating-point numbers may be apart unless a case says otherwise: of the larger one, or of 1.
pub const TOLERANCE: f64 = 1e-9;

/// What the file says for all its cases.
struct Defaults {
    setup: Setup,
    start: i64,
    tolerance: f64,
}

/// Reads a file of cases.
///
/// # Errors
/// The first mistake of each case, with its line.
pub fn suite(file: &Path, text: &str) -> Result<Suite, Vec<CaseFileError>> {
    let source = Source::new(file, text);
    let document = source.parse().map_err(|error| vec![error])?;
    let root = Table::root(&source, &document);
    let mut mistakes = Vec::new();
    let (plugin, defaults, tables) = head(&root).map_err(|error| vec![error])?;
    let mut names = BTreeSet::new();
    let mut cases = Vec::new();
    for table in &tables {
        match case(table, &defaults) {
            Ok(case) if !names.insert(case.name.clone()) => {
                mistakes.push(table.error(format!(
                    "there is a case {:?} already; golden files and --only need names of their own",
                    case.name
                )));
            }
            Ok(case) => cases.push(case),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if tables.is_empty() {
        mistakes.push(source.error(1, "case", "no case; write one: [[case]] with name = \"…\""));
    }
    if mistakes.is_empty() { Ok(Suite { file: file.to_owned(), plugin, cases }) } else { Err(mistakes) }
}

type Head<'r> = (Option<std::path::PathBuf>, Defaults, Vec<Table<'r>>);

fn head<'r>(root: &Table<'r>) -> Result<Head<'r>, CaseFileError> {
    let plugin = root.get("plugin").map(|value| Ok(value.source.path(value.text()?))).transpose()?;
    let plain = Setup { with: "{}".to_owned(), limits: Limits::default(), imports: Imports::ALL };
    let defaults = Defaults {
        setup: setup(root, &plain)?,
        start: root.get("start").map(|value| value.time(moment::START)).transpose()?.unwrap_or(moment::START),
        tolerance: tolerance(root)?.unwrap_or(TOLERANCE),
    };
    let tables = match root.get("case") {
        None => Vec::new(),
        Some(value) => value.list()?.iter().map(Value::table).collect::<Result<_, _>>()?,
    };
    root.finish()?;
    Ok((plugin, defaults, tables))
}

/// The keys of a case.
const KEYS: [&str; 11] = [
    "name",
    "with",
    "limits",
    "grant",
    "state",
    "state_version",
    "start",
    "tolerance",
    "refused",
    "golden",
    "batch",
];

fn case(table: &Table<'_>, defaults: &Defaults) -> Result<Case, CaseFileError> {
    // A key with a slip of the pen is told as such, not as one that is missing.
    KEYS.iter().for_each(|key| drop(table.get(key)));
    table.finish()?;
    let name = match table.get("name") {
        Some(value) => value.text()?.to_owned(),
        None => {
            return Err(table.error(
                "name is missing; say what is to be true, e.g. name = \"small changes are dropped\"",
            ));
        }
    };
    let start =
        table.get("start").map(|value| value.time(defaults.start)).transpose()?.unwrap_or(defaults.start);
    let mut state = BTreeMap::new();
    if let Some(entries) = table.get("state") {
        for (key, value) in entries.table()?.entries() {
            state.insert(key.to_owned(), tables::bytes(&value)?);
        }
    }
    let golden = match table.get("golden") {
        None => None,
        Some(value) if value.is_text() => Some(value.source.path(value.text()?)),
        Some(value) => value.boolean()?.then(|| golden::path(table.source.file, &name)),
    };
    let setup = setup(table, &defaults.setup)?;
    let mut now = start;
    let mut jumped = 0;
    let mut current = setup.clone();
    let mut batches = Vec::new();
    if let Some(value) = table.get("batch") {
        for value in value.list()? {
            let batch = batch(
                &value.table()?,
                &mut Time { start, now: &mut now, jumped: &mut jumped },
                &mut current,
            )?;
            batches.push(batch);
        }
    }
    let case = Case {
        name,
        line: table.line,
        setup,
        state_version: text(table, "state_version")?,
        state,
        start,
        tolerance: tolerance(table)?.unwrap_or(defaults.tolerance),
        refused: text(table, "refused")?,
        golden,
        batches,
    };
    if case.batches.is_empty() && case.refused.is_none() {
        return Err(
            table.error("nothing happens: write [[case.batch]] with rows or messages, or refused = \"…\"")
        );
    }
    Ok(case)
}

/// The clock while a case is read.
struct Time<'t> {
    start: i64,
    now: &'t mut i64,
    jumped: &'t mut i64,
}

fn batch(table: &Table<'_>, time: &mut Time<'_>, current: &mut Setup) -> Result<Batch, CaseFileError> {
    let at = match table.get("at") {
        None => None,
        Some(value) => {
            let at = value.time(time.start)?;
            if at < *time.now {
                return Err(value.error(format!(
                    "time does not go back: it is {} by now; write clock_jump = \"-1 h\" for a clock that is set back",
                    moment::show(*time.now, time.start)
                )));
            }
            *time.now = at;
            Some(at)
        }
    };
    let clock_jump = table.get("clock_jump").map(|value| value.span()).transpose()?.unwrap_or(0);
    *time.jumped = time.jumped.saturating_add(clock_jump);
    let reload = table.get("reload").map(|value| reload(&value.table()?, current)).transpose()?;
    if let Some(Reload { setup, refused: None, .. }) = &reload {
        current.clone_from(setup);
    }
    let clock = Clock { start: time.start, now: *time.now };
    let arrival = Clock { now: time.now.saturating_add(*time.jumped), ..clock };
    let input = input(table, clock, arrival, time)?;
    let expect = match table.get("expect") {
        None => None,
        Some(value) => Some(expectation::read(&value, Clock { start: time.start, now: *time.now })?),
    };
    let batch = Batch {
        line: table.line,
        at,
        clock_jump,
        link: table.get("link").map(|value| link(&value.table()?)).transpose()?,
        reload,
        input,
        power_cut: table.get("power_cut").map(|value| power_cut(&value)).transpose()?,
        expect,
    };
    table.finish()?;
    Ok(batch)
}

fn input(
    table: &Table<'_>,
    clock: Clock,
    arrival: Clock,
    time: &mut Time<'_>,
) -> Result<Input, CaseFileError> {
    let mut inputs = Vec::new();
    if let Some(frames) = tables::frames(table, clock)? {
        inputs.push(Input::Frames(frames));
    }
    if let Some(value) = table.get("frame") {
        let mut frames = Vec::new();
        for value in value.one_or_more()? {
            let table = value.table()?;
            let read = tables::frames(&table, clock)?;
            frames.extend(read.ok_or_else(|| table.error(format!("no rows: write {}", tables::FORMS)))?);
            table.finish()?;
        }
        inputs.push(Input::Frames(frames));
    }
    if let Some(value) = table.get("messages") {
        inputs.push(Input::Messages(Box::new(tables::messages(&value, arrival)?)));
    }
    if let Some(value) = table.get("tick")
        && value.boolean()?
    {
        inputs.push(Input::Tick);
    }
    if let Some(value) = table.get("pass") {
        let span = value.span()?;
        if span <= 0 {
            return Err(value.error("time passes forward; write clock_jump for a clock that is set back"));
        }
        *time.now = time.now.saturating_add(span);
        inputs.push(Input::Pass(span));
    }
    if inputs.len() > 1 {
        return Err(table.error(
            "a batch has one input: rows (or csv, file), frame, messages, tick or pass; make several batches",
        ));
    }
    Ok(inputs.pop().unwrap_or(Input::None))
}

fn setup(table: &Table<'_>, base: &Setup) -> Result<Setup, CaseFileError> {
    let mut setup = base.clone();
    if let Some(with) = table.get("with") {
        with.table()?;
        setup.with = with.json()?.to_string();
    }
    if let Some(limits) = table.get("limits") {
        setup.limits = self::limits(&limits.table()?, setup.limits)?;
    }
    if let Some(grant) = table.get("grant") {
        let grant = grant.table()?;
        if let Some(names) = grant.get("imports") {
            let import = |value: &Value<'_>| {
                value.text()?.parse::<Import>().map_err(|error| value.error(error.to_string()))
            };
            setup.imports = names.list()?.iter().map(import).collect::<Result<_, _>>()?;
        }
        grant.finish()?;
    }
    Ok(setup)
}

fn limits(table: &Table<'_>, mut limits: Limits) -> Result<Limits, CaseFileError> {
    let size = |key| {
        let Some(value) = table.get(key) else { return Ok(None) };
        let bytes = quantity::bytes(value.text()?).map_err(|what| value.error(what))?;
        Ok(Some(usize::try_from(bytes).unwrap_or(usize::MAX)))
    };
    limits.memory = size("memory")?.unwrap_or(limits.memory);
    limits.output_bytes = size("output")?.unwrap_or(limits.output_bytes);
    limits.state_bytes = size("state")?.unwrap_or(limits.state_bytes);
    if let Some(value) = table.get("time") {
        let nanos = u64::try_from(value.span()?).map_err(|_| value.error("must not be negative"))?;
        limits.time = std::time::Duration::from_nanos(nanos);
    }
    if let Some(value) = table.get("log_lines") {
        limits.log_lines =
            usize::try_from(value.integer()?).map_err(|_| value.error("must not be negative"))?;
    }
    table.finish()?;
    Ok(limits)
}

fn reload(table: &Table<'_>, current: &Setup) -> Result<Reload, CaseFileError> {
    let reload = Reload {
        plugin: table.get("plugin").map(|value| Ok(value.source.path(value.text()?))).transpose()?,
        setup: setup(table, current)?,
        refused: text(table, "refused")?,
        line: table.line,
    };
    table.finish()?;
    Ok(reload)
}

fn link(table: &Table<'_>) -> Result<Link, CaseFileError> {
    let size = |key| {
        let Some(value) = table.get(key) else { return Ok(0) };
        quantity::bytes(value.text()?).map_err(|what| value.error(what))
    };
    let uplink = match table.get("uplink") {
        None => Uplink::Up,
        Some(value) => match value.text()? {
            "up" => Uplink::Up,
            "down" => Uplink::Down,
            "parked" => Uplink::Parked,
            other => {
                return Err(
                    value.error(format!("{other:?} is not known: write \"up\", \"down\" or \"parked\""))
                );
            }
        },
    };
    let link = Link { backlog_bytes: size("backlog")?, disk_left_bytes: size("disk_left")?, uplink };
    table.finish()?;
    Ok(link)
}

fn power_cut(value: &Value<'_>) -> Result<PowerCut, CaseFileError> {
    match value.text()? {
        "before commit" => Ok(PowerCut::BeforeCommit),
        "after commit" => Ok(PowerCut::AfterCommit),
        other => Err(value.error(format!(
            "{other:?} is not known: write \"before commit\" (the batch is lost and comes again) or \"after commit\""
        ))),
    }
}

fn tolerance(table: &Table<'_>) -> Result<Option<f64>, CaseFileError> {
    let Some(value) = table.get("tolerance") else { return Ok(None) };
    match value.number()? {
        number if number >= 0.0 && number.is_finite() => Ok(Some(number)),
        _ => Err(value.error("must be 0 or more, e.g. 1e-9")),
    }
}

pub(super) fn text(table: &Table<'_>, key: &'static str) -> Result<Option<String>, CaseFileError> {
    table.get(key).map(|value| value.text().map(str::to_owned)).transpose()
}
