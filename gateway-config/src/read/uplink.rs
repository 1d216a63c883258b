//! `[uplink]`, and retry policies wherever they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use backoff::{Policy, PolicyText};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::DeValue;
use wire::ids::TenantId;

use super::files;
use super::tenant::Known;
use crate::model::{Endpoint, EndpointError, Identity, Stamp, Uplink};
use crate::problem::Severity;
use crate::reader::{Table, Value};

/// Most endpoints of a stamp.
const MAX_ENDPOINTS: usize = 16;
const KIB: u64 = 1 << 10;
/// Defaults.
const WINDOW: u64 = 16 * 1024 * KIB;
const LOOK_FOR_QUIC: Duration = Duration::from_secs(600);

/// What says who the gateway is and where its data goes.
type Where = (Option<Vec<Stamp>>, Option<Identity>);

/// `[uplink]` where it says itself where data goes.
pub(super) fn read(table: &Table<'_>, known: &Known) -> Option<Uplink> {
    const EXAMPLE: &str =
        "stamp = [{ id = \"eu-1\", endpoints = [\"quic://stamp.example:7443\"], tenants = [\"acme\"] }]";
    let stamps = table.required("stamp", EXAMPLE).map(|value| (value.clone(), stamps(&value, known)));
    if let Some((value, Some(stamps))) = &stamps {
        let served: Vec<TenantId> = stamps.iter().flat_map(|stamp| stamp.tenants.iter().cloned()).collect();
        for name in known.without(&served) {
            value.warn(
                format!("no stamp serves tenant {name:?}: its data stays in the store until the quota"),
                "add it to the tenants of a stamp",
            );
        }
    }
    let identity = table
        .required(
            "identity",
            "identity = { certificate = \"gateway.crt\", key = \"gateway.key\", trust = \"ca.crt\" }",
        )
        .and_then(|value| value.table())
        .and_then(|table| identity(&table));
    tuned(table, (stamps.and_then(|(_, stamps)| stamps), identity))
}

/// `[uplink]` beside `[provisioning]`: how data goes, and nothing of where to.
pub(super) fn read_tuning(table: &Table<'_>, given: Identity) -> Option<Uplink> {
    for key in ["stamp", "identity"] {
        if let Some(value) = table.get(key) {
            value.error(
                format!("with [provisioning], {key} arrives by itself"),
                "remove it here; or remove [provisioning] to say it yourself",
            );
        }
    }
    tuned(table, (Some(Vec::new()), Some(given)))
}

/// Beside `[provisioning]` nothing of `[uplink]` need be written.
pub(super) fn untuned(given: Identity) -> Uplink {
    Uplink {
        stamps: Vec::new(),
        identity: given,
        retry: Policy::upstream(),
        window: WINDOW,
        look_for_quic: LOOK_FOR_QUIC,
        daily_budget: None,
    }
}

fn tuned(table: &Table<'_>, (stamps, identity): Where) -> Option<Uplink> {
    let upstream = Policy::upstream();
    let retry = table.get("retry").and_then(|value| retry(&value, &upstream));
    let window = table.get("window").and_then(|value| value.size(64 * KIB..=1024 * 1024 * KIB));
    let look_for_quic = table
        .get("look_for_quic")
        .and_then(|value| value.duration(Duration::from_secs(1)..=Duration::from_secs(86_400)));
    let daily_budget =
        table.get("daily_budget").and_then(|value| value.size(64 * KIB..=1024 * 1024 * 1024 * KIB));
    table.finish();
    Some(Uplink {
        stamps: stamps?,
        identity: identity?,
        retry: retry.unwrap_or(upstream),
        window: window.unwrap_or(WINDOW),
        look_for_quic: look_for_quic.unwrap_or(LOOK_FOR_QUIC),
        daily_budget,
    })
}

/// A retry policy over a default. The problem is noted at the key that is at fault.
pub(super) fn retry(value: &Value<'_>, default: &Policy) -> Option<Policy> {
    value.table()?;
    let text = match PolicyText::deserialize(value.spanned().clone().into_deserializer()) {
        Ok(text) => text,
        Err(error) => {
            let span = error.span().unwrap_or(value.span());
            value.reader().note(Severity::Error, &span, value.path(), error.message(), "");
            return None;
        }
    };
    match text.over(default) {
        Ok(policy) => Some(policy),
        Err(error) => {
            let (mut at, mut path) = (value.spanned(), value.path().to_owned());
            for key in error.key().split('.') {
                let DeValue::Table(table) = at.get_ref() else { break };
                let Some(next) = table.get(key) else { break };
                at = next;
                path = format!("{path}.{key}");
            }
            value.reader().note(Severity::Error, &at.span(), &path, error.to_string(), "");
            None
        }
    }
}

fn stamps(value: &Value<'_>, known: &Known) -> Option<Vec<Stamp>> {
    let tables = value.tables()?;
    if tables.is_empty() {
        value.error("there is no stamp to send to", "");
    }
    let mut served: BTreeMap<TenantId, String> = BTreeMap::new();
    let stamps: Vec<Option<Stamp>> = tables.iter().map(|table| stamp(table, known, &mut served)).collect();
    stamps.into_iter().collect()
}

fn stamp(table: &Table<'_>, known: &Known, served: &mut BTreeMap<TenantId, String>) -> Option<Stamp> {
    let id_value = table.required("id", "id = \"eu-1\"");
    let id = id_value.as_ref().and_then(|value| value.parse::<wire::ids::StampId>());
    let endpoints =
        table.required("endpoints", "endpoints = [\"quic://stamp.example:7443\"]").and_then(|value| {
            let list = value.list()?;
            if list.is_empty() || list.len() > MAX_ENDPOINTS {
                value.error(format!("a stamp has 1 to {MAX_ENDPOINTS} endpoints"), "");
            }
            let endpoints: Vec<Option<Endpoint>> = list.iter().map(endpoint).collect();
            endpoints.into_iter().collect::<Option<Vec<_>>>()
        });
    let tenants = table.required("tenants", "tenants = [\"acme\"]").and_then(|value| {
        let mut tenants = Vec::new();
        for value in value.list()? {
            let Some(tenant) = known.tenant(&value) else { continue };
            let name = id.as_ref().map_or_else(String::new, ToString::to_string);
            if let Some(other) = served.insert(tenant.clone(), name) {
                value.error(
                    format!("stamp {other:?} serves tenant {:?} already", tenant.as_str()),
                    "a tenant's data goes to one stamp: remove it from one of them",
                );
            }
            tenants.push(tenant);
        }
        Some(tenants)
    });
    table.finish();
    Some(Stamp { id: id?, endpoints: endpoints?, tenants: tenants? })
}

fn endpoint(value: &Value<'_>) -> Option<Endpoint> {
    const EXAMPLE: &str =
        "write e.g. \"quic://stamp.example:7443\", or \"tls://stamp.example:7443\" for TCP only";
    match value.text()?.parse() {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            let error: EndpointError = error;
            value.error(error.to_string(), EXAMPLE);
            None
        }
    }
}

fn identity(table: &Table<'_>) -> Option<Identity> {
    let (certificate, key) = files::certificate_and_key(table);
    let trust = table.required("trust", "trust = \"ca.crt\"").and_then(|value| files::certificate(&value));
    table.finish();
    Some(Identity { certificate: certificate?, key: key?, trust: trust? })
}
