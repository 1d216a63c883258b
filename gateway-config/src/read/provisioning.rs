//! `[provisioning]`.

use super::files;
use crate::address::Address;
use crate::model::{Attest, DEFAULT_PROVISIONING_PORT, Provisioning};
use crate::reader::{Table, Value};

const ATTEST: &str = "write attest = { certificate = \"bootstrap.crt\", key = \"bootstrap.key\" }, or attest = { \
                      symmetric_key_file = \"enrolment.key\" } and, for a key derived from a group's, group = \"…\"";

pub(super) fn read(table: &Table<'_>) -> Option<Provisioning> {
    let endpoint = table
        .required("endpoint", "endpoint = \"https://provision.example:8443\"")
        .and_then(|value| endpoint(&value));
    let trust = table.required("trust", "trust = \"ca.crt\"").and_then(|value| files::certificate(&value));
    let attest = table
        .required("attest", "attest = { certificate = \"bootstrap.crt\", key = \"bootstrap.key\" }")
        .and_then(|value| value.table())
        .and_then(|table| attest(&table));
    let measure = table.get("measure").and_then(|value| value.boolean());
    table.finish();
    Some(Provisioning {
        endpoint: endpoint?,
        trust: trust?,
        attest: attest?,
        measure: measure.unwrap_or(true),
    })
}

/// The address with its port, in one spelling.
fn endpoint(value: &Value<'_>) -> Option<String> {
    const EXAMPLE: &str = "write e.g. \"https://provision.example:8443\"";
    match Address::parse(value.text()?) {
        Ok(Address { scheme, host, port }) if scheme == "https" => {
            let port = port.unwrap_or(DEFAULT_PROVISIONING_PORT);
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Some(format!("https://{host}:{port}"))
        }
        Ok(Address { scheme, .. }) => {
            value.error(format!("provisioning speaks https, not {scheme:?}"), EXAMPLE);
            None
        }
        Err(error) => {
            value.error(error.to_string(), EXAMPLE);
            None
        }
    }
}

fn attest(table: &Table<'_>) -> Option<Attest> {
    let by_certificate = [table.get("certificate"), table.get("key")];
    let by_key = table.get("symmetric_key_file");
    let group = table.get("group");
    table.finish();
    match (by_certificate, by_key) {
        ([Some(certificate), Some(key)], None) => {
            if let Some(group) = group {
                group.error(
                    "a certificate says itself which authority it comes from",
                    "remove group; it is for symmetric_key_file",
                );
            }
            let (certificate, key) = (files::certificate(&certificate), files::key(&key));
            Some(Attest::Certificate { certificate: certificate?, key: key? })
        }
        ([None, None], Some(file)) => {
            let group = group.map(|group| group.parse());
            let file = key_file(&file);
            Some(Attest::Key { file: file?, group: group.map_or(Some(None), |group| group.map(Some))? })
        }
        ([None, None], None) => {
            table.error("nothing says how this gateway proves who it is", ATTEST);
            None
        }
        ([_, _], Some(file)) => {
            file.error("a gateway proves who it is in one way", ATTEST);
            None
        }
        ([certificate, key], None) => {
            let one = certificate.or(key)?;
            one.error("a certificate and its key go together", ATTEST);
            None
        }
    }
}

fn key_file(value: &Value<'_>) -> Option<std::path::PathBuf> {
    const GET: &str = "write the path of a file with what `sluice-provision enrolment key` shows";
    let path = value.path_buf()?;
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Some(path),
        Ok(_) => {
            value.error(format!("{} is empty", path.display()), GET);
            None
        }
        Err(cause) => {
            value.error(format!("cannot read {}: {cause}", path.display()), GET);
            None
        }
    }
}
