//! A plugin in the very runtime of the gateway, whichever kind it is: what `test`, `replay` and `bench` call.
//!
//! Compiled plugins are kept in `$SLUICE_PLUGIN_CACHE`, else `$XDG_CACHE_HOME/sluice-plugin`, else
//! `~/.cache/sluice-plugin`, so that an interpreter of many megabytes is compiled once and not for every test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::{
    CallContext, ConfigureFault, DecodeStep, Engine, EngineConfig, EngineError, Kind, Plugin, Processed,
    Step, StepConfig, StepFault,
};
use wire::frame::Frame;

use crate::rows::messages::Inbox;
use crate::rows::read_text;

/// Most instances at once: two versions, each with a successor.
const INSTANCES: u32 = 8;

/// A configured plugin.
pub enum Guest {
    /// Frames in, frames out.
    Processor(Step),
    /// Messages in, frames out.
    Decoder(DecodeStep),
}

/// The engine, as a gateway starts it.
///
/// # Errors
/// [`EngineError`]
pub fn engine() -> Result<Engine, EngineError> {
    Engine::new(EngineConfig { max_instances: INSTANCES, ..EngineConfig::new(cache()) })
}

/// Where compiled plugins are kept.
#[must_use]
pub fn cache() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = |parent: PathBuf| parent.join("sluice-plugin");
    folder("SLUICE_PLUGIN_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(own))
        .or_else(|| folder("HOME").map(|home| own(home.join(".cache"))))
        .unwrap_or_else(|| own(std::env::temp_dir()))
}

/// What a plugin is called in messages: name and version.
#[must_use]
pub fn label(plugin: &Plugin) -> String {
    format!("{} {}", plugin.name(), plugin.version()).trim_end().to_owned()
}

/// The word for a kind.
#[must_use]
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Processor => "processor",
        Kind::Decoder => "decoder",
    }
}

/// A step's configuration as a JSON object: from TOML (`column = "x"`), from JSON, or from a `.toml` or `.json` file.
///
/// # Errors
/// What is wrong and what to write.
pub fn config(written: &str) -> Result<String, String> {
    let path = Path::new(written);
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml" | "json") if !written.contains(['=', '{']) => read_text(path)?,
        _ => written.to_owned(),
    };
    if text.trim_start().starts_with('{') {
        // An inline table of TOML is nearly JSON, so both are tried.
        return match (serde_json::from_str::<serde_json::Value>(&text), inline(&text)) {
            (Ok(value), _) => Ok(value.to_string()),
            (Err(_), Some(table)) => json_of(&table),
            (Err(error), None) => Err(format!("the configuration is neither JSON nor TOML: {error}")),
        };
    }
    if let Some(table) = inline(&format!("{{ {text} }}")) {
        return json_of(&table);
    }
    let table = text.parse::<toml::Table>().map_err(|error| {
        format!("the configuration is neither JSON nor TOML; write e.g. 'column = \"x\"' or '{{\"column\": \"x\"}}': {}", error.message())
    })?;
    json_of(&toml::Value::Table(table))
}

/// An inline table of TOML.
fn inline(text: &str) -> Option<toml::Value> {
    format!("with = {text}").parse::<toml::Table>().ok()?.remove("with")
}

fn json_of(value: &toml::Value) -> Result<String, String> {
    let mut value = value.clone();
    texts_of_dates(&mut value);
    serde_json::to_string(&value).map_err(|error| format!("the configuration cannot be JSON: {error}"))
}

/// A date is its text, as in the gateway.
fn texts_of_dates(value: &mut toml::Value) {
    match value {
        toml::Value::Datetime(date) => *value = toml::Value::String(date.to_string()),
        toml::Value::Array(list) => list.iter_mut().for_each(texts_of_dates),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| texts_of_dates(value)),
        _ => {}
    }
}

impl Guest {
    /// Makes and configures an instance with the state that was kept of it.
    ///
    /// # Errors
    /// [`ConfigureFault`]
    pub fn new(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        match plugin.kind() {
            Kind::Processor => Step::new(engine, plugin, config, state, context).map(Guest::Processor),
            Kind::Decoder => DecodeStep::new(engine, plugin, config, state, context).map(Guest::Decoder),
        }
    }

    /// A call with frames. A decoder, which takes none, hands back nothing.
    ///
    /// # Errors
    /// [`StepFault`]
    pub fn process(&mut self, frames: &[Frame], context: &CallContext) -> Result<Processed, Box<StepFault>> {
        match self {
            Guest::Processor(step) => step.process(frames, context),
            Guest::Decoder(_) => Ok(Processed::default()),
        }
    }

    /// A call with messages. A processor, which takes none, hands back nothing.
    ///
    /// # Errors
    /// [`StepFault`]
    pub fn decode(&mut self, inbox: &Inbox, context: &CallContext) -> Result<Processed, Box<StepFault>> {
        match self {
            Guest::Processor(_) => Ok(Processed::default()),
            Guest::Decoder(step) => step.decode(&inbox.messages(), context),
        }
    }

    /// A call because time has passed. Decoders have no tick.
    ///
    /// # Errors
    /// [`StepFault`]
    pub fn tick(&mut self, context: &CallContext) -> Result<Processed, Box<StepFault>> {
        match self {
            Guest::Processor(step) => step.tick(context),
            Guest::Decoder(_) => Ok(Processed::default()),
        }
    }

    /// Bytes of its instance's memory; 0 while there is none.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Guest::Processor(step) => step.memory_bytes(),
            Guest::Decoder(step) => step.memory_bytes(),
        }
    }

    /// Its kept state.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Guest::Processor(step) => step.state(),
            Guest::Decoder(step) => step.state(),
        }
    }

    /// How often it wants to be told that time has passed.
    #[must_use]
    pub fn tick_every(&self) -> Option<Duration> {
        match self {
            Guest::Processor(step) => step.tick_every(),
            Guest::Decoder(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_may_be_toml_json_or_a_file() {
        let json = r#"{"column":"x","above":1.5}"#;
        let same = |written: &str| {
            let read: serde_json::Value = serde_json::from_str(&config(written).unwrap()).unwrap();
            assert_eq!(read, serde_json::from_str::<serde_json::Value>(json).unwrap(), "{written}");
        };
        same(json);
        same("column = \"x\", above = 1.5");
        same("column = \"x\"\nabove = 1.5 # bar\n");
        same("{ column = \"x\", above = 1.5 }");
        let file = std::env::temp_dir().join(format!("sluice-plugin-config-{}.toml", std::process::id()));
        std::fs::write(&file, "column = \"x\"\nabove = 1.5\n").unwrap();
        same(&file.display().to_string());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(config("").unwrap(), "{}");
        assert_eq!(config("since = 2026-01-01").unwrap(), r#"{"since":"2026-01-01"}"#);
        for wrong in ["column: x", "{", "none.toml"] {
            assert!(config(wrong).is_err(), "{wrong}");
        }
    }
}
