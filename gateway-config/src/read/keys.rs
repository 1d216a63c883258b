//! `[plugins]`: the key ring.

use crate::model::{Plugins, TrustedKey};
use crate::reader::{Table, Value};

/// Most keys of the ring.
const MAX_KEYS: usize = 64;
/// What stands in front of a key.
const ED25519: &str = "ed25519:";
/// 32 bytes in base64: 43 digits and one sign for what is missing.
const DIGITS: usize = 43;
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How to get a key into the ring.
pub(super) const ADD: &str = "make a pair with `sluice-plugin keygen` and add keys = [{ name = \"acme-build\", key = \"ed25519:…\" }] \
                              to [plugins]";
const LOOKS: &str = "write what `sluice-plugin keygen` shows: \"ed25519:\" and 44 signs of base64";

pub(super) fn read(table: &Table<'_>) -> Plugins {
    let mut keys: Vec<TrustedKey> = Vec::new();
    if let Some(value) = table.get("keys") {
        let tables = value.tables().unwrap_or_default();
        if tables.len() > MAX_KEYS {
            value.error(format!("a key ring has at most {MAX_KEYS} keys"), "remove those nobody signs with");
        }
        for table in tables {
            let Some(key) = key(&table) else { continue };
            if let Some(other) = keys.iter().find(|other| other.name == key.name || other.key == key.key) {
                table.error(
                    format!("the ring has this name or this key already, as {:?}", other.name),
                    "remove one of them",
                );
                continue;
            }
            keys.push(key);
        }
    }
    let require_signature = table.get("require_signature").and_then(|value| {
        let required = value.boolean()?;
        if required && keys.is_empty() {
            value.error("no plugin could be signed: there are no keys", ADD);
        }
        Some(required)
    });
    table.finish();
    Plugins { keys, require_signature: require_signature.unwrap_or_default() }
}

fn key(table: &Table<'_>) -> Option<TrustedKey> {
    let name =
        table.required("name", "name = \"acme-build\"").and_then(|value| value.filled().map(str::to_owned));
    let key = match (table.get("key"), table.get("key_file")) {
        (Some(value), None) => public_key(&value, value.text()),
        (None, Some(value)) => {
            let path = value.path_buf();
            let text = path.and_then(|path| {
                let read = std::fs::read_to_string(&path);
                read.map_err(|cause| value.error(format!("cannot read {}: {cause}", path.display()), LOOKS))
                    .ok()
            });
            public_key(&value, text.as_deref())
        }
        _ => {
            table.error("a key stands in `key` or in the file `key_file`, and not in both", LOOKS);
            None
        }
    };
    table.finish();
    Some(TrustedKey { name: name?, key: key? })
}

/// Notes a text that is no public key; a private one is not repeated.
fn public_key(value: &Value<'_>, text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    if text.contains("PRIVATE KEY") {
        value.error("this is a private key, which must stay where plugins are signed", LOOKS);
        return None;
    }
    let digits = text.strip_prefix(ED25519).and_then(|base64| base64.strip_suffix('='));
    // The last digit holds the last four bits and two that are zero.
    let sound = |digits: &str| {
        digits.len() == DIGITS
            && digits.chars().all(|digit| BASE64.contains(digit))
            && digits.chars().last().and_then(|last| BASE64.find(last)).is_some_and(|last| last % 4 == 0)
    };
    if digits.is_some_and(sound) {
        return Some(text.to_owned());
    }
    value.error("this is no public key of ed25519", LOOKS);
    None
}
