//! Rows as JSON lines: an object a line with `device`, `time` and the columns, nested names joined by dots as the gateway
//! joins them; or whole frames, as exports of a gateway hold them ([`wire::frame_json`]).

use std::borrow::Cow;

use serde_json::{Map, Value};
use wire::frame::Frame;

use super::RowsError;
use super::builder::{Builder, Row, Scalar};
use super::csv::Clock;
use super::messages::{Inbox, Message, payload};
use super::moment;

/// Deepest nesting of objects that is followed.
const MAX_DEPTH: usize = 16;

/// Appends the rows of a text; frames that are written whole are handed to `whole` instead.
///
/// # Errors
/// The line and what is wrong there.
pub fn frames(
    text: &str,
    builder: &mut Builder,
    clock: Clock,
    mut whole: impl FnMut(Frame),
) -> Result<(), RowsError> {
    each(text, |line, object| {
        let wrong = |what: String| RowsError::new(line, what);
        let frame = match object.get("frame") {
            Some(frame) if frame.is_object() => Some(wire::frame_json::from_json(frame)),
            _ if object.contains_key("columns") && object.contains_key("rows") => {
                Some(wire::frame_json::from_json(&Value::Object(object.clone())))
            }
            _ => None,
        };
        match frame {
            Some(frame) => whole(frame.map_err(|error| wrong(error.to_string()))?),
            None => builder.push(&row(object, clock).map_err(wrong)?).map_err(wrong)?,
        }
        Ok(())
    })
}

/// Appends messages: objects with `device`, `topic`, `arrived`, and one of `text`, `json`, `hex`, `base64`.
///
/// # Errors
/// The line and what is wrong there.
pub fn messages(text: &str, inbox: &mut Inbox, clock: Clock) -> Result<(), RowsError> {
    each(text, |line, object| {
        let wrong = |what: String| RowsError::new(line, what);
        inbox.push(&message(object, clock).map_err(wrong)?).map_err(wrong)
    })
}

/// A message from an object.
///
/// # Errors
/// What is wrong with it.
pub fn message(object: &Map<String, Value>, clock: Clock) -> Result<Message<'static>, String> {
    let mut message = Message { arrived: clock.now, ..Message::default() };
    let mut payloads = 0;
    for (name, value) in object {
        let text = value.as_str().ok_or_else(|| format!("{name:?} must be a text"));
        match name.as_str() {
            "device" => message.device = Cow::Owned(text?.to_owned()),
            "topic" => message.topic = Cow::Owned(text?.to_owned()),
            "arrived" => message.arrived = time(value, clock)?,
            "json" => {
                message.payload = value.to_string().into_bytes();
                payloads += 1;
            }
            "text" | "hex" | "base64" => {
                message.payload = payload(name, text?).map_err(|what| format!("{name}: {what}"))?;
                payloads += 1;
            }
            _ => {
                return Err(format!(
                    "unknown key {name:?}; a message has device, topic, arrived, and one of text, json, hex, base64"
                ));
            }
        }
    }
    match payloads {
        1 => Ok(message),
        0 => Err("the message has no payload: write one of text, json, hex, base64".to_owned()),
        _ => Err("the message has more than one payload: write one of text, json, hex, base64".to_owned()),
    }
}

/// A row from an object; keys that name no column are `device`, `time` and `status:COLUMN`.
///
/// # Errors
/// What is wrong with it.
pub fn row(object: &Map<String, Value>, clock: Clock) -> Result<Row<'static>, String> {
    let mut row = Row { time: clock.now, ..Row::default() };
    let Some(device) = object.get("device") else {
        return Err("\"device\" is missing".to_owned());
    };
    row.device = Cow::Owned(device.as_str().ok_or("\"device\" must be a text")?.to_owned());
    if let Some(at) = object.get("time") {
        row.time = time(at, clock)?;
    }
    for (name, value) in object.iter().filter(|(name, _)| !matches!(name.as_str(), "device" | "time")) {
        match name.strip_prefix("status:") {
            Some(column) => {
                let code = value.as_u64().and_then(|code| u32::try_from(code).ok());
                let code = code.ok_or_else(|| format!("{name:?} must be a status code (0 to 4294967295)"))?;
                row.status.push((Cow::Owned(column.to_owned()), code));
            }
            None => cell(&mut row, name.clone(), value, 0)?,
        }
    }
    Ok(row)
}

fn cell(row: &mut Row<'static>, name: String, value: &Value, depth: usize) -> Result<(), String> {
    let scalar = match value {
        Value::Object(_) if depth >= MAX_DEPTH => {
            return Err(format!("{name:?} is nested more than {MAX_DEPTH} deep"));
        }
        Value::Object(object) => {
            return object
                .iter()
                .try_for_each(|(key, value)| cell(row, format!("{name}.{key}"), value, depth + 1));
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Scalar::Int(whole),
            (None, Some(number)) => Scalar::Float(number),
            (None, None) => return Err(format!("{name:?} is out of bounds")),
        },
        Value::Bool(value) => Scalar::Bool(*value),
        Value::String(text) => Scalar::Text(Cow::Owned(text.clone())),
        Value::Null | Value::Array(_) => {
            return Err(format!(
                "{name:?} must be a number, true, false or a text; leave it out if there is no value"
            ));
        }
    };
    row.cells.push((Cow::Owned(name), scalar));
    Ok(())
}

fn time(value: &Value, clock: Clock) -> Result<i64, String> {
    match (value.as_i64(), value.as_str()) {
        (Some(nanos), _) => Ok(nanos),
        (_, Some(text)) => moment::parse(text, clock.start),
        _ => Err("a time is a text such as \"90 s\", or whole nanoseconds since 1970 UTC".to_owned()),
    }
}

/// Each line that is not blank, or each element if the text is one list.
fn each(
    text: &str,
    mut with: impl FnMut(usize, &Map<String, Value>) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let object = |line: usize, value: &Value| match value.as_object() {
        Some(object) => Ok(object.clone()),
        None => Err(RowsError::new(line, "expected an object, e.g. {\"device\": \"press-1\", …}")),
    };
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> =
            serde_json::from_str(text).map_err(|error| RowsError::new(error.line(), error.to_string()))?;
        for (at, value) in list.iter().enumerate() {
            let named =
                |error: RowsError| RowsError::new(error.line, format!("element {at}: {}", error.what));
            let object = object(0, value).map_err(named)?;
            with(0, &object).map_err(named)?;
        }
        return Ok(());
    }
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)
            .map_err(|error| RowsError::new(at + 1, format!("not a JSON object in one line: {error}")))?;
        with(at + 1, &object(at + 1, &value)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::builder::Declared;

    const CLOCK: Clock = Clock { start: 0, now: 7 };

    #[test]
    fn rows_messages_and_exported_frames_are_read() {
        let mut builder = Builder::new(Declared::default());
        let mut whole = Vec::new();
        let text = "{\"device\":\"a\",\"time\":\"1 s\",\"x\":{\"y\":1.5},\"status:x.y\":7}\n\n\
                    {\"tenant\":\"t\",\"seq\":1,\"frame\":{\"profile\":\"p\",\"columns\":[],\"rows\":[{\"device\":\"d\",\"time\":1,\"values\":[]}]}}\n";
        frames(text, &mut builder, CLOCK, |frame| whole.push(frame)).unwrap();
        let frames = builder.finish().unwrap();
        assert_eq!((frames[0].columns[0].name.as_str(), frames[0].time[0]), ("x.y", 1_000_000_000));
        assert_eq!(frames[0].columns[0].status, [7]);
        assert_eq!((whole.len(), whole[0].profile.as_str()), (1, "p"));

        let mut inbox = Inbox::default();
        messages(
            "[{\"device\":\"a\",\"hex\":\"01\"},{\"device\":\"b\",\"json\":{\"a\":1}}]",
            &mut inbox,
            CLOCK,
        )
        .unwrap();
        assert_eq!(inbox.messages().payloads, b"\x01{\"a\":1}");
        assert_eq!(inbox.messages().arrived, [7, 7]);
    }

    #[test]
    fn mistakes_name_their_line() {
        let read =
            |text: &str| frames(text, &mut Builder::new(Declared::default()), CLOCK, |_| ()).unwrap_err();
        assert_eq!(read("{\"device\":\"a\"}\n{\"x\":1}\n").to_string(), "\"device\" is missing");
        assert_eq!(read("{\"device\":\"a\"}\n{\"x\":1}\n").line, 2);
        assert_eq!(read("{\"device\":\"a\"}\n\n7\n").line, 3);
        assert_eq!(read("{\n").line, 1);
        assert!(read("{\"frame\":{\"profile\":\"p\"}}").what.contains("\"columns\" is missing"));
        let wrong = messages("{\"device\":\"a\",\"hex\":\"0\"}", &mut Inbox::default(), CLOCK).unwrap_err();
        assert!(wrong.what.starts_with("hex: hexadecimal"), "{wrong}");
    }
}
