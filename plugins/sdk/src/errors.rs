//! What can go wrong in a plugin, in words for the person who reads them.

use std::fmt;

use crate::frame::type_name;
use crate::{Column, Frame};

/// The call failed as a whole: its state changes are undone and its input becomes dead letters.
/// For rows that cannot be used, `Output::reject` is the better way: it costs only these rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

/// The configuration cannot be used. Names the key and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub String);

/// A column is not there, or not of the wanted type. Its text names the columns there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnError {
    /// There is no column of that name.
    Missing {
        /// The name.
        column: String,
        /// The columns there are, with their types.
        present: String,
    },
    /// The column has another type.
    Type {
        /// The name.
        column: String,
        /// The type it has.
        is: &'static str,
        /// The type that was wanted.
        wanted: &'static str,
    },
    /// Values of a new column are not one per row.
    Length {
        /// The name.
        column: String,
        /// The values.
        values: usize,
        /// The rows.
        rows: usize,
    },
}

impl ColumnError {
    pub(crate) fn missing(column: &str, frame: &Frame) -> Self {
        let names: Vec<String> =
            frame.columns().iter().map(|c| format!("{} ({})", c.name, type_name(&c.values))).collect();
        ColumnError::Missing { column: column.to_owned(), present: names.join(", ") }
    }

    pub(crate) fn wrong_type(column: &Column, wanted: &'static str) -> Self {
        ColumnError::Type { column: column.name.clone(), is: type_name(&column.values), wanted }
    }
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnError::Missing { column, present } if present.is_empty() => {
                write!(f, "no column {column:?}: the frame has no columns")
            }
            ColumnError::Missing { column, present } => {
                write!(f, "no column {column:?}: there are {present}")
            }
            ColumnError::Type { column, is, wanted } => write!(f, "column {column:?} is {is}, not {wanted}"),
            ColumnError::Length { column, values, rows } => {
                write!(f, "column {column:?} has {values} values for {rows} rows")
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ColumnError {}
impl std::error::Error for Fault {}
impl std::error::Error for ConfigError {}

impl From<ColumnError> for Fault {
    fn from(error: ColumnError) -> Self {
        Fault(error.to_string())
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Fault(reason.to_owned())
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault(reason)
    }
}

impl From<&str> for ConfigError {
    fn from(reason: &str) -> Self {
        ConfigError(reason.to_owned())
    }
}

impl From<String> for ConfigError {
    fn from(reason: String) -> Self {
        ConfigError(reason)
    }
}

impl From<crate::state::StateError> for Fault {
    fn from(error: crate::state::StateError) -> Self {
        Fault(error.to_string())
    }
}

impl From<crate::state::StateError> for ConfigError {
    fn from(error: crate::state::StateError) -> Self {
        ConfigError(error.to_string())
    }
}
