//! Swaps in mid traffic, migrations, and the way back to code and state together.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn of(file: PathBuf, with: &str) -> Step {
    Step { limits: step("tag", "{}").limits, ..Step::new("count", file, with) }
}

#[test]
fn a_swap_in_mid_traffic_loses_nothing_and_counts_nothing_twice() {
    let versions = [version("fixtures/counter", "1.0.0"), version("fixtures/counter", "2.0.0")];
    let steps = |at: usize| tenant("traffic", vec![of(versions[at % 2].clone(), "{}")]);
    let mut site = Site::start(steps(0));
    let (sender, stop) = (site.lane().sender(), Arc::new(AtomicBool::new(false)));
    let of_thread = Arc::clone(&stop);
    let sending = std::thread::spawn(move || {
        let mut verdicts = Vec::new();
        for n in 0.. {
            if of_thread.load(Ordering::Relaxed) && n >= 200 {
                break;
            }
            let (custody, told) = told();
            let rows = [("a", 2 * n, 1.0), ("b", 2 * n, 1.0), ("a", 2 * n + 1, 1.0)];
            sender.blocking_send(Intake { custody, ..rows_of("c", &rows, false) }).ok().unwrap();
            verdicts.push(told);
        }
        verdicts
    });
    for at in 1..=20 {
        let report = site.swap(steps(at)).unwrap();
        assert_eq!((report.changed.as_slice(), site.step(0).digest.len()), (&["count".to_owned()][..], 64));
    }
    stop.store(true, Ordering::Relaxed);
    let verdicts = sending.join().unwrap();
    verdicts.iter().for_each(|told| told.recv_timeout(PATIENCE).unwrap().unwrap());
    let rows = site.rows(NORMAL);
    assert_eq!(rows.len(), verdicts.len() * 3);
    for (device, per_intake) in [("a", 2), ("b", 1)] {
        let numbers = rows.iter().filter(|row| row.device == device).map(|row| row.values["n"] as usize);
        assert!(numbers.eq(1..=verdicts.len() * per_intake), "of {device}");
    }
    assert_eq!(site.step(0).previous.unwrap().1, "2.0.0", "twenty swaps end where they began");
    site.counts();
}

#[test]
fn a_swap_that_fails_leaves_everything_as_it_was() {
    let mut site = Site::start(tenant(
        "fails",
        vec![of(plugin("fixtures/counter"), "{}"), step("tag", r#"{"column":"t","value":"v"}"#)],
    ));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    let before = site.lane().status().steps;
    for (with, says) in [(r#"{"refuse":true}"#, "refused as configured"), (r#"{"refuse":3}"#, "invalid type")]
    {
        let error = site.swap(tenant("fails", vec![of(plugin("fixtures/migrate"), with)])).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(site.lane().status().steps, before);
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    assert_eq!(site.rows(NORMAL)[1].values["n"], 2.0);
    assert!(site.store.kept().unwrap().versions.iter().all(|versions| versions.previous.is_none()));
}

#[test]
fn a_new_version_migrates_the_state_and_a_rollback_restores_code_and_state_together() {
    let old = of(version("fixtures/trap", "1.0.0"), "{}");
    let new = of(version("fixtures/migrate", "2.0.0"), "{}");
    let mut site = Site::start(tenant("migrates", vec![old]));
    (0..3).for_each(|n| site.put(rows_of("c", &[("a", n, 1.0)], false)));
    assert_eq!(site.kept("count", "rows"), Some(3));
    let first = site.step(0).digest;
    site.swap(tenant("migrates", vec![new])).unwrap();
    site.put(rows_of("c", &[("a", 10, 1.0)], false));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/all")), (None, Some(3)));
    assert_eq!(site.kept("count", "rows/a"), Some(1));
    assert_eq!(site.step(0).previous, Some((first.clone(), "1.0.0".to_owned())));
    let report = wait(site.control().rollback("count")).unwrap();
    assert_eq!((report.step.as_str(), &report.digest), ("count", &first));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/all")), (Some(3), None));
    site.put(rows_of("c", &[("a", 11, 1.0)], false));
    assert_eq!(site.kept("count", "rows"), Some(4));
    let error = wait(site.control().rollback("count")).unwrap_err();
    assert!(error.to_string().contains("no version before"), "{error}");
    // The same configuration again does not bring back what was rolled back; another one does.
    let same = site.tenant.clone();
    assert_eq!(site.swap(same).unwrap().unchanged, ["count"]);
    assert_eq!(site.step(0).digest, first);
    site.counts();
}

#[test]
fn a_version_that_refuses_to_migrate_does_not_run() {
    // This fixture refuses the state of the version that the state itself names, and panics at that of "trap".
    let old = of(version("fixtures/trap", "trap"), "{}");
    let mut site = Site::start(tenant("refuses", vec![old]));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    let error =
        site.swap(tenant("refuses", vec![of(version("fixtures/migrate", "3.0.0"), "{}")])).unwrap_err();
    assert!(error.to_string().contains("in mid migration"), "{error}");
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "half")), (Some(2), None));
}

#[test]
fn a_version_that_changed_while_the_gateway_was_off_migrates_at_the_start_and_is_rolled_back_from_the_shelf()
{
    let mut site = Site::start(tenant("off", vec![of(version("fixtures/trap", "1.0.0"), "{}")]));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    let first = site.step(0).digest;
    site.tenant.steps = vec![of(version("fixtures/migrate", "2.0.0"), "{}")];
    let site = site.restart();
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/all")), (None, Some(1)));
    let report = wait(site.control().rollback("count")).unwrap();
    assert_eq!(report.digest, first);
    site.put(rows_of("c", &[("a", 3, 1.0)], false));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/a")), (Some(2), None));
    let kept = site.store.kept().unwrap().versions;
    assert_eq!((kept[0].current.digest.as_str(), &kept[0].previous), (first.as_str(), &None));
}

#[test]
fn a_step_that_comes_back_after_it_was_removed_finds_its_state() {
    let counting = tenant("comes-back", vec![of(plugin("fixtures/counter"), "{}")]);
    let mut site = Site::start(counting.clone());
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    assert_eq!(site.swap(tenant("comes-back", vec![])).unwrap().removed, ["count"]);
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    site.swap(counting).unwrap();
    site.put(rows_of("c", &[("a", 3, 1.0)], false));
    let numbers: Vec<_> = site.rows(NORMAL).iter().map(|row| row.values.get("n").copied()).collect();
    assert_eq!(numbers, [Some(1.0), None, Some(2.0)]);
}

#[test]
fn a_state_that_is_reset_begins_anew_in_memory_and_on_disk() {
    let site = Site::start(tenant("reset", vec![of(plugin("fixtures/counter"), "{}")]));
    (0..3).for_each(|n| site.put(rows_of("c", &[("a", n, 1.0), ("b", n, 1.0)], false)));
    wait(site.control().reset_state("count")).unwrap();
    assert!(site.store.kept().unwrap().state.is_empty());
    site.put(rows_of("c", &[("a", 9, 1.0)], false));
    assert_eq!(site.rows(NORMAL).last().unwrap().values["n"], 1.0);
    assert_eq!(site.kept("count", "n/b"), None);
    assert!(wait(site.control().reset_state("nothing")).is_err());
}

#[test]
fn a_rollback_after_a_restart_configures_the_old_version_as_it_was_configured() {
    let tag = |value: &str| vec![of(plugin("tag"), &format!(r#"{{"column":"t","value":"{value}"}}"#))];
    let mut site = Site::start(tenant("with", tag("old")));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    site.swap(tenant("with", tag("new"))).unwrap();
    let site = site.restart();
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    assert!(site.step(0).config.contains("new"));
    wait(site.control().rollback("count")).unwrap();
    assert!(site.step(0).config.contains("old"), "{}", site.step(0).config);
    let kept = site.store.kept().unwrap().versions;
    assert!(kept[0].current.config.contains("old"), "{kept:?}");
}

#[test]
fn the_way_back_restores_all_steps_that_changed_with_their_state_and_forgets_those_that_were_new() {
    for restarted in [false, true] {
        let old = vec![of(version("fixtures/counter", "1.0.0"), "{}"), of_name("same")];
        let new = vec![of(version("fixtures/counter", "2.0.0"), "{}"), of_name("same"), of_name("added")];
        let mut site = Site::start(tenant("back", old.clone()));
        site.put(rows_of("c", &[("a", 1, 1.0), ("a", 2, 1.0)], false));
        site.swap(tenant("back", new)).unwrap();
        site.put(rows_of("c", &[("a", 3, 1.0)], false));
        let count = |site: &Site, step: &str| counted(site, step);
        assert_eq!(
            (count(&site, "count"), count(&site, "same"), count(&site, "added")),
            (Some(3), Some(3), Some(1))
        );
        if restarted {
            site = site.restart();
        }
        let report = site.swap_back(tenant("back", old)).unwrap();
        assert_eq!(
            (report.back, report.unchanged, report.removed),
            (vec!["count".into()], vec!["same".into()], vec!["added".into()])
        );
        let counts = (count(&site, "count"), count(&site, "same"), count(&site, "added"));
        assert_eq!(counts, (Some(2), Some(3), None), "restarted before: {restarted}");
        site.put(rows_of("c", &[("a", 4, 1.0)], false));
        assert_eq!(site.rows(NORMAL).last().unwrap().values["n"], 4.0, "what did not change counts on");
        assert_eq!(count(&site, "count"), Some(3));
        assert_eq!(site.step(0).previous, None);
    }
}

#[test]
fn a_lane_that_starts_on_its_way_back_restores_the_state_once() {
    let (old, new) = (version("fixtures/counter", "1.0.0"), version("fixtures/counter", "2.0.0"));
    let mut site = Site::start(tenant("starts", vec![of(old.clone(), "{}")]));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    site.swap(tenant("starts", vec![of(new, "{}")])).unwrap();
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    site.tenant.steps = vec![of(old, "{}")];
    for rows in 2..4 {
        site = site.restart_by(Way::Back);
        site.put(rows_of("c", &[("a", 10 + rows, 1.0)], false));
        assert_eq!(counted(&site, "count"), Some(rows as u64));
    }
}

/// Rows of device `a` that a counter has seen; it keeps a signed number.
fn counted(site: &Site, step: &str) -> Option<u64> {
    site.kept(step, "n/a").map(|zigzag| zigzag / 2)
}

fn of_name(name: &str) -> Step {
    Step { name: name.to_owned(), ..of(plugin("fixtures/counter"), "{}") }
}
