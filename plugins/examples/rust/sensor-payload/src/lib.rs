//! Decodes the payload of a climate sensor, big-endian:
//!
//! ```text
//! 0     version, 1
//! 1..3  u16  milliseconds since the reading was taken
//! 3..5  i16  temperature in 0.01 °C
//! 5..7  u16  relative humidity in 0.01 %
//! ```
//! One row a message. What is not such a payload becomes a dead letter, with its bytes and the reason.

use sluice_plugin::{ConfigError, Decoder, Fault, Messages, Output, Rows};

/// The decoder's `with` table.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SensorPayload {
    /// Added to every temperature, in °C.
    #[serde(default)]
    offset: f64,
}

impl Decoder for SensorPayload {
    type Config = SensorPayload;

    fn configure(config: SensorPayload) -> Result<Self, ConfigError> {
        Ok(config)
    }

    fn decode(&mut self, messages: &Messages, out: &mut Output) -> Result<(), Fault> {
        let mut rows = Rows::new(messages.profile("climate"));
        let (mut temperature, mut humidity) = (Vec::new(), Vec::new());
        for message in messages.iter() {
            let &[version, a0, a1, t0, t1, h0, h1] = message.payload else {
                out.reject_message(message.index, format!("{} bytes instead of 7", message.payload.len()));
                continue;
            };
            if version != 1 {
                out.reject_message(message.index, format!("version {version}, only 1 is known"));
                continue;
            }
            let age_ms = i64::from(u16::from_be_bytes([a0, a1]));
            rows.push_decoded(message.device, message.arrived - age_ms * 1_000_000, message.index);
            temperature.push(f64::from(i16::from_be_bytes([t0, t1])) / 100.0 + self.offset);
            humidity.push(f64::from(u16::from_be_bytes([h0, h1])) / 100.0);
        }
        let mut frame = rows.finish();
        frame.set("temperature_c", temperature)?;
        frame.set_unit("temperature_c", "Cel");
        frame.set("humidity_pct", humidity)?;
        frame.set_unit("humidity_pct", "%");
        out.forward(frame);
        Ok(())
    }
}

sluice_plugin::export_decoder!(SensorPayload);
