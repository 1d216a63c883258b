//! The packets that come and go by the million (PUBLISH, PUBREL, PINGREQ and the answers), read and written in place.
//!
//! ```text
//! fixed header   type<<4 | flags, remaining length (1 to 4 bytes, 7 bits each, least first)
//! PUBLISH        dup<<3 | qos<<1 | retain; topic, [packet identifier if qos > 0], [v5: properties], payload
//! ```
//! Everything else (CONNECT, SUBSCRIBE …) is [`super::control`]'s, by a library; the tests hold this reader against that
//! library. Sources: MQTT 3.1.1 and 5.0, OASIS standards, sections 2.1, 2.2, 3.3.
//!
//! Invariants: no allocation, no copy; what is returned lies within the packet.

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// Why a connection cannot go on. The MQTT 5 reason code goes out with DISCONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketFault {
    #[error("malformed packet")]
    Malformed,
    #[error("protocol error")]
    Protocol,
    #[error("topic name invalid")]
    Topic,
    #[error("topic alias invalid")]
    Alias,
    #[error("receive maximum exceeded")]
    ReceiveMaximum,
    #[error("packet too large")]
    TooLarge,
}

impl PacketFault {
    /// MQTT 5, section 3.14.2.1.
    pub(crate) fn reason(self) -> u8 {
        match self {
            Self::Malformed => 0x81,
            Self::Protocol => 0x82,
            Self::Topic => 0x90,
            Self::ReceiveMaximum => 0x93,
            Self::Alias => 0x94,
            Self::TooLarge => 0x95,
        }
    }
}

/// Packet types.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const DISCONNECT: u8 = 14;
}

/// A packet in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// Type and flags.
    pub(crate) first: u8,
    /// What follows the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes with the fixed header.
    pub(crate) total: usize,
}

/// The first packet in the buffer; `None` if it is not all there. A packet with more than `limit` bytes after its
/// fixed header is too large.
#[inline]
pub(crate) fn split(buffer: &[u8], limit: usize) -> Result<Option<Packet<'_>>, PacketFault> {
    let (first, length, header) = match buffer {
        // Nearly all packets are shorter than 128 or 16,384 bytes.
        [first, one, ..] if one & 0x80 == 0 => (*first, usize::from(*one), 2),
        [first, one, two, ..] if two & 0x80 == 0 => {
            (*first, usize::from(one & 0x7f) | usize::from(*two) << 7, 3)
        }
        [first, rest @ ..] => {
            let Some((length, used)) = variable_integer(rest)? else { return Ok(None) };
            (*first, length as usize, 1 + used)
        }
        [] => return Ok(None),
    };
    if length > limit {
        return Err(PacketFault::TooLarge);
    }
    let total = header + length;
    Ok(buffer.get(header..total).map(|body| Packet { first, body, total }))
}

/// A variable byte integer and how many bytes it takes; `None` if it is not all there.
fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, PacketFault> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(PacketFault::Malformed) } else { Ok(None) }
}

/// A PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) dup: bool,
    /// 0, 1 or 2.
    pub(crate) qos: u8,
    /// Not yet checked to be UTF-8; may be empty if there is an alias.
    pub(crate) topic: &'a [u8],
    /// 0 if `qos` is 0.
    pub(crate) packet: u16,
    /// The topic alias, where MQTT 5 gives one.
    pub(crate) alias: Option<u16>,
    pub(crate) payload: &'a [u8],
}

/// Reads a PUBLISH.
#[inline]
pub(crate) fn publish<'a>(packet: Packet<'a>, version: Version) -> Result<Publish<'a>, PacketFault> {
    let qos = (packet.first >> 1) & 3;
    let dup = packet.first & 8 != 0;
    if qos == 3 || (dup && qos == 0) {
        return Err(PacketFault::Malformed);
    }
    let (topic, mut rest) = text(packet.body).ok_or(PacketFault::Malformed)?;
    let mut id = 0;
    if qos > 0 {
        let [high, low, after @ ..] = rest else { return Err(PacketFault::Malformed) };
        id = u16::from_be_bytes([*high, *low]);
        if id == 0 {
            return Err(PacketFault::Protocol);
        }
        rest = after;
    }
    let mut alias = None;
    if version == Version::V5 {
        match rest {
            [0, after @ ..] => rest = after,
            _ => {
                let (length, used) = variable_integer(rest)?.ok_or(PacketFault::Malformed)?;
                let end = used + length as usize;
                let properties = rest.get(used..end).ok_or(PacketFault::Malformed)?;
                alias = publish_properties(properties)?;
                rest = rest.get(end..).unwrap_or_default();
            }
        }
    }
    Ok(Publish { dup, qos, topic, packet: id, alias, payload: rest })
}

/// The topic alias among the properties of a PUBLISH; all of them are checked (MQTT 5, section 3.3.2.3).
fn publish_properties(mut rest: &[u8]) -> Result<Option<u16>, PacketFault> {
    let mut alias = None;
    let mut seen = 0_u64;
    while let [id, after @ ..] = rest {
        // Only the user property may be there twice.
        if *id != 0x26 {
            let bit = 1_u64.checked_shl(u32::from(*id)).ok_or(PacketFault::Malformed)?;
            if seen & bit != 0 {
                return Err(PacketFault::Protocol);
            }
            seen |= bit;
        }
        rest = match id {
            // Payload format indicator
            0x01 => match after {
                [0 | 1, after @ ..] => after,
                [_, ..] => return Err(PacketFault::Protocol),
                [] => return Err(PacketFault::Malformed),
            },
            // Message expiry interval
            0x02 => after.get(4..).ok_or(PacketFault::Malformed)?,
            // Content type, response topic, correlation data
            0x03 | 0x08 => {
                let (value, after) = text(after).ok_or(PacketFault::Malformed)?;
                std::str::from_utf8(value).map_err(|_| PacketFault::Malformed)?;
                after
            }
            0x09 => text(after).ok_or(PacketFault::Malformed)?.1,
            0x23 => match after {
                [high, low, after @ ..] => {
                    alias = Some(u16::from_be_bytes([*high, *low]));
                    after
                }
                _ => return Err(PacketFault::Malformed),
            },
            // User property
            0x26 => {
                let (name, after) = text(after).ok_or(PacketFault::Malformed)?;
                let (value, after) = text(after).ok_or(PacketFault::Malformed)?;
                std::str::from_utf8(name).map_err(|_| PacketFault::Malformed)?;
                std::str::from_utf8(value).map_err(|_| PacketFault::Malformed)?;
                after
            }
            // A subscription identifier comes from a server only.
            0x0b => return Err(PacketFault::Protocol),
            _ => return Err(PacketFault::Malformed),
        };
    }
    Ok(alias)
}

/// The packet identifier of a PUBREL (its flags are fixed; in MQTT 5 a reason and properties may follow).
pub(crate) fn pubrel(packet: Packet<'_>, version: Version) -> Result<u16, PacketFault> {
    match (packet.body, version) {
        _ if packet.first & 0x0f != 2 => Err(PacketFault::Malformed),
        ([high, low], _) | ([high, low, ..], Version::V5) => match u16::from_be_bytes([*high, *low]) {
            0 => Err(PacketFault::Protocol),
            id => Ok(id),
        },
        _ => Err(PacketFault::Malformed),
    }
}

/// Length-prefixed bytes and what follows them.
#[inline]
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [high, low, rest @ ..] = bytes else { return None };
    rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
}

/// Answers to PUBLISH and PUBREL, as the first byte of their packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubcomp = 0x70,
}

impl Answer {
    /// Appends the packet for success.
    #[inline]
    pub(crate) fn write(self, packet: u16, out: &mut Vec<u8>) {
        let [high, low] = packet.to_be_bytes();
        out.extend_from_slice(&[self as u8, 2, high, low]);
    }

    /// Appends the packet with an MQTT 5 reason code.
    pub(crate) fn write_reason(self, packet: u16, reason: u8, out: &mut Vec<u8>) {
        let [high, low] = packet.to_be_bytes();
        out.extend_from_slice(&[self as u8, 3, high, low, reason]);
    }
}

/// PINGRESP.
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
