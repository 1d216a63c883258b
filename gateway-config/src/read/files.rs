//! Files that a configuration names: whether they are there and look like what they should be.

use std::path::PathBuf;

use crate::model::Secret;
use crate::reader::{Table, Value};

/// How to get certificates for trying things.
const PKI: &str = "write the path of a PEM file; `cargo xtask pki` makes throwaway certificates";

/// Certificates in PEM.
pub(super) fn certificate(value: &Value<'_>) -> Option<PathBuf> {
    pem(value, "certificate", |text| text.contains("-----BEGIN CERTIFICATE-----"))
}

/// A private key in PEM.
pub(super) fn key(value: &Value<'_>) -> Option<PathBuf> {
    pem(value, "private key", |text| text.contains("PRIVATE KEY-----"))
}

fn pem(value: &Value<'_>, what: &str, is_it: fn(&str) -> bool) -> Option<PathBuf> {
    let path = value.path_buf()?;
    match std::fs::read(&path) {
        Err(cause) => {
            value.error(format!("cannot read {}: {cause}", path.display()), PKI);
            None
        }
        Ok(bytes) if !is_it(&String::from_utf8_lossy(&bytes)) => {
            value.error(format!("{} holds no {what} in PEM", path.display()), PKI);
            None
        }
        Ok(_) => Some(path),
    }
}

/// `{ file = "…" }` or `{ env = "…" }`.
pub(super) fn secret(value: &Value<'_>) -> Option<Secret> {
    const INSTEAD: &str =
        "write { file = \"path\" } or { env = \"VARIABLE\" }, so that the configuration can be shown";
    if value.raw().is_str() {
        value.error("a secret must not stand in the configuration itself", INSTEAD);
        return None;
    }
    let table = value.table()?;
    let (file, env) = (table.get("file"), table.get("env"));
    table.finish();
    let secret = match (file, env) {
        (Some(file), None) => Secret::File(file.path_buf()?),
        (None, Some(env)) => Secret::Env(env.filled()?.to_owned()),
        _ => {
            value.error("a secret is either in a file or in an environment variable", INSTEAD);
            return None;
        }
    };
    match secret.read() {
        Ok(_) => Some(secret),
        Err(error) => {
            value.error(error.to_string(), "");
            None
        }
    }
}

/// The certificate and key of one side, both required.
pub(super) fn certificate_and_key(table: &Table<'_>) -> (Option<PathBuf>, Option<PathBuf>) {
    let certificate = table.required("certificate", "certificate = \"gateway.crt\"");
    let key = table.required("key", "key = \"gateway.key\"");
    (certificate.and_then(|value| self::certificate(&value)), key.and_then(|value| self::key(&value)))
}
