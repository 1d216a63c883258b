//! `builtin:tag`: adds a column that holds the same text in every row, e.g. the tenant or the line.

use serde::Deserialize;
use sluice_plugin::{ConfigError, Fault, Frame, Output, Processor};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    column: String,
    value: String,
}

impl Processor for Tag {
    type Config = Tag;

    fn configure(config: Tag) -> Result<Self, ConfigError> {
        match config.column.len() {
            1..=256 => Ok(config),
            _ => Err("column must have 1 to 256 bytes".into()),
        }
    }

    fn process(&mut self, mut frame: Frame, out: &mut Output) -> Result<(), Fault> {
        frame.set_text(&self.column, &self.value);
        out.forward(frame);
        Ok(())
    }
}

sluice_plugin::export!(Tag);
