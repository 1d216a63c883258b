//! The packets that come once per connection: CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, and their answers, by
//! `mqtt-protocol-core`'s packet types (its connection state machine is not used).
//!
//! Does not decide who may connect. Invariant: what a hostile client sends is an error here, never a panic (the library
//! is fuzzed through these functions by a test).

use mqtt_protocol_core::mqtt::packet::v3_1_1;
use mqtt_protocol_core::mqtt::packet::{Property, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, MqttError, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use super::packet::{Packet, PacketFault, Version};

/// What a client asks for when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client: String,
    /// Clean session (3.1.1), clean start (5).
    pub(crate) clean: bool,
    /// Seconds; 0: none.
    pub(crate) keep_alive: u16,
    /// Seconds the session outlives the connection; `u32::MAX`: for good.
    pub(crate) session_expiry: u32,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) will: Option<Will>,
    /// MQTT 5 enhanced authentication is asked for, which this listener does not have.
    pub(crate) authentication: bool,
}

/// What is published for a client that goes without a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// Why a CONNECT is answered by nothing but the end of the connection, or by a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    /// It is no CONNECT: not answered.
    NoMqtt,
    /// Another version of the protocol.
    Version,
    /// MQTT 5, and broken: answered with a reason.
    Broken(PacketFault),
}

/// Reads a CONNECT.
pub(crate) fn connect(packet: Packet<'_>) -> Result<Connect, ConnectFault> {
    if packet.first != 0x10 {
        return Err(ConnectFault::NoMqtt);
    }
    let flags = packet.body.get(7).copied().unwrap_or_default();
    let will_flags_ok = if flags & 4 == 0 { flags & 0x38 == 0 } else { flags & 0x18 != 0x18 };
    match packet.body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] if flags & 1 == 0 && will_flags_ok => connect_v3(packet.body),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] if flags & 1 == 0 && will_flags_ok => connect_v5(packet.body),
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Err(ConnectFault::NoMqtt),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Err(ConnectFault::Broken(PacketFault::Malformed)),
        [0, 4, b'M', b'Q', b'T', b'T', ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            Err(ConnectFault::Version)
        }
        _ => Err(ConnectFault::NoMqtt),
    }
}

fn connect_v3(body: &[u8]) -> Result<Connect, ConnectFault> {
    let (connect, used) = v3_1_1::Connect::parse(body).map_err(|_| ConnectFault::NoMqtt)?;
    if used != body.len() {
        return Err(ConnectFault::NoMqtt);
    }
    let will = connect.will_topic().zip(connect.will_payload());
    Ok(Connect {
        version: Version::V3,
        client: connect.client_id().to_owned(),
        clean: connect.clean_session(),
        keep_alive: connect.keep_alive(),
        session_expiry: if connect.clean_session() { 0 } else { u32::MAX },
        user: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        will: will.map(|(topic, payload)| Will { topic: topic.to_owned(), payload: payload.to_vec() }),
        authentication: false,
    })
}

fn connect_v5(body: &[u8]) -> Result<Connect, ConnectFault> {
    let (connect, used) = v5_0::Connect::parse(body).map_err(|error| {
        ConnectFault::Broken(match error {
            MqttError::ProtocolError => PacketFault::Protocol,
            _ => PacketFault::Malformed,
        })
    })?;
    if used != body.len() {
        return Err(ConnectFault::Broken(PacketFault::Malformed));
    }
    let (mut session_expiry, mut authentication) = (0, false);
    for property in connect.props() {
        match property {
            Property::SessionExpiryInterval(value) => session_expiry = value.val(),
            Property::AuthenticationMethod(_) => authentication = true,
            _ => {}
        }
    }
    let will = connect.will_topic().zip(connect.will_payload());
    Ok(Connect {
        version: Version::V5,
        client: connect.client_id().to_owned(),
        clean: connect.clean_start(),
        keep_alive: connect.keep_alive(),
        session_expiry,
        user: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        will: will.map(|(topic, payload)| Will { topic: topic.to_owned(), payload: payload.to_vec() }),
        authentication,
    })
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("protocol version not supported")]
    Version,
    #[error("client identifier not valid")]
    ClientId,
    #[error("wrong user name or password")]
    Password,
    #[error("not authorized")]
    NotAuthorized,
    #[error("too many connections")]
    Busy,
    #[error("authentication method not supported")]
    Method,
    #[error("{0}")]
    Packet(PacketFault),
}

/// The CONNACK for a client that is not let in.
pub(crate) fn refuse(version: Version, refusal: Refusal) -> Vec<u8> {
    match version {
        Version::V3 => {
            let code = match refusal {
                Refusal::Version => ConnectReturnCode::UnacceptableProtocolVersion,
                Refusal::ClientId => ConnectReturnCode::IdentifierRejected,
                Refusal::Password => ConnectReturnCode::BadUserNameOrPassword,
                Refusal::NotAuthorized | Refusal::Method => ConnectReturnCode::NotAuthorized,
                Refusal::Busy | Refusal::Packet(_) => ConnectReturnCode::ServerUnavailable,
            };
            v3_1_1::Connack::builder()
                .session_present(false)
                .return_code(code)
                .build()
                .map(|packet| packet.to_continuous_buffer())
                .unwrap_or_default()
        }
        Version::V5 => {
            let code = match refusal {
                Refusal::Version => ConnectReasonCode::UnsupportedProtocolVersion,
                Refusal::ClientId => ConnectReasonCode::ClientIdentifierNotValid,
                Refusal::Password => ConnectReasonCode::BadUserNameOrPassword,
                Refusal::NotAuthorized => ConnectReasonCode::NotAuthorized,
                Refusal::Busy => ConnectReasonCode::ServerBusy,
                Refusal::Method => ConnectReasonCode::BadAuthenticationMethod,
                Refusal::Packet(PacketFault::Protocol) => ConnectReasonCode::ProtocolError,
                Refusal::Packet(PacketFault::TooLarge) => ConnectReasonCode::PacketTooLarge,
                Refusal::Packet(_) => ConnectReasonCode::MalformedPacket,
            };
            connack_v5(false, code, Vec::new())
        }
    }
}

/// What a client that is let in is told (MQTT 5; 3.1.1 knows only `session_present`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Welcome {
    pub(crate) session_present: bool,
    pub(crate) assigned_client: Option<String>,
    pub(crate) keep_alive: Option<u16>,
    pub(crate) session_expiry: Option<u32>,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet: u32,
    pub(crate) topic_alias_maximum: u16,
}

/// The CONNACK for a client that is let in.
pub(crate) fn welcome(version: Version, welcome: &Welcome) -> Vec<u8> {
    if version == Version::V3 {
        return v3_1_1::Connack::builder()
            .session_present(welcome.session_present)
            .return_code(ConnectReturnCode::Accepted)
            .build()
            .map(|packet| packet.to_continuous_buffer())
            .unwrap_or_default();
    }
    use mqtt_protocol_core::mqtt::packet as p;
    let mut properties: Vec<Property> = Vec::new();
    let mut add = |property: Result<Property, MqttError>| properties.extend(property.ok());
    add(p::ReceiveMaximum::new(welcome.receive_maximum.max(1)).map(Property::ReceiveMaximum));
    add(p::MaximumPacketSize::new(welcome.maximum_packet).map(Property::MaximumPacketSize));
    add(p::TopicAliasMaximum::new(welcome.topic_alias_maximum).map(Property::TopicAliasMaximum));
    add(p::WildcardSubscriptionAvailable::new(0).map(Property::WildcardSubscriptionAvailable));
    add(p::SubscriptionIdentifierAvailable::new(0).map(Property::SubscriptionIdentifierAvailable));
    add(p::SharedSubscriptionAvailable::new(0).map(Property::SharedSubscriptionAvailable));
    if let Some(client) = &welcome.assigned_client {
        add(p::AssignedClientIdentifier::new(client).map(Property::AssignedClientIdentifier));
    }
    if let Some(seconds) = welcome.keep_alive {
        add(p::ServerKeepAlive::new(seconds).map(Property::ServerKeepAlive));
    }
    if let Some(seconds) = welcome.session_expiry {
        add(p::SessionExpiryInterval::new(seconds).map(Property::SessionExpiryInterval));
    }
    connack_v5(welcome.session_present, ConnectReasonCode::Success, properties)
}

fn connack_v5(session_present: bool, code: ConnectReasonCode, properties: Vec<Property>) -> Vec<u8> {
    v5_0::Connack::builder()
        .session_present(session_present)
        .reason_code(code)
        .props(properties)
        .build()
        .map(|packet| packet.to_continuous_buffer())
        .unwrap_or_default()
}

/// The SUBACK that grants nothing: the gateway takes messages and delivers none.
pub(crate) fn refuse_subscriptions(packet: Packet<'_>, version: Version) -> Result<Vec<u8>, PacketFault> {
    if packet.first & 0x0f != 2 {
        return Err(PacketFault::Malformed);
    }
    let answer = match version {
        Version::V3 => {
            let (subscribe, _) = v3_1_1::Subscribe::parse(packet.body).map_err(fault)?;
            let codes = vec![SubackReturnCode::Failure; subscribe.entries().len()];
            let id = identifier(subscribe.packet_id())?;
            v3_1_1::Suback::builder()
                .packet_id(id)
                .return_codes(codes)
                .build()
                .map(|p| p.to_continuous_buffer())
        }
        Version::V5 => {
            let (subscribe, _) = v5_0::Subscribe::parse(packet.body).map_err(fault)?;
            let codes = vec![SubackReasonCode::ImplementationSpecificError; subscribe.entries().len()];
            let id = identifier(subscribe.packet_id())?;
            v5_0::Suback::builder()
                .packet_id(id)
                .reason_codes(codes)
                .build()
                .map(|p| p.to_continuous_buffer())
        }
    };
    answer.map_err(fault)
}

/// The UNSUBACK: there was no subscription.
pub(crate) fn unsubscribed(packet: Packet<'_>, version: Version) -> Result<Vec<u8>, PacketFault> {
    if packet.first & 0x0f != 2 {
        return Err(PacketFault::Malformed);
    }
    let answer = match version {
        Version::V3 => {
            let (unsubscribe, _) = v3_1_1::Unsubscribe::parse(packet.body).map_err(fault)?;
            let id = identifier(unsubscribe.packet_id())?;
            v3_1_1::Unsuback::builder().packet_id(id).build().map(|p| p.to_continuous_buffer())
        }
        Version::V5 => {
            let (unsubscribe, _) = v5_0::Unsubscribe::parse(packet.body).map_err(fault)?;
            let codes = vec![UnsubackReasonCode::NoSubscriptionExisted; unsubscribe.entries().len()];
            let id = identifier(unsubscribe.packet_id())?;
            v5_0::Unsuback::builder()
                .packet_id(id)
                .reason_codes(codes)
                .build()
                .map(|p| p.to_continuous_buffer())
        }
    };
    answer.map_err(fault)
}

/// What a DISCONNECT says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Goodbye {
    /// The will is to be published all the same (MQTT 5, reason 0x04).
    pub(crate) will: bool,
    /// A new session expiry in seconds.
    pub(crate) session_expiry: Option<u32>,
}

/// Reads a DISCONNECT.
pub(crate) fn goodbye(packet: Packet<'_>, version: Version) -> Result<Goodbye, PacketFault> {
    if packet.first & 0x0f != 0 {
        return Err(PacketFault::Malformed);
    }
    if version == Version::V3 {
        return if packet.body.is_empty() { Ok(Goodbye::default()) } else { Err(PacketFault::Malformed) };
    }
    let (disconnect, _) = v5_0::Disconnect::parse(packet.body).map_err(fault)?;
    let session_expiry = disconnect.props().iter().flatten().find_map(|property| match property {
        Property::SessionExpiryInterval(value) => Some(value.val()),
        _ => None,
    });
    Ok(Goodbye { will: packet.body.first().is_some_and(|reason| *reason != 0), session_expiry })
}

/// The MQTT 5 DISCONNECT of the server with this reason.
pub(crate) fn disconnect(reason: u8) -> [u8; 3] {
    [0xe0, 1, reason]
}

fn identifier(id: u16) -> Result<u16, PacketFault> {
    if id == 0 { Err(PacketFault::Protocol) } else { Ok(id) }
}

fn fault(error: MqttError) -> PacketFault {
    match error {
        MqttError::ProtocolError => PacketFault::Protocol,
        _ => PacketFault::Malformed,
    }
}
