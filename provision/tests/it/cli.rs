//! The operator's command line, by the real program against a real service: what it prints, refuses, and exits with.

use serde_json::json;

use crate::cli_ground::Ground;

/// A stamp, a tenant, and a group whose gateways go there.
fn furnished(stamps: &[&str]) -> Ground {
    let ground = Ground::with_service(stamps);
    for stamp in stamps {
        let environment = if stamp.starts_with("test") { "test" } else { "production" };
        ground.good(&format!(
            "sluice-provision stamp add {stamp} --region eu --environment {environment} --max-devices 100 \
             --endpoint quic://{stamp}.example:7443"
        ));
    }
    ground.good("sluice-provision tenant add acme --region eu");
    ground.good(
        "sluice-provision enrolment add boxes --environment production --tenant acme=10 --by-new-group-key",
    );
    ground
}

async fn register(ground: &Ground, gateways: &[&str]) {
    ground.good(&format!("sluice-provision enrolment key boxes {} --folder keys", gateways.join(" ")));
    for gateway in gateways {
        ground.register(gateway, Some("boxes"), &format!("keys/{gateway}.key")).await;
    }
}

#[tokio::test]
async fn errors_say_what_to_do_and_exit_codes_tell_them_apart() {
    let mut ground = furnished(&["eu-1"]);
    let (code, said) = ground.bad("stamp show eu-9");
    assert_eq!(code, 1);
    assert!(said.contains("error: there is no stamp eu-9") && said.contains("what to do: "), "{said}");
    let (code, said) = ground.bad("stamp show eu-9 --json");
    let problem: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &problem["code"]), (1, &json!("unknown")));
    assert!(problem["remedy"].is_string() && problem["message"].is_string());

    assert_eq!(ground.bad("stamp show").0, 2, "an argument is missing");
    assert_eq!(ground.bad("stamp set eu-1").0, 2, "nothing is to change");
    assert_eq!(ground.bad("promote --to production").0, 2, "nobody is named");
    let (code, said) = ground.bad("status --operator nowhere.toml");
    assert_eq!(code, 2);
    assert!(said.contains("nowhere.toml") && said.contains("--operator FILE"), "{said}");

    // Somebody whom the service does not know as an operator, and a service that is not the one.
    let (code, said) = ground.bad("status --certificate stranger.crt --key stranger.key");
    assert_eq!(code, 1);
    assert!(said.contains("stranger"), "{said}");
    let (code, said) = ground.bad("status --trust gateways-ca/ca.crt --json");
    assert_eq!(code, 1);
    assert!(said.contains("\"untrusted\""), "{said}");
    let (code, said) = ground.bad("status --certificate ops.crt --key eu-1.key --json");
    assert!((code, said.contains("\"bad_identity\"")) == (1, true), "{said}");

    ground.stop();
    let (code, said) = ground.bad("status");
    assert_eq!(code, 3);
    assert!(said.contains("no answer from") && said.contains("what to do"), "{said}");
}

#[tokio::test]
async fn tables_fit_a_hundred_columns_and_json_has_the_names_of_the_api() {
    let ground = furnished(&["eu-1", "test-1"]);
    register(&ground, &["g1", "g2", "g3"]).await;
    for line in [
        "status",
        "stamp list",
        "stamp show eu-1",
        "tenant list",
        "tenant show acme",
        "enrolment list",
        "enrolment show boxes",
        "gateway list",
        "gateway show g1",
        "explain acme --gateway g1",
        "audit",
        "operation list",
    ] {
        let out = ground.good(&format!("sluice-provision {line}"));
        let widest = out.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!((1..=100).contains(&widest), "{line}: {widest} columns\n{out}");
    }
    let status = ground.json("status");
    assert_eq!(status["counts"]["gateways"], 3);
    assert_eq!(status["counts"]["devices"], 30);
    assert_eq!(status["stamps"].as_array().unwrap().len(), 2);
    let stamp = ground.json("stamp show eu-1");
    assert_eq!((&stamp["promised"], &stamp["headroom"]), (&json!(30), &json!(70)));
    let listed = ground.json("gateway list --stamp eu-1 --limit 2");
    assert_eq!(listed["items"][0]["id"], "g1");
    assert_eq!((listed["items"].as_array().unwrap().len(), listed["next"].is_string()), (2, true));
    let rest = ground.json(&format!("gateway list --after {}", listed["next"].as_str().unwrap()));
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["items"][0]["id"]), (1, &json!("g3")));
    let shown = ground.good("sluice-provision gateway list --limit 1");
    assert!(shown.contains("and more: --after"), "{shown}");
    assert_eq!(ground.json("gateway show g1")["assignments"][0]["stamp"], "eu-1");
}

#[tokio::test]
async fn rules_are_changed_one_by_one_and_taken_away() {
    let ground = furnished(&["eu-1"]);
    ground.good(
        "sluice-provision tenant set acme --ring fast --pin eu-1 --dedicated true --policy least-filled",
    );
    let tenant = ground.json("tenant show acme");
    assert_eq!(tenant["regions"], json!(["eu"]), "what is not named stays");
    assert_eq!((&tenant["ring"], &tenant["pinned"]), (&json!("fast"), &json!("eu-1")));
    assert_eq!((&tenant["dedicated"], &tenant["policy"]), (&json!(true), &json!("least_filled")));
    let (code, said) = ground.bad("explain acme --environment production --devices 5");
    assert_eq!((code, said.as_str()), (1, ""), "none fits: a finding, not an error");
    ground.good("sluice-provision tenant set acme --any-ring --unpin --any-region --dedicated false");
    let tenant = ground.json("tenant show acme");
    assert_eq!(
        (&tenant["ring"], &tenant["pinned"], &tenant["regions"]),
        (&json!(null), &json!(null), &json!([]))
    );

    ground.good("sluice-provision stamp set eu-1 --max-devices 50 --weight 7 --ring fast");
    let stamp = ground.json("stamp show eu-1");
    assert_eq!(
        (&stamp["max_devices"], &stamp["weight"], &stamp["ring"]),
        (&json!(50), &json!(7), &json!("fast"))
    );
    assert_eq!(stamp["endpoints"], json!(["quic://eu-1.example:7443"]));
    assert_eq!(ground.json("cordon eu-1")["state"], "cordoned");
    assert_eq!(ground.json("uncordon eu-1")["state"], "active");

    ground.good("sluice-provision enrolment set boxes --tenant acme=20 --environment test");
    let enrolment = ground.json("enrolment show boxes");
    assert_eq!(enrolment["shares"], json!([{"tenant": "acme", "devices": 20}]));
    assert_eq!((&enrolment["environment"], &enrolment["blocked"]), (&json!("test"), &json!(false)));
    assert_eq!(ground.json("enrolment block boxes")["blocked"], true);
    assert_eq!(ground.json("enrolment unblock boxes")["blocked"], false);
    assert_eq!(ground.json("enrolment remove boxes"), json!({"removed": "boxes"}));
    assert_eq!(ground.json("tenant remove acme"), json!({"removed": "acme"}));
    assert_eq!(ground.json("stamp remove eu-1"), json!({"removed": "eu-1"}));
    assert_eq!(
        ground.good("sluice-provision stamp list").trim(),
        "there is no stamp: `sluice-provision stamp add`"
    );
}

#[tokio::test]
async fn gateways_are_enrolled_in_each_way_and_no_key_is_shown_unasked() {
    let ground = furnished(&["eu-1"]);
    let add = |id: &str, by: &str| {
        let enrol =
            format!("sluice-provision enrolment add {id} --environment production --tenant acme=5 {by}");
        ground.good(&enrol)
    };
    let made = add("own-1", "--by-new-key own-1.key");
    let key = std::fs::read_to_string(ground.path().join("own-1.key")).unwrap();
    assert!(!made.contains(key.trim()), "{made}");
    ground.register("own-1", None, "own-1.key").await;
    ground.write("own-2.key", "c2l4dGVlbiBieXRlcyBvciBtb3Jl\n");
    add("own-2", "--by-key own-2.key");
    ground.register("own-2", None, "own-2.key").await;
    ground.good(
        "sluice-provision enrolment add factory --environment production --tenant acme=5 --by-group-key - < own-2.key",
    );
    ground.good("sluice-provision enrolment key factory f1 > f1.key");
    ground.register("f1", Some("factory"), "f1.key").await;
    let added = add("certified", "--by-certificate stranger.crt");
    assert!(added.contains("SHA-256"), "{added}");
    add("makers", "--by-authority staff-ca/ca.crt");
    add("printed", &format!("--by-fingerprint {}", "ab".repeat(32)));

    let (code, said) =
        ground.bad("enrolment add own-3 --environment production --tenant nobody=5 --by-new-key own-3.key");
    assert_eq!(code, 1, "{said}");
    assert!(
        !ground.path().join("own-3.key").exists(),
        "a key that nothing was enrolled by is not left behind"
    );
    let (code, said) =
        ground.bad("enrolment add own-4 --environment production --tenant acme=5 --by-new-key own-1.key");
    assert_eq!(code, 1);
    assert!(said.contains("own-1.key") && said.contains("not overwritten"), "{said}");
    assert_eq!(std::fs::read_to_string(ground.path().join("own-1.key")).unwrap(), key);
    assert_eq!(ground.bad("enrolment add x --environment production --tenant acme=5").0, 2, "by what?");
    assert_eq!(ground.bad("enrolment key boxes g1 g2").0, 2, "into which files?");
    let shown = ground.good("sluice-provision enrolment show own-1; sluice-provision enrolment list --json");
    assert!(!shown.contains(key.trim()), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_thought_through_watched_and_undone() {
    let ground = furnished(&["eu-1", "eu-2"]);
    let gateways = ["g1", "g2", "g3", "g4"];
    register(&ground, &gateways).await;
    let at = |stamp: &str| ground.json(&format!("stamp show {stamp}"))["promised"].as_u64().unwrap();
    let before = (at("eu-1"), at("eu-2"));
    assert_eq!(before.0 + before.1, 40);
    let plan = ground.json("drain eu-1 --dry-run");
    assert_eq!((at("eu-1"), at("eu-2")), before, "nothing was done");
    assert_eq!(plan["moves"].as_u64().unwrap() * 10, before.0);

    // Nobody answers for eu-1: the drain waits, and can be ended.
    let begun = ground.json("drain eu-1 --to eu-2");
    let id = begun["operation"]["id"].as_i64().unwrap();
    assert_eq!(ground.json(&format!("operation show {id}"))["operation"]["state"], "running");
    assert_eq!(ground.json("operation list --state running")["items"].as_array().unwrap().len(), 1);
    let watching = ground.watch("operation", id);
    ground.good(&format!("sluice-provision operation abort {id}"));
    let watched = watching.wait_with_output().unwrap();
    assert_eq!(watched.status.code(), Some(1), "aborted");
    assert!(crate::cli_ground::text(&watched.stdout).contains("aborted"));
    assert_eq!(ground.json("undrain eu-1")["state"], "active");
    assert_eq!(at("eu-1"), before.0);

    let _stamp = ground.run_stamp("eu-1");
    let out = ground.good("sluice-provision drain eu-1 --window 1 --watch");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("operation {}: drain eu-1, where the rules send it", id + 1));
    assert!(lines.last().unwrap().contains("(100%), finished: "), "{out}");
    assert_eq!((at("eu-1"), at("eu-2")), (0, 40));
    assert_eq!(ground.good("sluice-provision operation watch 2 | head -1").lines().next(), Some(lines[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_goes_on_over_a_restart_of_the_service() {
    let mut ground = furnished(&["eu-1", "eu-2"]);
    register(&ground, &["g1", "g2"]).await;
    let begun = ground.json("move tenant acme --to eu-2 --from eu-1");
    let id = begun["operation"]["id"].as_i64().unwrap();
    let watching = ground.watch("operation", id);
    ground.stop();
    ground.start();
    let _stamp = ground.run_stamp("eu-1");
    let watched = watching.wait_with_output().unwrap();
    let (out, said) = (crate::cli_ground::text(&watched.stdout), crate::cli_ground::text(&watched.stderr));
    assert!(watched.status.success() && out.contains("finished"), "{out}{said}");
}

#[tokio::test]
async fn a_lost_stamp_is_given_up_only_when_one_says_so() {
    let ground = furnished(&["eu-1", "eu-2"]);
    register(&ground, &["g1", "g2", "g3"]).await;
    let before = ground.json("stamp show eu-1")["promised"].clone();
    let said = ground.good("sluice-provision stamp lost eu-1");
    assert!(said.contains("nothing is changed") && said.contains("--yes"), "{said}");
    assert_eq!(ground.json("stamp show eu-1")["promised"], before);
    let out = ground.good("sluice-provision stamp lost eu-1 --yes --watch");
    assert!(out.contains("give up eu-1") && out.contains("finished"), "{out}");
    assert_eq!(ground.json("stamp show eu-2")["promised"], 30);
}

#[tokio::test]
async fn a_backup_is_taken_beside_the_service_and_brings_everything_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut ground = furnished(&["eu-1"]);
    register(&ground, &["g1"]).await;
    let said = ground.good("sluice-provision backup copy.db --config provision.toml");
    assert!(said.starts_with("copy.db: "), "{said}");
    let mode = std::fs::metadata(ground.path().join("copy.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, said) = ground.bad("backup copy.db --config provision.toml");
    assert!(code == 1 && said.contains("never overwritten"), "{said}");
    register(&ground, &["g2"]).await;
    ground.stop();
    ground.good("cp copy.db data/registry.db; rm -f data/registry.db-wal data/registry.db-shm");
    ground.start();
    let known = ground.json("gateway list");
    assert_eq!((known["items"].as_array().unwrap().len(), &known["items"][0]["id"]), (1, &json!("g1")));
    // What was registered since registers again, by the same key.
    ground.register("g2", Some("boxes"), "keys/g2.key").await;
    assert_eq!(ground.json("status")["counts"]["gateways"], 2);
}

#[tokio::test]
async fn a_release_is_published_with_its_plugins_rolled_out_and_taken_back() {
    let ground = furnished(&["eu-1"]);
    ground.write("smooth.wasm", "a plugin, as far as provisioning is concerned");
    ground.write(
        "acme.toml",
        "# May\n[[tenant.acme.step]]\nuse = \"smooth.wasm\"\nwith = { window = \"10 s\" }\n",
    );
    let (code, said) = ground.bad("release add acme gone.toml");
    assert!(code == 1 && said.contains("gone.toml"), "{said}");
    let said = ground.good("sluice-provision release add acme acme.toml --note 'smoother windows'");
    assert!(
        said.contains("smooth.wasm: 45 B, uploaded") && said.contains("release 1 of tenant acme"),
        "{said}"
    );
    let said = ground.good("sluice-provision release add acme acme.toml");
    assert!(said.contains("there already"), "{said}");
    let document = ground.good("sluice-provision release show 1 --document");
    let sha256 =
        ground.json("release show 1")["release"]["contents"][0]["sha256"].as_str().unwrap().to_owned();
    assert!(
        document.starts_with("# May\n") && document.contains(&format!("use = \"sha256:{sha256}\"")),
        "{document}"
    );
    ground.write("other.toml", "[[tenant.other.step]]\nuse = \"builtin:linear\"\n");
    let (code, said) = ground.bad("release add acme other.toml --json");
    assert!(code == 1 && said.contains("bad_document"), "{said}");
    assert_eq!(ground.json("release list --tenant acme --limit 1")["items"][0]["id"], 2);

    // The slow ring's stamp does not say that it follows: the rollout waits for it, and is taken back.
    let begun = ground.json("rollout start acme 1 --ring slow --soak '0 s' --max-refusing 2");
    let id = begun["rollout"]["id"].as_i64().unwrap();
    assert_eq!(begun["rollout"]["gate"]["refused"], 2);
    let watching = ground.watch("rollout", id);
    let reached =
        || !ground.json(&format!("rollout show {id}"))["rollout"]["reached"].as_array().unwrap().is_empty();
    let begun = std::time::Instant::now();
    while !reached() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "the rollout does not begin");
    }
    ground.good(&format!("sluice-provision rollout abort {id}"));
    assert_eq!(watching.wait_with_output().unwrap().status.code(), Some(1), "taken back");
    let shown = ground.good(
        "sluice-provision rollout show 1; sluice-provision rollout list; sluice-provision release list",
    );
    assert!(
        shown.contains("aborted") && shown.contains("by ops") && shown.contains("taken back by rollout 1"),
        "{shown}"
    );
    let (code, said) = ground.bad("release remove 1 --json && sluice-provision release remove 1");
    assert!(code == 1 && said.contains("there is no release 1"), "{said}");

    // No stamp is of the fast ring: there is nothing to wait for.
    let said = ground.good("sluice-provision rollout start acme 2 --ring fast --soak '0 s' --watch");
    assert!(
        said.starts_with("rollout 2: release 2 of tenant acme to fast\n") && said.contains("finished"),
        "{said}"
    );
    let desired = ground.good("sluice-provision release desired acme");
    assert!(desired.contains("fast ring: release 2"), "{desired}");
    let (code, said) = ground.bad("release remove 2");
    assert!(code == 1 && said.contains("ring fast of tenant acme has it"), "{said}");
    for line in shown.lines().chain(said.lines()).chain(desired.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[tokio::test]
async fn rollouts_are_among_the_operations() {
    let ground = furnished(&["eu-1"]);
    register(&ground, &["g1"]).await;
    ground.good(
        "sluice-provision stamp add eu-2 --region eu --environment production --max-devices 100 \
         --endpoint quic://eu-2.example:7443",
    );
    ground.write("acme.toml", "[[tenant.acme.step]]\nuse = \"builtin:linear\"\n");
    ground.good("sluice-provision release add acme acme.toml");
    let rollout = ground.json("rollout start acme 1 --ring slow --soak '1 h'")["rollout"]["id"].clone();
    let moved = ground.json("move tenant acme --to eu-2")["operation"]["id"].clone();
    assert_eq!((&rollout, &moved), (&json!(1), &json!(2)), "one row of numbers");
    let all = ground.json("operation list");
    assert_eq!((&all["items"][0]["id"], &all["items"][0]["task"]["kind"]), (&json!(2), &json!("move")));
    assert_eq!((&all["items"][1]["id"], &all["items"][1]["release"]), (&json!(1), &json!(1)));
    let first = ground.json("operation list --limit 1");
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (1, &json!("2")));
    assert_eq!(ground.json("operation list --limit 1 --after 2")["items"][0]["release"], 1);
    let said = ground.good("sluice-provision operation list --state running");
    assert!(
        said.contains("move acme to eu-2") && said.contains("roll release 1 of tenant acme out to slow"),
        "{said}"
    );
    let said = ground.good("sluice-provision operation show 1");
    assert!(said.starts_with("rollout 1: release 1 of tenant acme to slow\n"), "{said}");
    let watching = ground.watch("operation", 1);
    let said = ground.good("sluice-provision operation abort 1");
    assert!(said.contains("aborted by ops"), "{said}");
    assert_eq!(watching.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(ground.json("operation list --state running")["items"].as_array().unwrap().len(), 1);
    assert_eq!(ground.json("operation list --state aborted")["items"][0]["id"], 1);
    assert_eq!(ground.json("operation list --state rolled-back")["items"], json!([]));
    assert_eq!(ground.json("rollout list --state aborted")["items"][0]["id"], 1);
    let (code, said) = ground.bad("operation show 9");
    assert!(code == 1 && said.contains("there is no operation 9"), "{said}");
    for line in ground.good("sluice-provision operation list").lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn help_teaches_every_command() {
    let ground = Ground::empty();
    let top = ground.good("sluice-provision --help");
    assert!(top.contains("First steps") && top.contains("Exit codes"), "{top}");
    for command in [
        "stamp add",
        "stamp set",
        "stamp lost",
        "tenant add",
        "tenant set",
        "enrolment add",
        "enrolment key",
        "gateway list",
        "move tenant",
        "move gateway",
        "cordon",
        "drain",
        "undrain",
        "promote",
        "operation watch",
        "release add",
        "release desired",
        "release remove",
        "rollout start",
        "rollout watch",
        "explain",
        "status",
        "audit",
        "certificate",
        "backup",
    ] {
        let help = ground.good(&format!("sluice-provision {command} --help"));
        assert!(help.contains("Usage: "), "{command}");
        let word = command.split(' ').next().unwrap();
        assert!(top.contains(&format!("  {word} ")), "{word} is not in the overview");
    }
    for command in ["stamp add", "tenant add", "enrolment add", "gateway list", "drain", "promote", "explain"]
    {
        assert!(
            ground.good(&format!("sluice-provision {command} --help")).contains("Examples:"),
            "{command}"
        );
    }
}
