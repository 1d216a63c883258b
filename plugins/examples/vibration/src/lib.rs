//! A decoder: the big-endian payload of a vibration sensor.
//!
//! ```text
//! 0      version, 1
//! 1      axes, 1 to 3
//! 2..4   u16  milliseconds since the reading was taken
//! 4..6   i16  temperature in 0.01 °C
//! then per axis: u32 velocity RMS in µm/s
//! ```
//! One row a message: `temperature_c`, and `x_mm_s`, `y_mm_s`, `z_mm_s` as far as there are axes. Messages with the same
//! number of axes share a frame.

use sluice_plugin::{ConfigError, Decoder, Fault, Message, Messages, Output, Rows, Values};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vibration {
    /// Name of the profile, if the source's configuration names none.
    #[serde(default = "profile")]
    profile: String,
}

struct Reading {
    age_ms: u16,
    temperature_c: f64,
    velocity: Vec<f64>,
}

impl Decoder for Vibration {
    type Config = Vibration;

    fn configure(config: Vibration) -> Result<Self, ConfigError> {
        Ok(config)
    }

    fn decode(&mut self, messages: &Messages, out: &mut Output) -> Result<(), Fault> {
        let mut by_axes: [Vec<(Message<'_>, Reading)>; 3] = Default::default();
        for message in messages.iter() {
            match parse(message.payload) {
                Ok(reading) => {
                    let same_axes = by_axes.get_mut(reading.velocity.len() - 1);
                    if let Some(readings) = same_axes {
                        readings.push((message, reading));
                    }
                }
                Err(reason) => out.reject_message(message.index, reason),
            }
        }
        for (readings, axes) in by_axes.into_iter().zip(1..).filter(|(readings, _)| !readings.is_empty()) {
            let mut rows = Rows::new(messages.profile(&self.profile));
            for (message, reading) in &readings {
                let time = message.arrived - i64::from(reading.age_ms) * 1_000_000;
                rows.push_decoded(message.device, time, message.index);
            }
            let mut frame = rows.finish();
            let temperatures: Vec<f64> = readings.iter().map(|(_, reading)| reading.temperature_c).collect();
            frame.set("temperature_c", temperatures)?;
            for (axis, name) in ["x_mm_s", "y_mm_s", "z_mm_s"].into_iter().enumerate().take(axes) {
                let values: Vec<f64> =
                    readings.iter().filter_map(|(_, r)| r.velocity.get(axis).copied()).collect();
                frame.set(name, Values::F64s(values))?;
                frame.set_unit(name, "mm/s");
            }
            out.forward(frame);
        }
        Ok(())
    }
}

fn parse(payload: &[u8]) -> Result<Reading, String> {
    let Some((&[version, axes, a0, a1, t0, t1], rest)) = payload.split_first_chunk::<6>() else {
        return Err(format!("{} bytes, at least 6 are needed", payload.len()));
    };
    if version != 1 {
        return Err(format!("version {version}, only 1 is known"));
    }
    if !(1..=3).contains(&axes) || rest.len() != usize::from(axes) * 4 {
        return Err(format!("{axes} axes in {} bytes", rest.len()));
    }
    let (values, _) = rest.as_chunks::<4>();
    Ok(Reading {
        age_ms: u16::from_be_bytes([a0, a1]),
        temperature_c: f64::from(i16::from_be_bytes([t0, t1])) / 100.0,
        velocity: values.iter().map(|value| f64::from(u32::from_be_bytes(*value)) / 1_000.0).collect(),
    })
}

fn profile() -> String {
    "vibration".to_owned()
}

sluice_plugin::export_decoder!(Vibration);
