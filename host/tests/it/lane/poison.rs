//! Rows that fail, and the others that must pass.

use std::collections::BTreeSet;

use gateway_config::Decoder;
use host::intake::Raw;
use host::store::LetterKind;

use super::*;

fn trap(with: &str) -> Step {
    step("fixtures/trap", with)
}

/// So many rows of ten devices; the values are their numbers.
fn rows(count: i64) -> Vec<(String, i64, f64)> {
    (0..count).map(|n| (format!("device-{}", n % 10), n, n as f64)).collect()
}

fn put(site: &Site, rows: &[(String, i64, f64)]) {
    let rows: Vec<_> = rows.iter().map(|(device, time, value)| (device.as_str(), *time, *value)).collect();
    site.put(rows_of("c", &rows, false));
}

#[test]
fn the_rows_of_a_poison_device_alone_are_dead_with_all_that_is_known_of_them() {
    let with = r#"{"device":"device-3"}"#;
    let site = Site::start(tenant("device", vec![trap(with), step("tag", r#"{"column":"s","value":"v"}"#)]));
    let rows = rows(300);
    put(&site, &rows);
    let passed: Vec<i64> = (0..300).filter(|n| n % 10 != 3).collect();
    assert_eq!(site.rows(NORMAL).iter().map(|row| row.time).collect::<Vec<_>>(), passed);
    let letters = site.letters();
    assert_eq!(letters.len(), 30);
    for ((_, letter), n) in letters.iter().zip((0..300).filter(|n| n % 10 == 3)) {
        assert_eq!((letter.device.as_str(), letter.time, letter.kind), ("device-3", n, LetterKind::Fault));
        assert_eq!((letter.step.as_str(), letter.config.as_str()), ("fixtures/trap", with));
        assert_eq!(letter.original, message(n, "c", n as f64));
        assert!(letter.plugin.contains("trap") && letter.digest.len() == 64, "{letter:?}");
        assert!(letter.reason.contains("poison device device-3"), "{}", letter.reason);
        assert!(letter.trace.contains("process"), "functions by their names: {}", letter.trace);
        let frames = wire::codec::decode(&letter.frame, &wire::codec::Limits::default()).unwrap();
        assert_eq!((frames[0].time.as_slice(), frames[0].device_of(0)), (&[n][..], Some("device-3")));
    }
    // What the failed calls wrote is undone: each row that passed was counted once.
    assert_eq!(site.kept("fixtures/trap", "rows"), Some(270));
    assert_eq!(site.counts().dead, 30);
    assert_eq!(site.step(0).quarantine, None);
}

#[test]
fn random_poison_rows_are_found_each_and_none_besides() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    // xorshift64*
    let mut bits = seed | 1;
    let mut random = |below: u64| {
        bits ^= bits >> 12;
        bits ^= bits << 25;
        bits ^= bits >> 27;
        (bits.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % below
    };
    let site = Site::start(tenant("random", vec![trap(r#"{"column":"c","at":13,"fail_at":14}"#)]));
    let (mut sent, mut poison) = (Vec::new(), BTreeSet::new());
    for batch in 0..10 {
        let count = 1 + random(400);
        let mut rows = rows(count as i64);
        for row in &mut rows {
            row.1 += batch * 1_000;
            row.2 = if random(20) == 0 { 13.0 + random(2) as f64 } else { 1.0 };
            if row.2 > 1.0 {
                poison.insert(row.1);
            }
            sent.push(row.1);
        }
        put(&site, &rows);
    }
    let dead: BTreeSet<i64> = site.letters().iter().map(|letter| letter.1.time).collect();
    assert_eq!(dead, poison.iter().copied().take(dead.len()).collect());
    assert_eq!(site.counts().dead, poison.len() as u64);
    let passed: Vec<i64> = sent.into_iter().filter(|time| !poison.contains(time)).collect();
    assert_eq!(site.rows(NORMAL).iter().map(|row| row.time).collect::<Vec<_>>(), passed);
    assert_eq!(site.kept("fixtures/trap", "rows"), Some(passed.len() as u64));
}

#[test]
fn a_trap_at_the_nth_row_of_an_instance_costs_no_row() {
    let site = Site::start(tenant("nth", vec![trap(r#"{"row":7}"#)]));
    put(&site, &rows(50));
    put(&site, &rows(3));
    assert_eq!((site.rows(NORMAL).len(), site.letters().len()), (53, 0));
    assert!(site.step(0).faults > 0);
    site.counts();
}

#[test]
fn calls_that_run_out_of_time_are_bounded_and_what_is_not_isolated_says_so() {
    let quick =
        |step: Step| Step { limits: Limits { time: Duration::from_millis(20), ..step.limits }, ..step };
    let site = Site::start(tenant("spin", vec![quick(trap(r#"{"column":"c","spin_at":13}"#))]));
    put(&site, &rows(16));
    let letters = site.letters();
    assert_eq!(letters.iter().map(|letter| letter.1.time).collect::<Vec<_>>(), [13], "alone");
    assert!(letters[0].1.reason.contains("stopped at its time limit"), "{}", letters[0].1.reason);
    assert_eq!(site.rows(NORMAL).len(), 15);
    let faults = site.step(0).faults;
    // Every second row: nothing can find them all within the bound.
    let many: Vec<_> = (0..256).map(|n| ("d".to_owned(), 100 + n, f64::from(n as u32 % 2) * 13.0)).collect();
    put(&site, &many);
    assert!(site.step(0).faults - faults <= 8, "{} calls timed out", site.step(0).faults - faults);
    let counts = site.counts();
    assert_eq!(counts.accepted, 16 + 256);
    assert!(counts.dead > 128, "{counts:?}");
    let reasons: Vec<_> = site.letters().into_iter().skip(1).map(|letter| letter.1.reason).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("not tried one by one: too many calls ran out of time"))
    );
}

#[test]
fn a_batch_of_nothing_but_poison_is_dead_after_a_bounded_number_of_calls() {
    let site = Site::start(tenant("all", vec![trap(r#"{"column":"c","at":13}"#)]));
    let all: Vec<_> = (0..4_000).map(|n| (format!("d{}", n % 50), n, 13.0)).collect();
    put(&site, &all);
    let calls = site.step(0).calls;
    assert!((100..=1_025).contains(&calls), "{calls}");
    assert_eq!((site.counts().dead, site.rows(NORMAL).len()), (4_000, 0));
}

#[test]
fn messages_whose_decoding_exceeds_a_limit_together_pass_in_halves() {
    let mut tenant = tenant("decoder", vec![]);
    let decoder = Decoder::new("vibration", plugin("examples/vibration"), "{}");
    let limits = Limits { output: 2_048, ..decoder.limits };
    tenant.decoders.insert("vibration".into(), Decoder { limits, ..decoder });
    let site = Site::start(tenant);
    let good = [1, 1, 0, 0, 0x07, 0xd0, 0, 0, 0x13, 0x88];
    let mut raw = Raw { decoder: "vibration".into(), devices: vec!["v1".into()], ..Raw::default() };
    for n in 0..400 {
        raw.device.push(0);
        raw.arrived.push(5_000_000_000 + n);
        raw.topics.push(format!("site/{}", n % 3));
        raw.payloads.push(if n == 200 { b"nonsense" } else { &good });
    }
    site.put(Intake { raw: vec![raw], ..intake() });
    assert_eq!(site.rows(NORMAL).len(), 399);
    let letters = site.letters();
    assert_eq!((letters.len(), letters[0].1.original.as_slice()), (1, &b"nonsense"[..]));
    assert_eq!((letters[0].1.kind, letters[0].1.topic.as_str()), (LetterKind::Rejected, "site/2"));
    assert!(site.step(0).faults >= 3, "{}", site.step(0).faults);
    site.counts();
}
