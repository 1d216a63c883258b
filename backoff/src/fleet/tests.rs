//! What the product promises of its defaults, on small fleets. Ratios do not depend on the size of the fleet, only on the
//! ideal time, the outage and the seed.

use super::*;

const SEED: u64 = 20_261_124;

fn fleet(gateways: u32, rate: u32, outage_s: u64) -> Fleet {
    let outage = Duration::from_secs(outage_s);
    Fleet { gateways, rate, outage, announced: outage, seed: SEED }
}

fn recovered(report: &Report) -> f64 {
    report.recovered_over_ideal().unwrap_or(f64::INFINITY)
}

#[test]
fn with_slots_nobody_comes_too_fast_and_nobody_comes_in_vain() {
    for (gateways, rate, outage) in
        [(10_000, 10, 600), (10_000, 100, 600), (10_000, 1_000, 60), (500, 1, 3_600)]
    {
        let report = run(&fleet(gateways, rate, outage), Behaviour::Default);
        let peak = f64::from(report.arrivals.iter().max().copied().unwrap());
        assert!(peak <= f64::max(1.2 * f64::from(rate), f64::from(rate) + 1.0), "{peak} at {rate}/s");
        assert!(recovered(&report) <= 1.0, "{}", report.json());
        assert_eq!((report.attempts, report.back), (u64::from(gateways), gateways));
    }
}

#[test]
fn without_slots_a_fleet_is_back_within_twice_the_ideal_time() {
    for outage in [60, 600, 1_800, 3_600] {
        for rate in [10, 50, 100] {
            let report = run(&fleet(10_000, rate, outage), Behaviour::NoSlots);
            assert!(recovered(&report) <= 2.0, "{}", report.json());
            assert_eq!(report.back, 10_000);
        }
    }
}

#[test]
fn slots_at_the_first_refusal_do_nearly_as_well_once_all_have_asked() {
    let fleet = fleet(10_000, 10, 600);
    let (late, none) = (run(&fleet, Behaviour::LateSlots), run(&fleet, Behaviour::NoSlots));
    assert!(recovered(&late) <= 1.05, "{}", late.json());
    assert!(late.attempts < none.attempts, "{} and {}", late.json(), none.json());
    // Once everybody has a slot, they come as they are admitted.
    let settled = &late.arrivals[600 + 450..];
    let peak = settled.iter().max().copied().unwrap();
    assert!(peak <= 12, "{peak}/s");
}

#[test]
fn a_stamp_that_is_gone_longer_than_it_said_is_not_missed_for_long() {
    for announced in [0, 300, 500] {
        let announced = Duration::from_secs(announced);
        let report = run(&Fleet { announced, ..fleet(10_000, 10, 600) }, Behaviour::Default);
        assert!(recovered(&report) <= 1.5, "{}", report.json());
    }
}

#[test]
fn what_cannot_be_configured_would_come_all_at_once_and_stay_away_for_hours() {
    let fleet = fleet(10_000, 10, 600);
    for (behaviour, times) in [(Behaviour::NoJitter, 20.0), (Behaviour::Regular, 5.0)] {
        let report = run(&fleet, behaviour);
        assert!(report.peak_over_capacity() >= 500.0, "{}", report.json());
        assert!(recovered(&report) >= times, "{}", report.json());
        assert!(report.attempts_per_gateway() >= 50.0, "{}", report.json());
    }
}

#[test]
fn whoever_comes_the_stamp_admits_no_more_than_its_rate() {
    for behaviour in Behaviour::ALL {
        let report = run(&fleet(5_000, 20, 120), behaviour);
        let returned = 120;
        let most = report.admitted.iter().max().copied().unwrap();
        assert!(most <= 2 * 20 + 1, "{}: {most} in a second", behaviour.as_str());
        assert_eq!(report.admitted[..returned].iter().sum::<u32>(), 0);
        for (seconds, window) in [(10, report.admitted.windows(10)), (60, report.admitted.windows(60))] {
            let most = window.map(|window| window.iter().sum::<u32>()).max().unwrap();
            assert!(most <= 20 * (seconds + 1) + 1, "{}: {most} in {seconds} s", behaviour.as_str());
        }
        assert!(report.recovered_99.is_some(), "{}", behaviour.as_str());
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let fleet = fleet(1_000, 10, 60);
    let report = run(&fleet, Behaviour::NoSlots);
    assert_eq!(report, run(&fleet, Behaviour::NoSlots));
    assert_ne!(report.arrivals, run(&Fleet { seed: SEED + 1, ..fleet }, Behaviour::NoSlots).arrivals);
}
