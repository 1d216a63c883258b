//! What a device measures: a seeded random walk, rendered as the JSON that a machine would send.
//!
//! ```json
//! {"ts":1760000000123,"seq":17,"temperature_c":71.53,"pressure_kpa":101.3,"rpm":1480,"state":"RUN"}
//! ```
//! A known share of the temperatures lies outside −40..125 °C, where a range filter has to drop them. The same reading
//! always renders to the same bytes, so that what is sent again is what was sent before.

/// The filter's range in hundredths of a degree Celsius, both ends included.
pub const IN_RANGE: std::ops::RangeInclusive<i32> = -4_000..=12_500;
/// Of this many readings one is out of range.
pub const OUTLIER_EVERY: u64 = 20;

/// One reading. Small, so that what is in flight can be rendered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970 UTC, increasing within a device.
    pub ts: i64,
    /// 1, 2, 3 … within a device.
    pub seq: u32,
    /// Hundredths of a degree Celsius.
    pub centi_celsius: i32,
    /// Tenths of a kilopascal.
    pub deci_kpa: i32,
    /// Revolutions per minute.
    pub rpm: i32,
    /// Index into the states.
    pub state: u8,
}

const STATES: [&str; 4] = ["RUN", "IDLE", "STOP", "FAULT"];

/// A device's measurements, one after the other.
#[derive(Debug, Clone)]
pub struct Walk {
    random: Random,
    last: Reading,
}

impl Walk {
    /// A device that begins anywhere between 60 and 95 °C; everything follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        let start = 6_000 + random.below(3_500);
        let last = Reading { ts: 0, seq: 0, centi_celsius: start, deci_kpa: 1_013, rpm: 1_480, state: 0 };
        Self { random, last }
    }

    /// The next reading, at `now` or a millisecond after the last one.
    pub fn next(&mut self, now: i64) -> Reading {
        let random = &mut self.random;
        let last = &mut self.last;
        last.ts = now.max(last.ts + 1);
        last.seq += 1;
        last.centi_celsius = (last.centi_celsius + random.below(61) - 30).clamp(1_000, 11_000);
        last.deci_kpa = (last.deci_kpa + random.below(3) - 1).clamp(950, 1_080);
        last.rpm = (last.rpm + random.below(7) - 3).clamp(1_400, 1_600);
        if random.below(200) == 0 {
            last.state = random.below(4) as u8;
        }
        let mut reading = *last;
        if random.draw().is_multiple_of(OUTLIER_EVERY) {
            reading.centi_celsius = if random.below(2) == 0 { -5_000 } else { 12_600 } + random.below(500);
        }
        reading
    }
}

impl Reading {
    /// Whether the range filter keeps it.
    #[must_use]
    pub fn in_range(&self) -> bool {
        IN_RANGE.contains(&self.centi_celsius)
    }

    /// Appends it as JSON.
    pub fn render(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":");
        integer(out, self.ts);
        out.extend_from_slice(b",\"seq\":");
        integer(out, i64::from(self.seq));
        out.extend_from_slice(b",\"temperature_c\":");
        decimal(out, self.centi_celsius, 2);
        out.extend_from_slice(b",\"pressure_kpa\":");
        decimal(out, self.deci_kpa, 1);
        out.extend_from_slice(b",\"rpm\":");
        integer(out, i64::from(self.rpm));
        out.extend_from_slice(b",\"state\":\"");
        out.extend_from_slice(STATES[usize::from(self.state)].as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    digits(out, value.unsigned_abs(), 1);
}

fn decimal(out: &mut Vec<u8>, value: i32, places: u32) {
    if value < 0 {
        out.push(b'-');
    }
    let scale = 10u64.pow(places);
    let value = u64::from(value.unsigned_abs());
    digits(out, value / scale, 1);
    out.push(b'.');
    digits(out, value % scale, places as usize);
}

fn digits(out: &mut Vec<u8>, mut value: u64, at_least: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 || text.len() - at < at_least {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[at..]);
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 up to and without `limit`.
    pub fn below(&mut self, limit: u32) -> i32 {
        (((self.draw() >> 32) * u64::from(limit)) >> 32) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_json_with_the_values_it_was_made_of() {
        let mut out = vec![];
        let reading = Reading {
            ts: 1_760_000_000_123,
            seq: 7,
            centi_celsius: -4_005,
            deci_kpa: 1_013,
            rpm: 1_480,
            state: 2,
        };
        reading.render(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"ts": 1_760_000_000_123_i64, "seq": 7, "temperature_c": -40.05,
                "pressure_kpa": 101.3, "rpm": 1480, "state": "STOP"})
        );
    }

    #[test]
    fn a_walk_repeats_from_its_seed_and_about_one_in_twenty_is_out_of_range() {
        let (mut a, mut b) = (Walk::new(7), Walk::new(7));
        let readings: Vec<Reading> = (0..20_000).map(|now| a.next(now)).collect();
        assert!(readings.iter().enumerate().all(|(now, reading)| *reading == b.next(now as i64)));
        let out = readings.iter().filter(|reading| !reading.in_range()).count();
        assert!((800..1_200).contains(&out), "{out} of 20000");
        assert!(readings.windows(2).all(|pair| pair[0].ts < pair[1].ts));
    }
}
