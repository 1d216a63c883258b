//! The few MQTT 3.1.1 and 5 packets a publishing device needs, written into and read out of byte buffers.
//!
//! Does not subscribe, does not keep sessions, does not check what a correct server never sends. Of its own, so that
//! the load generator shares no code with the listener it drives, and costs as little as possible.

/// First byte of PUBLISH; QoS is shifted by one, DUP is bit 3.
const PUBLISH: u8 = 0x30;
const DUP: u8 = 0x08;

/// How to open a session.
#[derive(Debug, Clone, Default)]
pub struct Connect<'a> {
    /// 4 (3.1.1) or 5.
    pub version: u8,
    /// Client identifier.
    pub client: &'a str,
    /// User and password.
    pub login: Option<(&'a str, &'a str)>,
    /// Whether the server forgets what it knew of this client.
    pub clean: bool,
}

/// What a server says to a publishing device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// CONNACK with its code (0 is success).
    Connected {
        /// Whether the server kept the session.
        session_present: bool,
        /// Return or reason code.
        code: u8,
    },
    /// PUBACK: the message is accepted (QoS 1).
    Puback {
        /// Packet identifier.
        packet: u16,
        /// MQTT 5 reason code, else 0.
        code: u8,
    },
    /// PUBREC: the message is accepted (QoS 2), the identifier still taken.
    Pubrec {
        /// Packet identifier.
        packet: u16,
        /// MQTT 5 reason code, else 0.
        code: u8,
    },
    /// PUBCOMP: the identifier is free.
    Pubcomp {
        /// Packet identifier.
        packet: u16,
    },
    /// DISCONNECT of MQTT 5, with its reason code.
    Disconnected {
        /// Reason code.
        code: u8,
    },
    /// Anything else, by its first byte.
    Other(u8),
}

/// Appends CONNECT with keep-alive off.
pub fn connect(out: &mut Vec<u8>, options: &Connect<'_>) {
    let mut flags = if options.clean { 0x02 } else { 0 };
    if options.login.is_some() {
        flags |= 0xC0;
    }
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', options.version, flags, 0, 0];
    if options.version == 5 {
        // A session that outlives the connection by an hour, where it is wanted.
        body.extend_from_slice(if options.clean { &[0] } else { &[5, 0x11, 0, 0, 0x0E, 0x10] });
    }
    text(&mut body, options.client);
    if let Some((user, password)) = options.login {
        text(&mut body, user);
        text(&mut body, password);
    }
    out.push(0x10);
    length(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends PUBLISH; `packet` is ignored at QoS 0. `properties` is there for MQTT 5 only.
pub fn publish(
    out: &mut Vec<u8>,
    version: u8,
    topic: &[u8],
    qos: u8,
    dup: bool,
    packet: u16,
    payload: &[u8],
) {
    out.push(PUBLISH | (qos << 1) | if dup { DUP } else { 0 });
    let properties = usize::from(version == 5);
    length(out, 2 + topic.len() + if qos > 0 { 2 } else { 0 } + properties + payload.len());
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    if qos > 0 {
        out.extend_from_slice(&packet.to_be_bytes());
    }
    if version == 5 {
        out.push(0);
    }
    out.extend_from_slice(payload);
}

/// Appends PUBREL.
pub fn pubrel(out: &mut Vec<u8>, packet: u16) {
    let [high, low] = packet.to_be_bytes();
    out.extend_from_slice(&[0x62, 2, high, low]);
}

/// Appends DISCONNECT.
pub fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

/// Takes one whole packet from the front: the answer and the bytes it used. `None` when it is not all there yet.
#[must_use]
pub fn answer(bytes: &[u8], version: u8) -> Option<(Answer, usize)> {
    let first = *bytes.first()?;
    let mut length = 0usize;
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 || at > 4 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let packet = || u16::from_be_bytes([body[0], body[1]]);
    let code = || if version == 5 { body.get(2).copied().unwrap_or(0) } else { 0 };
    let answer = match first & 0xF0 {
        0x20 if length >= 2 => Answer::Connected { session_present: body[0] & 1 == 1, code: body[1] },
        0x40 if length >= 2 => Answer::Puback { packet: packet(), code: code() },
        0x50 if length >= 2 => Answer::Pubrec { packet: packet(), code: code() },
        0x70 if length >= 2 => Answer::Pubcomp { packet: packet() },
        0xE0 => Answer::Disconnected { code: body.first().copied().unwrap_or(0) },
        _ => Answer::Other(first),
    };
    Some((answer, at + length))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length & 0x7F) as u8;
        length >>= 7;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_only_when_it_is_whole() {
        assert_eq!(answer(&[0x40, 2, 1], 4), None);
        assert_eq!(answer(&[0x40, 2, 1, 2, 0x40], 4), Some((Answer::Puback { packet: 258, code: 0 }, 4)));
        assert_eq!(answer(&[0x40, 3, 0, 7, 0x90], 5), Some((Answer::Puback { packet: 7, code: 0x90 }, 5)));
        assert_eq!(
            answer(&[0x20, 2, 1, 0], 4),
            Some((Answer::Connected { session_present: true, code: 0 }, 4))
        );
    }

    #[test]
    fn a_long_publish_carries_its_length_in_two_bytes() {
        let mut out = vec![];
        publish(&mut out, 4, b"a/b", 1, true, 0x0102, &[b'x'; 200]);
        assert_eq!(out[..10], [0x3A, 0xCF, 0x01, 0, 3, b'a', b'/', b'b', 1, 2]);
        assert_eq!(out.len(), 3 + 207);
    }
}
