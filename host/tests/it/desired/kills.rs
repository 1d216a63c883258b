//! SIGKILL while a release is on its way: after the restart the old or the new one runs, whole, and in the end the new one.

use std::time::Duration;

use wire::message::ConditionState;

use super::site::{Site, build, tag};
use super::stamp::{Offer, PIECE, Row};

#[test]
fn a_gateway_killed_while_it_fetches_goes_on_where_it_was() {
    let mut site = Site::new("");
    let file = build("tag", "1.0.0");
    let pieces = file.len().div_ceil(PIECE);
    let gateway = site.start();
    site.stamp.serve_pieces(pieces / 2);
    site.stamp.offer(Offer::new(1, &tag(0, "says", "one"), &[file]));
    site.wait("half of it is there", || site.stamp.fetches().len() > pieces / 2);
    assert!(!site.row(&gateway).texts.contains_key("says"));
    let (before, desired) = (site.stamp.fetches(), gateway.desired().unwrap());
    assert_eq!((desired.state.as_str(), desired.fetched_bytes), ("fetching", (pieces / 2 * PIECE) as u64));
    gateway.kill();
    let gateway = site.start();
    assert!(!site.row(&gateway).texts.contains_key("says"), "what ran before runs");
    site.stamp.serve_pieces(usize::MAX);
    site.heard(1, ConditionState::Applied);
    assert_eq!(site.row(&gateway).texts["says"], "one");
    let after = site.stamp.fetches();
    assert_eq!(after[before.len()], *before.last().unwrap(), "it goes on with the piece that was missing");
    assert_eq!(after.len() - before.len(), pieces - pieces / 2);
}

#[test]
fn what_a_power_cut_damaged_of_a_content_is_fetched_again() {
    let mut site = Site::new("");
    let file = build("tag", "1.0.0");
    let gateway = site.start();
    site.stamp.serve_pieces(2);
    site.stamp.offer(Offer::new(1, &tag(0, "says", "one"), &[file]));
    site.wait("some of it is there", || site.stamp.fetches().len() > 2);
    gateway.kill();
    let parts = std::fs::read_dir(site.data().join("desired")).unwrap().flatten().map(|file| file.path());
    let part = parts.into_iter().find(|path| path.extension().is_some_and(|it| it == "part")).unwrap();
    // A file that grew but was not written.
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[PIECE..].fill(0);
    std::fs::write(&part, bytes).unwrap();
    let gateway = site.start();
    site.stamp.serve_pieces(usize::MAX);
    site.heard(1, ConditionState::Applied);
    assert_eq!(site.row(&gateway).texts["says"], "one");
    assert!(site.log().contains("it is fetched again"));
}

/// Both steps say which release they are of; the counter shows whether state went with them.
fn release(number: u64) -> Offer {
    let value = format!("v{number}");
    let counts = "[[tenant.acme.step]]\nuse = \"sha256:{2}\"\n";
    let document = tag(0, "first", &value) + counts + &tag(1, "second", &value);
    let version = format!("{}.0.0", number % 2);
    let files = [build("tag", "1.0.0"), build("tag", &version), build("fixtures/counter", &version)];
    Offer::new(number, &document, &files)
}

fn whole(row: &Row) -> (u64, i64) {
    let of = |column: &str| row.texts[column][1..].parse::<u64>().unwrap();
    assert_eq!(of("first"), of("second"), "parts of two releases: {row:?}");
    (of("first"), row.numbers["n"])
}

#[test]
fn a_gateway_killed_while_it_applies_runs_the_old_or_the_new_release_whole_and_no_state_is_lost() {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut random = seed | 1;
    let mut next = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut site = Site::new("");
    let mut gateway = site.start();
    // Both builds of the plugins are compiled by then: what is cut below is the change itself.
    site.roll_out(release(1));
    site.roll_out(release(2));
    let (mut runs, mut counted) = whole(&site.row(&gateway));
    let (mut old, mut new) = (0, 0);
    for number in 3..23 {
        site.stamp.offer(release(number));
        site.wait("it is told", || {
            site.stamp.conditions().last().is_some_and(|last| last.release.0 == number)
        });
        std::thread::sleep(Duration::from_micros(next(12_000)));
        gateway.kill();
        // The stamp says nothing for now: what was begun is brought to its end all the same.
        site.stamp.offer(None);
        gateway = site.start();
        let (found, n) = whole(&site.row(&gateway));
        assert!(found == runs || found == number, "{found} runs, not {runs} or {number}");
        assert_eq!(n, counted + 1, "the state of release {found}");
        if found == runs {
            old += 1
        } else {
            new += 1
        }
        site.stamp.offer(release(number));
        site.wait("it runs", || gateway.desired().is_some_and(|desired| desired.runs == number));
        (runs, counted) = whole(&site.row(&gateway));
        assert_eq!((runs, counted), (number, n + 1));
    }
    println!("found the old release {old} times, the new one {new} times");
}
