//! A JSON object straight into the cells of a row: no tree of values in between.
//!
//! Nested objects become dotted names (`motor.rpm`); numbers are f64, correctly rounded, but integers beyond ±2^53 are
//! i64, and beyond 64 bits text, so that no digit is lost; `null` is a column that this row does not have; arrays are
//! kept as the text of their JSON. A row is scratch until its end: what is wrong anywhere leaves nothing behind.
//! Parsing itself is jiter's; which column comes next is known from the message before ([`super::shapes`]).
//!
//! Invariants: no recursion, no panic, no allocation for a message like the one before; every fault names its place.

use gateway_config::TimeUnit;
use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, NumberAny, NumberInt, Peek};
use wire::frame::{MAX_COLUMNS, MAX_NAME_BYTES};

use super::shapes::{Kind, Place, Shapes};
use super::time::{TimeFault, TimeRule, decimal, rfc3339, whole};

/// Deepest nesting of objects that become dotted names.
pub const MAX_DEPTH: usize = 32;
/// Most keys of a message, counting those of nested objects, `null`s and the time.
const MAX_KEYS: usize = 2 * MAX_COLUMNS;
/// Integers up to here are exact as f64.
const EXACT: i64 = 1 << 53;

/// Why a payload is no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON.
    #[error("not JSON: {what} at byte {at}")]
    Syntax {
        /// What is wrong.
        what: JsonErrorType,
        /// Where.
        at: usize,
    },
    /// No bytes.
    #[error("empty payload")]
    Empty,
    /// Another JSON value than an object.
    #[error("a JSON object is needed, this is {0}")]
    NotAnObject(&'static str),
    /// An object without a value (besides its time).
    #[error("the object holds no values")]
    NoValues,
    /// Objects nested deeper than [`MAX_DEPTH`].
    #[error("objects nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More values than a frame may have columns.
    #[error("more than {MAX_COLUMNS} values")]
    TooManyKeys,
    /// The same (dotted) name twice.
    #[error("key {0:?} occurs twice")]
    DuplicateKey(String),
    /// A (dotted) name that is empty or too long.
    #[error("a (dotted) key must have 1 to {MAX_NAME_BYTES} bytes, this one has {bytes}")]
    Name {
        /// Its bytes.
        bytes: usize,
    },
    /// A number that is infinite as f64.
    #[error("a number beyond what 64-bit floating point can hold, at byte {at}")]
    Infinite {
        /// Where it starts.
        at: usize,
    },
    /// The time field is wrong.
    #[error(transparent)]
    Time(#[from] TimeFault),
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    F64(f64),
    I64(i64),
    Bool(bool),
    /// A range of [`Parser::text`].
    Text(u32, u32),
}

/// What was parsed, besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Index of the message's shape.
    pub(crate) shape: u32,
    /// The device's time in nanoseconds since 1970 UTC, where it gave one.
    pub(crate) time: Option<i64>,
}

/// A parser with its scratch row.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    cells: Vec<Cell>,
    texts: String,
    key: String,
    tape: Vec<u8>,
    time: Option<i64>,
}

impl Parser {
    /// Parses a message of a rule (by its index in the source). On success the cells are those of the row's shape.
    pub(crate) fn parse(
        &mut self,
        payload: &[u8],
        shapes: &mut Shapes,
        rule: usize,
        time: &TimeRule,
    ) -> Result<Row, JsonFault> {
        self.cells.clear();
        self.texts.clear();
        self.time = None;
        let mut jiter = Jiter::with_tape(payload, std::mem::take(&mut self.tape));
        let root = shapes.root(rule);
        let end = self.walk(&mut jiter, payload, shapes, root, time);
        self.tape = jiter.into_tape();
        let end = end?;
        if let (None, true, Some(field)) = (self.time, time.required, &time.field) {
            return Err(TimeFault::Missing(field.clone()).into());
        }
        let shape = shapes.shape(end, rule)?;
        Ok(Row { shape, time: self.time })
    }

    /// The cells of the row parsed last.
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The text of a cell.
    pub(crate) fn text(&self, from: u32, to: u32) -> &str {
        self.texts.get(from as usize..to as usize).unwrap_or_default()
    }

    fn walk(
        &mut self,
        jiter: &mut Jiter<'_>,
        payload: &[u8],
        shapes: &mut Shapes,
        root: Place,
        rule: &TimeRule,
    ) -> Result<Place, JsonFault> {
        match jiter.peek() {
            Ok(Peek::Object) => {}
            Ok(other) => return Err(JsonFault::NotAnObject(type_name(other))),
            Err(_) if payload.is_empty() => return Err(JsonFault::Empty),
            Err(error) => return Err(fault(error)),
        }
        let (mut at, mut depth, mut keys) = (root, 0_usize, 0_usize);
        let mut opened = true;
        loop {
            let key = if opened { jiter.known_object() } else { jiter.next_key() };
            opened = false;
            let Some(key) = key.map_err(fault)? else {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                at = shapes.step(at, "", Kind::Close)?;
                continue;
            };
            keys += 1;
            if keys > MAX_KEYS {
                return Err(JsonFault::TooManyKeys);
            }
            let expected = match shapes.likely(at) {
                Some((likely, kind, to)) if likely == key => Some((kind, to)),
                _ => None,
            };
            let kind = match expected {
                Some((Kind::Time, to)) => {
                    self.time(jiter, payload, rule)?;
                    at = to;
                    continue;
                }
                Some((likely, to)) => {
                    let kind = self.value(jiter, payload)?;
                    if kind == likely {
                        opened = kind == Kind::Open;
                        depth += usize::from(opened);
                        at = to;
                        if depth <= MAX_DEPTH {
                            continue;
                        }
                        return Err(JsonFault::TooDeep);
                    }
                    // The same key with a value of another type.
                    self.key.clear();
                    self.key.push_str(shapes.likely(at).map_or("", |(key, ..)| key));
                    kind
                }
                None => {
                    self.key.clear();
                    self.key.push_str(key);
                    if shapes.is_field(at, &self.key, rule.field.as_deref()) {
                        self.time(jiter, payload, rule)?;
                        Kind::Time
                    } else {
                        self.value(jiter, payload)?
                    }
                }
            };
            opened = kind == Kind::Open;
            depth += usize::from(opened);
            if depth > MAX_DEPTH {
                return Err(JsonFault::TooDeep);
            }
            at = shapes.step(at, &self.key, kind)?;
        }
        jiter.finish().map_err(fault)?;
        Ok(at)
    }

    #[inline]
    fn value(&mut self, jiter: &mut Jiter<'_>, payload: &[u8]) -> Result<Kind, JsonFault> {
        let peek = jiter.peek().map_err(fault)?;
        Ok(match peek {
            Peek::String => {
                let text = jiter.known_str().map_err(fault)?;
                let from = self.texts.len();
                self.texts.push_str(text);
                self.cells.push(cell_of(from, self.texts.len()));
                Kind::Text
            }
            Peek::True | Peek::False => {
                self.cells.push(Cell::Bool(jiter.known_bool(peek).map_err(fault)?));
                Kind::Bool
            }
            Peek::Null => {
                jiter.known_null().map_err(fault)?;
                Kind::Null
            }
            Peek::Object => Kind::Open,
            Peek::Array => {
                let start = jiter.current_index();
                jiter.known_skip(peek).map_err(fault)?;
                self.raw_text(payload, start, jiter.current_index())?
            }
            _ => self.number(jiter, payload, peek)?,
        })
    }

    #[inline]
    fn number(&mut self, jiter: &mut Jiter<'_>, payload: &[u8], peek: Peek) -> Result<Kind, JsonFault> {
        let start = jiter.current_index();
        match jiter.known_number(peek) {
            Ok(NumberAny::Float(value)) if value.is_finite() => self.cells.push(Cell::F64(value)),
            Ok(NumberAny::Float(_)) => return Err(JsonFault::Infinite { at: start }),
            // The only integer whose sign an i64 cannot hold.
            Ok(NumberAny::Int(NumberInt::Int(0))) if peek == Peek::Minus => self.cells.push(Cell::F64(-0.0)),
            Ok(NumberAny::Int(NumberInt::Int(value))) if (-EXACT..=EXACT).contains(&value) => {
                self.cells.push(Cell::F64(value as f64));
            }
            Ok(NumberAny::Int(NumberInt::Int(value))) => {
                self.cells.push(Cell::I64(value));
                return Ok(Kind::I64);
            }
            #[allow(unreachable_patterns, reason = "reachable when another crate turns on jiter's big integers")]
            Ok(NumberAny::Int(_)) => return self.raw_text(payload, start, jiter.current_index()),
            Err(error) if error.error_type == JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) => {
                jiter.known_number_bytes(peek).map_err(fault)?;
                return self.raw_text(payload, start, jiter.current_index());
            }
            Err(error) => return Err(fault(error)),
        }
        Ok(Kind::F64)
    }

    /// Keeps a piece of the payload as it is, as text.
    fn raw_text(&mut self, payload: &[u8], start: usize, end: usize) -> Result<Kind, JsonFault> {
        let piece = std::str::from_utf8(payload.get(start..end).unwrap_or_default()).map_err(|error| {
            JsonFault::Syntax { what: JsonErrorType::InvalidUnicodeCodePoint, at: start + error.valid_up_to() }
        })?;
        let from = self.texts.len();
        self.texts.push_str(piece);
        self.cells.push(cell_of(from, self.texts.len()));
        Ok(Kind::Text)
    }

    #[inline]
    fn time(&mut self, jiter: &mut Jiter<'_>, payload: &[u8], rule: &TimeRule) -> Result<(), JsonFault> {
        let peek = jiter.peek().map_err(fault)?;
        let time = match (peek, rule.unit) {
            (Peek::Null, _) => return jiter.known_null().map_err(fault),
            (Peek::String, TimeUnit::Rfc3339) => rfc3339(jiter.known_str().map_err(fault)?)?,
            // Some devices quote numbers that their own JSON library could not hold.
            (Peek::String, unit) => decimal(unit, jiter.known_str().map_err(fault)?)?,
            (_, unit) if peek.is_num() && unit != TimeUnit::Rfc3339 => {
                let start = jiter.current_index();
                match jiter.known_number(peek) {
                    Ok(NumberAny::Int(NumberInt::Int(units))) => whole(unit, units)?,
                    Ok(_) => {
                        let text = payload.get(start..jiter.current_index()).unwrap_or_default();
                        decimal(unit, std::str::from_utf8(text).map_err(|_| TimeFault::Text)?)?
                    }
                    Err(error)
                        if error.error_type == JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) =>
                    {
                        return Err(TimeFault::Range.into());
                    }
                    Err(error) => return Err(fault(error)),
                }
            }
            (_, TimeUnit::Rfc3339) => {
                return Err(TimeFault::Type { wanted: "text", found: type_name(peek) }.into());
            }
            _ => return Err(TimeFault::Type { wanted: "a number", found: type_name(peek) }.into()),
        };
        if self.time.replace(time).is_some() {
            return Err(JsonFault::DuplicateKey(rule.field.as_deref().unwrap_or_default().to_owned()));
        }
        Ok(())
    }
}

fn cell_of(from: usize, to: usize) -> Cell {
    Cell::Text(u32::try_from(from).unwrap_or(u32::MAX), u32::try_from(to).unwrap_or(u32::MAX))
}

#[cold]
fn fault(error: JiterError) -> JsonFault {
    let what = match error.error_type {
        JiterErrorType::JsonError(what) => what,
        JiterErrorType::WrongType { .. } => JsonErrorType::ExpectedSomeValue,
    };
    JsonFault::Syntax { what, at: error.index }
}

fn type_name(peek: Peek) -> &'static str {
    match peek {
        Peek::Null => "null",
        Peek::True | Peek::False => "a truth value",
        Peek::String => "text",
        Peek::Array => "an array",
        Peek::Object => "an object",
        other if other.is_num() => "a number",
        _ => "no JSON",
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
