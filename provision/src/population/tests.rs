//! A small year, and the parts of which the large one is made.

use super::plan::draw;
use super::pools::{Growth, Pool, Standing, to_order};
use super::{Population, plot, run};
use crate::allocation::Ring;
use backoff::random::Random;
use wire::ids::Region;

fn population(devices: u64, stamps: u32, seed: u64) -> Population {
    Population { devices, stamps, days: 120, losses: 4, seed }
}

#[tokio::test]
async fn a_year_of_growth_and_losses_exceeds_no_cap_and_leaves_nobody_outside_its_rules() {
    let seed = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    let report = run(&population(200_000, 60, seed), folder.path(), |_| told += 1).await.unwrap();
    assert_eq!((report.caps_exceeded, report.outside_rules), (0, 0), "{report:?}");
    assert_eq!(report.lost_stamps, 4);
    assert!(report.moves > 0, "{report:?}");
    assert!((150_000..=210_000).contains(&report.devices), "{report:?}");
    assert_eq!(report.samples.len(), told);
    assert!(report.samples.iter().all(|sample| sample.fullest <= 1.0));
    // Who found no room came in later: nobody is left at the end but those of the last days.
    assert!(report.waited < report.gateways / 20, "{report:?}");
    assert!(plot(&report).ends_with("</svg>\n"));
}

#[test]
fn the_same_seed_draws_the_same_year_and_the_population_grows_tenfold() {
    let population = Population { days: 365, ..population(1_000_000, 100, 3) };
    let plan = draw(&population, &mut Random::from_seed(3)).unwrap();
    assert_eq!(plan, draw(&population, &mut Random::from_seed(3)).unwrap());
    let until = |day: usize| plan.arrivals.iter().take(day).map(Vec::len).sum::<usize>() as f64;
    let all = until(365);
    assert!(
        (0.08..0.12).contains(&(until(1) / all)),
        "a tenth is there on the first day: {}",
        until(1) / all
    );
    assert!((0.28..0.36).contains(&(until(183) / all)), "a third after half a year: {}", until(183) / all);
}

#[test]
fn a_pool_orders_before_it_is_full_and_not_twice() {
    let pool = Pool { region: Region::new("eu-west").unwrap(), ring: Ring::Slow, single: false };
    let mut growth = Growth::default();
    for _ in 0..14 {
        growth.begin_day();
        growth.came(&pool, 0, 100);
    }
    let stamps = |free: u64| {
        [Standing { promised: 900, free: 100, tenant: None }, Standing { promised: 0, free, tenant: None }]
    };
    // 14 days of 100 a day, and the 900 that would have to go elsewhere if the full one were lost.
    assert_eq!(to_order(&pool, &stamps(2_200), &[], &growth, (0, 1_000)), 0);
    assert_eq!(to_order(&pool, &stamps(2_100), &[], &growth, (0, 1_000)), 1);
    assert_eq!(to_order(&pool, &stamps(2_100), &[], &growth, (1, 1_000)), 0);
    assert_eq!(to_order(&pool, &stamps(0), &[], &growth, (0, 1_000)), 3);
}

#[test]
fn stamps_of_ones_own_are_ordered_by_who_needs_them_and_one_is_spare() {
    let pool = Pool { region: Region::new("eu-west").unwrap(), ring: Ring::Slow, single: true };
    let mut growth = Growth::default();
    growth.begin_day();
    growth.came(&pool, 5, 100);
    let own = |free: u64| Standing { promised: 10, free, tenant: Some(5) };
    let empty = Standing { promised: 0, free: 1_000, tenant: None };
    assert_eq!(to_order(&pool, &[], &[], &growth, (0, 1_000)), 0, "nobody wants one");
    assert_eq!(to_order(&pool, &[own(1_400), empty], &[5], &growth, (0, 1_000)), 0);
    assert_eq!(to_order(&pool, &[own(1_399), empty], &[5], &growth, (0, 1_000)), 1);
    assert_eq!(to_order(&pool, &[own(1_400)], &[5, 6], &growth, (0, 1_000)), 1, "the spare one is taken");
}
