//! Releases that cannot run: the reason is told, and what ran goes on.

use runtime::signature::{SecretKey, sign};
use wire::message::ConditionState;

use super::site::{Site, build, tag};
use super::stamp::Offer;

#[test]
fn a_release_that_cannot_run_is_refused_with_the_reason_and_what_ran_goes_on() {
    let mut site = Site::new("");
    let gateway = site.start();
    let good = |number| Offer::new(number, &tag(0, "says", &format!("v{number}")), &[build("tag", "1.0.0")]);
    site.roll_out(good(1));
    let fetched = site.stamp.fetches().len();
    let with = |document: &str| Offer::new(0, document, &[build("tag", "1.0.0")]);
    let mut tampered = Offer::new(0, &tag(0, "says", "x"), &[build("tag", "9.0.0")]);
    *tampered.contents[0].1.last_mut().unwrap() ^= 1;
    let mistakes = [
        (
            with(&tag(0, "says", "x").replace("with =", "wiht =")),
            "release 2:5:1: error: tenant.acme.step[0].wiht: unknown key",
        ),
        (with(&tag(0, "says", "x").replace("column =", "column_of =")), "column_of"),
        (with("[tenant.globex]\n"), "this release is for tenant acme"),
        (
            with("[tenant.acme]\nstore = { quota = \"1 GiB\" }\n"),
            "release 2:2:9: error: tenant.acme.store: is for the site to say",
        ),
        (with("[[tenant.acme.step]]\nuse = \"/etc/passwd\"\n"), "knows no files of the gateway"),
        (Offer { document: vec![b'[', 0xff], ..with("") }, "no UTF-8"),
        (tampered, "is not that: its SHA-256 is another"),
        (Offer::new(0, &tag(0, "says", "x"), &[b"not a plugin".to_vec()]), "no WebAssembly"),
        (Offer::new(0, &tag(0, "says", "x"), &[build("fixtures/wasi", "1")]), "imports wasi:"),
    ];
    for (number, (offer, reason)) in (2..).zip(mistakes) {
        site.stamp.offer(Offer { number, ..offer });
        let refused = site.heard(number, ConditionState::Refused);
        let reason = reason.replace("release 2", &format!("release {number}"));
        assert!(refused.reason.contains(&reason), "{reason:?} is not in {:?}", refused.reason);
        let desired = gateway.desired().unwrap();
        assert_eq!((desired.release, desired.runs, desired.state.as_str()), (number, 1, "refused"));
        assert_eq!(site.row(&gateway).texts["says"], "v1");
        let (_, said) = gateway.cli(&["desired"]);
        assert!(said.contains("refused") && said.contains(refused.reason.lines().next().unwrap()), "{said}");
    }
    // Mistakes that show in the document cost no fetch.
    let distinct: std::collections::BTreeSet<_> =
        site.stamp.fetches().iter().skip(fetched).map(|(digest, _)| *digest).collect();
    assert_eq!(distinct.len(), 3);
    site.roll_out(good(20));
    assert_eq!(site.row(&gateway).texts["says"], "v20");
}

#[test]
fn who_signed_a_content_is_for_the_site_to_say() {
    let key = SecretKey::generate().unwrap();
    let mut site = Site::new("require_signature = true\n");
    site.head = format!("[plugins]\nkeys = [{{ name = \"site\", key = \"{}\" }}]\n", key.public());
    let gateway = site.start();
    let plugin = build("tag", "1.0.0");
    let signed = |key: &SecretKey| sign(&plugin, key).unwrap();
    let mut broken = signed(&key);
    let at = broken.len() / 2;
    broken[at] ^= 1;
    let other = SecretKey::generate().unwrap();
    for (number, file, reason) in [
        (1, plugin.clone(), "not signed"),
        (2, signed(&other), "not among plugins.keys"),
        (3, broken, "sign"),
    ] {
        site.stamp.offer(Offer::new(number, &tag(0, "says", "x"), &[file]));
        let refused = site.heard(number, ConditionState::Refused);
        assert!(refused.reason.contains(reason), "{number}: {}", refused.reason);
        assert!(!site.row(&gateway).texts.contains_key("says"));
    }
    site.roll_out(Offer::new(4, &tag(0, "says", "signed"), &[signed(&key)]));
    assert_eq!(site.row(&gateway).texts["says"], "signed");
    // A key that the site trusts no more stops what was signed with it; one it trusts again lets it come.
    site.stamp.offer(Offer::new(5, &tag(0, "says", "later"), &[signed(&other)]));
    site.heard(5, ConditionState::Refused);
    site.head = format!(
        "[plugins]\nkeys = [{{ name = \"site\", key = \"{}\" }}, {{ name = \"other\", key = \"{}\" }}]\n",
        key.public(),
        other.public()
    );
    site.configure();
    assert!(gateway.reload().applied);
    site.heard(5, ConditionState::Applied);
    assert_eq!(site.row(&gateway).texts["says"], "later");
}

#[test]
fn a_content_that_the_stamp_does_not_have_is_waited_for() {
    let mut site = Site::new("");
    let gateway = site.start();
    site.roll_out(Offer::new(1, &tag(0, "says", "one"), &[build("tag", "1.0.0")]));
    let next = Offer::new(2, &tag(0, "says", "two"), &[build("tag", "2.0.0")]);
    site.stamp.offer(Offer { hidden: true, ..next.clone() });
    site.wait("it says what it waits for", || {
        site.stamp.conditions().last().is_some_and(|last| last.reason.contains("does not have content"))
    });
    assert_eq!(site.row(&gateway).texts["says"], "one");
    assert_eq!(gateway.desired().unwrap().state, "fetching");
    // The stamp has it now, and says so.
    site.roll_out(next);
    assert_eq!(site.row(&gateway).texts["says"], "two");
}
