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
        let mut reader = Reader::new(payload, std::mem::take(&mut self.tape));
        let root = shapes.root(rule);
        let end = self.walk(&mut reader, shapes, root, time);
        self.tape = reader.jiter.into_tape();
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
        reader: &mut Reader<'_>,
        shapes: &mut Shapes,
        root: Place,
        rule: &TimeRule,
    ) -> Result<Place, JsonFault> {
        match reader.peek() {
            Ok(Peek::Object) => {}
            Ok(other) => return Err(JsonFault::NotAnObject(type_name(other))),
            Err(_) if reader.payload.is_empty() => return Err(JsonFault::Empty),
            Err(fault) => return Err(fault),
        }
        let (mut at, mut depth, mut keys) = (root, 0_usize, 0_usize);
        // Whether the reader stands at an opening brace rather than behind a value.
        let mut opened = true;
        loop {
            keys += 1;
            if keys > MAX_KEYS {
                return Err(JsonFault::TooManyKeys);
            }
            let kind = match shapes.likely(at) {
                Some(edge) if edge.kind == Kind::Close => {
                    if !opened && reader.take(b'}') {
                        depth -= 1;
                        at = edge.to;
                        continue;
                    }
                    None
                }
                Some(edge) if reader.take_key(if opened { b'{' } else { b',' }, &edge.quoted) => {
                    let kind = if edge.kind == Kind::Time {
                        self.time(reader, rule)?;
                        Kind::Time
                    } else {
                        self.value(reader)?
                    };
                    if kind == edge.kind {
                        at = edge.to;
                        opened = kind == Kind::Open;
                        if opened {
                            depth += 1;
                        }
                        if depth > MAX_DEPTH {
                            return Err(JsonFault::TooDeep);
                        }
                        continue;
                    }
                    self.key.clear();
                    self.key.push_str(&edge.key);
                    Some(kind)
                }
                _ => None,
            };
            // Another key than last time, or another type.
            let kind = match kind {
                Some(kind) => kind,
                None => {
                    let Some(key) = reader.key(opened)? else {
                        opened = false;
                        if depth == 0 {
                            break;
                        }
                        depth -= 1;
                        at = shapes.step(at, "", Kind::Close)?;
                        continue;
                    };
                    self.key.clear();
                    self.key.push_str(key);
                    if shapes.is_field(at, &self.key, rule.field.as_deref()) {
                        self.time(reader, rule)?;
                        Kind::Time
                    } else {
                        self.value(reader)?
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
        reader.finish()?;
        Ok(at)
    }

    #[inline]
    fn value(&mut self, reader: &mut Reader<'_>) -> Result<Kind, JsonFault> {
        let peek = reader.peek()?;
        Ok(match peek {
            Peek::String => {
                let from = self.texts.len();
                self.texts.push_str(reader.text()?);
                self.cells.push(cell_of(from, self.texts.len()));
                Kind::Text
            }
            Peek::True | Peek::False => {
                let value = reader.jiter.known_bool(peek);
                self.cells.push(Cell::Bool(value.map_err(|error| reader.fault(&error))?));
                Kind::Bool
            }
            Peek::Null => {
                reader.null()?;
                Kind::Null
            }
            Peek::Object => Kind::Open,
            Peek::Array => {
                let start = reader.at();
                reader.skip(peek)?;
                self.keep(reader.since(start)?)
            }
            _ => self.number(reader, peek)?,
        })
    }

    #[inline]
    fn number(&mut self, reader: &mut Reader<'_>, peek: Peek) -> Result<Kind, JsonFault> {
        let start = reader.at();
        match reader.jiter.known_number(peek) {
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
            #[allow(
                unreachable_patterns,
                reason = "reachable when another crate turns on jiter's big integers"
            )]
            Ok(NumberAny::Int(_)) => return Ok(self.keep(reader.since(start)?)),
            Err(error) if is_out_of_range(&error) => {
                reader.skip(peek)?;
                return Ok(self.keep(reader.since(start)?));
            }
            Err(error) => return Err(reader.fault(&error)),
        }
        Ok(Kind::F64)
    }

    /// Keeps a piece of the payload as text.
    fn keep(&mut self, piece: &str) -> Kind {
        let from = self.texts.len();
        self.texts.push_str(piece);
        self.cells.push(cell_of(from, self.texts.len()));
        Kind::Text
    }

    #[inline]
    fn time(&mut self, reader: &mut Reader<'_>, rule: &TimeRule) -> Result<(), JsonFault> {
        let peek = reader.peek()?;
        let time = match (peek, rule.unit) {
            (Peek::Null, _) => return reader.null(),
            (Peek::String, TimeUnit::Rfc3339) => rfc3339(reader.text()?)?,
            // Some devices quote numbers that their own JSON library could not hold.
            (Peek::String, unit) => decimal(unit, reader.text()?)?,
            (_, unit) if peek.is_num() && unit != TimeUnit::Rfc3339 => {
                let start = reader.at();
                match reader.jiter.known_number(peek) {
                    Ok(NumberAny::Int(NumberInt::Int(units))) => whole(unit, units)?,
                    Ok(_) => decimal(unit, reader.since(start)?)?,
                    Err(error) if is_out_of_range(&error) => return Err(TimeFault::Range.into()),
                    Err(error) => return Err(reader.fault(&error)),
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

/// jiter over the payload, which can also step over what is expected.
struct Reader<'j> {
    payload: &'j [u8],
    jiter: Jiter<'j>,
    /// Where in the payload jiter's own data begins.
    base: usize,
}

impl<'j> Reader<'j> {
    fn new(payload: &'j [u8], tape: Vec<u8>) -> Self {
        Self { payload, jiter: Jiter::with_tape(payload, tape), base: 0 }
    }

    fn at(&self) -> usize {
        self.base + self.jiter.current_index()
    }

    /// Goes on from there.
    #[inline]
    fn move_to(&mut self, at: usize) {
        let rest = self.payload.get(at..).unwrap_or_default();
        let tape = std::mem::replace(&mut self.jiter, Jiter::new(rest)).into_tape();
        if tape.capacity() > 0 {
            self.jiter = Jiter::with_tape(rest, tape);
        }
        self.base = at;
    }

    fn rest(&self) -> &'j [u8] {
        self.payload.get(self.at()..).unwrap_or_default()
    }

    /// Steps over this byte if it is next.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let rest = self.rest();
        match unspaced(rest) {
            [first, after @ ..] if *first == byte => {
                self.move_to(self.payload.len() - after.len());
                true
            }
            _ => false,
        }
    }

    /// Steps over `first`, this quoted key and its colon, if exactly they are next.
    #[inline]
    fn take_key(&mut self, first: u8, quoted: &[u8]) -> bool {
        let rest = self.rest();
        let after = match unspaced(rest) {
            [byte, after @ ..] if *byte == first && !quoted.is_empty() => {
                unspaced(after).strip_prefix(quoted)
            }
            _ => None,
        };
        match after.map(unspaced) {
            Some([b':', value @ ..]) => {
                self.move_to(self.payload.len() - value.len());
                true
            }
            _ => false,
        }
    }

    /// The next key of an object that begins here or of the one around; `None` at its end.
    fn key(&mut self, opened: bool) -> Result<Option<&str>, JsonFault> {
        let base = self.base;
        let key = if opened { self.jiter.known_object() } else { self.jiter.next_key() };
        key.map_err(|error| fault(&error, base))
    }

    #[inline]
    fn peek(&mut self) -> Result<Peek, JsonFault> {
        self.jiter.peek().map_err(|error| self.fault(&error))
    }

    #[inline]
    fn text(&mut self) -> Result<&str, JsonFault> {
        let base = self.base;
        self.jiter.known_str().map_err(|error| fault(&error, base))
    }

    fn null(&mut self) -> Result<(), JsonFault> {
        self.jiter.known_null().map_err(|error| self.fault(&error))
    }

    fn skip(&mut self, peek: Peek) -> Result<(), JsonFault> {
        self.jiter.known_skip(peek).map_err(|error| self.fault(&error))
    }

    fn finish(&mut self) -> Result<(), JsonFault> {
        self.jiter.finish().map_err(|error| self.fault(&error))
    }

    /// The payload from there to here.
    fn since(&self, start: usize) -> Result<&'j str, JsonFault> {
        std::str::from_utf8(self.payload.get(start..self.at()).unwrap_or_default()).map_err(|error| {
            JsonFault::Syntax {
                what: JsonErrorType::InvalidUnicodeCodePoint,
                at: start + error.valid_up_to(),
            }
        })
    }

    fn fault(&self, error: &JiterError) -> JsonFault {
        fault(error, self.base)
    }
}

/// Without the white space at the beginning.
#[inline]
fn unspaced(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn is_out_of_range(error: &JiterError) -> bool {
    error.error_type == JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange)
}

fn cell_of(from: usize, to: usize) -> Cell {
    Cell::Text(u32::try_from(from).unwrap_or(u32::MAX), u32::try_from(to).unwrap_or(u32::MAX))
}

#[cold]
fn fault(error: &JiterError, base: usize) -> JsonFault {
    let what = match &error.error_type {
        JiterErrorType::JsonError(what) => what.clone(),
        JiterErrorType::WrongType { .. } => JsonErrorType::ExpectedSomeValue,
    };
    JsonFault::Syntax { what, at: base + error.index }
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
