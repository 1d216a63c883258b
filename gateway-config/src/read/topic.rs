//! `[[source.topic]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::frame::MAX_NAME_BYTES;

use super::tenant::Known;
use crate::model::{Format, TimeField, TimeMissing, TimeUnit, Topic};
use crate::reader::{Table, Value};
use crate::topic::TopicFilter;

/// Most topics of a source.
const MAX_TOPICS: usize = 1_024;
const DAY: Duration = Duration::from_secs(86_400);
const UNITS: [(&str, TimeUnit); 5] = [
    ("s", TimeUnit::Seconds),
    ("ms", TimeUnit::Millis),
    ("us", TimeUnit::Micros),
    ("ns", TimeUnit::Nanos),
    ("rfc3339", TimeUnit::Rfc3339),
];

pub(super) fn read(source: &Table<'_>, known: &Known) -> Vec<Topic> {
    const EXAMPLE: &str = "[[source.topic]], and below it filter = \"site/{tenant}/{device}/telemetry\"";
    let Some(value) = source.required("topic", EXAMPLE) else { return Vec::new() };
    let Some(tables) = value.tables() else { return Vec::new() };
    if tables.is_empty() || tables.len() > MAX_TOPICS {
        value.error(format!("a source has 1 to {MAX_TOPICS} topics"), "");
    }
    let mut topics: Vec<Topic> = Vec::new();
    for table in &tables {
        let Some(topic) = topic(table, known) else { continue };
        if let Some(filter) = table.get("filter")
            && topics.iter().any(|before| before.filter.as_mqtt() == topic.filter.as_mqtt())
        {
            filter.error(
                "another topic of this source has the same filter already, and the first one counts",
                "remove one of them",
            );
        }
        topics.push(topic);
    }
    topics
}

fn topic(table: &Table<'_>, known: &Known) -> Option<Topic> {
    let filter = table
        .required("filter", "filter = \"site/{tenant}/{device}/telemetry\"")
        .and_then(|value| value.parse::<TopicFilter>());
    let tenant_value = table.get("tenant");
    let tenant = tenant_value.as_ref().and_then(|value| known.tenant(value));
    let device_value = table.get("device");
    let device = device_value.as_ref().and_then(Value::parse);
    if let Some(filter) = &filter {
        said_once(table, "tenant", tenant_value.as_ref(), filter.names_tenant());
        said_once(table, "device", device_value.as_ref(), filter.names_device());
    }
    let decoder = table.get("decoder");
    let raw = table
        .get("format")
        .map_or(Some(decoder.is_some()), |value| value.choice(&[("json", false), ("raw", true)]));
    let format = match (raw, decoder) {
        (None, _) => None,
        (Some(true), None) => {
            table.error(
                "raw payloads need a decoder",
                "write decoder = \"NAME\" for a [tenant.X.decoder.NAME]",
            );
            None
        }
        (Some(true), Some(value)) => value.filled().map(|name| {
            if tenant_value.is_none() || tenant.is_some() {
                known.decoder(&value, name, tenant.as_ref());
            }
            Format::Raw { decoder: name.to_owned() }
        }),
        (Some(false), Some(value)) => {
            value.error(
                "format = \"json\" is decoded by the gateway",
                "remove decoder, or write format = \"raw\"",
            );
            None
        }
        (Some(false), None) => Some(Format::Json),
    };
    let profile = table.get("profile").map_or(Some("default".to_owned()), |value| name(&value));
    let time = table.get("time").map(|value| value.table().and_then(|table| time(&table)));
    if let (Some(value), Some(Format::Raw { .. })) = (table.get("time"), &format) {
        value.error("time is a field of a JSON payload; here the decoder says when it was", "remove time");
    }
    let units = table.get("units").and_then(|value| value.table()).map(|table| units(&table));
    table.finish();
    Some(Topic {
        filter: filter?,
        tenant,
        device,
        format: format?,
        profile: profile?,
        time: time.flatten(),
        units: units.unwrap_or_default(),
    })
}

/// Tenant and device: each is said by the filter or by a key, not by both and not by none.
fn said_once(table: &Table<'_>, what: &str, key: Option<&Value<'_>>, in_filter: bool) {
    match (key, in_filter) {
        (Some(value), true) => {
            value.error(format!("the filter says the {what} already by {{{what}}}"), "remove one of the two");
        }
        (None, false) => table.error(
            format!("nothing says which {what} a message belongs to"),
            format!("put {{{what}}} into the filter, or write {what} = \"…\""),
        ),
        _ => {}
    }
}

fn time(table: &Table<'_>) -> Option<TimeField> {
    let field = table.required("field", "field = \"ts\"").and_then(|value| name(&value));
    let unit = table.required("unit", "unit = \"ms\"").and_then(|value| value.choice(&UNITS));
    let longest = 3_650 * DAY;
    let max_ahead = table.get("max_ahead").and_then(|value| value.duration(Duration::ZERO..=longest));
    let max_behind =
        table.get("max_behind").and_then(|value| value.duration(Duration::from_secs(1)..=longest));
    let missing = table.get("missing").and_then(|value| {
        value.choice(&[("reject", TimeMissing::Reject), ("arrival", TimeMissing::Arrival)])
    });
    table.finish();
    Some(TimeField {
        field: field?,
        unit: unit?,
        max_ahead: max_ahead.unwrap_or(DAY),
        max_behind,
        missing: missing.unwrap_or_default(),
    })
}

fn units(table: &Table<'_>) -> BTreeMap<String, String> {
    let entries = table.entries().into_iter();
    entries.filter_map(|(column, value)| Some((column, name(&value)?))).collect()
}

/// A name as frames have them.
fn name(value: &Value<'_>) -> Option<String> {
    let name = value.filled()?;
    if name.len() > MAX_NAME_BYTES {
        value.error(format!("has {} bytes, at most {MAX_NAME_BYTES} are allowed", name.len()), "");
        return None;
    }
    Some(name.to_owned())
}
