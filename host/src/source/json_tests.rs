use proptest::prelude::*;

use super::*;
use gateway_config::{TimeField, TimeMissing};
use std::time::Duration;

fn time_rule(missing: TimeMissing) -> TimeRule {
    TimeRule::new(Some(&TimeField {
        field: "meta.ts".into(),
        unit: TimeUnit::Millis,
        max_ahead: Duration::from_secs(1),
        max_behind: None,
        missing,
    }))
}

#[derive(Debug, PartialEq)]
enum Value {
    F64(f64),
    I64(i64),
    Bool(bool),
    Text(String),
}

type Columns = Vec<(String, Value)>;

/// Parses like a source does, and gives the row by column names.
fn row_with(
    parser: &mut Parser,
    shapes: &mut Shapes,
    json: &[u8],
) -> Result<(Option<i64>, Columns), JsonFault> {
    let row = parser.parse(json, shapes, 0, &time_rule(TimeMissing::Arrival))?;
    let shape = shapes.get(row.shape).unwrap();
    let layout = shapes.layout_of(shape.layout).unwrap();
    assert_eq!(parser.cells().len(), shape.columns.len());
    let cells = parser.cells().iter().zip(&shape.columns).map(|(cell, &at)| {
        let (name, kind) = &layout.columns[usize::from(at)];
        let value = match *cell {
            Cell::F64(value) => (Kind::F64, Value::F64(value)),
            Cell::I64(value) => (Kind::I64, Value::I64(value)),
            Cell::Bool(value) => (Kind::Bool, Value::Bool(value)),
            Cell::Text(from, to) => (Kind::Text, Value::Text(parser.text(from, to).to_owned())),
        };
        assert_eq!(value.0, *kind, "a cell has the type of its column");
        (name.to_string(), value.1)
    });
    Ok((row.time, cells.collect()))
}

fn row(json: &str) -> Result<(Option<i64>, Columns), JsonFault> {
    row_with(&mut Parser::default(), &mut Shapes::default(), json.as_bytes())
}

fn columns(json: &str) -> Columns {
    row(json).unwrap().1
}

fn f64s(name: &str, value: f64) -> (String, Value) {
    (name.to_owned(), Value::F64(value))
}

fn text(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::Text(value.to_owned()))
}

#[test]
fn nested_keys_are_joined_by_dots() {
    let json = r#" {"a":1,"motor":{"rpm":2,"bearing":{"t":3,"none":{}}},"z":4} "#;
    let expected = vec![f64s("a", 1.0), f64s("motor.rpm", 2.0), f64s("motor.bearing.t", 3.0), f64s("z", 4.0)];
    assert_eq!(columns(json), expected);
}

#[test]
fn every_type_has_its_column() {
    let json =
        r#"{"f":1.5,"i":-7,"b":true,"c":false,"t":"RUN","n":null,"l":[1, {"x":[]}],"u":"\u00e4\n\"","e":""}"#;
    let expected = vec![
        f64s("f", 1.5),
        f64s("i", -7.0),
        ("b".into(), Value::Bool(true)),
        ("c".into(), Value::Bool(false)),
        text("t", "RUN"),
        text("l", r#"[1, {"x":[]}]"#),
        text("u", "ä\n\""),
        text("e", ""),
    ];
    assert_eq!(columns(json), expected);
}

#[test]
fn no_digit_of_an_integer_is_lost() {
    assert_eq!(columns(r#"{"a":9007199254740992}"#), [f64s("a", 9_007_199_254_740_992.0)]);
    let wide = |json: &str| columns(json).remove(0).1;
    assert_eq!(wide(r#"{"a":9007199254740993}"#), Value::I64(9_007_199_254_740_993));
    assert_eq!(wide(r#"{"a":-9223372036854775808}"#), Value::I64(i64::MIN));
    assert_eq!(wide(r#"{"a":9223372036854775808}"#), Value::Text("9223372036854775808".into()));
    assert_eq!(
        wide(r#"{"a":-123456789012345678901234567890}"#),
        Value::Text("-123456789012345678901234567890".into())
    );
    let Value::F64(zero) = wide(r#"{"a":-0}"#) else { panic!("-0 is a float") };
    assert!(zero.is_sign_negative());
}

#[test]
fn the_time_is_no_column_and_may_be_nested_quoted_or_missing() {
    let time = |json: &str| row(json).map(|(time, columns)| (time, columns.len()));
    assert_eq!(time(r#"{"meta":{"ts":1760000000123},"a":1}"#), Ok((Some(1_760_000_000_123_000_000), 1)));
    assert_eq!(time(r#"{"a":1,"meta":{"x":2,"ts":0.5}}"#), Ok((Some(500_000), 2)));
    assert_eq!(time(r#"{"meta":{"ts":"17"},"a":1}"#), Ok((Some(17_000_000), 1)));
    assert_eq!(time(r#"{"meta":{"ts":null},"a":1}"#), Ok((None, 1)));
    assert_eq!(time(r#"{"ts":5,"a":1}"#), Ok((None, 2)));
    assert!(matches!(time(r#"{"meta":{"ts":true},"a":1}"#), Err(JsonFault::Time(TimeFault::Type { .. }))));
    assert!(matches!(time(r#"{"meta":{"ts":[1]},"a":1}"#), Err(JsonFault::Time(TimeFault::Type { .. }))));
    assert!(matches!(
        time(r#"{"meta":{"ts":99999999999999999999},"a":1}"#),
        Err(JsonFault::Time(TimeFault::Range))
    ));
    assert_eq!(time(r#"{"meta":{"ts":1,"ts":2},"a":1}"#), Err(JsonFault::DuplicateKey("meta.ts".into())));
    let required = |json: &str| {
        Parser::default().parse(json.as_bytes(), &mut Shapes::default(), 0, &time_rule(TimeMissing::Reject))
    };
    assert_eq!(required(r#"{"a":1}"#), Err(JsonFault::Time(TimeFault::Missing("meta.ts".into()))));
    assert!(required(r#"{"a":1,"meta":{"ts":1}}"#).is_ok());
}

#[test]
fn what_is_no_row_says_why_and_where() {
    assert_eq!(row(""), Err(JsonFault::Empty));
    assert_eq!(row("[1]"), Err(JsonFault::NotAnObject("an array")));
    assert_eq!(row("17"), Err(JsonFault::NotAnObject("a number")));
    assert_eq!(row("hello"), Err(JsonFault::NotAnObject("no JSON")));
    assert_eq!(row("{}"), Err(JsonFault::NoValues));
    assert_eq!(row(r#"{"a":null}"#), Err(JsonFault::NoValues));
    assert_eq!(row(r#"{"meta":{"ts":1}}"#), Err(JsonFault::NoValues));
    assert_eq!(row(r#"{"a":1,"b":2,"a":3}"#), Err(JsonFault::DuplicateKey("a".into())));
    assert_eq!(row(r#"{"a":1,"a":"x"}"#), Err(JsonFault::DuplicateKey("a".into())));
    assert_eq!(row(r#"{"a":null,"a":1}"#), Err(JsonFault::DuplicateKey("a".into())));
    assert_eq!(row(r#"{"a":{"b":1},"a.b":2}"#), Err(JsonFault::DuplicateKey("a.b".into())));
    assert_eq!(row(r#"{"":1}"#), Err(JsonFault::Name { bytes: 0 }));
    assert_eq!(row(&format!(r#"{{"{}":1}}"#, "k".repeat(257))), Err(JsonFault::Name { bytes: 257 }));
    assert_eq!(row(r#"{"a":1e999}"#), Err(JsonFault::Infinite { at: 5 }));
    for broken in [
        "{",
        r#"{"a""#,
        r#"{"a":"#,
        r#"{"a":1"#,
        r#"{"a":1,}"#,
        r#"{"a":1}}"#,
        r#"{"a":01}"#,
        r#"{"a":tru}"#,
        r#"{"a":"x}"#,
        r#"{"a":.5}"#,
        r#"{"a":NaN}"#,
        r#"{"a":Infinity}"#,
        r#"{"a":-}"#,
        r#"{a:1}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":"\ud800"}"#,
        "{\"a\":\"\t\"}",
        r#"{"a":1} x"#,
        "   ",
        "{\"a\":1\u{0}}",
    ] {
        assert!(matches!(row(broken), Err(JsonFault::Syntax { .. })), "{broken:?} gives {:?}", row(broken));
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused_wherever_they_stand() {
    for broken in [
        &b"\xff\xfe{}"[..],
        b"{\"a\":\"\xff\"}",
        b"{\"\xc3\":1}",
        b"{\"a\":[\"\xff\"]}",
        b"{\"a\":\xff}",
        b"{\"a\":\"\xed\xa0\x80\"}",
    ] {
        let result = row_with(&mut Parser::default(), &mut Shapes::default(), broken);
        assert!(matches!(result, Err(JsonFault::Syntax { .. } | JsonFault::NotAnObject(_))), "{result:?}");
    }
}

#[test]
fn depth_and_width_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert_eq!(columns(&nested(MAX_DEPTH + 1)).len(), 1);
    assert_eq!(row(&nested(MAX_DEPTH + 2)), Err(JsonFault::TooDeep));
    assert_eq!(row(&nested(100_000)), Err(JsonFault::TooDeep));
    let arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        row(&arrays),
        Err(JsonFault::Syntax { what: JsonErrorType::RecursionLimitExceeded, .. })
    ));
    let wide = |columns: usize| {
        let fields: Vec<String> = (0..columns).map(|n| format!(r#""k{n}":{n}"#)).collect();
        format!("{{{}}}", fields.join(","))
    };
    assert_eq!(columns(&wide(MAX_COLUMNS)).len(), MAX_COLUMNS);
    assert_eq!(row(&wide(MAX_COLUMNS + 1)), Err(JsonFault::TooManyKeys));
    assert_eq!(row(&wide(100_000)), Err(JsonFault::TooManyKeys));
}

#[test]
fn a_broken_message_leaves_nothing_for_the_next_one() {
    let (mut parser, mut shapes) = (Parser::default(), Shapes::default());
    let good = br#"{"meta":{"ts":1},"a":1,"s":"x"}"#;
    let expected = row_with(&mut parser, &mut shapes, good).unwrap();
    assert!(row_with(&mut parser, &mut shapes, br#"{"meta":{"ts":2},"a":9,"s":"y""#).is_err());
    assert_eq!(row_with(&mut parser, &mut shapes, br#"{"a":7}"#).unwrap(), (None, vec![f64s("a", 7.0)]));
    assert_eq!(row_with(&mut parser, &mut shapes, good).unwrap(), expected);
}

#[test]
fn the_same_columns_in_another_order_share_a_layout_and_another_type_does_not() {
    let (mut parser, mut shapes) = (Parser::default(), Shapes::default());
    let mut layout = |json: &str| {
        let row = parser.parse(json.as_bytes(), &mut shapes, 0, &time_rule(TimeMissing::Arrival)).unwrap();
        shapes.get(row.shape).unwrap().layout
    };
    let first = layout(r#"{"a":1,"b":"x","c":null}"#);
    assert_eq!(layout(r#"{"b":"y","a":2}"#), first);
    assert_ne!(layout(r#"{"b":"y","a":true}"#), first);
    assert_ne!(layout(r#"{"b":"y","a":9007199254740993}"#), first);
    assert_ne!(layout(r#"{"b":"y","a":2,"c":1}"#), first);
}

#[test]
fn endless_new_keys_fill_the_tree_and_then_it_is_cleared() {
    let (mut parser, mut shapes) = (Parser::default(), Shapes::default());
    let mut cleared = 0;
    for n in 0..10_000 {
        if shapes.is_full() {
            shapes.clear();
            cleared += 1;
        }
        let json = format!(r#"{{"k{n}":1}}"#);
        let (_, columns) = row_with(&mut parser, &mut shapes, json.as_bytes()).unwrap();
        assert_eq!(columns, [f64s(&format!("k{n}"), 1.0)]);
    }
    assert!(cleared > 100, "cleared {cleared} times");
}

/// What serde_json makes of the same text, as columns.
fn oracle(prefix: &str, value: &serde_json::Value, columns: &mut Columns) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Bool(value) => columns.push((prefix.to_owned(), Value::Bool(*value))),
        serde_json::Value::Number(number) => columns.push((
            prefix.to_owned(),
            match number.as_i64() {
                Some(value) if value.unsigned_abs() > 1 << 53 => Value::I64(value),
                _ if number.is_u64() && number.as_i64().is_none() => Value::Text(number.to_string()),
                _ => Value::F64(number.as_f64().unwrap()),
            },
        )),
        serde_json::Value::String(value) => columns.push(text(prefix, value)),
        serde_json::Value::Array(_) => columns.push(text(prefix, &value.to_string())),
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                oracle(
                    &if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") },
                    value,
                    columns,
                );
            }
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-cä]{1,2}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn numbers_are_rounded_as_std_does(number in r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let expected: f64 = number.parse().unwrap();
        match row(&format!(r#"{{"a":{number}}}"#)) {
            Ok((_, columns)) => match &columns[0].1 {
                Value::F64(value) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                Value::I64(value) => prop_assert_eq!(value.to_string(), number),
                Value::Text(value) => prop_assert_eq!(value, &number),
                Value::Bool(_) => prop_assert!(false),
            },
            Err(fault) => {
                prop_assert_eq!(fault, JsonFault::Infinite { at: 5 });
                prop_assert!(expected.is_infinite());
            }
        }
    }

    #[test]
    fn every_float_is_read_back_exactly(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        for text in [format!("{value:?}"), format!("{value:e}"), format!("{value:.20e}")] {
            let read = columns(&format!(r#"{{"a":{text}}}"#));
            let Value::F64(read) = read[0].1 else { return Err(TestCaseError::fail("no float")) };
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(read.to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn a_stream_of_messages_reads_as_serde_json_reads_each(
        messages in prop::collection::vec(prop::collection::btree_map("[a-cä]{1,2}", any_json(), 0..6), 1..12)
    ) {
        let (mut parser, mut shapes) = (Parser::default(), Shapes::default());
        for message in messages {
            let message = serde_json::Value::Object(message.into_iter().collect());
            let mut expected = Vec::new();
            oracle("", &message, &mut expected);
            match row_with(&mut parser, &mut shapes, message.to_string().as_bytes()) {
                Ok((None, mut columns)) => {
                    columns.sort_by(|one, two| one.0.cmp(&two.0));
                    expected.sort_by(|one, two| one.0.cmp(&two.0));
                    prop_assert_eq!(columns, expected);
                }
                Ok(_) => prop_assert!(false, "a time from nowhere"),
                Err(fault) => {
                    prop_assert_eq!(fault, JsonFault::NoValues);
                    prop_assert!(expected.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(prop_oneof![
            3 => prop::sample::select(b"{}[]\",:\\utrfalsn0123456789.eE+- ".to_vec()),
            1 => any::<u8>(),
        ], 0..80)
    ) {
        let mut object = b"{\"a\":".to_vec();
        object.extend_from_slice(&bytes);
        for payload in [&bytes, &object] {
            // What is taken here must be JSON to serde_json too, unless it only differs in its own limits.
            let ours = row_with(&mut Parser::default(), &mut Shapes::default(), payload);
            if ours.is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(payload).is_ok());
            }
        }
    }
}
