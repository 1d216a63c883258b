use mqtt_protocol_core::mqtt::Arc as Shared;
use mqtt_protocol_core::mqtt::packet::Property;
use mqtt_protocol_core::mqtt::packet::{Qos, v3_1_1, v5_0};
use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8], version: Version) -> Result<Option<Publish<'_>>, PacketFault> {
    split(bytes, 1 << 20)?.map(|packet| publish(packet, version)).transpose()
}

#[test]
fn lengths_are_read_as_the_standard_says() {
    // MQTT 5, table 1-1.
    for (length, bytes) in [
        (0_usize, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
    ] {
        let mut packet = vec![0x30];
        packet.extend_from_slice(bytes);
        for part in 0..packet.len() {
            assert_eq!(split(&packet[..part], usize::MAX), Ok(None));
        }
        packet.resize(packet.len() + length, 7);
        let found = split(&packet, length).unwrap().unwrap();
        assert_eq!((found.body.len(), found.total), (length, packet.len()));
        assert_eq!(
            split(&packet[..packet.len() - 1], length).map(|found| found.is_some()),
            Ok(length == 0 && bytes.len() == 2)
        );
        if length > 0 {
            assert_eq!(split(&packet, length - 1), Err(PacketFault::TooLarge));
        }
    }
    assert_eq!(split(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX), Err(PacketFault::Malformed));
}

fn any_qos() -> impl Strategy<Value = Qos> {
    prop::sample::select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

fn any_properties() -> impl Strategy<Value = Vec<Property>> {
    use mqtt_protocol_core::mqtt::packet as p;
    let one = prop_oneof![
        any::<u32>().prop_map(|v| Property::MessageExpiryInterval(p::MessageExpiryInterval::new(v).unwrap())),
        (1..=u16::MAX).prop_map(|v| Property::TopicAlias(p::TopicAlias::new(v).unwrap())),
        "[a-z/]{0,20}".prop_map(|v| Property::ContentType(p::ContentType::new(v.as_str()).unwrap())),
        "[a-z/]{1,20}".prop_map(|v| Property::ResponseTopic(p::ResponseTopic::new(v.as_str()).unwrap())),
        prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(|v| Property::CorrelationData(p::CorrelationData::new(v).unwrap())),
        ("[a-zä]{0,200}", "[a-z]{0,9}")
            .prop_map(|(k, v)| Property::UserProperty(p::UserProperty::new(k.as_str(), v.as_str()).unwrap())),
    ];
    prop::collection::vec(one, 0..5).prop_map(|mut properties| {
        let mut seen = std::collections::HashSet::new();
        properties.retain(|property| {
            matches!(property, Property::UserProperty(_)) || seen.insert(property.id() as u8)
        });
        properties
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_the_library_writes_is_read_back_in_v3(
        topic in "[a-zA-Z0-9/ä]{1,60}", qos in any_qos(), id in 1..=u16::MAX, dup: bool, retain: bool,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut builder = v3_1_1::Publish::builder().topic_name(topic.as_str()).unwrap().qos(qos).retain(retain).payload(payload.clone());
        if qos != Qos::AtMostOnce {
            builder = builder.packet_id(id).dup(dup);
        }
        let bytes = builder.build().unwrap().to_continuous_buffer();
        let read = read(&bytes, Version::V3).unwrap().unwrap();
        prop_assert_eq!(read.topic, topic.as_bytes());
        prop_assert_eq!(read.payload, payload.as_slice());
        prop_assert_eq!(read.qos, qos as u8);
        prop_assert_eq!(read.packet, if qos == Qos::AtMostOnce { 0 } else { id });
        prop_assert_eq!(read.dup, dup && qos != Qos::AtMostOnce);
        for cut in 0..bytes.len() {
            prop_assert_eq!(split(&bytes[..cut], 1 << 20), Ok(None));
        }
    }

    #[test]
    fn what_the_library_writes_is_read_back_in_v5(
        topic in "[a-zA-Z0-9/ä]{1,60}", qos in any_qos(), id in 1..=u16::MAX, properties in any_properties(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let alias = properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(alias.val()),
            _ => None,
        });
        let mut builder = v5_0::Publish::builder().topic_name(topic.as_str()).unwrap().qos(qos).props(properties).payload(payload.clone());
        if qos != Qos::AtMostOnce {
            builder = builder.packet_id(id);
        }
        let bytes = builder.build().unwrap().to_continuous_buffer();
        let read = read(&bytes, Version::V5).unwrap().unwrap();
        prop_assert_eq!(read.topic, topic.as_bytes());
        prop_assert_eq!(read.payload, payload.as_slice());
        prop_assert_eq!(read.alias, alias);
        prop_assert_eq!(read.packet, if qos == Qos::AtMostOnce { 0 } else { id });
    }

    #[test]
    fn any_bytes_are_read_as_the_library_reads_them(
        flags in 0_u8..16, v5: bool,
        body in prop::collection::vec(prop_oneof![3 => 0_u8..12, 1 => any::<u8>()], 0..60),
    ) {
        let version = if v5 { Version::V5 } else { Version::V3 };
        let packet = Packet { first: 0x30 | flags, body: &body, total: 0 };
        let ours = publish(packet, version);
        let shared: Shared<[u8]> = Shared::from(body.as_slice());
        if v5 {
            if let (Ok(ours), Ok((theirs, _))) = (&ours, v5_0::Publish::parse(flags, shared)) {
                prop_assert_eq!(ours.topic, theirs.topic_name().as_bytes());
                prop_assert_eq!(ours.payload, theirs.payload().as_slice());
                prop_assert_eq!(ours.packet, theirs.packet_id().unwrap_or(0));
            }
        } else if let (Ok(ours), Ok((theirs, _))) = (&ours, v3_1_1::Publish::parse(flags, shared)) {
            prop_assert_eq!(ours.topic, theirs.topic_name().as_bytes());
            prop_assert_eq!(ours.payload, theirs.payload().as_slice());
            prop_assert_eq!(ours.packet, theirs.packet_id().unwrap_or(0));
        }
    }
}
