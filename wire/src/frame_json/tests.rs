use proptest::prelude::*;

use super::*;

/// A frame as it reads, whatever its dictionaries look like; numbers by their bits.
fn read(frame: &Frame) -> (String, Vec<String>, Vec<Vec<String>>) {
    let heads = frame.columns.iter().map(|column| {
        format!("{} {} {} {}", column.name, column.unit, column.values.type_name(), column.status.len())
    });
    let rows = (0..frame.rows()).map(|row| {
        let cells = frame.columns.iter().map(|column| {
            let value = match &column.values {
                Values::F64(values) => format!("{:x}", values[row].to_bits()),
                Values::I64(values) => values[row].to_string(),
                Values::Bool(values) => values[row].to_string(),
                Values::Text(texts) => texts.get(row).unwrap().to_owned(),
                Values::Blob(blobs) => format!("{:?}", blobs.get(row).unwrap()),
            };
            format!("{value} {:?}", column.status.get(row))
        });
        let head = [frame.device_of(row).unwrap().to_owned(), frame.time[row].to_string()];
        head.into_iter().chain(cells).collect()
    });
    (frame.profile.clone(), heads.collect(), rows.collect())
}

fn there_and_back(frame: &Frame) -> Frame {
    let text = to_json(frame).to_string();
    from_json(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn special(bits: u64) -> f64 {
    match bits % 12 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        4 => f64::MIN_POSITIVE / 2.0,
        5 => f64::from_bits(0x7ff0_0000_0000_0001 | bits),
        6 => bits as f64,
        _ => f64::from_bits(bits),
    }
}

prop_compose! {
    fn column(rows: usize)(
        kind in 0..5,
        bits in prop::collection::vec(any::<u64>(), rows),
        strings in prop::collection::vec(".{0,9}", 1..4),
        with_status in any::<bool>(),
        unit in "[a-z/%°]{0,4}",
    ) -> Column {
        let values = match kind {
            0 => Values::F64(bits.iter().map(|bits| special(*bits)).collect()),
            1 => Values::I64(bits.iter().map(|bits| match bits % 8 { 0 => i64::MIN, 1 => i64::MAX, _ => *bits as i64 }).collect()),
            2 => Values::Bool(bits.iter().map(|bits| bits & 1 == 1).collect()),
            3 => Values::Text(Texts { index: bits.iter().map(|bits| (bits % strings.len() as u64) as u32).collect(), dictionary: strings }),
            _ => {
                let mut blobs = Blobs::default();
                bits.iter().for_each(|bits| blobs.push(&bits.to_le_bytes()[..(bits % 9) as usize]));
                Values::Blob(blobs)
            }
        };
        let status = if with_status { bits.iter().map(|bits| *bits as u32).collect() } else { Vec::new() };
        Column { name: String::new(), unit, values, status }
    }
}

fn frames() -> impl Strategy<Value = Frame> {
    (0..40_usize).prop_flat_map(|rows| {
        let columns = prop::collection::vec(column(rows), 0..6);
        let device = prop::collection::vec(0..3_u32, rows);
        let time = prop::collection::vec(any::<i64>(), rows);
        (columns, device, time, ".{1,9}").prop_map(|(mut columns, device, time, profile)| {
            for (at, column) in columns.iter_mut().enumerate() {
                column.name = format!("c{at}");
            }
            let devices = vec!["a".into(), "Süd \"7\"".into(), String::new()];
            Frame { profile, devices, device, time, columns }
        })
    })
}

proptest! {
    #[test]
    fn a_frame_is_the_same_after_json_to_the_last_bit(frame in frames()) {
        frame.check().unwrap();
        prop_assert_eq!(read(&there_and_back(&frame)), read(&frame));
    }

    #[test]
    fn no_json_whatsoever_makes_a_frame_that_breaks_the_rules(
        frame in frames(),
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(vec!["null", "-1", "1e99", "\"x\"", "[]", "{}", "true", ""]),
    ) {
        let mut text = to_json(&frame).to_string();
        let places: Vec<usize> = text.match_indices([',', ':', '[', '{']).map(|(at, _)| at + 1).collect();
        text.insert_str(places[at.index(places.len())], with);
        if let Ok(value) = serde_json::from_str(&text) && let Ok(frame) = from_json(&value) {
            prop_assert_eq!(frame.check(), Ok(()));
        }
    }
}

#[test]
fn the_written_form_is_this() {
    let frame = Frame {
        profile: "machine".into(),
        devices: vec!["unused".into(), "press-1".into()],
        device: vec![1],
        time: vec![i64::MAX],
        columns: vec![
            Column {
                name: "t".into(),
                unit: "Cel".into(),
                values: Values::F64(vec![-0.0]),
                status: vec![0x8000_0000],
            },
            Column {
                name: "raw".into(),
                unit: String::new(),
                values: Values::Blob(Blobs { ends: vec![2], bytes: vec![0, 255] }),
                status: vec![],
            },
        ],
    };
    assert_eq!(
        to_json(&frame).to_string(),
        r#"{"columns":[{"name":"t","type":"f64","unit":"Cel"},{"name":"raw","type":"blob"}],"profile":"machine","#
            .to_owned()
            + r#""rows":[{"device":"press-1","status":[2147483648,null],"time":9223372036854775807,"values":[-0.0,"AP8="]}]}"#
    );
}

#[test]
fn a_frame_without_rows_keeps_its_columns_and_one_without_columns_its_rows() {
    let mut frame = Frame { profile: "p".into(), ..Frame::default() };
    let column = Column {
        name: "x".into(),
        unit: "bar".into(),
        values: Values::Text(Texts::default()),
        status: Vec::new(),
    };
    frame.columns.push(column);
    assert_eq!(there_and_back(&frame), frame);
    let bare = Frame {
        columns: Vec::new(),
        devices: vec!["d".into()],
        device: vec![0; 3],
        time: vec![1, 2, 3],
        ..frame
    };
    assert_eq!(there_and_back(&bare), bare);
}

#[test]
fn a_hand_written_frame_may_leave_out_good_status_and_decimals() {
    let frame = from_json(&json!({
        "profile": "p",
        "columns": [{"name": "x", "type": "f64"}, {"name": "n", "type": "i64"}],
        "rows": [
            {"device": "d", "time": 1, "values": [2, 3]},
            {"device": "d", "time": 2, "values": [2.5, 3], "status": [7, null]},
            {"device": "e", "time": 3, "values": ["NaN", 3]},
        ],
    }))
    .unwrap();
    assert_eq!(frame.columns[0].status, [0, 7, 0]);
    assert_eq!(frame.columns[1].status, [] as [u32; 0]);
    assert_eq!(frame.devices, ["d", "e"]);
    assert!(matches!(&frame.columns[0].values, Values::F64(values) if values[..2] == [2.0, 2.5]));
}

#[test]
fn what_is_wrong_is_named_by_its_place() {
    let good = json!({
        "profile": "p",
        "columns": [{"name": "x", "type": "f64"}, {"name": "raw", "type": "blob"}],
        "rows": [{"device": "d", "time": 1, "values": [1.5, ""]}, {"device": "d", "time": 2, "values": [1.5, ""]}],
    });
    from_json(&good).unwrap();
    let broken = |pointer: &str, value: Value| {
        let mut frame = good.clone();
        *frame.pointer_mut(pointer).unwrap() = value;
        from_json(&frame).unwrap_err().to_string()
    };
    assert_eq!(
        broken("/rows/1/values/0", json!("1.5")),
        "rows[1].values[0] (x): expected a number, \"NaN\", \"inf\" or \"-inf\" (f64), found a text"
    );
    assert_eq!(
        broken("/rows/0/values/1", json!("%")),
        "rows[0].values[1] (raw): expected bytes in base64 (blob), found a text"
    );
    assert_eq!(
        broken("/rows/1/time", json!(1.5)),
        "rows[1].time: expected whole nanoseconds since 1970 UTC, found a number with decimals or beyond 64 bits"
    );
    assert_eq!(broken("/rows/1/values", json!([1.5])), "rows[1].values: 1 entries, but there are 2 columns");
    assert_eq!(broken("/rows/1", json!({"device": "d", "time": 1})), "rows[1]: \"values\" is missing");
    assert_eq!(broken("/rows/1", json!(7)), "rows[1]: expected an object, found a whole number");
    assert_eq!(
        broken("/columns/0/type", json!("f32")),
        "columns[0].type: expected f64, i64, bool, text or blob"
    );
    assert_eq!(broken("/columns/0/name", json!("raw")), "frame: column \"raw\" occurs twice");
    assert_eq!(broken("/profile", json!("")), "frame: a profile must have 1 to 256 bytes, it has 0");
    assert_eq!(
        broken("/rows/0", json!({"device": "d", "time": 1, "values": [1.5, ""], "status": [-1, null]})),
        "rows[0].status[0] (x): expected a status code from 0 to 4294967295, found a whole number"
    );
    assert_eq!(
        broken("/rows/0", json!({"device": "d", "time": 1, "values": [1.5, ""], "note": 1})),
        "rows[0]: unknown key \"note\", known are device, time, values, status"
    );
    assert_eq!(from_json(&json!([])).unwrap_err().to_string(), "frame: expected an object, found a list");
    assert_eq!(from_json(&json!({})).unwrap_err().to_string(), "frame: \"profile\" is missing");
}
