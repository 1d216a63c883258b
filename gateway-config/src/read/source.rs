//! `[[source]]`: what all kinds have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wire::ids::GatewayId;

use super::tenant::Known;
use super::{broker, listener, topic};
use crate::model::{Broker, Gather, Source, SourceKind};
use crate::reader::Table;

/// Most sources of a gateway.
const MAX_SOURCES: usize = 256;
/// Most bytes of a source's name.
const MAX_NAME: usize = 63;
/// Long enough that two messages of a device that speaks fifty times a second share a read, an acknowledgement and a
/// commit, each of which costs more than all else; short enough for 50 ms from device to stamp.
const DEFAULT_LINGER: Duration = Duration::from_millis(40);

#[derive(Clone, Copy)]
enum Kind {
    Listener,
    Broker,
}

pub(super) fn read(root: &Table<'_>, gateway: Option<&GatewayId>, known: &Known) -> Vec<Source> {
    let Some(value) = root.get("source") else {
        root.warn(
            "there is no [[source]]: the gateway has nothing to do",
            "add e.g. one of kind = \"mqtt-listener\"",
        );
        return Vec::new();
    };
    let tables = value.tables().unwrap_or_default();
    if tables.len() > MAX_SOURCES {
        value.error(format!("a gateway has at most {MAX_SOURCES} sources"), "");
    }
    let mut sources = Vec::new();
    let mut taken = BTreeMap::new();
    for table in &tables {
        let source = source(table, gateway, known);
        if let Some(source) = source {
            unique(table, &source, &mut taken);
            sources.push(source);
        }
    }
    sources
}

fn source(table: &Table<'_>, gateway: Option<&GatewayId>, known: &Known) -> Option<Source> {
    let name = table.required("name", "name = \"floor\"").and_then(|value| {
        let name = value.filled()?;
        if name.len() > MAX_NAME || name.contains(|c: char| c == '/' || c.is_control()) {
            value.error(format!("a source's name has at most {MAX_NAME} bytes and no slash"), "");
            return None;
        }
        Some(Arc::<str>::from(name))
    });
    let kind = table
        .required("kind", "kind = \"mqtt-listener\"")
        .map(|value| value.choice(&[("mqtt-listener", Kind::Listener), ("mqtt", Kind::Broker)]));
    let gather = gather(table);
    let topics = topic::read(table, known);
    let kind = match kind? {
        Some(Kind::Listener) => listener::read(table, known).map(SourceKind::MqttListener),
        Some(Kind::Broker) => broker::read(table, gateway, name.as_deref()).map(SourceKind::Mqtt),
        // Nobody knows which keys belong to a kind that nobody knows.
        None => return None,
    };
    table.finish();
    Some(Source { name: name?, kind: kind?, topics, gather })
}

fn gather(table: &Table<'_>) -> Gather {
    let linger = table
        .get("linger")
        .and_then(|value| value.duration(Duration::ZERO..=Duration::from_secs(10)))
        .unwrap_or(DEFAULT_LINGER);
    let max_rows = table.get("max_rows").and_then(|value| value.integer(1..=65_536)).unwrap_or(4_096);
    Gather { linger, max_rows }
}

/// Notes what two sources must not share.
fn unique(table: &Table<'_>, source: &Source, taken: &mut BTreeMap<String, Arc<str>>) {
    let mut claim = |key: &'static str, what: String| {
        if let Some(other) = taken.insert(what.clone(), Arc::clone(&source.name))
            && let Some(value) = table.get(key)
        {
            value.error(format!("{what} is taken by source {other:?} already"), "choose another one");
        }
    };
    claim("name", format!("the name {:?}", &*source.name));
    match &source.kind {
        SourceKind::MqttListener(listener) if listener.listen.port() != 0 => {
            claim("listen", format!("the address {}", listener.listen));
        }
        SourceKind::MqttListener(_) => {}
        SourceKind::Mqtt(broker) => {
            let Broker { host, port, client_id, .. } = broker;
            claim("client_id", format!("the client_id {client_id:?} at {host}:{port}"));
        }
    }
}
