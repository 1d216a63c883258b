//! Dead letters that go through the lane again.

use gateway_config::Decoder;
use host::intake::{Raw, Undecodable};

use super::*;

#[test]
fn letters_go_on_from_the_step_that_they_failed_in_and_are_gone_with_what_comes_of_them() {
    let tag = step("linear", r#"{"column":"c","into":"before","scale":2}"#);
    let last = step("linear", r#"{"column":"c","into":"after","scale":3}"#);
    let steps = |at: u32| {
        let trap = step("fixtures/trap", &format!(r#"{{"column":"c","at":{at}}}"#));
        tenant("replay", vec![tag.clone(), trap, last.clone()])
    };
    let mut site = Site::start(steps(13));
    site.put(rows_of("c", &[("a", 1, 13.0), ("b", 2, 13.0), ("c", 3, 14.0)], false));
    assert_eq!((site.letters().len(), site.rows(NORMAL).len()), (2, 1));
    // Still poison: the letters are replaced by new ones.
    let report = wait(site.control().replay(site.letters())).unwrap();
    assert_eq!((report.replayed, report.dead_again, report.left.len()), (2, 2, 0));
    let letters = site.letters();
    assert_eq!((letters.len(), letters[0].0 > 2), (2, true));
    assert_eq!(letters[0].1.original, message(1, "c", 13.0), "the bytes of the device are still known");
    site.swap(steps(99)).unwrap();
    let first = site.lane().status().steps[0].calls;
    let report = wait(site.control().replay(letters)).unwrap();
    assert_eq!((report.replayed, report.dead_again), (2, 0));
    assert_eq!((site.letters().len(), site.store.totals().dead_replayed), (0, 4));
    let rows = site.rows(NORMAL);
    let values: Vec<_> =
        rows.iter().map(|row| (row.time, row.values["before"], row.values["after"])).collect();
    assert_eq!(values, [(1, 26.0, 39.0), (2, 26.0, 39.0), (3, 28.0, 42.0)]);
    assert_eq!(site.lane().status().steps[0].calls, first, "the first step is not called again");
    site.counts();
}

#[test]
fn letters_without_a_row_or_a_step_stay_with_the_reason() {
    let mut all = intake();
    let payload = b"{".to_vec();
    all.undecodable = vec![Undecodable {
        device: "j".into(),
        topic: "t".into(),
        arrived: 1,
        payload,
        reason: "not JSON".into(),
    }];
    let mut site = Site::start(tenant("stay", vec![step("fixtures/trap", r#"{"column":"c","at":13}"#)]));
    site.put(all);
    site.put(rows_of("c", &[("a", 1, 13.0)], false));
    site.swap(tenant("stay", vec![])).unwrap();
    let report = wait(site.control().replay(site.letters())).unwrap();
    let why: Vec<_> = report.left.iter().map(|left| left.1.as_str()).collect();
    assert_eq!((report.replayed, why.len(), site.letters().len()), (0, 2, 2));
    assert!(
        why[0].contains("reached no step") && why[1].contains("no step \"fixtures/trap\" any more"),
        "{why:?}"
    );
}

#[test]
fn a_message_that_a_decoder_choked_on_is_decoded_again() {
    let with = |output| {
        let mut tenant = tenant("raw-replay", vec![]);
        let decoder = Decoder::new("vibration", plugin("examples/vibration"), "{}");
        let limits = Limits { output, ..decoder.limits };
        tenant.decoders.insert("vibration".into(), Decoder { limits, ..decoder });
        tenant
    };
    // Too little for even one message.
    let mut site = Site::start(with(32));
    let mut raw = Raw { decoder: "vibration".into(), devices: vec!["v1".into()], ..Raw::default() };
    raw.device.push(0);
    raw.arrived.push(5_000_000_000);
    raw.topics.push("site/v1".into());
    raw.payloads.push(&[1, 1, 0, 0, 0x07, 0xd0, 0, 0, 0x13, 0x88]);
    site.put(Intake { raw: vec![raw], ..intake() });
    assert_eq!(site.letters()[0].1.step, "decoder vibration");
    site.swap(with(1 << 20)).unwrap();
    let report = wait(site.control().replay(site.letters())).unwrap();
    assert_eq!((report.replayed, report.dead_again, site.letters().len()), (1, 0, 0));
    let rows = site.rows(NORMAL);
    assert_eq!((rows[0].device.as_str(), rows[0].values["temperature_c"]), ("v1", 20.0));
    site.counts();
}
