//! Mistakes in `[provisioning]`, and in an `[uplink]` beside it.

use gateway_config::Attest;

use crate::site::Site;

const GOOD: &str = r#"[gateway]
id = "g"
data_dir = "data"
plugins_dir = "plugins"
[tenant.acme]
[provisioning]
endpoint = "https://p"
trust = "ca.crt"
attest = { certificate = "gateway.crt", key = "gateway.key" }
[[source]]
name = "floor"
kind = "mqtt-listener"
listen = "127.0.0.1:0"
[[source.topic]]
filter = "{tenant}/{device}"
"#;

/// The good one, with one line of `[provisioning]` written otherwise.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

#[test]
fn an_endpoint_has_a_default_port_and_uplink_may_be_left_out_or_tuned() {
    let site = Site::new();
    assert_eq!(site.says(GOOD), [""; 0]);
    let config = site.check(GOOD).config.unwrap();
    assert_eq!(config.provisioning.unwrap().endpoint, "https://p:8443");
    assert!(config.uplink.unwrap().is_provisioned());
    let tuned = site.check(&format!("{GOOD}[uplink]\nwindow = \"1 MiB\"\n")).config.unwrap().uplink.unwrap();
    assert_eq!((tuned.window, tuned.is_provisioned()), (1 << 20, true));
    let six = site.check(&with("https://p", "https://[2001:db8::17]:9443/")).config.unwrap();
    assert_eq!(six.provisioning.unwrap().endpoint, "https://[2001:db8::17]:9443");
}

#[test]
fn a_key_may_be_the_gateways_own_or_derived_from_a_groups() {
    let site = Site::new();
    let key = "{ symmetric_key_file = \"enrolment.key\" }";
    let attest = |new: &str| {
        let text = with("{ certificate = \"gateway.crt\", key = \"gateway.key\" }", new);
        let report = site.check(&text);
        report.config.unwrap_or_else(|| panic!("{:#?}", report.problems)).provisioning.unwrap().attest
    };
    let file = site.path("enrolment.key");
    assert_eq!(attest(key), Attest::Key { file: file.clone(), group: None });
    let group = Some("plants".parse().unwrap());
    assert_eq!(
        attest("{ symmetric_key_file = \"enrolment.key\", group = \"plants\" }"),
        Attest::Key { file, group }
    );
}

#[test]
fn single_mistakes_have_line_key_and_remedy() {
    let attest = "{ certificate = \"gateway.crt\", key = \"gateway.key\" }";
    let mut wrong = Vec::new();
    for (old, new, begins, contains) in [
        (
            "https://p",
            "http://p",
            "7 provisioning.endpoint: provisioning speaks https",
            "https://provision.example",
        ),
        (
            "https://p",
            "p:8443",
            "7 provisioning.endpoint: \"p:8443\" has no scheme",
            "https://provision.example",
        ),
        ("https://p", "https://p/v1", "7 provisioning.endpoint: a path", "https://provision.example"),
        ("endpoint = \"https://p\"\n", "", "6 provisioning: endpoint is missing", "endpoint = "),
        ("trust = \"ca.crt\"\n", "", "6 provisioning: trust is missing", "trust = \"ca.crt\""),
        ("ca.crt", "nowhere.crt", "8 provisioning.trust: cannot read", "PEM"),
        (
            "attest = { certificate = \"gateway.crt\", key = \"gateway.key\" }\n",
            "",
            "6 provisioning: attest is missing",
            "bootstrap.crt",
        ),
        (attest, "{ }", "9 provisioning.attest: nothing says how this gateway proves", "symmetric_key_file"),
        (
            attest,
            "{ certificate = \"gateway.crt\" }",
            "9 provisioning.attest.certificate: a certificate and its key go together",
            "key = ",
        ),
        (
            attest,
            "{ key = \"gateway.key\" }",
            "9 provisioning.attest.key: a certificate and its key go together",
            "certificate = ",
        ),
        (
            attest,
            "{ certificate = \"gateway.crt\", key = \"gateway.key\", symmetric_key_file = \"enrolment.key\" }",
            "9 provisioning.attest.symmetric_key_file: a gateway proves who it is in one way",
            "or attest",
        ),
        (
            attest,
            "{ certificate = \"gateway.crt\", key = \"gateway.key\", group = \"x\" }",
            "9 provisioning.attest.group: a certificate says itself",
            "remove group",
        ),
        (
            attest,
            "{ symmetric_key_file = \"empty.key\" }",
            "9 provisioning.attest.symmetric_key_file: ",
            "is empty",
        ),
        (
            attest,
            "{ symmetric_key_file = \"no.key\" }",
            "9 provisioning.attest.symmetric_key_file: cannot read",
            "enrolment key",
        ),
        (
            attest,
            "{ symmetric_key_file = \"enrolment.key\", group = \"A B\" }",
            "9 provisioning.attest.group: a enrolment id must not contain",
            "use a-z",
        ),
        (attest, "{ certifcate = \"gateway.crt\", key = \"gateway.key\" }", "9 provisioning.attest.", ""),
        (
            "[provisioning]\n",
            "[provisioning]\nmesure = false\n",
            "7 provisioning.mesure: unknown key",
            "did you mean \"measure\"?",
        ),
    ] {
        let says = Site::new().says(&with(old, new));
        let first = says.first().is_some_and(|one| one.starts_with(begins) && one.contains(contains));
        if !first || says.len() > 2 {
            wrong.push(format!("{new:?}\n  says: {says:#?}\n  but should: {begins} … {contains}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_uplink_beside_it_must_not_say_where_to() {
    let says = Site::new().says(&format!("{GOOD}[uplink]\nstamp = []\nidentity = {{}}\nwindow = 5\n"));
    let keys: Vec<&str> = says.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(keys, ["17 uplink.stamp", "18 uplink.identity", "19 uplink.window"], "{says:#?}");
    assert!(
        says[0].contains("with [provisioning], stamp arrives by itself")
            && says[0].contains("remove it here")
    );
}
