//! The keys of `kind = "mqtt"`.

use std::time::Duration;

use backoff::Policy;
use wire::ids::GatewayId;

use super::{files, uplink};
use crate::address::{Address, AddressError};
use crate::model::{Broker, QualityOfService};
use crate::reader::{Table, Value};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(table: &Table<'_>, gateway: Option<&GatewayId>, source: Option<&str>) -> Option<Broker> {
    let address = table.required("broker", "broker = \"mqtt://host:1883\"").map(|value| address(&value));
    let tls = address.as_ref().and_then(Option::as_ref).is_some_and(|(_, tls)| *tls);
    let trust = match table.get("trust") {
        None => {
            if tls {
                table.error("mqtts needs the certificate of the broker's CA", "write trust = \"ca.crt\"");
            }
            None
        }
        Some(value) => {
            if address.as_ref().is_some_and(Option::is_some) && !tls {
                value.error("mqtt:// does not use TLS", "write broker = \"mqtts://…\", or remove trust");
            }
            files::certificate(&value)
        }
    };
    let client_id = table.get("client_id").map(|value| value.filled().map(str::to_owned));
    let username = table.get("username").and_then(|value| value.filled()).map(str::to_owned);
    let password_value = table.get("password");
    if let Some(value) = password_value.as_ref().filter(|_| username.is_none()) {
        value.error("a password needs a username", "add username = \"…\"");
    }
    let password = password_value.and_then(|value| files::secret(&value));
    let qos = table.get("qos").and_then(|value| match value.integer::<i64>(0..=2)? {
        0 => Some(QualityOfService::AtMostOnce),
        1 => Some(QualityOfService::AtLeastOnce),
        _ => Some(QualityOfService::ExactlyOnce),
    });
    let duration =
        |key, bounds, or| table.get(key).and_then(|value: Value<'_>| value.duration(bounds)).unwrap_or(or);
    let session_expiry = duration("session_expiry", Duration::from_secs(60)..=365 * DAY, 7 * DAY);
    let keep_alive =
        duration("keep_alive", Duration::from_secs(5)..=Duration::from_secs(65_535), Duration::from_secs(30));
    let max_payload = table.get("max_payload").and_then(|value| value.size(1..=super::listener::MAX_PAYLOAD));
    let max_in_flight = table.get("max_in_flight").and_then(|value| value.integer(1..=65_535));
    let local = Policy::local();
    let retry = table.get("retry").and_then(|value| uplink::retry(&value, &local));
    let (address, tls) = address??;
    Some(Broker {
        port: address.port.unwrap_or(if tls { 8883 } else { 1883 }),
        host: address.host,
        tls,
        trust,
        client_id: match client_id {
            None => format!("{}-{}", gateway?, source?),
            Some(id) => id?,
        },
        username,
        password,
        qos: qos.unwrap_or(QualityOfService::AtLeastOnce),
        session_expiry,
        keep_alive,
        max_payload: usize::try_from(max_payload.unwrap_or(256 << 10)).unwrap_or(usize::MAX),
        max_in_flight: max_in_flight.unwrap_or(4_096),
        retry: retry.unwrap_or(local),
    })
}

/// The broker's address, and whether it uses TLS.
fn address(value: &Value<'_>) -> Option<(Address, bool)> {
    const EXAMPLE: &str = "write e.g. \"mqtt://host:1883\", or \"mqtts://host:8883\" for TLS";
    match Address::parse(value.text()?) {
        Ok(address) => match address.scheme.as_str() {
            "mqtt" => Some((address, false)),
            "mqtts" => Some((address, true)),
            other => {
                value.error(format!("{other:?} is no scheme of a broker"), EXAMPLE);
                None
            }
        },
        Err(AddressError::Credentials) => {
            value.error(AddressError::Credentials.to_string(), "use the keys username and password");
            None
        }
        Err(error) => {
            value.error(error.to_string(), EXAMPLE);
            None
        }
    }
}
