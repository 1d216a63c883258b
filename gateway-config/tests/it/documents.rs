//! Documents of releases: what they say of a tenant, how they lie over the gateway's own file, and their mistakes.

use gateway_config::{Document, Place, Problem, Tenant};
use wire::ids::{RouteName, TenantId};

use crate::site::Site;

const GOOD: &str = r#"[[tenant.acme.step]]
name = "health"
use = "sha256:DIGEST"
with = { window = "10 s" }
limits = { memory = "8 MiB" }
[[tenant.acme.step]]
use = "builtin:linear"
[tenant.acme.decoder.telegram]
use = "sha256:DIGEST"
[tenant.acme.route.alarms]
priority = "high"
"#;

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn read(text: &str) -> (Option<Document>, Vec<String>) {
    let (site, digest) = (Site::new(), "0a".repeat(32));
    let (builtin, contents, brings) = (site.path("plugins"), site.path("shelf"), [digest.clone()]);
    let place = Place { builtin: &builtin, contents: &contents, brings: &brings };
    let (found, problems) = Document::read("release 7", &text.replace("DIGEST", &digest), &acme(), place);
    (found, problems.iter().map(Problem::to_string).collect())
}

#[test]
fn a_document_lies_over_the_file_and_leaves_to_the_site_what_it_does_not_speak_of() {
    let (document, problems) = read(GOOD);
    assert_eq!(problems, [""; 0]);
    let document = document.unwrap();
    let site = Site::new();
    let text = r#"[gateway]
id = "g"
data_dir = "data"
plugins_dir = "plugins"
[[source]]
name = "floor"
kind = "mqtt-listener"
listen = "127.0.0.1:0"
[[source.topic]]
filter = "{tenant}/{device}"
[tenant.acme]
store = { quota = "32 MiB" }
step = [{ use = "builtin:tag" }, { name = "mine", use = "telegram.wasm" }]
decoder = { telegram = { use = "telegram.wasm" }, other = { use = "telegram.wasm" } }
route = { alarms = { keep = "1 d" }, bulk = { priority = "low" } }
"#;
    let file: Tenant = site.check(text).config.unwrap().tenants.remove(&acme()).unwrap();
    assert_eq!((file.steps[1].name.as_str(), file.steps[1].used.as_str()), ("mine", "telegram.wasm"));
    let runs = document.over(&file);
    assert_eq!((runs.store, runs.queue), (file.store, file.queue));
    let names: Vec<_> =
        runs.steps.iter().map(|step| (step.name.as_str(), step.limits.memory >> 20)).collect();
    assert_eq!(names, [("health", 8), ("builtin:linear", 64)]);
    assert!(runs.steps[0].plugin.ends_with(format!("shelf/{}.wasm", "0a".repeat(32))));
    assert_eq!(runs.steps[1].plugin.file_name().unwrap(), "linear.wasm");
    assert!(runs.decoders["telegram"].used.starts_with("sha256:"));
    assert_eq!(runs.decoders["other"], file.decoders["other"]);
    let route = |name: &str| runs.route(&RouteName::new(name).unwrap());
    assert_eq!((route("alarms").keep, route("bulk")), (None, file.routes[&RouteName::new("bulk").unwrap()]));
    // Signatures: a digest says nothing of who signed it, what comes with the gateway is trusted.
    let strict = Tenant { require_signature: true, ..runs };
    assert!(strict.must_be_signed(&strict.steps[0].used) && !strict.must_be_signed(&strict.steps[1].used));
    // Nothing said of steps is not "no steps".
    let says = |text: &str| read(text).0.unwrap().over(&file).steps.len();
    assert_eq!((says("[tenant.acme]"), says("[tenant.acme]\nstep = []")), (2, 0));
    assert!(
        read("[tenant.acme]\nstep = [{ use = \"sha256:DIGEST\" }]").0.unwrap().steps.unwrap()[0].is_unnamed()
    );
}

#[test]
fn mistakes_of_a_document_have_line_key_and_remedy() {
    let mut wrong = Vec::new();
    for (old, new, says) in [
        (
            "with =",
            "wiht =",
            "release 7:4:1: error: tenant.acme.step[0].wiht: unknown key; did you mean \"with\"?",
        ),
        ("\"8 MiB\"", "8", "release 7:5:21: error: tenant.acme.step[0].limits.memory:"),
        (
            "name = \"health\"",
            "name = \"a\\nb\"",
            "release 7:2:8: error: tenant.acme.step[0].name: this is no name",
        ),
        (
            "sha256:DIGEST",
            "plugins/mine.wasm",
            "release 7:3:7: error: tenant.acme.step[0].use: \"plugins/mine.wasm\" is no plugin of a release",
        ),
        (
            "sha256:DIGEST",
            "sha256:0A",
            "release 7:3:7: error: tenant.acme.step[0].use: \"0A\" is no SHA-256; write 64",
        ),
        (
            "sha256:DIGEST\"\nwith",
            "sha256:0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\"\nwith",
            "release 7:3:7: error: tenant.acme.step[0].use: the release does not bring this content",
        ),
        (
            "builtin:linear",
            "builtin:liner",
            "release 7:7:7: error: tenant.acme.step[1].use: there is no built-in plugin",
        ),
        (
            "[tenant.acme.route",
            "[tenant.acme.store]\nquota = \"1 GiB\"\n[tenant.acme.route",
            "release 7:10:1: error: tenant.acme.store: is for the site to say",
        ),
        (
            "[tenant.acme.route",
            "[tenant.globex]\n[tenant.acme.route",
            "release 7:10:1: error: tenant.globex: this release is for tenant acme",
        ),
        (
            "[tenant.acme.route",
            "[plugins]\n[tenant.acme.route",
            "release 7:10:2: error: plugins: unknown key",
        ),
        ("[[tenant.acme.step]]\nname", "[tenant.acme.step]\nname", "release 7:"),
    ] {
        assert!(GOOD.contains(old), "{old}");
        let (found, problems) = read(&GOOD.replacen(old, new, 1));
        if found.is_some() || !problems.iter().any(|problem| problem.starts_with(says)) {
            wrong.push(format!("{new:?}\n  says: {problems:#?}\n  but should say: {says}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (found, problems) = read("");
    assert!(found.is_none() && problems[0].contains("tenant is missing"), "{problems:?}");
    let (found, problems) = read("[tenant]");
    assert!(found.is_none() && problems[0].contains("there is no [tenant.acme]"), "{problems:?}");
}

#[test]
fn a_gateways_own_file_names_no_digest() {
    let says = crate::mistakes::mistake(
        "use = \"builtin:linear\"",
        "use = \"sha256:00\"",
        "13 tenant.acme.step[0].use: only a release",
        "path of a .wasm file",
    );
    assert_eq!(says, Ok(()));
}
