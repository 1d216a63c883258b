//! Dead letters as JSON. Field names are an interface: fields are added, never renamed or removed.
//!
//! Bytes that are text are text (`original`), others base64 (`original_base64`). `frame` is the row as it entered the
//! step, as `wire::frame_json` writes it; null if there never was one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use wire::ids::TenantId;

use super::text::Listed;
use crate::store::KeptLetter;

/// `list --json`.
pub(super) fn list(tenants: &[Listed]) -> Value {
    let sums: Vec<Value> = tenants
        .iter()
        .map(|(tenant, totals, (found, bytes), _)| {
            json!({
                "tenant": tenant, "found": found, "found_bytes": bytes, "kept": totals.dead_letters,
                "kept_bytes": totals.dead_bytes, "replayed": totals.dead_replayed, "dropped": totals.dead_dropped,
                "evicted": totals.dead_evicted,
            })
        })
        .collect();
    let letters: Vec<Value> = tenants
        .iter()
        .flat_map(|(tenant, _, _, letters)| letters.iter().map(move |kept| Value::Object(head(tenant, kept))))
        .collect();
    json!({ "tenants": sums, "letters": letters })
}

/// A whole letter, as `show --json` and `export` write it.
pub(super) fn letter(tenant: &TenantId, kept: &KeptLetter) -> Value {
    let letter = &kept.letter;
    let mut object = head(tenant, kept);
    let config = serde_json::from_str(&letter.config).unwrap_or(Value::Null);
    object.insert("config".to_owned(), config);
    object.insert("trace".to_owned(), json!(letter.trace));
    let frame = super::row(letter).map_or(Value::Null, |frame| wire::frame_json::to_json(&frame));
    object.insert("frame".to_owned(), frame);
    match std::str::from_utf8(&letter.original) {
        Ok(text) => object.insert("original".to_owned(), json!(text)),
        Err(_) => object.insert("original_base64".to_owned(), json!(BASE64.encode(&letter.original))),
    };
    Value::Object(object)
}

fn head(tenant: &TenantId, kept: &KeptLetter) -> Map<String, Value> {
    let letter = &kept.letter;
    let fields = [
        ("tenant", json!(tenant)),
        ("id", json!(kept.id)),
        ("kept", json!(kept.kept)),
        ("size", json!(kept.size)),
        ("kind", json!(letter.kind.as_str())),
        ("device", json!(letter.device)),
        ("topic", json!(letter.topic)),
        ("time", json!(letter.time)),
        ("step", json!(letter.step)),
        ("plugin", json!(letter.plugin)),
        ("digest", json!(letter.digest)),
        ("reason", json!(letter.reason)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
