//! The frame: a small typed table of readings, the one shape of data from the decoder to the sink.
//!
//! ```text
//! frame { profile, devices: [string], device: [u32], time: [i64],
//!         columns: [ { name, unit, values, status } ] }
//! ```
//! Row `r` is the reading of `devices[device[r]]` at `time[r]`; every column has a value for each row, so there are no
//! nulls: rows with other columns are another frame. Plain public fields, since frames are built by columns in hot
//! loops; [`Frame::check`] is called once wherever a frame enters from outside (a guest, the wire).

/// Most columns a frame may have. More is a mistake in a device profile; such a frame is refused.
pub const MAX_COLUMNS: usize = 1_024;
/// Most rows a frame may have. Sources and lanes cut earlier; a guest's frame beyond it is refused.
pub const MAX_ROWS: usize = 1 << 20;
/// Most bytes of a column name, a unit or a profile name.
pub const MAX_NAME_BYTES: usize = 256;

/// A table of rows for one device profile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    /// The device type, i.e. the name of this set of columns.
    pub profile: String,
    /// The devices that occur, each once.
    pub devices: Vec<String>,
    /// Per row, the index into `devices`.
    pub device: Vec<u32>,
    /// Per row, the time in nanoseconds since 1970-01-01 UTC.
    pub time: Vec<i64>,
    /// The measured values, by column; names are unique.
    pub columns: Vec<Column>,
}

/// One measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name, e.g. `temperature_c`; nested JSON keys are joined by dots.
    pub name: String,
    /// Unit as UCUM or as the site writes it; empty if unknown.
    pub unit: String,
    /// One value per row.
    pub values: Values,
    /// OPC UA status code per row; empty means all good.
    pub status: Vec<u32>,
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floating-point numbers; JSON numbers unless an integer would lose digits.
    F64(Vec<f64>),
    /// Integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts, as a dictionary: states and modes repeat.
    Text(Texts),
    /// Bytes.
    Blob(Blobs),
}

/// Texts by dictionary: row `r` reads `dictionary[index[r]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts {
    /// The different texts.
    pub dictionary: Vec<String>,
    /// Per row, the index into `dictionary`.
    pub index: Vec<u32>,
}

/// Byte strings, one after the other: row `r` is `bytes[ends[r-1]..ends[r]]` (from 0 for the first).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blobs {
    /// Per row, where its bytes end; never decreasing.
    pub ends: Vec<u32>,
    /// All bytes.
    pub bytes: Vec<u8>,
}

/// Why a frame from outside is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A list per row has another length than `time`.
    #[error("{what} has {length} entries, but the frame has {rows} rows")]
    Length {
        /// Which list.
        what: String,
        /// Its entries.
        length: usize,
        /// The rows.
        rows: usize,
    },
    /// An index points past its dictionary.
    #[error("{what} of row {row} is {index}, but there are only {entries}")]
    Index {
        /// Which index.
        what: String,
        /// The row.
        row: usize,
        /// The index.
        index: u32,
        /// Entries of the dictionary.
        entries: usize,
    },
    /// Blob ends decrease or pass the bytes.
    #[error("column {column:?}: blob of row {row} ends at {end}, outside {from}..={bytes}")]
    Blob {
        /// Which column.
        column: String,
        /// The row.
        row: usize,
        /// Its end.
        end: u32,
        /// Where it starts.
        from: u32,
        /// Bytes there are.
        bytes: usize,
    },
    /// Two columns of one name.
    #[error("column {0:?} occurs twice")]
    Duplicate(String),
    /// A name is empty or longer than [`MAX_NAME_BYTES`].
    #[error("{what} must have 1 to {MAX_NAME_BYTES} bytes, it has {length}")]
    Name {
        /// Which name.
        what: &'static str,
        /// Its bytes.
        length: usize,
    },
    /// More rows or columns than [`MAX_ROWS`], [`MAX_COLUMNS`].
    #[error("{count} {what}, at most {limit} are allowed")]
    TooMany {
        /// "rows" or "columns".
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

impl Frame {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.time.len()
    }

    /// Number of readings: rows × columns.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.rows() * self.columns.len()
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The device of a row; `None` past the end.
    #[must_use]
    pub fn device_of(&self, row: usize) -> Option<&str> {
        let index = *self.device.get(row)?;
        self.devices.get(index as usize).map(String::as_str)
    }

    /// The named rows, in the order given; indices past the end are left out. Devices and dictionaries stay as they are.
    #[must_use]
    pub fn take_rows(&self, rows: &[u32]) -> Self {
        Self {
            profile: self.profile.clone(),
            devices: self.devices.clone(),
            device: pick(&self.device, rows),
            time: pick(&self.time, rows),
            columns: self.columns.iter().map(|column| column.take_rows(rows)).collect(),
        }
    }

    /// Checks all lengths, indices, names and bounds.
    ///
    /// # Errors
    /// [`FrameError`] names the first thing that is wrong.
    pub fn check(&self) -> Result<(), FrameError> {
        let rows = self.rows();
        let bound = |what, count, limit| {
            if count > limit { Err(FrameError::TooMany { what, count, limit }) } else { Ok(()) }
        };
        bound("rows", rows, MAX_ROWS)?;
        bound("columns", self.columns.len(), MAX_COLUMNS)?;
        check_name("a profile", &self.profile)?;
        check_length("device", self.device.len(), rows)?;
        check_indices("device", &self.device, self.devices.len())?;
        self.columns.iter().try_for_each(|column| column.check(rows))?;
        self.check_names()
    }

    /// Column names are unique; a few are compared faster than hashed.
    fn check_names(&self) -> Result<(), FrameError> {
        const FEW: usize = 16;
        let mut seen = std::collections::HashSet::new();
        for (index, column) in self.columns.iter().enumerate() {
            let twice = if self.columns.len() <= FEW {
                self.columns.iter().take(index).any(|earlier| earlier.name == column.name)
            } else {
                !seen.insert(column.name.as_str())
            };
            if twice {
                return Err(FrameError::Duplicate(column.name.clone()));
            }
        }
        Ok(())
    }
}

impl Column {
    fn take_rows(&self, rows: &[u32]) -> Self {
        let values = match &self.values {
            Values::F64(values) => Values::F64(pick(values, rows)),
            Values::I64(values) => Values::I64(pick(values, rows)),
            Values::Bool(values) => Values::Bool(pick(values, rows)),
            Values::Text(texts) => {
                let (dictionary, index) = (texts.dictionary.clone(), pick(&texts.index, rows));
                Values::Text(Texts { dictionary, index })
            }
            Values::Blob(blobs) => {
                let mut taken = Blobs::default();
                rows.iter().filter_map(|&row| blobs.get(row as usize)).for_each(|bytes| taken.push(bytes));
                Values::Blob(taken)
            }
        };
        Self { name: self.name.clone(), unit: self.unit.clone(), values, status: pick(&self.status, rows) }
    }

    fn check(&self, rows: usize) -> Result<(), FrameError> {
        check_name("a column name", &self.name)?;
        if self.unit.len() > MAX_NAME_BYTES {
            return Err(FrameError::Name { what: "a unit", length: self.unit.len() });
        }
        check_length(&self.name, self.values.len(), rows)?;
        if !self.status.is_empty() {
            check_length(&format!("status of {}", self.name), self.status.len(), rows)?;
        }
        match &self.values {
            Values::Text(texts) => check_indices(&self.name, &texts.index, texts.dictionary.len()),
            Values::Blob(blobs) => blobs.check(&self.name),
            Values::F64(_) | Values::I64(_) | Values::Bool(_) => Ok(()),
        }
    }
}

impl Values {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Text(texts) => texts.index.len(),
            Values::Blob(blobs) => blobs.ends.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type as written in configuration and messages: `f64`, `i64`, `bool`, `text`, `blob`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Values::F64(_) => "f64",
            Values::I64(_) => "i64",
            Values::Bool(_) => "bool",
            Values::Text(_) => "text",
            Values::Blob(_) => "blob",
        }
    }
}

impl Texts {
    /// The text of a row; `None` past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        let index = *self.index.get(row)?;
        self.dictionary.get(index as usize).map(String::as_str)
    }
}

impl Blobs {
    /// The bytes of a row; `None` past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let from = match row.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.bytes.get(from as usize..*self.ends.get(row)? as usize)
    }

    /// Appends one row.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn check(&self, column: &str) -> Result<(), FrameError> {
        let bytes = self.bytes.len();
        let mut from = 0;
        for (row, &end) in self.ends.iter().enumerate() {
            if end < from || end as usize > bytes {
                return Err(FrameError::Blob { column: column.to_owned(), row, end, from, bytes });
            }
            from = end;
        }
        Ok(())
    }
}

fn pick<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().filter_map(|&row| values.get(row as usize).copied()).collect()
}

fn check_name(what: &'static str, name: &str) -> Result<(), FrameError> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        length => Err(FrameError::Name { what, length }),
    }
}

fn check_length(what: &str, length: usize, rows: usize) -> Result<(), FrameError> {
    if length == rows { Ok(()) } else { Err(FrameError::Length { what: what.to_owned(), length, rows }) }
}

fn check_indices(what: &str, indices: &[u32], entries: usize) -> Result<(), FrameError> {
    // The greatest first: many at a time, while a search stops at each.
    if indices.iter().fold(0, |greatest, &index| index.max(greatest)) as usize
        + usize::from(!indices.is_empty())
        <= entries
    {
        return Ok(());
    }
    match indices.iter().position(|&index| index as usize >= entries) {
        None => Ok(()),
        Some(row) => Err(FrameError::Index {
            what: what.to_owned(),
            row,
            index: indices.get(row).copied().unwrap_or_default(),
            entries,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            profile: "machine".into(),
            devices: vec!["a".into(), "b".into()],
            device: vec![0, 1, 0],
            time: vec![1, 2, 3],
            columns: vec![
                Column {
                    name: "state".into(),
                    unit: String::new(),
                    values: Values::Text(Texts {
                        dictionary: vec!["RUN".into(), "STOP".into()],
                        index: vec![0, 0, 1],
                    }),
                    status: vec![],
                },
                Column {
                    name: "raw".into(),
                    unit: String::new(),
                    values: Values::Blob(Blobs { ends: vec![1, 1, 3], bytes: vec![7, 8, 9] }),
                    status: vec![0, 0, 0x8000_0000],
                },
            ],
        }
    }

    #[test]
    fn a_whole_frame_passes_and_reads_by_row() {
        let frame = frame();
        assert_eq!(frame.check(), Ok(()));
        assert_eq!(frame.device_of(1), Some("b"));
        let Some(Column { values: Values::Blob(blobs), .. }) = frame.column("raw") else {
            panic!("raw is a blob column");
        };
        assert_eq!(blobs.get(0), Some(&[7u8][..]));
        assert_eq!(blobs.get(1), Some(&[][..]));
        assert_eq!(blobs.get(2), Some(&[8u8, 9][..]));
        assert_eq!(blobs.get(3), None);
    }

    #[test]
    fn each_broken_part_is_named() {
        let broken = |change: fn(&mut Frame)| {
            let mut frame = frame();
            change(&mut frame);
            frame.check().unwrap_err()
        };
        assert!(matches!(broken(|f| f.device[1] = 2), FrameError::Index { row: 1, index: 2, .. }));
        assert!(matches!(broken(|f| f.time.push(4)), FrameError::Length { .. }));
        assert!(matches!(broken(|f| f.columns[1].name = "state".into()), FrameError::Duplicate(_)));
        assert!(matches!(broken(|f| f.profile.clear()), FrameError::Name { .. }));
        assert!(matches!(broken(|f| f.columns[1].status.truncate(2)), FrameError::Length { .. }));
        assert!(matches!(
            broken(|f| {
                f.columns[1].values = Values::Blob(Blobs { ends: vec![2, 1, 3], bytes: vec![0; 3] });
            }),
            FrameError::Blob { row: 1, .. }
        ));
    }
}
