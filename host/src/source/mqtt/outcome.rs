//! What an error of the connection means to the retry rules.

use backoff::Outcome;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};

/// What an error means to the retry rules. Permanent is what only this site's operator can mend.
pub(super) fn classify(error: &ConnectionError) -> Outcome {
    let refused = |code: &ConnectReturnCode| match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Outcome::permanent(
            format!("the broker refuses user name or password ({code:?}): correct username and password"),
        ),
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            Outcome::permanent(format!("the broker refuses the client_id ({code:?})"))
        }
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => {
            Outcome::permanent(format!("the broker does not speak MQTT 5 ({code:?})"))
        }
        ConnectReturnCode::Banned | ConnectReturnCode::BadAuthenticationMethod => {
            Outcome::permanent(format!("the broker refuses this client ({code:?})"))
        }
        ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => {
            Outcome::misdirected(format!("the broker names another one ({code:?})"))
        }
        other => Outcome::transient(format!("the broker refuses the connection ({other:?})")),
    };
    match error {
        ConnectionError::ConnectionRefused(code) => refused(code),
        ConnectionError::MqttState(StateError::ConnFail { reason }) => refused(reason),
        ConnectionError::Tls(TlsError::TLS(error)) => untrusted(error),
        ConnectionError::Tls(TlsError::Io(error)) | ConnectionError::Io(error) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => untrusted(error),
                None => Outcome::transient(error.to_string()),
            }
        }
        other => Outcome::transient(other.to_string()),
    }
}

fn untrusted(error: &rustls::Error) -> Outcome {
    match error {
        // The broker's people can mend it, so it is looked at again after the cool-down.
        rustls::Error::InvalidCertificate(_) => {
            Outcome::misdirected(format!("the broker's certificate is not trusted: {error}"))
        }
        error => Outcome::transient(format!("TLS: {error}")),
    }
}
