//! `docs/provisioning.md`, line by line: every command in it is run, in its order. Those of the service and its operator by
//! the real program; of a stamp and a gateway, which are other programs, what they do towards provisioning.

use std::time::Duration;

use crate::cli_ground::{Ground, Stamp};

const WALK: &str = include_str!("../../../docs/provisioning.md");

/// A fenced block: its language, and what is in it.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts = WALK.split("\n```");
    // Text, block, text, block, …; the language is what follows the fence.
    parts.skip(1).step_by(2).map(|block| block.split_once('\n').unwrap_or((block, ""))).collect()
}

/// The walk's names, at this machine.
fn here(line: &str, ground: &Ground) -> String {
    let api = ground.is_up().then(|| ground.api());
    line.replace("https://provision.example:8443", api.as_deref().unwrap_or("https://localhost:1"))
        .replace("--host provision.example", "--host localhost")
        .replace("0.0.0.0:8443", "127.0.0.1:0")
        .replace("/var/lib/sluice-provision", "data")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_walk_does_what_it_says() {
    let mut ground = Ground::empty();
    let mut stamps: Vec<Stamp> = Vec::new();
    let mut run = 0;
    for (language, block) in blocks() {
        if language == "toml" {
            let name = block.strip_prefix("# ").unwrap().lines().next().unwrap();
            ground.write(name, &here(block, &ground));
        }
        if language != "sh" {
            continue;
        }
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            run += 1;
            match line.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["export", "SLUICE_PROVISION=operator.toml"] => {}
                ["sluice-provision", "run", ..] | ["systemctl", "start", _] => ground.start(),
                ["systemctl", "stop", _] => ground.stop(),
                ["sluice-stamp", "run", "--config", file] => {
                    stamps.push(ground.run_stamp(file.strip_suffix(".toml").unwrap()));
                }
                ["sluice-gateway", "run", "--config", file] => registers(&ground, file).await,
                ["sluice-provision" | "cp" | "rm", ..] => {
                    let out = ground.good(&here(line, &ground));
                    expect(line, &out);
                }
                _ => panic!("nobody runs this line of the walk: {line}"),
            }
        }
    }
    assert!(run > 50, "the walk has {run} commands only: are its blocks found?");
}

/// What the gateway of a configuration does when it is switched on.
async fn registers(ground: &Ground, file: &str) {
    let text = std::fs::read_to_string(ground.path().join(file)).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    let gateway = config["gateway"]["id"].as_str().unwrap();
    let attest = &config["provisioning"]["attest"];
    let (group, key) = (attest["group"].as_str(), attest["symmetric_key_file"].as_str().unwrap());
    let registering = ground.register(gateway, group, key);
    let registered = tokio::time::timeout(Duration::from_secs(30), registering).await.unwrap();
    assert_eq!(registered.assignments[0].stamp.as_str(), "test-1", "tests come first");
}

/// What the walk promises of some commands.
fn expect(line: &str, out: &str) {
    let after =
        |command: &str| line.strip_prefix("sluice-provision ").is_some_and(|it| it.starts_with(command));
    let all: &[&str] = match () {
        () if after("explain") => {
            let shown =
                blocks().into_iter().find(|(_, text)| text.starts_with("tenant acme of gateway")).unwrap();
            assert_eq!(out.trim_end(), shown.1, "the walk shows what is printed");
            &[]
        }
        () if after("stamp show test-1") => &["0 of 500 promised", "reported"],
        () if after("gateway list") => &["plant7-line2", "line-gateways"],
        () if after("promote") && line.ends_with("--dry-run") => &["1 move would be made now", "eu-1"],
        () if after("promote") => &["promote plant7-line2 to production", "1 of 1 moved (100%), finished"],
        () if after("move gateway") && line.ends_with("--watch") => &["1 of 1 moved (100%), finished"],
        () if after("operation show 2") => &["move everything of plant7-line2 to eu-2", "by ops", "journal"],
        () if after("drain eu-2 --copy") => &["1 move would be made now", "eu-1", "would be exported there"],
        () if after("receipt list --gateway") => &["{\"items\":[]}"],
        () if after("receipt list") => &["there is no such receipt"],
        () if after("stamp lost") => &["nothing is changed", "--yes"],
        () if after("rollout start") => &[": release 1 of tenant acme to fast", "finished"],
        () if after("release desired") => &["fast ring: release 1 since"],
        () if after("operation list --state finished") => {
            &["roll release 1 of tenant acme out to fast", "drain eu-2"]
        }
        () if after("release remove 2") => &["release 2 is removed"],
        () if after("audit") => &["stamp.add", "gateway.block", "ops"],
        () => &[],
    };
    for expected in all {
        assert!(out.contains(expected), "{line}: {expected:?} is not in\n{out}");
    }
}
