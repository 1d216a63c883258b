//! Each message's kind, header and limits.

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{
    Batch, Content, ContentRef, Desired, Hello, MAX_CHUNK_BYTES, MAX_CONTENT_BYTES, MAX_CONTENTS,
    MAX_CONTROL_BYTES, MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES, MAX_TENANTS, MessageError, TenantIndex,
    TenantStream, ToGateway, ToStamp, VERSION,
};
use crate::ids::{Digest, GatewayId, InstallationId, Release, RouteName, Sequence};

/// One direction's messages.
pub trait Message: Sized {
    /// Appends the message's length, kind and header; what is returned follows as it is.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`] if it is longer than a message may be; nothing is appended then.
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError>;

    /// Reads one message from its kind and all that follows.
    ///
    /// # Errors
    /// [`MessageError`] if it is not one.
    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError>;

    /// Most bytes a message of this kind may have; `None` for a kind that does not exist.
    fn limit(kind: u8) -> Option<usize>;
}

pub(super) const HELLO: u8 = 0x01;
pub(super) const BATCH: u8 = 0x02;
const LOSS: u8 = 0x03;
pub(super) const BYE: u8 = 0x04;
const FETCH: u8 = 0x05;
const CONDITION: u8 = 0x06;
const WELCOME: u8 = 0x81;
const REFUSED: u8 = 0x82;
pub(super) const ACKED: u8 = 0x83;
const BATCH_REFUSED: u8 = 0x84;
const PACE: u8 = 0x85;
const CLOSE: u8 = 0x86;
pub(super) const DESIRED: u8 = 0x87;
pub(super) const CONTENT: u8 = 0x88;
const WITHDRAWN: u8 = 0x89;

/// Room for the header of a message with a bounded payload; a desired state names at most [`MAX_CONTENTS`] contents.
const HEADER_BYTES: usize = 4_096;

/// What follows the versions in a hello.
#[derive(Serialize, Deserialize)]
struct HelloRest {
    gateway: GatewayId,
    installation: InstallationId,
    software: String,
    tenants: Vec<TenantStream>,
}

/// A batch without its payload.
#[derive(Serialize, Deserialize)]
struct BatchHeader {
    tenant: TenantIndex,
    seq: Sequence,
    route: RouteName,
    created: i64,
    rows: u32,
}

/// A desired state without its document.
#[derive(Serialize, Deserialize)]
struct DesiredHeader {
    tenant: TenantIndex,
    release: Release,
    rollback: bool,
    contents: Vec<ContentRef>,
}

/// A piece of content without its bytes.
#[derive(Serialize, Deserialize)]
struct ContentHeader {
    digest: Digest,
    offset: u64,
    total: u64,
}

impl Message for ToStamp {
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError> {
        match self {
            Self::Hello(hello) => {
                let rest = HelloRest {
                    gateway: hello.gateway.clone(),
                    installation: hello.installation,
                    software: hello.software.clone(),
                    tenants: hello.tenants.clone(),
                };
                encode_message::<Self, _>(HELLO, &(&hello.versions, rest), None, out)
            }
            Self::Batch(batch) => {
                let header = BatchHeader {
                    tenant: batch.tenant,
                    seq: batch.seq,
                    route: batch.route.clone(),
                    created: batch.created,
                    rows: batch.rows,
                };
                encode_message::<Self, _>(BATCH, &header, Some(&batch.payload), out)
            }
            Self::Loss(loss) => encode_message::<Self, _>(LOSS, loss, None, out),
            Self::Bye(bye) => encode_message::<Self, _>(BYE, bye, None, out),
            Self::Fetch(fetch) => encode_message::<Self, _>(FETCH, fetch, None, out),
            Self::Condition(condition) => encode_message::<Self, _>(CONDITION, condition, None, out),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError> {
        match kind {
            HELLO => decode_hello(&body).map(Self::Hello),
            BATCH => {
                let (header, payload) = decode_header::<BatchHeader>("batch", &body)?;
                let BatchHeader { tenant, seq, route, created, rows } = header;
                Ok(Self::Batch(Batch { tenant, seq, route, created, rows, payload }))
            }
            LOSS => decode_whole("loss", &body).map(Self::Loss),
            BYE => decode_whole("bye", &body).map(Self::Bye),
            FETCH => decode_whole("fetch", &body).map(Self::Fetch),
            CONDITION => decode_whole("condition", &body).map(Self::Condition),
            other => Err(MessageError::UnknownKind(other)),
        }
    }

    fn limit(kind: u8) -> Option<usize> {
        match kind {
            BATCH => Some(MAX_MESSAGE_BYTES),
            HELLO | LOSS | BYE => Some(MAX_CONTROL_BYTES),
            FETCH | CONDITION => Some(HEADER_BYTES),
            _ => None,
        }
    }
}

impl Message for ToGateway {
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError> {
        match self {
            Self::Welcome(welcome) => encode_message::<Self, _>(WELCOME, welcome, None, out),
            Self::Refused(refused) => encode_message::<Self, _>(REFUSED, refused, None, out),
            Self::Acked(acked) => encode_message::<Self, _>(ACKED, acked, None, out),
            Self::BatchRefused(refused) => encode_message::<Self, _>(BATCH_REFUSED, refused, None, out),
            Self::Withdrawn(withdrawn) => encode_message::<Self, _>(WITHDRAWN, withdrawn, None, out),
            Self::Pace(pace) => encode_message::<Self, _>(PACE, pace, None, out),
            Self::Close(close) => encode_message::<Self, _>(CLOSE, close, None, out),
            Self::Desired(desired) => {
                let header = DesiredHeader {
                    tenant: desired.tenant,
                    release: desired.release,
                    rollback: desired.rollback,
                    contents: desired.contents.clone(),
                };
                encode_message::<Self, _>(DESIRED, &header, Some(&desired.document), out)
            }
            Self::Content(content) => {
                let Content { digest, offset, total, .. } = *content;
                let header = ContentHeader { digest, offset, total };
                encode_message::<Self, _>(CONTENT, &header, Some(&content.bytes), out)
            }
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError> {
        match kind {
            WELCOME => decode_whole("welcome", &body).map(Self::Welcome),
            REFUSED => decode_whole("refusal", &body).map(Self::Refused),
            ACKED => decode_whole("acknowledgement", &body).map(Self::Acked),
            BATCH_REFUSED => decode_whole("batch refusal", &body).map(Self::BatchRefused),
            WITHDRAWN => decode_whole("withdrawal", &body).map(Self::Withdrawn),
            PACE => decode_whole("pace", &body).map(Self::Pace),
            CLOSE => decode_whole("close", &body).map(Self::Close),
            DESIRED => decode_desired(&body).map(Self::Desired),
            CONTENT => {
                let (ContentHeader { digest, offset, total }, bytes) = decode_header("content", &body)?;
                Ok(Self::Content(Content { digest, offset, total, bytes }))
            }
            other => Err(MessageError::UnknownKind(other)),
        }
    }

    fn limit(kind: u8) -> Option<usize> {
        match kind {
            WELCOME..=CLOSE => Some(MAX_CONTROL_BYTES),
            WITHDRAWN => Some(HEADER_BYTES),
            DESIRED => Some(MAX_DOCUMENT_BYTES + HEADER_BYTES),
            CONTENT => Some(MAX_CHUNK_BYTES + HEADER_BYTES),
            _ => None,
        }
    }
}

fn encode_message<M: Message, H: Serialize>(
    kind: u8,
    header: &H,
    payload: Option<&Bytes>,
    out: &mut BytesMut,
) -> Result<Option<Bytes>, MessageError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    let appended = postcard::to_extend(header, std::mem::take(out))
        .map_err(|error| MessageError::Malformed { kind: "message", cause: error.to_string() })?;
    *out = appended;
    let length = out.len() - start - 4 + payload.map_or(0, Bytes::len);
    let limit = M::limit(kind).unwrap_or_default();
    if length > limit {
        out.truncate(start);
        return Err(MessageError::TooLarge { length, limit });
    }
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&(length as u32).to_le_bytes());
    }
    Ok(payload.cloned())
}

fn decode_header<H: DeserializeOwned>(kind: &'static str, body: &Bytes) -> Result<(H, Bytes), MessageError> {
    let (header, rest) = postcard::take_from_bytes(body)
        .map_err(|error| MessageError::Malformed { kind, cause: error.to_string() })?;
    Ok((header, body.slice(body.len() - rest.len()..)))
}

fn decode_whole<H: DeserializeOwned>(kind: &'static str, body: &Bytes) -> Result<H, MessageError> {
    match decode_header(kind, body)? {
        (header, rest) if rest.is_empty() => Ok(header),
        (_, rest) => Err(MessageError::Malformed { kind, cause: format!("{} bytes too many", rest.len()) }),
    }
}

fn decode_hello(body: &Bytes) -> Result<Hello, MessageError> {
    let (versions, rest) = decode_header::<Vec<u16>>("hello", body)?;
    if !versions.contains(&VERSION) {
        return Err(MessageError::Version { offered: versions.into_iter().take(16).collect() });
    }
    let (HelloRest { gateway, installation, software, tenants }, _later) = decode_header("hello", &rest)?;
    if tenants.len() > MAX_TENANTS {
        let cause = format!("{} tenants, at most {MAX_TENANTS} are allowed", tenants.len());
        return Err(MessageError::Malformed { kind: "hello", cause });
    }
    Ok(Hello { versions, gateway, installation, software, tenants })
}

fn decode_desired(body: &Bytes) -> Result<Desired, MessageError> {
    let (DesiredHeader { tenant, release, rollback, contents }, document) = decode_header("desired", body)?;
    let malformed = |cause: String| Err(MessageError::Malformed { kind: "desired", cause });
    if contents.len() > MAX_CONTENTS {
        return malformed(format!("{} contents, at most {MAX_CONTENTS} are allowed", contents.len()));
    }
    if let Some(content) = contents.iter().find(|content| !(1..=MAX_CONTENT_BYTES).contains(&content.size)) {
        return malformed(format!(
            "a content of {} bytes, from 1 to {MAX_CONTENT_BYTES} are allowed",
            content.size
        ));
    }
    Ok(Desired { tenant, release, rollback, contents, document })
}
