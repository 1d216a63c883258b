//! Mistakes, and what is said about them: the line, the key, what is wrong, what to write.

use gateway_config::{Severity, check, load};

use crate::site::Site;

const GOOD: &str = r#"[gateway]
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
[[tenant.acme.step]]
use = "builtin:linear"
[uplink]
stamp = [{ id = "eu-1", endpoints = ["quic://s"], tenants = ["acme"] }]
identity = { certificate = "gateway.crt", key = "gateway.key", trust = "ca.crt" }
"#;

/// Changes one line of the good configuration: exactly one problem results, which begins so and contains that.
pub(crate) fn mistake(old: &str, new: &str, begins: &str, contains: &str) -> Result<(), String> {
    assert!(GOOD.contains(old), "{old}");
    let says = Site::new().says(&GOOD.replacen(old, new, 1));
    match says.as_slice() {
        [one] if one.starts_with(begins) && one.contains(contains) => Ok(()),
        _ => Err(format!("{new:?}\n  says: {says:#?}\n  but should be one: {begins} … {contains}")),
    }
}

#[test]
fn the_good_one_is_good() {
    assert_eq!(Site::new().says(GOOD), [""; 0]);
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    let says = Site::new().says(&GOOD.replace("name = ", "nmae = ").replace("[uplink]", "[uplnik]"));
    assert_eq!(
        says,
        [
            "1 : there is no [uplink]: data stays in the stores until their quotas; ",
            "5 source[0]: name is missing; write e.g. name = \"floor\"",
            "6 source[0].nmae: unknown key; did you mean \"name\"?",
            "14 uplnik: unknown key; did you mean \"uplink\"?",
        ]
    );
}

#[test]
fn single_mistakes_have_line_key_and_remedy() {
    let mut wrong = Vec::new();
    for (old, new, begins, contains) in [
        (
            "id = \"g\"\n",
            "id = \"g\"\nlogg = \"info\"\n",
            "3 gateway.logg: unknown key",
            "did you mean \"log\"?",
        ),
        ("id = \"g\"\n", "id = \"g\"\nid = \"h\"\n", "3 : duplicate key", ""),
        ("id = \"g\"", "id = \"G 7\"", "2 gateway.id: a gateway id must not contain 'G'", "use a-z"),
        (
            "data_dir = \"data\"\n",
            "",
            "1 gateway: data_dir is missing",
            "write e.g. data_dir = \"/var/lib/sluice\"",
        ),
        (
            "id = \"g\"\n",
            "id = \"g\"\nlog = \"verbose\"\n",
            "3 gateway.log: \"verbose\" is not known",
            "\"debug\"",
        ),
        ("\"plugins\"", "\"nowhere\"", "4 gateway.plugins_dir: ", "cargo xtask guests"),
        ("127.0.0.1:0", "1883", "8 source[0].listen: \"1883\" is no address", "127.0.0.1:1883"),
        ("mqtt-listener", "mqtt-listner", "7 source[0].kind: ", "did you mean \"mqtt-listener\"?"),
        (
            "listen =",
            "linger = 20\nlisten =",
            "8 source[0].linger: \"20\" has no unit",
            "write e.g. \"20 s\"",
        ),
        ("listen =", "linger = \"20 MB\"\nlisten =", "8 source[0].linger: unknown unit \"MB\"", "ms, s, min"),
        (
            "listen =",
            "linger = \"1 min\"\nlisten =",
            "8 source[0].linger: 1 min is out of bounds",
            "\"10 s\"",
        ),
        ("listen =", "max_payload = \"17 MiB\"\nlisten =", "8 source[0].max_payload: 17 MiB", "\"16 MiB\""),
        (
            "listen =",
            "max_payload = 17\nlisten =",
            "8 source[0].max_payload: \"17\" has no unit",
            "\"17 MiB\"",
        ),
        (
            "listen =",
            "allow_anonymous = false\nlisten =",
            "8 source[0].allow_anonymous: nobody could",
            "user",
        ),
        (
            "listen =",
            "tls = { certificate = \"no.crt\", key = \"gateway.key\" }\nlisten =",
            "8 source[0].tls.certificate: cannot read",
            "cargo xtask pki",
        ),
        (
            "listen =",
            "tls = { certificate = \"gateway.key\", key = \"gateway.key\" }\nlisten =",
            "8 source[0].tls.certificate: ",
            "holds no certificate in PEM",
        ),
        (
            "[[source.topic]]",
            "[[source.user]]\nname = \"u\"\npassword = \"hunter2\"\n[[source.topic]]",
            "11 source[0].user[0].password: a secret must not stand",
            "{ env =",
        ),
        (
            "[[source.topic]]",
            "[[source.user]]\nname = \"u\"\ntenant = \"acne\"\n[[source.topic]]",
            "11 source[0].user[0].tenant: there is no tenant \"acne\"",
            "did you mean \"acme\"?",
        ),
        ("[[source.topic]]", "[source.topic]", "9 source[0].topic: there can be several", "[[source.topic]]"),
        (
            "{tenant}/{device}",
            "a/{device}",
            "9 source[0].topic[0]: nothing says which tenant",
            "put {tenant} into the filter",
        ),
        (
            "{tenant}/{device}",
            "{tenant}/{dev}",
            "10 source[0].topic[0].filter: unknown name {dev}",
            "{device}",
        ),
        (
            "{tenant}/{device}",
            "#/{device}",
            "10 source[0].topic[0].filter: \"#\" stands only at the end",
            "\"+\"",
        ),
        (
            "\"{tenant}/{device}\"",
            "\"{tenant}/{device}\"\ntenant = \"acme\"",
            "11 source[0].topic[0].tenant: the filter says",
            "remove one",
        ),
        (
            "\"{tenant}/{device}\"",
            "\"{tenant}/{device}\"\ndecoder = \"x\"",
            "11 source[0].topic[0].decoder: no tenant has a decoder \"x\"",
            "[tenant.NAME.decoder.x]",
        ),
        (
            "\"{tenant}/{device}\"",
            "\"{tenant}/{device}\"\nformat = \"raw\"",
            "9 source[0].topic[0]: raw payloads need a decoder",
            "decoder =",
        ),
        (
            "\"{tenant}/{device}\"",
            "\"{tenant}/{device}\"\ntime = { field = \"ts\", unit = \"sec\" }",
            "11 source[0].topic[0].time.unit: \"sec\"",
            "did you mean \"s\"?",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\nstore = { quota = \"2\" }\n",
            "12 tenant.acme.store.quota: \"2\" has no unit",
            "\"2 MiB\"",
        ),
        (
            "builtin:linear",
            "builtin:liner",
            "13 tenant.acme.step[0].use: there is no built-in plugin \"liner\"",
            "did you mean \"linear\"?",
        ),
        (
            "builtin:linear",
            "mine.wasm",
            "13 tenant.acme.step[0].use: there is no plugin",
            "relative to this file",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nwith = { a = inf }",
            "14 tenant.acme.step[0].with.a: plugins get JSON",
            "leave the key out",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nlimits = { time = \"0 s\" }",
            "14 tenant.acme.step[0].limits.time: 0 s",
            "\"1 ms\" to \"1 min\"",
        ),
        ("quic://s", "tcp://s", "15 uplink.stamp[0].endpoints[0]: \"tcp\" is no transport", "quic://"),
        (
            "[\"acme\"]",
            "[\"acme\", \"other\"]",
            "15 uplink.stamp[0].tenants[1]: there is no tenant \"other\"",
            "[tenant.other]",
        ),
        (
            "[\"acme\"]",
            "[\"acme\", \"acme\"]",
            "15 uplink.stamp[0].tenants[1]: stamp \"eu-1\" serves tenant \"acme\" already",
            "remove",
        ),
        ("[\"acme\"]", "[]", "15 uplink.stamp: no stamp serves tenant \"acme\"", "add it"),
        (
            "[uplink]\n",
            "[uplink]\nretry = { then = { interval = \"5 s\" } }\n",
            "15 uplink.retry.then: a regular interval",
            "write instead",
        ),
        (
            "[uplink]\n",
            "[uplink]\nretry = { then = { jitter = \"none\" } }\n",
            "15 uplink.retry.then.jitter: jitter = \"none\"",
            "write jitter",
        ),
        (
            "[uplink]\n",
            "[uplink]\nretry = { tries = 3 }\n",
            "15 uplink.retry: unknown field `tries`",
            "episode",
        ),
    ] {
        wrong.extend(mistake(old, new, begins, contains).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_is_reported_at_once_and_in_the_order_of_the_file() {
    let text = GOOD
        .replace("id = \"g\"", "id = \"G\"\nlogg = 1")
        .replace("127.0.0.1:0", "here")
        .replace("{device}", "{dev}")
        .replace("builtin:linear", "builtin:nothing")
        .replace("quic://s", "s")
        .replace("ca.crt", "cb.crt");
    let says = Site::new().says(&text);
    let keys: Vec<&str> = says.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "2 gateway.id",
            "3 gateway.logg",
            "9 source[0].listen",
            "11 source[0].topic[0].filter",
            "14 tenant.acme.step[0].use",
            "16 uplink.stamp[0].endpoints[0]",
            "17 uplink.identity.trust",
        ],
        "{says:#?}"
    );
}

#[test]
fn what_two_parts_must_not_share_is_found() {
    let site = Site::new();
    let source = "[[source]]\nname = \"floor\"\nkind = \"mqtt-listener\"\nlisten = \"127.0.0.1:1883\"\n\
                  [[source.topic]]\nfilter = \"{tenant}/{device}\"\n[[source.topic]]\nfilter = \"{device}/{tenant}\"\n";
    let says = site.says(&format!("{GOOD}{source}").replace("127.0.0.1:0", "127.0.0.1:1883"));
    let keys: Vec<&str> = says.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        keys,
        ["18 source[1].name", "20 source[1].listen", "24 source[1].topic[1].filter"],
        "{says:#?}"
    );
}

#[test]
fn a_syntax_error_does_not_hide_the_others() {
    let says = Site::new().says(&GOOD.replace("id = \"g\"", "id = ").replace("127.0.0.1:0", "here"));
    assert!(says.iter().any(|line| line.starts_with("2 ")), "{says:#?}");
    assert!(says.iter().any(|line| line.starts_with("8 source[0].listen")), "{says:#?}");
}

#[test]
fn an_open_door_is_a_warning_and_no_error() {
    let site = Site::new();
    let report = site.check(&GOOD.replace("127.0.0.1:0", "0.0.0.0:1883"));
    assert!(report.config.is_some());
    let [problem] = report.problems.as_slice() else { panic!("{:#?}", report.problems) };
    assert_eq!((problem.severity, problem.line), (Severity::Warning, 8));
    assert!(problem.what.contains("anybody who reaches this address can publish"));
}

#[test]
fn a_file_that_is_none_is_an_error_of_its_own() {
    let site = Site::new();
    let problems = load(&site.path("missing.toml")).unwrap_err();
    assert!(problems.to_string().contains("missing.toml: error: cannot read it"), "{problems}");
    std::fs::write(site.path("bytes.toml"), [0xff, 0xfe]).unwrap();
    assert!(check(&site.path("bytes.toml")).problems[0].what.contains("no UTF-8"));
}

#[test]
fn a_problem_reads_as_place_key_what_and_remedy() {
    let site = Site::new();
    let report = site.check(&GOOD.replace("listen =", "linger = 20\nlisten ="));
    assert_eq!(
        report.problems[0].to_string(),
        format!(
            "{}:8:10: error: source[0].linger: \"20\" has no unit: write e.g. \"20 s\" or \"20 ms\"",
            site.path("gateway.toml").display()
        )
    );
}
