//! Releases that come, stay, and go back.

use wire::message::ConditionState;

use super::site::{Site, build, cli, tag};
use super::stamp::{Offer, PIECE};

/// The tenant's own steps: they say `file`.
const FILE: &str = "[[tenant.acme.step]]\nname = \"says\"\nuse = \"builtin:tag\"\nwith = { column = \"says\", value = \"file\" }\n";

fn says(value: &str) -> String {
    tag(0, "says", value)
}

#[test]
fn a_release_comes_in_pieces_lies_over_the_file_and_stays_over_reloads_and_restarts_without_a_link() {
    let mut site = Site::new(FILE);
    let gateway = site.start();
    assert_eq!(site.row(&gateway).texts["says"], "file");
    assert_eq!(gateway.desired(), None, "no stamp has said anything");
    let file = build("tag", "1.0.0");
    let pieces = file.len().div_ceil(PIECE);
    assert!(pieces > 2, "{pieces}");
    site.roll_out(Offer::new(1, &says("one"), &[file]));
    assert_eq!(site.stamp.fetches().len(), pieces);
    assert_eq!(site.row(&gateway).texts["says"], "one");
    let states: Vec<_> = site.stamp.conditions().iter().map(|condition| condition.state).collect();
    assert_eq!(states[0], ConditionState::Fetching);
    let desired = gateway.desired().unwrap();
    assert_eq!((desired.release, desired.runs, desired.state.as_str()), (1, 1, "applied"));
    // The file says something else: it is read, and the release still lies over it.
    site.tenant = FILE.replace("\"file\"", "\"other\"") + "[tenant.acme.route.alarms]\npriority = \"high\"\n";
    site.configure();
    let reply = gateway.reload();
    assert!(reply.applied, "{reply:#?}");
    assert_eq!(site.row(&gateway).texts["says"], "one");
    let (code, said) = gateway.cli(&["desired"]);
    assert!(code == Some(0) && said.contains("acme") && said.contains("applied"), "{said}");
    gateway.kill();
    let (code, said) = cli(site.path("").as_path(), &["desired", "--json"]);
    assert!(code == Some(3) && said.contains("\"runs\":1"), "{code:?} {said}");
    // No stamp says anything now; the device's rows are looked for when one is there again.
    site.stamp.offer(None);
    let fetched = site.stamp.fetches().len();
    let gateway = site.start();
    assert_eq!(site.row(&gateway).texts["says"], "one");
    // A new plugin with a new setting, and one that is here already.
    let files = [build("tag", "2.0.0"), build("tag", "1.0.0")];
    site.roll_out(Offer::new(2, &(says("two") + &tag(1, "more", "old")), &files));
    let row = site.row(&gateway);
    assert_eq!((row.texts["says"].as_str(), row.texts["more"].as_str()), ("two", "old"));
    assert_eq!(site.stamp.fetches().len() - fetched, files[0].len().div_ceil(PIECE), "only what is new");
    // What is said again changes nothing; nothing desired is what the file says.
    site.roll_out(Offer::new(2, &(says("two") + &tag(1, "more", "old")), &files));
    site.roll_out(Offer::default());
    let row = site.row(&gateway);
    assert_eq!((row.texts["says"].as_str(), row.texts.get("more")), ("other", None));
    assert_eq!(gateway.desired().unwrap().runs, 0);
    drop(gateway);
    let gateway = site.start();
    assert_eq!(site.row(&gateway).texts["says"], "other");
}

#[test]
fn conditions_count_what_came_since_the_release_was_applied() {
    let mut site = Site::new(FILE);
    let gateway = site.start();
    (0..3).for_each(|_| drop(site.row(&gateway)));
    site.roll_out(Offer::new(1, &says("one"), &[build("tag", "1.0.0")]));
    let applied = site.heard(1, ConditionState::Applied);
    assert_eq!((applied.rows, applied.faults, applied.rejected), (0, 0, 0), "{applied:?}");
    (0..5).for_each(|_| drop(site.row(&gateway)));
    let mut last = applied;
    site.wait("the counts are told", || {
        last = site.stamp.conditions().pop().unwrap();
        last.rows == 5
    });
    assert_eq!((last.release.0, last.state, last.faults), (1, ConditionState::Applied, 0));
    assert!(last.cpu_ns > 10_000 && last.memory > 64 << 10, "{last:?}");
    let shown = gateway.desired().unwrap();
    assert_eq!((shown.rows, shown.memory_bytes), (last.rows, last.memory));
}

#[test]
fn the_way_back_restores_code_settings_and_state_together_over_a_restart() {
    // The step's name is the plugin's own: it stays the same whatever the digest.
    let counts = "[[tenant.acme.step]]\nuse = \"sha256:{1}\"\n";
    let release = |number: u64, value: &str, version: &str| {
        let files = [build("tag", "1.0.0"), build("fixtures/counter", version)];
        Offer::new(number, &(says(value) + counts), &files)
    };
    let mut site = Site::new("");
    let gateway = site.start();
    site.roll_out(release(1, "one", "1.0.0"));
    let seen = |row: super::stamp::Row| (row.texts["says"].clone(), row.numbers["n"]);
    assert_eq!(seen(site.row(&gateway)), ("one".to_owned(), 1));
    assert_eq!(seen(site.row(&gateway)), ("one".to_owned(), 2));
    site.roll_out(release(2, "two", "2.0.0"));
    assert_eq!(seen(site.row(&gateway)), ("two".to_owned(), 3), "state goes on with the new version");
    gateway.kill();
    let gateway = site.start();
    assert_eq!(seen(site.row(&gateway)), ("two".to_owned(), 4));
    site.roll_out(release(1, "one", "1.0.0").back());
    assert_eq!(seen(site.row(&gateway)), ("one".to_owned(), 3), "as it was when release 2 came");
    let steps = gateway.status().unwrap().tenants.remove(0).steps;
    assert!(steps.iter().all(|step| step.as_configured && step.previous.is_none()), "{steps:#?}");
    gateway.kill();
    let gateway = site.start();
    assert_eq!(seen(site.row(&gateway)), ("one".to_owned(), 4), "it goes back once, not at each start");
    // Said without being the way back, state goes on.
    site.roll_out(release(3, "three", "2.0.0"));
    site.roll_out(release(1, "one", "1.0.0"));
    assert_eq!(seen(site.row(&gateway)), ("one".to_owned(), 5));
}

#[test]
fn a_step_that_is_taken_back_here_is_told() {
    let mut site = Site::new("");
    let gateway = site.start();
    site.roll_out(Offer::new(1, &says("one"), &[build("tag", "1.0.0")]));
    site.roll_out(Offer::new(2, &says("two"), &[build("tag", "1.0.0")]));
    let (code, said) = gateway.cli(&["step", "rollback", "acme/says"]);
    assert_eq!(code, Some(0), "{said}");
    let told = site.heard(2, ConditionState::RolledBack);
    assert!(told.reason.contains("step says"), "{told:?}");
    assert_eq!(site.row(&gateway).texts["says"], "one");
}

#[test]
fn what_is_desired_may_change_faster_than_it_can_be_applied_and_the_last_word_counts() {
    let mut site = Site::new(FILE);
    let gateway = site.start();
    for number in 1..=40 {
        let files = [build("tag", &format!("{}.0.0", number % 7))];
        let offer = Offer::new(number, &says(&format!("v{number}")), &files);
        site.stamp.offer(if number % 3 == 0 { offer.back() } else { offer });
        std::thread::sleep(std::time::Duration::from_millis(number % 11));
    }
    site.heard(40, ConditionState::Applied);
    assert_eq!(site.row(&gateway).texts["says"], "v40");
    assert_eq!(gateway.desired().unwrap().runs, 40);
    assert_eq!(site.stamp.sessions(), 1, "nothing was against the protocol");
    let parts = std::fs::read_dir(site.data().join("desired")).unwrap().flatten();
    assert_eq!(parts.filter(|file| file.path().extension().is_some_and(|it| it == "part")).count(), 0);
}
