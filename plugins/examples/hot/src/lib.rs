//! A first plugin: readings above a limit also go to the route "alarms".

use sluice_plugin::{ConfigError, Fault, Frame, Output, Processor};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    column: String,
    above: f64,
}

struct Hot(Config);

impl Processor for Hot {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        Ok(Hot(config))
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        out.emit(
            "alarms",
            frame.filter(frame.f64(&self.0.column)?.iter().map(|value| *value > self.0.above)),
        );
        out.forward(frame);
        Ok(())
    }
}

sluice_plugin::export!(Hot);
