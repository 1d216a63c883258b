//! Releases over two rings, with real gateways: a good one goes from ring to ring; one that cannot run, and one that runs and
//! fails, are stopped at the first ring and taken back, and the second ring never sees them. No row is lost over it.

use e2e::cloud::Cloud;
use e2e::load::{Fleet, Ledger, Load};
use e2e::oracle::{self, Rules};
use e2e::process::wait_until;
use serde_json::Value;

use crate::site::{PATIENCE, plan};

/// Gateways with their stamps, and the ring of each.
const SITES: [(&str, &str, &str); 2] = [("edge-1", "fast-1", "fast"), ("edge-2", "slow-1", "slow")];

fn start() -> Cloud {
    let mut cloud = Cloud::start().unwrap();
    cloud.add_tenant("acme", &[]).unwrap();
    cloud.enrol("lines", "production", &["acme=10"]).unwrap();
    for (gateway, stamp, ring) in SITES {
        cloud.add_stamp(stamp, "production", 100, &["--ring", ring]).unwrap();
        cloud.operator.run(&["tenant", "set", "acme", "--pin", stamp]).unwrap();
        cloud.add_gateway(gateway, "lines", &["acme"]).unwrap();
        cloud.wait_at(gateway, "acme", stamp).unwrap();
    }
    cloud
}

/// The range filter, a mark by which rows of a release are known, and another step.
fn publish(cloud: &Cloud, mark: &str, step: &str) -> String {
    let document = format!(
        "[[tenant.acme.step]]\nuse = \"builtin:range\"\n\
         with = {{ column = \"temperature_c\", min = -40.0, max = 125.0 }}\n\
         [[tenant.acme.step]]\nuse = \"builtin:tag\"\nwith = {{ column = \"release\", value = \"{mark}\" }}\n{step}"
    );
    let file = cloud.world.path().join(format!("{mark}.toml"));
    std::fs::write(&file, document).unwrap();
    let added = cloud.operator.ask(&["release", "add", "acme", file.to_str().unwrap()]).unwrap();
    added["id"].as_u64().unwrap_or_else(|| panic!("{added}")).to_string()
}

/// Rolls a release out, and waits for the end: how it ended, and what happened.
fn roll_out(cloud: &Cloud, release: &str, soak: &str) -> (String, String) {
    let arguments = ["rollout", "start", "acme", release, "--soak", soak, "--watch", "--json"];
    let output = cloud.operator.output(&arguments).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(said.lines().last().expect("it says how it went")).unwrap();
    let state = last["rollout"]["state"].as_str().unwrap_or_else(|| panic!("{last}")).to_owned();
    assert_eq!(output.status.success(), state == "finished", "{last:#}");
    (state, format!("{last:#}"))
}

/// When rows with the mark of a release were received at a stamp, in nanoseconds.
fn received(cloud: &Cloud, at: usize, mark: &str) -> Vec<i64> {
    let rows = cloud.stamps[at].rows().unwrap();
    let marked = rows.iter().filter(|row| row["release"] == mark);
    marked.map(|row| row["received_ns"].as_i64().unwrap()).collect()
}

fn wait_marked(cloud: &Cloud, at: usize, mark: &str) {
    let before = received(cloud, at, mark).len();
    let marked = wait_until("rows of the release land", PATIENCE, || {
        Ok(received(cloud, at, mark).len() >= before + 50)
    });
    assert!(marked.is_ok(), "{marked:?} {mark}\n{}", cloud.gateways[at].log());
}

#[test]
fn a_good_release_goes_from_ring_to_ring_and_bad_ones_are_taken_back_at_the_first() {
    let mut cloud = start();
    let loads: Vec<Load> = (cloud.gateways.iter())
        .map(|gateway| Load::start(plan(gateway.mqtt, vec![Fleet::new("acme", 3, 1)], 60.0)).unwrap())
        .collect();
    let good = publish(&cloud, "good", "");
    let (state, said) = roll_out(&cloud, &good, "3 s");
    assert_eq!(state, "finished", "{said}");
    wait_marked(&cloud, 0, "good");
    wait_marked(&cloud, 1, "good");
    let first = |at| received(&cloud, at, "good").into_iter().min().unwrap();
    let between = (first(1) - first(0)) as f64 / 1e9;
    assert!(between >= 3.0, "the second ring has it {between} s after the first, before that one had soaked");

    // What runs is kept over kills, with nobody there to ask.
    cloud.provision.kill().unwrap();
    cloud.gateway("edge-1").unwrap().kill().unwrap();
    cloud.stamp("fast-1").unwrap().kill().unwrap();
    cloud.gateway("edge-1").unwrap().start().unwrap();
    cloud.stamp("fast-1").unwrap().start().unwrap();
    wait_marked(&cloud, 0, "good");
    cloud.provision.start().unwrap();
    cloud.stamp("fast-1").unwrap().process().unwrap().signal("HUP").unwrap();

    // No WebAssembly at all.
    std::fs::write(cloud.world.path().join("broken.wasm"), b"nothing of the kind").unwrap();
    let broken = publish(&cloud, "broken", "[[tenant.acme.step]]\nuse = \"broken.wasm\"\n");
    let (state, said) = roll_out(&cloud, &broken, "3 s");
    assert_eq!(state, "rolled_back", "{said}");
    // It runs, and each of its calls fails.
    let fixture = e2e::gateway::plugins_dir().unwrap().join("fixtures/lie.wasm");
    std::fs::copy(fixture, cloud.world.path().join("lie.wasm")).unwrap();
    let step =
        "[[tenant.acme.step]]\nuse = \"lie.wasm\"\nwith = { lie = \"length\" }\non_fault = \"bypass\"\n";
    let failing = publish(&cloud, "failing", step);
    // Gateways tell how it does every ten seconds.
    let (state, said) = roll_out(&cloud, &failing, "60 s");
    assert_eq!(state, "rolled_back", "{said}");
    assert!(said.contains("fault") || said.contains("reject"), "{said}");

    for at in [0, 1] {
        wait_marked(&cloud, at, "good");
        assert_eq!(received(&cloud, at, "broken").len(), 0);
    }
    assert_eq!(received(&cloud, 1, "failing").len(), 0, "the second ring has never had it");
    let ledgers: Vec<Ledger> = loads.into_iter().map(|load| load.finish().unwrap()).collect();
    cloud.drain(PATIENCE).unwrap();
    for (at, ledger) in ledgers.iter().enumerate() {
        let letters = cloud.gateways[at].tenant("acme").unwrap().dead_letters_kept;
        let account =
            oracle::settle(ledger, |_| Rules::default(), cloud.stamps[at].landed().unwrap()).unwrap();
        println!("{}: {letters} dead letters, {account:?}", cloud.gateways[at].id);
        assert_eq!((account.duplicated, account.wrong), (0, 0), "{account:#?}");
        assert_eq!(account.lost, letters, "each row that a failing step kept is a dead letter: {account:#?}");
        assert!(at == 0 || letters == 0, "{account:#?}");
    }
}
