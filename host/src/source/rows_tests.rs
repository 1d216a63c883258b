use std::sync::Mutex;

use super::*;
use gateway_config::{Gather, TimeField, TimeMissing, TimeUnit, TopicFilter};
use wire::frame::Values;

use crate::intake::{Intake, fingerprint};
use crate::source::template::Template;
use crate::source::time::TimeRule;

const NOW: i64 = 1_760_000_000_000_000_000;

/// Writes down which tokens were told what.
type Told = Arc<Mutex<Vec<(TenantIndex, Vec<u32>, bool)>>>;

struct Notes {
    tenant: TenantIndex,
    tokens: Vec<u32>,
    told: Told,
}

impl Custody for Notes {
    fn committed(self: Box<Self>) {
        self.told.lock().unwrap().push((self.tenant, self.tokens, true));
    }
    fn refused(self: Box<Self>, _reason: &str) {
        self.told.lock().unwrap().push((self.tenant, self.tokens, false));
    }
}

struct Bench {
    gatherer: Gatherer<u32>,
    lanes: Vec<tokio::sync::mpsc::Receiver<Intake>>,
    told: Told,
}

fn rules() -> Arc<[Rule]> {
    let rule = |filter: &str, format| Rule {
        template: Template::new(&TopicFilter::parse(filter).unwrap(), None, None),
        profile: "machine".into(),
        format,
    };
    let time = TimeRule::new(Some(&TimeField {
        field: "ts".into(),
        unit: TimeUnit::Millis,
        max_ahead: Duration::from_secs(60),
        max_behind: Some(Duration::from_secs(3_600)),
        missing: TimeMissing::Arrival,
    }));
    let units = [("t".to_owned(), "Cel".to_owned())].into();
    Arc::from([
        rule("site/{tenant}/{device}/telemetry", Format::Json { time, units }),
        rule("raw/{tenant}/{device}", Format::Raw { decoder: "modbus".into() }),
    ])
}

fn bench(max_rows: usize, depth: usize) -> Bench {
    let told = Told::default();
    let (senders, lanes): (Vec<_>, Vec<_>) = ["acme", "bolt"]
        .into_iter()
        .map(|tenant| {
            let (sender, receiver) = tokio::sync::mpsc::channel(depth);
            ((TenantId::new(tenant).unwrap(), sender), receiver)
        })
        .unzip();
    let notes = Arc::clone(&told);
    let custody: CustodyOf<u32> =
        Box::new(move |tenant, tokens| Box::new(Notes { tenant, tokens, told: Arc::clone(&notes) }));
    let gather = Gather { linger: Duration::from_millis(20), max_rows };
    Bench { gatherer: Gatherer::new("floor".into(), rules(), senders, gather, custody), lanes, told }
}

impl Bench {
    fn push(
        &mut self,
        topic: &str,
        payload: &str,
        repeats: Repeats,
        token: u32,
    ) -> Result<Pushed, PushError> {
        let target = self.gatherer.resolve(topic).unwrap();
        let message = Message { topic, payload: payload.as_bytes(), arrived: NOW, repeats };
        self.gatherer.push(target, &message, Some(token))
    }

    fn intake(&mut self, tenant: usize) -> Intake {
        assert_eq!(self.gatherer.flush_tenant(tenant), Flushed::Sent);
        self.lanes[tenant].try_recv().unwrap()
    }
}

const TOPIC: &str = "site/acme/p1/telemetry";

#[test]
fn rows_of_many_devices_share_a_frame_and_keep_their_originals() {
    let mut bench = bench(100, 1);
    let payloads = [
        r#"{"ts":1760000000001,"t":1.5,"s":"RUN"}"#,
        r#"{"s":"STOP","t":2}"#,
        r#"{"ts":1760000000003,"t":3,"s":"RUN"}"#,
    ];
    for (n, payload) in payloads.iter().enumerate() {
        let topic = format!("site/acme/p{}/telemetry", n % 2);
        assert_eq!(bench.push(&topic, payload, Repeats::Maybe, n as u32), Ok(Pushed::Row));
    }
    let intake = bench.intake(0);
    assert_eq!(intake.decoded.len(), 1);
    let decoded = &intake.decoded[0];
    decoded.frame.check().unwrap();
    assert_eq!(decoded.frame.profile, "machine");
    assert_eq!(decoded.frame.devices, ["p0", "p1"]);
    assert_eq!(decoded.frame.device, [0, 1, 0]);
    assert_eq!(decoded.frame.time, [NOW + 1_000_000, NOW, NOW + 3_000_000]);
    let column = decoded.frame.column("t").unwrap();
    assert_eq!(column.unit, "Cel");
    assert_eq!(column.values, Values::F64(vec![1.5, 2.0, 3.0]));
    let Values::Text(texts) = &decoded.frame.column("s").unwrap().values else { panic!("texts") };
    assert_eq!((0..3).map(|row| texts.get(row).unwrap()).collect::<Vec<_>>(), ["RUN", "STOP", "RUN"]);
    assert_eq!(texts.dictionary.len(), 2);
    for (row, payload) in payloads.iter().enumerate() {
        assert_eq!(decoded.originals.get(row), Some(payload.as_bytes()));
    }
    // The second message has no time of its own, so it cannot be told from a repetition.
    assert_eq!(
        decoded.fingerprints,
        [fingerprint("p0", payloads[0].as_bytes()), 0, fingerprint("p0", payloads[2].as_bytes())]
    );
    intake.custody.committed();
    assert_eq!(*bench.told.lock().unwrap(), [(0, vec![0, 1, 2], true)]);
}

#[test]
fn only_what_may_repeat_and_has_a_time_is_suspect() {
    let mut bench = bench(100, 1);
    let timed = r#"{"ts":1760000000001,"t":1}"#;
    bench.push(TOPIC, timed, Repeats::Never, 0).unwrap();
    bench.push(TOPIC, timed, Repeats::Suspect, 1).unwrap();
    bench.push(TOPIC, r#"{"t":1}"#, Repeats::Suspect, 2).unwrap();
    bench.push(TOPIC, timed, Repeats::Suspect, 3).unwrap();
    let decoded = &bench.intake(0).decoded[0];
    let print = fingerprint("p1", timed.as_bytes());
    assert_eq!(decoded.fingerprints, [0, print, 0, print]);
    assert_eq!(decoded.suspects, [1, 3]);
}

#[test]
fn other_columns_or_types_are_another_frame() {
    let mut bench = bench(100, 1);
    for payload in [r#"{"t":1}"#, r#"{"t":"hot"}"#, r#"{"t":2}"#, r#"{"t":2,"u":null,"v":1}"#] {
        assert_eq!(bench.push(TOPIC, payload, Repeats::Never, 0), Ok(Pushed::Row));
    }
    let rows: Vec<usize> = bench
        .intake(0)
        .decoded
        .iter()
        .map(|decoded| {
            decoded.frame.check().unwrap();
            decoded.frame.rows()
        })
        .collect();
    assert_eq!(rows, [2, 1, 1]);
}

#[test]
fn what_cannot_be_decoded_is_kept_with_its_reason() {
    let mut bench = bench(100, 1);
    let late = r#"{"ts":1759996399000,"t":1}"#;
    let early = r#"{"ts":1760000061000,"t":1}"#;
    for payload in ["", "{\"t\":", late, early] {
        assert_eq!(bench.push(TOPIC, payload, Repeats::Maybe, 7), Ok(Pushed::Undecodable));
    }
    let intake = bench.intake(0);
    let reasons: Vec<&str> = intake.undecodable.iter().map(|lost| lost.reason.as_str()).collect();
    assert_eq!(reasons[0], "empty payload");
    assert_eq!(reasons[1], "not JSON: EOF while parsing a value at byte 5");
    assert!(reasons[2].contains("3601 s in the past"), "{}", reasons[2]);
    assert!(reasons[3].contains("61 s in the future"), "{}", reasons[3]);
    let third = &intake.undecodable[2];
    assert_eq!((third.device.as_str(), third.topic.as_str(), third.arrived), ("p1", TOPIC, NOW));
    assert_eq!(third.payload, late.as_bytes());
    assert!(intake.decoded.is_empty());
}

#[test]
fn raw_messages_wait_for_their_decoder() {
    let mut bench = bench(100, 1);
    for (topic, payload) in [("raw/acme/a", "\x01\x02"), ("raw/acme/b", ""), ("raw/acme/a", "xyz")] {
        assert_eq!(bench.push(topic, payload, Repeats::Maybe, 7), Ok(Pushed::Raw));
    }
    let intake = bench.intake(0);
    assert_eq!(intake.raw.len(), 1);
    let raw = &intake.raw[0];
    assert_eq!((raw.decoder.as_str(), raw.profile.as_str()), ("modbus", "machine"));
    assert_eq!(raw.devices, ["a", "b"]);
    assert_eq!(raw.device, [0, 1, 0]);
    assert_eq!(raw.topics, ["raw/acme/a", "raw/acme/b", "raw/acme/a"]);
    assert_eq!(raw.payloads.get(1), Some(&b""[..]));
    assert_eq!(raw.payloads.get(2), Some(&b"xyz"[..]));
}

#[test]
fn a_topic_leads_nowhere_for_a_reason() {
    let mut bench = bench(100, 1);
    assert_eq!(bench.gatherer.resolve("x"), Err(Unroutable::NoRule));
    assert!(matches!(bench.gatherer.resolve("site/nobody/p/telemetry"), Err(Unroutable::UnknownTenant(_))));
    assert!(matches!(bench.gatherer.resolve("site/ACME/p/telemetry"), Err(Unroutable::Name(_))));
}

#[test]
fn a_full_lane_stops_its_tenant_only() {
    let mut bench = bench(2, 1);
    let mut taken = 0;
    let busy = loop {
        match bench.push(TOPIC, r#"{"t":1}"#, Repeats::Never, taken) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(busy, PushError::Busy(0));
    assert_eq!(taken, 4, "two in the channel, two in the batch");
    for token in 0..2 {
        assert!(bench.push("site/bolt/p/telemetry", r#"{"t":1}"#, Repeats::Never, token).is_ok());
    }
    let first = bench.lanes[0].try_recv().unwrap();
    assert_eq!(first.decoded[0].frame.rows(), 2);
    assert!(bench.push(TOPIC, r#"{"t":1}"#, Repeats::Never, taken).is_ok());
}

#[test]
fn a_batch_waits_for_the_linger_time_and_no_longer() {
    let mut bench = bench(100, 1);
    assert_eq!(bench.gatherer.due(), None);
    bench.push(TOPIC, r#"{"t":1}"#, Repeats::Never, 0).unwrap();
    let due = bench.gatherer.due().unwrap();
    assert_eq!(bench.gatherer.flush(due - Duration::from_millis(1)), Some(due));
    assert!(bench.lanes[0].try_recv().is_err());
    assert_eq!(bench.gatherer.flush(due), None);
    assert!(bench.lanes[0].try_recv().is_ok());
}

#[test]
fn a_closed_lane_and_a_dropped_gatherer_refuse_what_they_hold() {
    let mut bench = bench(100, 1);
    bench.push(TOPIC, r#"{"t":1}"#, Repeats::Maybe, 1).unwrap();
    bench.push("site/bolt/p/telemetry", r#"{"t":1}"#, Repeats::Maybe, 2).unwrap();
    bench.lanes.remove(0);
    assert_eq!(bench.gatherer.flush_tenant(0), Flushed::Closed);
    let Bench { gatherer, told, .. } = bench;
    drop(gatherer);
    assert_eq!(*told.lock().unwrap(), [(0, vec![1], false), (1, vec![2], false)]);
}

#[test]
fn identifiers_travel_with_their_message() {
    let mut bench = bench(1, 1);
    bench.push(TOPIC, r#"{"t":1}"#, Repeats::Never, 1).unwrap();
    let taken = IdentifierChange::Taken { client: "floor/c".into(), packet: 9 };
    bench.gatherer.push_identifier(0, taken.clone(), Some(2)).unwrap();
    let intake = bench.intake(0);
    assert_eq!(intake.decoded[0].frame.rows(), 1);
    assert_eq!(intake.identifiers, [taken]);
    intake.custody.committed();
    assert_eq!(bench.told.lock().unwrap()[0].1, [1, 2]);
}

#[test]
fn dictionaries_hold_each_text_once_even_if_many() {
    let mut bench = bench(10_000, 1);
    for n in 0..3_000 {
        let payload = format!(r#"{{"t":"text {}"}}"#, n % 1_000);
        bench.push(TOPIC, &payload, Repeats::Never, 0).unwrap();
    }
    let decoded = &bench.intake(0).decoded[0];
    let Values::Text(texts) = &decoded.frame.columns[0].values else { panic!("texts") };
    assert_eq!(texts.dictionary.len(), 1_000);
    for row in 0..3_000 {
        assert_eq!(texts.get(row), Some(format!("text {}", row % 1_000).as_str()));
    }
}

#[test]
fn forgotten_targets_are_resolved_anew_and_lose_nothing() {
    let mut bench = bench(100, 1);
    bench.push(TOPIC, r#"{"t":1}"#, Repeats::Never, 0).unwrap();
    let old = bench.gatherer.resolve(TOPIC).unwrap();
    bench.gatherer.forget_targets();
    let message = Message { topic: TOPIC, payload: br#"{"t":2}"#, arrived: NOW, repeats: Repeats::Never };
    assert_eq!(bench.gatherer.push(old, &message, None), Err(PushError::Stale));
    bench.push("site/acme/p2/telemetry", r#"{"t":3}"#, Repeats::Never, 0).unwrap();
    bench.push(TOPIC, r#"{"t":4}"#, Repeats::Never, 0).unwrap();
    let intake = bench.intake(0);
    let rows: Vec<_> = intake
        .decoded
        .iter()
        .flat_map(|decoded| {
            decoded.frame.check().unwrap();
            (0..decoded.frame.rows()).map(|row| decoded.frame.device_of(row).unwrap().to_owned())
        })
        .collect();
    assert_eq!(rows, ["p1", "p2", "p1"]);
}
