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

/// Two steps say which release they are of, one is there in every other release, and a counter of that version shows whether
/// state went along.
fn release(number: u64, version: u64) -> Offer {
    let value = format!("v{number}");
    let counts = "[[tenant.acme.step]]\nuse = \"sha256:{2}\"\n";
    let odd = if number % 2 == 1 { tag(0, "odd", "there") } else { String::new() };
    let document = tag(0, "first", &value) + counts + &odd + &tag(1, "second", &value);
    let version = format!("{version}.0.0");
    let files = [build("tag", "1.0.0"), build("tag", &version), build("fixtures/counter", &version)];
    Offer::new(number, &document, &files)
}

fn whole(row: &Row) -> (u64, i64) {
    let of = |column: &str| row.texts[column][1..].parse::<u64>().unwrap();
    assert_eq!(of("first"), of("second"), "parts of two releases: {row:?}");
    assert_eq!(row.texts.contains_key("odd"), of("first") % 2 == 1, "parts of two releases: {row:?}");
    (of("first"), row.numbers["n"])
}

#[test]
fn a_gateway_killed_while_it_applies_runs_the_old_or_the_new_release_whole_and_no_state_is_lost() {
    let mut moments = Moments::new();
    let mut site = Site::new("");
    let mut gateway = site.start();
    // Both builds of the plugins are compiled by then: what is cut below is the change itself.
    site.roll_out(release(1, 1));
    site.roll_out(release(2, 0));
    let (mut runs, mut counted) = whole(&site.row(&gateway));
    let (mut old, mut new) = (0, 0);
    for number in 3..23 {
        site.stamp.offer(release(number, number % 2));
        std::thread::sleep(moments.next());
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
        site.stamp.offer(release(number, number % 2));
        site.wait("it runs", || gateway.desired().is_some_and(|desired| desired.runs == number));
        (runs, counted) = whole(&site.row(&gateway));
        assert_eq!((runs, counted), (number, n + 1));
    }
    println!("found the old release {old} times, the new one {new} times");
}

#[test]
fn a_gateway_killed_on_its_way_back_has_the_state_of_the_release_that_runs() {
    let mut moments = Moments::new();
    let mut site = Site::new("");
    let mut gateway = site.start();
    site.roll_out(release(1, 1));
    let (runs, mut counted) = whole(&site.row(&gateway));
    let mut back = 0;
    for number in 2..12 {
        // What the taken-back release counts must not be there afterwards.
        site.roll_out(release(number, number));
        (0..3).for_each(|more| assert_eq!(whole(&site.row(&gateway)), (number, counted + 1 + more)));
        site.stamp.offer(release(runs, runs).back());
        std::thread::sleep(moments.next());
        gateway.kill();
        site.stamp.offer(None);
        gateway = site.start();
        let found = whole(&site.row(&gateway));
        let (went_back, stayed) = ((runs, counted + 1), (number, counted + 4));
        assert!(found == went_back || found == stayed, "{found:?} is neither {went_back:?} nor {stayed:?}");
        back += u32::from(found == went_back);
        site.stamp.offer(release(runs, runs).back());
        site.wait("it went back", || gateway.desired().is_some_and(|desired| desired.runs == runs));
        let rows = if found == went_back { 2 } else { 1 };
        assert_eq!(whole(&site.row(&gateway)), (runs, counted + rows));
        counted += rows;
    }
    println!("found it back {back} times");
}

#[test]
fn a_lane_whose_release_was_damaged_on_disk_waits_until_it_is_there_again() {
    let mut site = Site::new("");
    let gateway = site.start();
    let offer = Offer::new(1, &tag(0, "says", "one"), &[build("tag", "1.0.0")]);
    let content = site.data().join(format!("plugins/{}.wasm", offer.contents[0].0));
    let record = site.data().join("desired/acme.json");
    site.roll_out(offer.clone());
    gateway.kill();
    for (damaged, says) in [(content, "damaged"), (record, "which release runs is not known")] {
        site.stamp.offer(None);
        std::fs::write(&damaged, "nonsense").unwrap();
        let gateway = site.start();
        site.wait("the lane is held", || {
            gateway.status().is_some_and(|status| status.tenants[0].lane.contains(says))
        });
        site.stamp.offer(offer.clone());
        site.wait("the lane runs", || {
            gateway.status().is_some_and(|status| status.tenants[0].lane == "running")
        });
        assert_eq!(site.row(&gateway).texts["says"], "one");
    }
}

/// When to kill: at random within the time that it takes to say, begin, apply and note a release.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or_else(rand::random);
        println!("SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % 12_000)
    }
}
