//! A configuration that changes while everything runs: taken over at a batch boundary without losing or repeating anything,
//! or refused with a reason while the old one runs on; versions that go back, run beside, take over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::gateway::Setup;
use e2e::hostile::files::fixture;
use e2e::load::reading::Random;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;
use host::admin::reload::{Outcome, ReloadReply, StepReply};
use host::admin::status::StepStatus;
use runtime::signature::{SecretKey, sign};
use runtime::{Asks, Import, Manifest};
use serde_json::Value;

use crate::site::{PATIENCE, Site, plan, seed};

/// Devices of the load, and their messages a second together.
const DEVICES: usize = 10;
const RATE: f64 = 3_000.0;

/// A step that writes a text into a column.
fn tag(plugin: &str, column: &str, value: &str) -> String {
    format!("[[tenant.acme.step]]\nuse = {plugin:?}\nwith = {{ column = {column:?}, value = {value:?} }}\n")
}

/// A site whose tenant `acme` has the workload's chain and these steps behind it.
fn site(steps: &str) -> Site {
    let tenants = vec![("acme".to_owned(), [workload_chain("acme"), steps.to_owned()].concat())];
    Site::start_with(&Setup { tenants, ..Setup::default() })
}

/// Another build of a plugin: the same code, another version and so another digest.
fn build(of: &Path, version: &str) -> Vec<u8> {
    let manifest = Manifest { version: Some(version.to_owned()), ..Manifest::default() };
    runtime::manifest::attach(&fs::read(of).unwrap(), &manifest).unwrap()
}

/// Puts a file in place of another one at once, as installers do.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("beside");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn builtin(name: &str) -> PathBuf {
    e2e::gateway::plugins_dir().unwrap().join(format!("{name}.wasm"))
}

impl Site {
    fn edit(&self, old: &str, new: &str) {
        let text = fs::read_to_string(&self.gateway.config).unwrap();
        assert!(text.contains(old), "{old} is not in\n{text}");
        put(&self.gateway.config, text.replace(old, new));
    }

    fn reload(&self) -> ReloadReply {
        let output = self.gateway.cli("reload", &["--json"]).unwrap();
        let reply: ReloadReply = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.gateway.log()));
        assert_eq!(output.status.success(), reply.applied, "{reply:#?}");
        reply
    }

    /// Changes a text of the configuration and has it taken over.
    fn change(&self, old: &str, new: &str) -> ReloadReply {
        self.edit(old, new);
        let reply = self.reload();
        assert!(reply.applied && reply.restart.is_empty(), "{reply:#?}\n{}", self.gateway.log());
        reply
    }

    fn order(&self, what: &str, step: &str) -> StepReply {
        let output = self.gateway.cli("step", &[what, step, "--json"]).unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.gateway.log()))
    }

    /// A step as the status shows it, once the lane has its steps.
    fn step(&self, name: &str) -> StepStatus {
        let mut steps = Vec::new();
        let found = wait_until("the lane has its steps", PATIENCE, || {
            steps = self.gateway.tenant("acme")?.steps;
            Ok(steps.iter().any(|step| step.name == name))
        });
        assert!(found.is_ok(), "{name} is not in {steps:#?}\n{}", self.gateway.log());
        steps.into_iter().find(|step| step.name == name).unwrap()
    }

    /// Waits until so many rows more are accepted.
    fn go_on(&self, load: &Load, rows: u64) {
        let before = load.accepted();
        let went = wait_until("the load goes on", PATIENCE, || Ok(load.accepted() >= before + rows));
        assert!(went.is_ok(), "{:#?}\n{}", self.gateway.status(), self.gateway.log());
    }

    fn load(&self) -> Load {
        Load::start(plan(self.gateway.mqtt, vec![Fleet::new("acme", DEVICES, 1)], RATE)).unwrap()
    }

    /// Rows of telemetry by device, in the order in which the device sent them.
    fn by_device(&self) -> BTreeMap<String, Vec<Value>> {
        let mut devices: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for row in self.rows().into_iter().filter(|row| row["route"] == "telemetry") {
            devices.entry(row["device"].as_str().unwrap().to_owned()).or_default().push(row);
        }
        for rows in devices.values_mut() {
            rows.sort_by_key(|row| row["seq"].as_f64().unwrap() as u64);
        }
        devices
    }
}

fn outcome(reply: &ReloadReply, step: &str) -> Outcome {
    let steps = reply.tenants.iter().flat_map(|tenant| &tenant.steps);
    let found = steps.clone().find(|one| one.step == step);
    found.unwrap_or_else(|| panic!("{step} is not in {reply:#?}")).outcome
}

#[test]
fn steps_settings_and_plugin_files_change_under_load_and_every_row_has_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    put(&file, build(&builtin("tag"), "0.0.0"));
    let mine = file.to_str().unwrap();
    let both = |version: u32| {
        let value = format!("v{version:02}");
        tag("builtin:tag", "first", &value) + &tag(mine, "second", &value)
    };
    let mut site = site(&both(0));
    let load = site.load();
    for version in 1..=12 {
        site.go_on(&load, 400);
        let (old, new) = (both(version - 1), both(version));
        // Also the list of steps, and the content of a file behind the same path.
        let third = tag("builtin:tag", "third", "there");
        let (old, new) = match version % 3 {
            0 => (old + &third, new),
            2 => (old, new + &third),
            _ => (old, new),
        };
        if version % 2 == 0 {
            put(&file, build(&builtin("tag"), &format!("{version}.0.0")));
        }
        let reply = site.change(&old, &new);
        // The workload's chain has a step of that name, too.
        assert_eq!(outcome(&reply, "builtin:tag"), Outcome::Kept);
        assert_eq!(outcome(&reply, "builtin:tag#2"), Outcome::Swapped);
        assert_eq!(outcome(&reply, mine), Outcome::Swapped);
        if version % 3 == 2 {
            assert_eq!(outcome(&reply, "builtin:tag#3"), Outcome::Added);
        }
        let step = reply.tenants[0].steps.iter().find(|step| step.step == mine).unwrap();
        assert_eq!(step.from != step.to, version % 2 == 0, "{step:?}");
    }
    site.go_on(&load, 400);
    let ledger = load.finish().unwrap();
    let account = site.settle(&ledger);
    assert_eq!(account.repeated, 0, "a reload broke a connection: {account:#?}");
    let mut versions = BTreeMap::new();
    for (device, rows) in site.by_device() {
        let mut last = String::new();
        for row in rows {
            let (first, second) = (row["first"].as_str().unwrap(), row["second"].as_str().unwrap());
            assert_eq!(first, second, "a row was processed by both versions: {row}");
            assert!(*first >= *last, "{device}: {first} after {last}");
            last = first.to_owned();
            *versions.entry(last.clone()).or_insert(0) += 1;
        }
    }
    assert_eq!(versions.len(), 13, "{versions:?}");
}

/// Changes something to the worse: what was written to the file, and what must be said about it.
type Mistake<'a> = (&'a str, Box<dyn Fn(&Site) + 'a>, &'a str);

#[test]
fn what_cannot_be_taken_over_leaves_the_old_one_running_and_is_told_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    put(&file, build(&builtin("tag"), "1.0.0"));
    let mine = file.to_str().unwrap();
    let good = tag(mine, "version", "old");
    let mut site = site(&good);
    let whole = fs::read(&file).unwrap();
    let mistakes: Vec<Mistake<'_>> = vec![
        (
            "an unknown key",
            Box::new(|site| site.edit(&good, &good.replace("with =", "colour = 1\nwith ="))),
            "colour: unknown key",
        ),
        (
            "settings that the plugin refuses",
            Box::new(|site| site.edit(&good, &good.replace("column =", "column_of ="))),
            "column_of",
        ),
        ("a truncated plugin", Box::new(|_| put(&file, &whole[..whole.len() / 2])), "cannot be compiled"),
        ("no plugin at all", Box::new(|_| put(&file, "not a plugin")), "no WebAssembly"),
        (
            "a plugin with WASI",
            Box::new(|_| put(&file, fs::read(fixture("wasi").unwrap()).unwrap())),
            "imports wasi:",
        ),
        (
            "an unsigned plugin where signatures are required",
            Box::new(|site| {
                let key = SecretKey::generate().unwrap().public();
                let keys = format!(
                    "[plugins]\nkeys = [{{ name = \"site\", key = \"{key}\" }}]\n[tenant.acme]\nrequire_signature = true\n"
                );
                site.edit("[tenant.acme]\n", &keys);
            }),
            "not signed",
        ),
    ];
    let load = site.load();
    let config = fs::read(&site.gateway.config).unwrap();
    let runs = site.step(mine).digest;
    for (name, make, says) in &mistakes {
        site.go_on(&load, 300);
        make(&site);
        let reply = site.reload();
        let errors = reply.errors().join("\n");
        assert!(!reply.applied && errors.contains(says), "{name}: {reply:#?}");
        assert!(errors.contains("edge-1.toml:") || errors.contains("acme"), "{name}: no place in {errors}");
        assert_eq!(site.step(mine).digest, runs, "{name}");
        let told = site.gateway.status().unwrap().reload.unwrap();
        assert_eq!(told.errors().join("\n"), errors, "{name}");
        let status = String::from_utf8(site.gateway.cli("status", &[]).unwrap().stdout).unwrap();
        assert!(status.contains(says), "{name}: {status}");
        assert!(site.gateway.log().contains(says), "{name}: {}", site.gateway.log());
        site.go_on(&load, 300);
        put(&site.gateway.config, &config);
        put(&file, &whole);
        let again = site.reload();
        assert!(again.applied, "{name}: {again:#?}");
        assert_eq!(outcome(&again, mine), Outcome::Kept, "{name}");
    }
    site.change("value = \"old\"", "value = \"new\"");
    site.go_on(&load, 300);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    for (device, rows) in site.by_device() {
        let new = rows.iter().position(|row| row["version"] == "new").unwrap_or(rows.len());
        let (old, new) = rows.split_at(new);
        assert!(old.len() > 300 / DEVICES && new.len() > 5, "{device}: {} {}", old.len(), new.len());
        assert!(
            old.iter().all(|row| row["version"] == "old") && new.iter().all(|row| row["version"] == "new")
        );
    }
}

#[test]
fn a_rollback_restores_code_and_state_together_and_holds_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.wasm");
    let (old, new) =
        (build(&fixture("counter").unwrap(), "1.0.0"), build(&fixture("counter").unwrap(), "2.0.0"));
    put(&file, &old);
    let mine = file.to_str().unwrap();
    let step = format!("[[tenant.acme.step]]\nuse = {mine:?}\n");
    let mut site = site(&step);
    let ran = site.step(mine).digest;
    let phase = |site: &mut Site, rows: u32| {
        let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 1, 1)], RATE);
        all.each = Some(rows);
        let ledger = Load::start(all).unwrap().wait().unwrap();
        site.drain();
        ledger.entries().filter(|(_, entry)| e2e::oracle::in_range(entry)).count() as i64
    };
    let numbers = |site: &Site| -> Vec<i64> {
        let mut rows = site.rows();
        rows.sort_by_key(|row| row["time_ns"].as_i64().unwrap());
        rows.iter().map(|row| row["n"].as_i64().unwrap()).collect()
    };
    let first = phase(&mut site, 200);
    put(&file, &new);
    let reply = site.reload();
    assert_eq!(outcome(&reply, mine), Outcome::Swapped, "{reply:#?}");
    let runs = site.step(mine);
    assert_eq!(runs.previous.map(|previous| previous.digest), Some(ran.clone()));
    let second = phase(&mut site, 300);
    let expected: Vec<i64> = (1..=first + second).collect();
    assert_eq!(numbers(&site), expected, "the new version goes on with the old one's state");
    // The file of the old version is overwritten long since.
    let back = site.order("rollback", &format!("acme/{mine}"));
    assert_eq!((&back.to, &back.from), (&ran, &runs.digest));
    let third = phase(&mut site, 100);
    let expected: Vec<i64> = (1..=first + second).chain(first + 1..=first + third).collect();
    assert_eq!(numbers(&site), expected, "the state is as it was when the new version came");
    // The configuration says nothing new: neither a reload nor a restart brings the new version back.
    assert_eq!(outcome(&site.reload(), mine), Outcome::Kept);
    assert!(!site.step(mine).as_configured);
    site.gateway.kill().unwrap();
    site.gateway.start().unwrap();
    assert_eq!(site.step(mine).digest, ran);
    assert_eq!(outcome(&site.reload(), mine), Outcome::Kept);
    // Something new is said.
    put(&file, build(&fixture("counter").unwrap(), "3.0.0"));
    let reply = site.reload();
    assert_eq!(outcome(&reply, mine), Outcome::Swapped, "{reply:#?}");
    assert!(site.step(mine).as_configured);
}

#[test]
fn a_shadow_is_compared_under_load_and_takes_over_when_told() {
    let mut site = site(&tag("builtin:tag", "version", "old"));
    let name = "builtin:tag#2";
    let load = site.load();
    let shadow = |value: &str| {
        format!(
            "[tenant.acme.step.shadow]\nuse = \"builtin:tag\"\nwith = {{ column = \"version\", value = {value:?} }}\n"
        )
    };
    let step = tag("builtin:tag", "version", "old");
    site.change(&step, &(step.clone() + &shadow("new")));
    let compared = |site: &Site| site.step(name).shadow.filter(|shadow| shadow.rows > 1_000);
    wait_until("a shadow is compared", PATIENCE, || Ok(compared(&site).is_some())).unwrap();
    let report = compared(&site).unwrap();
    assert_eq!((report.rows_differing, report.faults), (report.rows, 0), "{report:#?}");
    assert!(report.examples.len() == 16 && report.examples[0].contains("version"), "{report:#?}");
    let told = site.gateway.cli("step", &["shadow", &format!("acme/{name}")]).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("differ") && told.contains("step promote"), "{told}");
    site.go_on(&load, 300);
    site.order("promote", &format!("acme/{name}"));
    site.go_on(&load, 1_000);
    let runs = site.step(name);
    assert!(!runs.as_configured && runs.shadow.is_none(), "{runs:#?}");
    // Killed before anything else is noted: what was promoted stays.
    site.gateway.kill().unwrap();
    site.gateway.start().unwrap();
    site.go_on(&load, 300);
    assert!(!site.step(name).as_configured);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    for (device, rows) in site.by_device() {
        let promoted = rows.iter().position(|row| row["version"] == "new").unwrap_or(rows.len());
        let (old, new) = rows.split_at(promoted);
        assert!(old.len() > 100 && new.len() > 20, "{device}: {} {}", old.len(), new.len());
        assert!(new.iter().all(|row| row["version"] == "new"), "{device}");
    }
}

#[test]
fn only_plugins_signed_with_a_key_of_the_ring_run_where_that_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    let mine = file.to_str().unwrap();
    let (ours, theirs) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let asks =
        Asks { memory: Some(1 << 30), imports: Some(vec![Import::Log, Import::State]), ..Asks::default() };
    let manifest = Manifest { version: Some("7.1.0".to_owned()), asks, ..Manifest::default() };
    let whole = runtime::manifest::attach(&fs::read(builtin("tag")).unwrap(), &manifest).unwrap();
    put(&file, sign(&whole, &ours).unwrap());
    let step = tag(mine, "version", "signed") + "grant = { imports = [\"log\"] }\n";
    let more = format!(
        "[plugins]\nkeys = [{{ name = \"press-shop\", key = \"{}\" }}]\nrequire_signature = true\n",
        ours.public()
    );
    let tenants = vec![("acme".to_owned(), [workload_chain("acme"), step].concat())];
    let mut site = Site::start_with(&Setup { tenants, more, ..Setup::default() });
    let checked = site.gateway.cli("check", &[]).unwrap();
    let (table, doubts) =
        (String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap());
    let row =
        table.lines().find(|line| line.contains("step[3]")).unwrap_or_else(|| panic!("{table}{doubts}"));
    assert!(row.contains("press-shop") && row.contains("7.1.0") && row.contains("64.0 MiB"), "{row}");
    assert!(row.trim_end().ends_with(" log"), "{row}");
    assert!(
        doubts.contains("asks for 1.0 GiB, granted are 64.0 MiB")
            && doubts.contains("asks for state, not granted"),
        "{doubts}"
    );
    for (content, says) in [(whole.clone(), "not signed"), (sign(&whole, &theirs).unwrap(), "key")] {
        put(&file, content);
        let reply = site.reload();
        assert!(!reply.applied && reply.errors()[0].contains(says), "{reply:#?}");
        assert!(!site.gateway.cli("check", &[]).unwrap().status.success());
    }
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 2, 1)], RATE);
    all.each = Some(100);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.settle(&ledger);
    assert!(site.rows().iter().all(|row| row["version"] == "signed"));
}

#[test]
fn a_shadow_whose_budget_holds_takes_over_by_itself_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let next = folder.path().join("next.wasm");
    put(&next, build(&builtin("tag"), "2.0.0"));
    let step = tag("builtin:tag", "version", "same");
    let mut site = site(&step);
    let name = "builtin:tag#2";
    let load = site.load();
    let shadow =
        format!("[tenant.acme.step.shadow]\nuse = {next:?}\npromote = {{ after = \"1 s\", time = 100.0 }}\n");
    let before = site.step(name).digest;
    site.change(&step, &(step.clone() + &shadow));
    wait_until("the shadow takes over", PATIENCE, || Ok(site.step(name).digest != before)).unwrap();
    let runs = site.step(name);
    assert!(runs.version.ends_with("2.0.0") && !runs.as_configured, "{runs:#?}");
    assert_eq!(runs.previous.unwrap().digest, before);
    site.gateway.kill().unwrap();
    site.gateway.start().unwrap();
    site.go_on(&load, 300);
    assert_eq!(site.step(name).digest, runs.digest, "it stays");
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
}

#[test]
fn sighup_reads_the_configuration_again() {
    let mut site = site(&tag("builtin:tag", "version", "old"));
    site.edit("value = \"old\"", "value = \"new\"");
    site.edit("[gateway]\n", "[gateway]\nworkers = 7\n");
    site.gateway.process().unwrap().signal("HUP").unwrap();
    wait_until("it was read again", PATIENCE, || Ok(site.gateway.status()?.reload.is_some())).unwrap();
    let reply = site.gateway.status().unwrap().reload.unwrap();
    assert!(reply.applied && reply.by == "SIGHUP", "{reply:#?}");
    assert_eq!(outcome(&reply, "builtin:tag#2"), Outcome::Swapped);
    assert_eq!(reply.restart, ["gateway.workers"]);
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 2, 1)], RATE);
    all.each = Some(100);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.settle(&ledger);
    assert!(site.rows().iter().all(|row| row["version"] == "new"));
}

#[test]
fn a_gateway_killed_in_the_midst_of_reloads_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counter.wasm");
    put(&file, build(&fixture("counter").unwrap(), "0.0.0"));
    let mut site = site(&format!("[[tenant.acme.step]]\nuse = {file:?}\n"));
    let load = site.load();
    let mut random = Random(seed());
    for version in 1..=15 {
        site.go_on(&load, 200);
        put(&file, build(&fixture("counter").unwrap(), &format!("{version}.0.0")));
        site.gateway.process().unwrap().signal("HUP").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(random.below(120) as u64));
        site.gateway.kill().unwrap();
        site.gateway.start().unwrap();
    }
    site.go_on(&load, 200);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    for (device, rows) in site.by_device() {
        let mut numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        let expected: Vec<i64> = (1..=rows.len() as i64).collect();
        assert_eq!(numbers, expected, "{device}: a row was counted twice or not at all");
    }
}

#[test]
fn a_tenant_whose_plugin_does_not_load_waits_for_a_reload_and_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.wasm");
    let whole = build(&builtin("tag"), "1.0.0");
    put(&file, &whole[..whole.len() / 2]);
    let broken = workload_chain("acme") + &tag(file.to_str().unwrap(), "version", "mended");
    let tenants = vec![("acme".to_owned(), broken), ("globex".to_owned(), workload_chain("globex"))];
    let mut site = Site::start_with(&Setup { tenants, ..Setup::default() });
    let load = |site: &Site, tenant: &str| {
        let mut all = plan(site.gateway.mqtt, vec![Fleet::new(tenant, 2, 1)], RATE);
        all.each = Some(200);
        Load::start(all).unwrap()
    };
    let waits = load(&site, "acme");
    let ledger = load(&site, "globex").wait().unwrap();
    crate::site::settle_each(&mut site, &[&ledger]);
    let lane = site.gateway.tenant("acme").unwrap().lane;
    assert!(lane.starts_with("held") && lane.contains("mine.wasm"), "{lane}");
    assert_eq!(waits.accepted(), 0, "its devices wait");
    put(&file, &whole);
    let reply = site.reload();
    assert!(reply.applied, "{reply:#?}");
    let mended = waits.wait().unwrap();
    crate::site::settle_each(&mut site, &[&ledger, &mended]);
}
