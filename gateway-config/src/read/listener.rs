//! The keys of `kind = "mqtt-listener"`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::files;
use super::tenant::Known;
use crate::model::{Listener, ListenerTls, User};
use crate::reader::Table;

const KIB: u64 = 1 << 10;
/// Largest payload that can be configured.
pub(super) const MAX_PAYLOAD: u64 = 16 << 20;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(table: &Table<'_>, known: &Known) -> Option<Listener> {
    let listen_value = table.required("listen", "listen = \"0.0.0.0:1883\"");
    let listen = listen_value.as_ref().and_then(|value| {
        let text = value.text()?;
        let address = text.parse::<SocketAddr>().ok();
        if address.is_none() {
            value.error(
                format!("{text:?} is no address with a port"),
                "write e.g. \"0.0.0.0:1883\" for all interfaces, or \"127.0.0.1:1883\" for this machine only",
            );
        }
        address
    });
    let tls_value = table.get("tls");
    let tls = tls_value.as_ref().map(|value| value.table().and_then(|table| tls(&table)));
    let users = users(table, known);
    let client_ca = tls.as_ref().is_some_and(|tls| tls.as_ref().is_none_or(|tls| tls.client_ca.is_some()));
    let anyone_named = table.get("user").is_some() || client_ca;
    let anonymous_value = table.get("allow_anonymous");
    let allow_anonymous = anonymous_value.as_ref().and_then(|value| value.boolean()).unwrap_or(!anyone_named);
    if let Some(value) = anonymous_value.filter(|_| !allow_anonymous && !anyone_named) {
        value.error("nobody could connect", "add a [[source.user]], or client_ca to tls");
    }
    if let (Some(value), Some(address)) = (&listen_value, listen)
        && !address.ip().is_loopback()
        && tls_value.is_none()
    {
        if allow_anonymous {
            value.warn(
                "anybody who reaches this address can publish, unencrypted",
                "add tls and [[source.user]], or listen on 127.0.0.1",
            );
        } else {
            value.warn(
                "passwords and data pass unencrypted",
                "add tls = { certificate = \"…\", key = \"…\" }",
            );
        }
    }
    let seconds = |key, bounds, or| {
        table.get(key).and_then(|value: crate::reader::Value<'_>| value.duration(bounds)).unwrap_or(or)
    };
    let max_payload = table.get("max_payload").and_then(|value| value.size(1..=MAX_PAYLOAD));
    Some(Listener {
        allow_anonymous,
        users,
        max_connections: table
            .get("max_connections")
            .and_then(|value| value.integer(1..=100_000))
            .unwrap_or(10_000),
        max_payload: usize::try_from(max_payload.unwrap_or(256 * KIB)).unwrap_or(usize::MAX),
        max_in_flight: table
            .get("max_in_flight")
            .and_then(|value| value.integer(1..=65_535))
            .unwrap_or(1_024),
        max_keep_alive: seconds(
            "max_keep_alive",
            Duration::from_secs(5)..=Duration::from_secs(65_535),
            20 * MINUTE,
        ),
        connect_timeout: seconds(
            "connect_timeout",
            Duration::from_millis(100)..=5 * MINUTE,
            Duration::from_secs(10),
        ),
        max_session_expiry: seconds("max_session_expiry", Duration::ZERO..=365 * DAY, DAY),
        listen: listen?,
        tls: match tls {
            None => None,
            Some(tls) => Some(tls?),
        },
    })
}

fn tls(table: &Table<'_>) -> Option<ListenerTls> {
    let (certificate, key) = files::certificate_and_key(table);
    let client_ca = table.get("client_ca").map(|value| files::certificate(&value));
    let required = table.get("require_client_certificate");
    let require_client_certificate =
        required.as_ref().and_then(|value| value.boolean()).unwrap_or(client_ca.is_some());
    if let Some(value) = required.filter(|_| require_client_certificate && client_ca.is_none()) {
        value.error("nothing says which client certificates are good", "add client_ca = \"ca.crt\"");
    }
    table.finish();
    Some(ListenerTls {
        certificate: certificate?,
        key: key?,
        client_ca: match client_ca {
            None => None,
            Some(path) => Some(path?),
        },
        require_client_certificate,
    })
}

fn users(table: &Table<'_>, known: &Known) -> BTreeMap<String, User> {
    let mut users = BTreeMap::new();
    let tables = table.get("user").and_then(|value| value.tables()).unwrap_or_default();
    for table in &tables {
        let name_value = table.required("name", "name = \"press-7\"");
        let name = name_value.as_ref().and_then(|value| value.filled()).map(str::to_owned);
        let password = table.get("password").and_then(|value| files::secret(&value));
        let tenant = table.get("tenant").and_then(|value| known.tenant(&value));
        table.finish();
        if let (Some(name), Some(value)) = (name, name_value)
            && users.insert(name.clone(), User { name: name.clone(), password, tenant }).is_some()
        {
            value.error(format!("there are two users {name:?}"), "remove one of them");
        }
    }
    users
}
