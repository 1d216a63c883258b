//! A decoder: messages in, frames out, with origins and rejections by message.

use runtime::{CallContext, ConfigureFault, DecodeStep, Messages, StepConfig};

use crate::guests::{SECOND, Site, f64s};

fn step(site: &Site, guest: &str) -> Result<DecodeStep, ConfigureFault> {
    let config = StepConfig { name: "vibration".into(), config_json: "{}".into(), ..StepConfig::default() };
    DecodeStep::new(&site.engine, &site.load(guest), config, Vec::new(), &CallContext::default())
}

#[test]
fn a_binary_payload_becomes_columns_and_bad_messages_are_rejected() {
    let site = Site::shared();
    let mut step = step(site, "examples/vibration").unwrap();
    let payloads: [&[u8]; 4] = [
        &[1, 2, 0x01, 0xf4, 0xff, 0x38, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0],
        &[1, 1, 0, 0, 0x08, 0x69, 0, 0, 0, 1],
        &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        b"{}",
    ];
    let ends: Vec<u32> = payloads
        .iter()
        .scan(0, |end, payload| {
            *end += payload.len() as u32;
            Some(*end)
        })
        .collect();
    let devices = ["pump-1".to_owned(), "pump-2".to_owned()];
    let messages = Messages {
        profile: "",
        devices: &devices,
        device: &[0, 1, 0, 1],
        arrived: &[100 * SECOND; 4],
        topics: &["site/acme/pump-1/raw".to_owned()],
        topic: &[0; 4],
        ends: &ends,
        payloads: &payloads.concat(),
    };
    let processed = step.decode(&messages, &CallContext::default()).unwrap();
    let [one, two] = processed.frames.as_slice() else { panic!("{processed:?}") };
    assert_eq!(one.frame.profile, "vibration");
    assert_eq!((one.frame.device_of(0), f64s(&one.frame, "temperature_c")), (Some("pump-2"), &[21.53][..]));
    assert_eq!(f64s(&one.frame, "x_mm_s"), [0.001]);
    assert_eq!(one.origin.as_ref().unwrap().rows, Some(vec![1]));
    assert_eq!((two.frame.device_of(0), f64s(&two.frame, "temperature_c")), (Some("pump-1"), &[-2.0][..]));
    assert_eq!((f64s(&two.frame, "x_mm_s"), f64s(&two.frame, "y_mm_s")), (&[1.0][..], &[2.0][..]));
    assert_eq!(two.frame.time, [100 * SECOND - 500_000_000]);
    assert_eq!(two.frame.column("y_mm_s").unwrap().unit, "mm/s");
    let rejected: Vec<_> =
        processed.rejected.iter().map(|r| (r.rows.as_slice(), r.reason.as_str())).collect();
    assert_eq!(
        rejected,
        [(&[2][..], "version 2, only 1 is known"), (&[3][..], "2 bytes, at least 6 are needed")]
    );

    let named = step.decode(&Messages { profile: "bearing", ..messages }, &CallContext::default()).unwrap();
    assert_eq!(named.frames[0].frame.profile, "bearing");
}

#[test]
fn a_processor_in_the_place_of_a_decoder_is_refused() {
    let refused = step(Site::shared(), "tag").err().unwrap();
    assert!(refused.to_string().contains("is a processor, here a decoder is needed"), "{refused}");
}
