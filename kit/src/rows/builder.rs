//! Frames from rows: each row names its device, its time and its columns; consecutive rows with the same columns share a
//! frame. Types are those of the gateway's own JSON: a number is an `f64` unless it is an integer beyond 2^53, texts are
//! texts; whatever else is declared.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use wire::frame::{Blobs, Column, Frame, MAX_COLUMNS, MAX_ROWS, Texts, Values};

/// Largest integer up to which every one is an `f64` exactly.
const EXACT: i64 = 1 << 53;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Floating-point number.
    F64,
    /// Integer.
    I64,
    /// Truth value.
    Bool,
    /// Text.
    Text,
    /// Bytes, written as `hex:…` or `base64:…`.
    Blob,
}

impl Type {
    /// All types by name.
    pub const NAMES: [(&str, Type); 5] = [
        ("f64", Type::F64),
        ("i64", Type::I64),
        ("bool", Type::Bool),
        ("text", Type::Text),
        ("blob", Type::Blob),
    ];
}

/// What is declared of a table of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The profile; `None`: not said.
    pub profile: Option<String>,
    /// Types of columns.
    pub types: BTreeMap<String, Type>,
    /// Units of columns.
    pub units: BTreeMap<String, String>,
}

/// The profile of frames whose rows name none.
pub const PROFILE: &str = "machine";

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'a> {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(Cow<'a, str>),
}

/// A row as it was written.
#[derive(Debug, Clone, Default)]
pub struct Row<'a> {
    /// The device.
    pub device: Cow<'a, str>,
    /// Nanoseconds since 1970 UTC.
    pub time: i64,
    /// Values by column.
    pub cells: Vec<(Cow<'a, str>, Scalar<'a>)>,
    /// OPC UA status codes by column; columns without are good.
    pub status: Vec<(Cow<'a, str>, u32)>,
}

/// Gathers rows into frames.
#[derive(Debug)]
pub struct Builder {
    declared: Declared,
    done: Vec<Frame>,
    open: Option<Open>,
    rows: usize,
}

impl Builder {
    /// An empty one.
    #[must_use]
    pub fn new(declared: Declared) -> Self {
        Builder { declared, done: Vec::new(), open: None, rows: 0 }
    }

    /// What was declared.
    #[must_use]
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Appends a row.
    ///
    /// # Errors
    /// What is wrong with it, for its author.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), String> {
        self.rows += 1;
        if self.rows > MAX_ROWS {
            return Err(format!(
                "more than {MAX_ROWS} rows; a gateway never hands over so many at once: make several batches"
            ));
        }
        if !self.open.as_ref().is_some_and(|open| open.fits(row, &self.declared)) {
            self.done.extend(self.open.take().map(Open::finish));
            self.open = Some(Open::new(row, &self.declared)?);
        }
        match &mut self.open {
            Some(open) => open.push(row),
            None => Ok(()),
        }
    }

    /// The frames.
    ///
    /// # Errors
    /// The rule that they break.
    pub fn finish(mut self) -> Result<Vec<Frame>, String> {
        self.done.extend(self.open.take().map(Open::finish));
        for frame in &self.done {
            frame.check().map_err(|error| error.to_string())?;
        }
        Ok(self.done)
    }
}

/// The frame that rows are appended to.
#[derive(Debug)]
struct Open {
    frame: Frame,
    devices: HashMap<String, u32>,
    columns: Vec<Growing>,
    /// Where the columns of the latest row are, as rows mostly write them in the same order.
    order: Vec<usize>,
}

#[derive(Debug)]
struct Growing {
    name: String,
    kind: Type,
    cells: Values,
    texts: HashMap<String, u32>,
    status: Vec<u32>,
    unit: String,
}

impl Open {
    fn new(row: &Row<'_>, declared: &Declared) -> Result<Self, String> {
        if row.cells.len() > MAX_COLUMNS {
            return Err(format!("{} columns, at most {MAX_COLUMNS} are allowed", row.cells.len()));
        }
        let mut columns: Vec<Growing> = Vec::with_capacity(row.cells.len());
        for (name, scalar) in &row.cells {
            if columns.iter().any(|column| column.name == *name) {
                return Err(format!("column {name:?} occurs twice"));
            }
            columns.push(Growing::new(name, kind_of(name, scalar, declared), declared));
        }
        let profile = declared.profile.clone().unwrap_or_else(|| PROFILE.to_owned());
        let order = (0..columns.len()).collect();
        Ok(Open { frame: Frame { profile, ..Frame::default() }, devices: HashMap::new(), columns, order })
    }

    /// Whether the row has the same columns. A type that differs is a mistake, except for an integer beyond 2^53, which
    /// the gateway would put into another frame too.
    fn fits(&self, row: &Row<'_>, declared: &Declared) -> bool {
        row.cells.len() == self.columns.len()
            && row.cells.iter().zip(&self.order).all(|((name, scalar), at)| {
                let here = self.columns.get(*at).filter(|column| column.name == *name);
                let column = here.or_else(|| self.columns.iter().find(|column| column.name == *name));
                column.is_some_and(|column| {
                    let kind = kind_of(name, scalar, declared);
                    kind == column.kind || (kind != Type::I64 && column.kind != Type::I64)
                })
            })
    }

    fn push(&mut self, row: &Row<'_>) -> Result<(), String> {
        let device = match self.devices.get(row.device.as_ref()) {
            Some(device) => *device,
            None => {
                let device = u32::try_from(self.frame.devices.len()).unwrap_or(u32::MAX);
                self.frame.devices.push(row.device.to_string());
                self.devices.insert(row.device.to_string(), device);
                device
            }
        };
        let at_row = self.frame.time.len();
        for (place, (name, scalar)) in row.cells.iter().enumerate() {
            let known = self.order.get(place).copied().unwrap_or_default();
            let at = match self.columns.get(known) {
                Some(column) if column.name == *name => known,
                _ => self.columns.iter().position(|column| column.name == *name).unwrap_or_default(),
            };
            if let Some(order) = self.order.get_mut(place) {
                *order = at;
            }
            if let Some(column) = self.columns.get_mut(at) {
                if column.cells.len() != at_row {
                    return Err(format!("column {name:?} occurs twice"));
                }
                column.push(scalar).map_err(|what| format!("column {name:?}: {what}"))?;
            }
        }
        for (name, code) in &row.status {
            let column = self.columns.iter_mut().find(|column| column.name == *name);
            let column =
                column.ok_or_else(|| format!("a status for column {name:?}, which the row does not have"))?;
            column.status.resize(at_row, 0);
            column.status.push(*code);
        }
        self.frame.device.push(device);
        self.frame.time.push(row.time);
        Ok(())
    }

    fn finish(mut self) -> Frame {
        let rows = self.frame.rows();
        self.frame.columns = self
            .columns
            .into_iter()
            .map(|mut column| {
                if !column.status.is_empty() {
                    column.status.resize(rows, 0);
                }
                Column { name: column.name, unit: column.unit, values: column.cells, status: column.status }
            })
            .collect();
        self.frame
    }
}

impl Growing {
    fn new(name: &str, kind: Type, declared: &Declared) -> Self {
        let cells = match kind {
            Type::F64 => Values::F64(Vec::new()),
            Type::I64 => Values::I64(Vec::new()),
            Type::Bool => Values::Bool(Vec::new()),
            Type::Text => Values::Text(Texts::default()),
            Type::Blob => Values::Blob(Blobs::default()),
        };
        let unit = declared.units.get(name).cloned().unwrap_or_default();
        Growing { name: name.to_owned(), kind, cells, texts: HashMap::new(), status: Vec::new(), unit }
    }

    fn push(&mut self, scalar: &Scalar<'_>) -> Result<(), String> {
        match &mut self.cells {
            Values::F64(values) => values.push(number(scalar)?),
            Values::I64(values) => match scalar {
                Scalar::Int(value) => values.push(*value),
                other => return Err(format!("expected a whole number, found {}", other.words())),
            },
            Values::Bool(values) => match scalar {
                Scalar::Bool(value) => values.push(*value),
                other => return Err(format!("expected true or false, found {}", other.words())),
            },
            Values::Text(texts) => match scalar {
                Scalar::Text(text) => {
                    let index = match self.texts.get(text.as_ref()) {
                        Some(index) => *index,
                        None => {
                            let index = u32::try_from(texts.dictionary.len()).unwrap_or(u32::MAX);
                            texts.dictionary.push(text.to_string());
                            self.texts.insert(text.to_string(), index);
                            index
                        }
                    };
                    texts.index.push(index);
                }
                other => return Err(format!("expected a text, found {}", other.words())),
            },
            Values::Blob(blobs) => match scalar {
                Scalar::Text(text) => blobs.push(&bytes(text)?),
                other => return Err(format!("expected bytes, e.g. \"hex:00ff\", found {}", other.words())),
            },
        }
        Ok(())
    }
}

impl Scalar<'_> {
    fn words(&self) -> &'static str {
        match self {
            Scalar::Int(_) => "a whole number (declare it in types, or write the same type in each row)",
            Scalar::Float(_) => {
                "a number with decimals (declare it in types, or write the same type in each row)"
            }
            Scalar::Bool(_) => "true or false",
            Scalar::Text(_) => "a text",
        }
    }
}

fn kind_of(name: &str, scalar: &Scalar<'_>, declared: &Declared) -> Type {
    if let Some(kind) = declared.types.get(name) {
        return *kind;
    }
    match scalar {
        Scalar::Int(value) if !(-EXACT..=EXACT).contains(value) => Type::I64,
        Scalar::Int(_) | Scalar::Float(_) => Type::F64,
        Scalar::Bool(_) => Type::Bool,
        Scalar::Text(_) => Type::Text,
    }
}

fn number(scalar: &Scalar<'_>) -> Result<f64, String> {
    match scalar {
        Scalar::Int(value) => Ok(*value as f64),
        Scalar::Float(value) => Ok(*value),
        Scalar::Text(text) => match text.as_ref() {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err("expected a number, found a text".to_owned()),
        },
        Scalar::Bool(_) => Err("expected a number, found true or false".to_owned()),
    }
}

/// Bytes of `hex:00ff` (spaces are allowed) or `base64:AP8=`.
///
/// # Errors
/// What to write instead.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    match (text.strip_prefix("hex:"), text.strip_prefix("base64:")) {
        (Some(digits), _) => hex(digits),
        (_, Some(digits)) => base64(digits),
        _ => Err("bytes are written as \"hex:00ff\" or \"base64:AP8=\"".to_owned()),
    }
}

/// Bytes from hexadecimal digits; white space between them is allowed.
///
/// # Errors
/// What to write instead.
pub fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || "hexadecimal bytes are pairs of 0-9 a-f, e.g. \"00 ff\"".to_owned();
    let nibbles = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|n| u8::try_from(n).ok()));
    let nibbles: Vec<u8> = nibbles.collect::<Option<_>>().ok_or_else(wrong)?;
    let (pairs, rest) = nibbles.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Bytes from base64.
///
/// # Errors
/// What is wrong.
pub fn base64(digits: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD
        .decode(digits.trim())
        .map_err(|error| format!("not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(time: i64, cells: &[(&'a str, Scalar<'a>)]) -> Row<'a> {
        Row {
            device: "d".into(),
            time,
            cells: cells.iter().map(|(name, scalar)| (Cow::Borrowed(*name), scalar.clone())).collect(),
            status: Vec::new(),
        }
    }

    #[test]
    fn rows_with_the_same_columns_in_any_order_share_a_frame() {
        let mut builder = Builder::new(Declared::default());
        builder.push(&row(1, &[("x", Scalar::Int(1)), ("s", Scalar::Text("a".into()))])).unwrap();
        builder.push(&row(2, &[("s", Scalar::Text("b".into())), ("x", Scalar::Float(2.5))])).unwrap();
        builder.push(&row(3, &[("x", Scalar::Float(3.0))])).unwrap();
        let frames = builder.finish().unwrap();
        assert_eq!(frames.iter().map(Frame::rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(frames[0].column("x").unwrap().values, Values::F64(vec![1.0, 2.5]));
        let Values::Text(texts) = &frames[0].column("s").unwrap().values else { panic!("s is text") };
        assert_eq!((texts.get(0), texts.get(1)), (Some("a"), Some("b")));
    }

    #[test]
    fn integers_beyond_what_a_float_holds_are_integers_in_a_frame_of_their_own() {
        let mut builder = Builder::new(Declared::default());
        builder.push(&row(1, &[("n", Scalar::Int(1))])).unwrap();
        builder.push(&row(2, &[("n", Scalar::Int(i64::MAX))])).unwrap();
        let frames = builder.finish().unwrap();
        assert_eq!(frames[1].columns[0].values, Values::I64(vec![i64::MAX]));
        let types = BTreeMap::from([("n".to_owned(), Type::I64)]);
        let mut builder = Builder::new(Declared { types, ..Declared::default() });
        builder.push(&row(1, &[("n", Scalar::Int(1))])).unwrap();
        let wrong = builder.push(&row(1, &[("n", Scalar::Float(1.5))])).unwrap_err();
        assert!(wrong.contains("column \"n\": expected a whole number"), "{wrong}");
    }

    #[test]
    fn bytes_are_hexadecimal_or_base64() {
        assert_eq!(bytes("hex:00 fF"), Ok(vec![0, 255]));
        assert_eq!(bytes("base64:AP8="), Ok(vec![0, 255]));
        for wrong in ["00ff", "hex:0", "hex:0g", "base64:%"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
