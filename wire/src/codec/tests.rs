use proptest::prelude::*;

use super::*;
use crate::frame::{Blobs, Column, Texts, Values};

/// Rows as they can be compared: sorted by device, stably, values by their bits.
fn rows(frames: &[Frame]) -> Vec<(String, String, i64, Vec<String>)> {
    let mut rows = Vec::new();
    for frame in frames {
        let start = rows.len();
        for row in 0..frame.rows() {
            let values = frame
                .columns
                .iter()
                .map(|column| {
                    let value = match &column.values {
                        Values::F64(values) => format!("{:x}", values[row].to_bits()),
                        Values::I64(values) => values[row].to_string(),
                        Values::Bool(values) => values[row].to_string(),
                        Values::Text(texts) => texts.get(row).unwrap().to_owned(),
                        Values::Blob(blobs) => format!("{:?}", blobs.get(row).unwrap()),
                    };
                    let Column { name, unit, status, .. } = column;
                    format!("{name} {unit} {} {value} {:?}", column.values.type_name(), status.get(row))
                })
                .collect();
            let device = frame.device_of(row).unwrap().to_owned();
            rows.push((frame.profile.clone(), device, frame.time[row], values));
        }
        rows[start..].sort_by(|a, b| a.1.cmp(&b.1));
    }
    rows
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new().encode(frames, &mut out).unwrap();
    out
}

prop_compose! {
    fn column_of(rows: usize)(
        kind in 0..6,
        bits in prop::collection::vec(any::<u64>(), rows),
        narrow in 0u32..64,
        strings in prop::collection::vec(".{0,12}", 1..5),
        with_status in any::<bool>(),
        unit in "[a-z/%]{0,4}",
    ) -> Column {
        let values = match kind {
            0 => Values::F64(bits.iter().map(|bits| f64::from_bits(*bits)).collect()),
            1 => Values::F64(bits.iter().map(|bits| ((bits >> narrow) as i64 % 100_000) as f64 / 100.0).collect()),
            2 => Values::I64(bits.iter().map(|bits| *bits as i64 >> narrow).collect()),
            3 => Values::Bool(bits.iter().map(|bits| bits & 1 == 1).collect()),
            4 => {
                let index = bits.iter().map(|bits| (bits % strings.len() as u64) as u32).collect();
                Values::Text(Texts { dictionary: strings, index })
            }
            _ => {
                let mut blobs = Blobs::default();
                bits.iter().for_each(|bits| blobs.push(&bits.to_le_bytes()[..(bits % 9) as usize]));
                Values::Blob(blobs)
            }
        };
        let status = if with_status { bits.iter().map(|bits| *bits as u32 & 0x8000_0000).collect() } else { vec![] };
        Column { name: String::new(), unit, values, status }
    }
}

prop_compose! {
    fn frame_of(rows: usize)(
        profile in "[a-z]{1,8}",
        devices in prop::collection::hash_set(".{0,8}", 1..8),
        device in prop::collection::vec(any::<prop::sample::Index>(), rows),
        time in prop::collection::vec((any::<i32>(), 0..4usize), rows),
        columns in prop::collection::vec(column_of(rows), 0..5),
    ) -> Frame {
        let unit = time.first().map_or(1, |(_, unit)| [1i64, 1_000, 1_000_000, 1_000_000_000][*unit]);
        let devices: Vec<String> = devices.into_iter().collect();
        Frame {
            profile,
            device: device.iter().map(|index| index.index(devices.len()) as u32).collect(),
            devices,
            time: time.iter().map(|(time, _)| i64::from(*time) * unit).collect(),
            columns: (0..).zip(columns).map(|(at, column)| Column { name: format!("c{at}"), ..column }).collect(),
        }
    }
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    prop::collection::vec((0usize..40).prop_flat_map(frame_of), 0..4)
}

/// A batch like the ones plants send.
fn telemetry(rows: usize, devices: usize) -> Frame {
    let mut state = 42u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut levels: Vec<i64> = (0..devices).map(|_| 1_500 + random(7_000) as i64).collect();
    let mut frame = Frame {
        profile: "machine".into(),
        devices: (0..devices).map(|device| format!("press-{device:04}")).collect(),
        ..Frame::default()
    };
    let (mut celsius, mut pressure, mut rpm, mut state) = (vec![], vec![], vec![], vec![]);
    for row in 0..rows {
        let device = row % devices;
        levels[device] += random(31) as i64 - 15;
        frame.device.push(device as u32);
        frame.time.push((1_760_000_000_123 + (row / devices) as i64 * 100 + random(20) as i64) * 1_000_000);
        celsius.push(levels[device] as f64 / 100.0);
        pressure.push((1_000 + random(40)) as f64 / 10.0);
        rpm.push((1_450 + random(60)) as f64);
        state.push(u32::from(random(40) == 0));
    }
    let fahrenheit = celsius.iter().map(|value| value * 1.8 + 32.0).collect();
    let texts = Texts { dictionary: vec!["RUN".into(), "STOP".into()], index: state };
    for (name, values) in [
        ("temperature_c", Values::F64(celsius)),
        ("temperature_f", Values::F64(fahrenheit)),
        ("pressure_kpa", Values::F64(pressure)),
        ("rpm", Values::F64(rpm)),
        ("state", Values::Text(texts)),
    ] {
        frame.columns.push(Column { name: name.into(), unit: String::new(), values, status: vec![] });
    }
    frame
}

proptest! {
    #[test]
    fn rows_come_back_bit_by_bit(frames in frames()) {
        let batch = encoded(&frames);
        let back = decode(&batch, &Limits::default()).unwrap();
        prop_assert_eq!(rows(&back), rows(&frames));
        let mut devices = Vec::new();
        let rows = visit_devices(&batch, &Limits::default(), |device| devices.push(device.to_owned())).unwrap();
        prop_assert_eq!(rows as usize, frames.iter().map(Frame::rows).sum::<usize>());
        prop_assert_eq!(devices, back.into_iter().flat_map(|frame| frame.devices).collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_found(frames in frames(), place in any::<prop::sample::Index>(), flip in 1u8..) {
        let batch = encoded(&frames);
        let mut damaged = batch.clone();
        damaged[place.index(batch.len())] ^= flip;
        prop_assert!(decode(&damaged, &Limits::default()).is_err());
        prop_assert!(decode(&batch[..place.index(batch.len())], &Limits::default()).is_err());
    }

    #[test]
    fn what_is_wrong_on_purpose_costs_little_and_never_panics(
        frames in frames(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut batch = encoded(&frames);
        batch.truncate(batch.len() - CHECKSUM_BYTES);
        for (place, value) in changes {
            let place = place.index(batch.len());
            batch[place] = value;
        }
        if let Some(cut) = cut {
            batch.truncate(cut.index(batch.len()));
        }
        let sum = checksum(&batch);
        batch.extend_from_slice(&sum);
        let limits = Limits { frames: 16, rows: 10_000, bytes: 1 << 20 };
        if let Ok(frames) = decode(&batch, &limits) {
            prop_assert!(frames.iter().map(Frame::rows).sum::<usize>() <= limits.rows);
            prop_assert!(frames.iter().all(|frame| frame.check().is_ok()));
        }
        let _ = visit_devices(&batch, &limits, |_| ());
    }

    #[test]
    fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &Limits::default());
        bytes.splice(0..0, [VERSION, 0]);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let _ = decode(&bytes, &Limits { frames: 16, rows: 10_000, bytes: 1 << 20 });
    }
}

#[test]
fn a_claim_of_many_rows_takes_no_memory() {
    // One frame, one column; a constant of 2^20 rows takes 2 bytes, as often as there are columns.
    let columns = 1_024;
    let mut frame = Frame {
        profile: "p".into(),
        devices: vec!["d".into()],
        device: vec![0; 1_000],
        time: vec![0; 1_000],
        columns: vec![],
    };
    for column in 0..columns {
        let values = Values::F64(vec![1.0; 1_000]);
        frame.columns.push(Column {
            name: format!("c{column}"),
            unit: String::new(),
            values,
            status: vec![],
        });
    }
    let batch = encoded(&[frame]);
    assert!(batch.len() < 20_000);
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    assert_eq!(decode(&batch, &limits), Err(DecodeError::Limit { what: "bytes", limit: 1 << 20 }));
    let limits = Limits { rows: 999, ..Limits::default() };
    assert_eq!(decode(&batch, &limits), Err(DecodeError::Limit { what: "rows", limit: 999 }));
}

#[test]
fn what_no_row_names_is_left_out() {
    let mut frame = telemetry(4, 8);
    frame.devices[6] = "never".into();
    let Values::Text(texts) = &mut frame.columns[4].values else { panic!("state is text") };
    *texts = Texts { dictionary: vec!["A".into(), "B".into(), "C".into()], index: vec![2, 0, 2, 2] };
    let back = decode(&encoded(&[frame.clone()]), &Limits::default()).unwrap();
    assert_eq!(back[0].devices.len(), 4);
    let Values::Text(texts) = &back[0].columns[4].values else { panic!("state is text") };
    assert_eq!(texts.dictionary, ["A", "C"]);
    assert_eq!(rows(&back), rows(&[frame]));
}

#[test]
fn telemetry_takes_few_bytes_a_reading() {
    for (rows, devices, most) in [(50, 50, 3.6), (200, 100, 2.6), (1_000, 100, 1.4), (4_096, 100, 1.2)] {
        let frame = telemetry(rows, devices);
        let bytes = encoded(&[frame]).len() as f64 / (rows * 5) as f64;
        assert!(bytes <= most, "{bytes:.2} bytes a reading with {rows} rows of {devices} devices");
    }
}

#[test]
fn version_1_is_written_as_ever() {
    let mut frame = telemetry(3, 2);
    frame.columns.truncate(2);
    frame.columns[1].status = vec![0, 0x8000_0000, 0];
    let golden = include_str!("golden_v1.hex").trim();
    let batch = encoded(&[frame.clone()]);
    let hex: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    assert_eq!(rows(&decode(&batch, &Limits::default()).unwrap()), rows(&[frame]));
}

#[test]
fn another_version_is_named() {
    let mut batch = encoded(&[telemetry(3, 2)]);
    batch[0] = 2;
    assert_eq!(decode(&batch, &Limits::default()), Err(DecodeError::Version(2)));
}
