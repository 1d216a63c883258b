use proptest::prelude::*;

use bytes::BytesMut;

use super::encoding::{ACKED, BATCH, BYE, CONTENT, DESIRED, HELLO};
use super::*;
use crate::ids::{Digest, Release};

fn to_stamp() -> Vec<ToStamp> {
    vec![
        ToStamp::Hello(Hello {
            versions: vec![1],
            gateway: GatewayId::new("plant7").unwrap(),
            installation: InstallationId(0x0123_4567_89ab_cdef),
            software: "0.1.0".into(),
            tenants: vec![TenantStream {
                tenant: TenantId::new("acme").unwrap(),
                stream: StreamId(77),
                next: Sequence(1_000),
                epoch: 3,
            }],
        }),
        ToStamp::Batch(Batch {
            tenant: TenantIndex(0),
            seq: Sequence(300),
            route: RouteName::new("telemetry").unwrap(),
            created: 1_760_000_000_123_000_000,
            rows: 2,
            payload: Bytes::from_static(b"payload"),
        }),
        ToStamp::Loss(Loss {
            tenant: TenantIndex(0),
            from: Sequence(5),
            to: Sequence(9),
            rows: 12,
            reason: "quota".into(),
        }),
        ToStamp::Bye(Bye { text: "done".into() }),
        ToStamp::Fetch(Fetch { digest: Digest([0xab; 32]), offset: 262_144 }),
        ToStamp::Condition(Condition {
            tenant: TenantIndex(0),
            release: Release(7),
            state: ConditionState::Refused,
            reason: "signature".into(),
            rows: 1_000,
            faults: 2,
            rejected: 3,
            cpu_ns: 4_000_000,
            memory: 1 << 20,
        }),
    ]
}

fn to_gateway() -> Vec<ToGateway> {
    let ranges = RangeSet::try_from(vec![(Sequence(1), Sequence(4)), (Sequence(10), Sequence(300))]).unwrap();
    vec![
        ToGateway::Welcome(Welcome {
            version: 1,
            stamp: StampId::new("eu-1").unwrap(),
            tenants: vec![
                Admission::Admitted { landed: ranges.clone(), device_quota: Some(500), window: 1 << 20 },
                Admission::Refused { reason: RefusalReason::NotAssigned, text: "no".into() },
            ],
        }),
        ToGateway::Refused(Refused {
            reason: RefusalReason::IdentityInUse,
            text: "taken".into(),
            retry_after: Some(Duration::from_millis(1_500)),
        }),
        ToGateway::Acked(Acked { tenant: TenantIndex(1), ranges }),
        ToGateway::BatchRefused(BatchRefused {
            tenant: TenantIndex(0),
            seq: Sequence(300),
            reason: BatchRefusal::Capacity,
            text: "full".into(),
            devices: vec!["press-9".into()],
        }),
        ToGateway::Withdrawn(Withdrawn {
            tenant: TenantIndex(1),
            reason: RefusalReason::Moved,
            text: "gone".into(),
        }),
        ToGateway::Pace(Pace { tenant: None, window: 4_096 }),
        ToGateway::Close(Close {
            reason: CloseReason::ShuttingDown,
            text: "bye".into(),
            return_after: Some(Duration::from_secs(5)),
        }),
        ToGateway::Desired(Desired {
            tenant: TenantIndex(1),
            release: Release(7),
            rollback: true,
            contents: vec![ContentRef { digest: Digest([0xab; 32]), size: 300_000 }],
            document: Bytes::from_static(b"[[step]]"),
        }),
        ToGateway::Content(Content {
            digest: Digest([0xab; 32]),
            offset: 262_144,
            total: 300_000,
            bytes: Bytes::from_static(b"wasm"),
        }),
    ]
}

fn stream<M: Message>(messages: &[M]) -> Vec<u8> {
    let mut out = BytesMut::from(&PREAMBLE[..]);
    for message in messages {
        if let Some(payload) = message.encode(&mut out).unwrap() {
            out.extend_from_slice(&payload);
        }
    }
    out.to_vec()
}

fn read<M: Message>(decoder: &mut Decoder) -> Result<Vec<M>, MessageError> {
    let mut messages = Vec::new();
    while let Some(message) = decoder.next_message()? {
        messages.push(message);
    }
    Ok(messages)
}

fn read_all<M: Message>(bytes: &[u8]) -> Result<Vec<M>, MessageError> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    let messages = read(&mut decoder)?;
    decoder.end()?;
    Ok(messages)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn version_1_is_written_as_ever() {
    let written = format!("{}\n{}\n", hex(&stream(&to_stamp())), hex(&stream(&to_gateway())));
    assert_eq!(written, include_str!("golden_v1.hex"));
    assert_eq!(read_all::<ToStamp>(&stream(&to_stamp())), Ok(to_stamp()));
    assert_eq!(read_all::<ToGateway>(&stream(&to_gateway())), Ok(to_gateway()));
}

proptest! {
    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut(
        cuts in prop::collection::vec(1usize..40, 1..60),
    ) {
        let bytes = stream(&to_stamp());
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            decoder.feed(now);
            messages.extend(read::<ToStamp>(&mut decoder).unwrap());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(messages, to_stamp());
        prop_assert_eq!(decoder.end(), Ok(()));
    }

    #[test]
    fn what_is_changed_on_the_way_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for mut bytes in [stream(&to_stamp()), stream(&to_gateway())] {
            for (place, value) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            let _ = read_all::<ToStamp>(&bytes);
            let _ = read_all::<ToGateway>(&bytes);
        }
    }
}

#[test]
fn a_foreign_protocol_is_recognised_from_its_first_bytes() {
    assert!(matches!(read_all::<ToStamp>(b"GET / HTTP/1.1\r\n"), Err(MessageError::Foreign(_))));
    assert!(matches!(read_all::<ToStamp>(b"SLUG"), Err(MessageError::Foreign(_))));
    assert_eq!(read_all::<ToStamp>(b"SLUICE\x02\n"), Err(MessageError::Framing(2)));
    assert_eq!(read_all::<ToStamp>(b"SLUI"), Err(MessageError::Truncated(4)));
}

#[test]
fn a_message_too_large_is_refused_by_its_length_alone() {
    let announced = |kind: u8, length: u32| {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(kind);
        read_all::<ToStamp>(&bytes)
    };
    let (over, limit) = (MAX_MESSAGE_BYTES as u32 + 1, MAX_MESSAGE_BYTES);
    assert_eq!(announced(BATCH, over), Err(MessageError::TooLarge { length: over as usize, limit }));
    assert!(matches!(announced(BATCH, limit as u32), Err(MessageError::Truncated(_))));
    assert!(matches!(announced(BYE, 3 << 20), Err(MessageError::TooLarge { limit: MAX_CONTROL_BYTES, .. })));
    assert!(matches!(announced(BYE, 0), Err(MessageError::Malformed { .. })));
    assert_eq!(announced(0x33, 10), Err(MessageError::UnknownKind(0x33)));
    assert_eq!(announced(ACKED, 10), Err(MessageError::UnknownKind(ACKED)), "a gateway does not acknowledge");
}

#[test]
fn a_desired_state_is_bounded_in_bytes_contents_and_their_sizes() {
    let announced = |kind: u8, length: usize| {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.push(kind);
        read_all::<ToGateway>(&bytes)
    };
    assert!(matches!(announced(DESIRED, MAX_DOCUMENT_BYTES + 4_097), Err(MessageError::TooLarge { .. })));
    assert!(matches!(announced(CONTENT, MAX_CHUNK_BYTES + 4_097), Err(MessageError::TooLarge { .. })));
    let read = |sizes: Vec<u64>, document: usize| {
        let contents = sizes.into_iter().map(|size| ContentRef { digest: Digest([1; 32]), size }).collect();
        let document = Bytes::from(vec![b'#'; document]);
        let (tenant, release, rollback) = (TenantIndex(0), Release(1), false);
        read_all::<ToGateway>(&stream(&[ToGateway::Desired(Desired {
            tenant,
            release,
            rollback,
            contents,
            document,
        })]))
    };
    assert!(read(vec![MAX_CONTENT_BYTES; MAX_CONTENTS], MAX_DOCUMENT_BYTES).is_ok(), "the largest fits");
    for bad in [vec![1; MAX_CONTENTS + 1], vec![0], vec![MAX_CONTENT_BYTES + 1]] {
        assert!(matches!(read(bad, 0), Err(MessageError::Malformed { kind: "desired", .. })));
    }
}

#[test]
fn a_batch_too_large_is_not_written() {
    let payload = Bytes::from(vec![0; MAX_MESSAGE_BYTES]);
    let ToStamp::Batch(batch) = to_stamp().remove(1) else { panic!("the second is a batch") };
    let mut out = BytesMut::from(&b"before"[..]);
    let result = ToStamp::Batch(Batch { payload, ..batch }).encode(&mut out);
    assert!(matches!(result, Err(MessageError::TooLarge { .. })));
    assert_eq!(&out[..], b"before");
}

#[test]
fn a_stream_that_ends_inside_a_message_is_told() {
    let bytes = stream(&to_stamp());
    let mut decoder = Decoder::default();
    decoder.feed(&bytes[..bytes.len() - 1]);
    assert_eq!(read::<ToStamp>(&mut decoder).unwrap().len(), to_stamp().len() - 1);
    assert!(matches!(decoder.end(), Err(MessageError::Truncated(_))));
}

#[test]
fn a_hello_of_a_later_version_is_understood_or_declined_clearly() {
    let hello = |versions: &[u16], later: &[u8]| {
        let mut out = BytesMut::new();
        let ToStamp::Hello(hello) = to_stamp().remove(0) else { panic!("the first is a hello") };
        ToStamp::Hello(Hello { versions: versions.to_vec(), ..hello }).encode(&mut out).unwrap();
        out.extend_from_slice(later);
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        read_all::<ToStamp>(&[&PREAMBLE[..], &out].concat())
    };
    let Ok([ToStamp::Hello(understood)]) =
        hello(&[2, 1], b"fields of version 2").as_deref().map(|m| [m[0].clone()])
    else {
        panic!("a gateway that also speaks version 1 is understood");
    };
    assert_eq!(understood.versions, [2, 1]);
    assert_eq!(hello(&[2, 3], b"").unwrap_err(), MessageError::Version { offered: vec![2, 3] });
    // Even if nothing else of it can be read.
    let other = [&PREAMBLE[..], &[6, 0, 0, 0, HELLO, 2, 2, 3, 0xff, 0xff]].concat();
    assert_eq!(read_all::<ToStamp>(&other).unwrap_err(), MessageError::Version { offered: vec![2, 3] });
}

#[test]
fn other_messages_are_exactly_as_their_version_says() {
    let mut bytes = stream(&[ToStamp::Bye(Bye { text: "x".into() })]);
    bytes.push(0);
    bytes[8] += 1;
    assert!(matches!(read_all::<ToStamp>(&bytes), Err(MessageError::Malformed { kind: "bye", .. })));
}

#[test]
fn a_reason_of_a_later_version_is_still_a_reason() {
    let reason: RefusalReason = postcard::from_bytes(&[200]).unwrap();
    assert_eq!(reason, RefusalReason::Unknown(200));
    assert!(!reason.is_permanent());
    assert_eq!(reason.to_string(), "reason 200");
    assert_eq!(postcard::to_allocvec(&reason).unwrap(), [200]);
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let text = short("é".repeat(2_000));
    assert!(text.len() <= MAX_TEXT_BYTES && text.len() >= MAX_TEXT_BYTES - 1);
}
