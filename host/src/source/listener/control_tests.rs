use proptest::prelude::*;

use super::control::{Connect, Goodbye, connect, goodbye, refuse_subscriptions, unsubscribed};
use super::packet::{Packet, Version};

fn packet(first: u8, body: &[u8]) -> Packet<'_> {
    Packet { first, body, total: 0 }
}

#[test]
fn a_connect_of_each_version_is_read() {
    let v3 = b"\0\x04MQTT\x04\xc6\0\x3c\0\x02id\0\x01w\0\x02by\0\x03ada\0\x03pwd";
    let read = connect(packet(0x10, v3)).unwrap();
    let will = read.will.clone().unwrap();
    assert_eq!((will.topic.as_str(), will.payload.as_slice()), ("w", &b"by"[..]));
    assert_eq!((read.client.as_str(), read.keep_alive, read.clean), ("id", 60, true));
    assert_eq!((read.user.as_deref(), read.password.as_deref()), (Some("ada"), Some(&b"pwd"[..])));
    let v5 = b"\0\x04MQTT\x05\0\0\x0a\x05\x11\0\0\0\x3c\0\x02id";
    let read = connect(packet(0x10, v5)).unwrap();
    let expected = Connect {
        version: Version::V5,
        client: "id".into(),
        clean: false,
        keep_alive: 10,
        session_expiry: 60,
        user: None,
        password: None,
        will: None,
        authentication: false,
    };
    assert_eq!(read, expected);
}

#[test]
fn a_goodbye_may_change_the_session_expiry() {
    assert_eq!(goodbye(packet(0xe0, &[]), Version::V3), Ok(Goodbye::default()));
    let read = goodbye(packet(0xe0, &[4, 5, 0x11, 0, 0, 0, 9]), Version::V5).unwrap();
    assert_eq!(read, Goodbye { will: true, session_expiry: Some(9) });
    assert!(goodbye(packet(0xe0, &[0]), Version::V3).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn no_bytes_make_control_packets_panic(
        flags in any::<u8>(), v5: bool,
        body in prop::collection::vec(prop_oneof![3 => 0_u8..45, 1 => any::<u8>()], 0..60),
    ) {
        let version = if v5 { Version::V5 } else { Version::V3 };
        let mut whole = b"\0\x04MQTT".to_vec();
        whole.extend_from_slice(&[if v5 { 5 } else { 4 }, flags, 0, 9]);
        whole.extend_from_slice(&body);
        let _ = connect(packet(0x10, &whole));
        let _ = connect(packet(0x10, &body));
        let _ = refuse_subscriptions(packet(0x82, &body), version);
        let _ = unsubscribed(packet(0xa2, &body), version);
        let _ = goodbye(packet(0xe0, &body), version);
    }
}
