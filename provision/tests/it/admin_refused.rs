//! Who is no operator gets nowhere under `/v1/admin`, and what cannot be understood is refused with a reason.

use provision::attestation::derive;
use rcgen::date_time_ymd;
use serde_json::Value;
use wire::provisioning::Problem;

use crate::site::{Ca, GROUP_KEY, Identity, Site, identity};

/// Every route, as the document has them.
fn routes() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&provision::api::openapi::document()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| !matches!(key.as_str(), "parameters"))
        {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    routes
}

fn code(result: Result<Value, (u16, Problem)>) -> String {
    let (status, problem) = result.unwrap_err();
    assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    format!("{status} {}", problem.code)
}

#[tokio::test]
async fn nobody_but_an_operator_gets_anywhere_and_each_attempt_is_logged() {
    let site = Site::start().await;
    let expired = site.ca.issue_with("ops", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    });
    // A gateway that calls itself like an operator.
    let key = derive(&GROUP_KEY, &"ops".parse().unwrap());
    let (registered, pair) = site.client(None).register_by_key("ops", Some("by-key"), &key).await.unwrap();
    let gateway = identity(&registered, &pair);
    let intruders: Vec<(&str, Option<Identity>)> = vec![
        ("no certificate", None),
        ("another authority", Some(Ca::new("other").issue("ops"))),
        ("expired", Some(expired)),
        ("a gateway", Some(gateway)),
        ("a stamp", Some(site.ca.issue("eu-1"))),
        ("somebody of the staff", Some(site.ca.issue("guest"))),
    ];
    let admin: Vec<_> = routes().into_iter().filter(|(_, path)| path.starts_with("/v1/admin/")).collect();
    assert!(admin.len() >= 28, "{admin:?}");
    let mut attempts = 0;
    for (who, identity) in &intruders {
        let client = site.client(identity.as_ref());
        for (method, path) in &admin {
            // The right to ask comes before what is asked.
            let asked =
                client.raw(method, &path.replace("{id}", "eu-1").replace("{sha256}", "00"), "{").await;
            assert_eq!(code(asked), "403 not_operator", "{who}: {method} {path}");
            attempts += 1;
        }
    }
    let refused = || site.log().iter().filter(|line| line.contains("refused")).count();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while refused() < attempts && std::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(refused(), attempts, "each is logged");
    let ops = site.client(Some(&site.ca.issue("ops")));
    let status: Value = ops.get("/v1/admin/status").await.unwrap();
    assert_eq!(status["counts"]["stamps"], 3, "nothing was changed");
    let audit: Value = ops.get("/v1/admin/audit").await.unwrap();
    assert_eq!(audit["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let ops = site.client(Some(&site.ca.issue("ops")));
    let stamp = r#"{"id":"us-1","region":"us","environment":"production","endpoints":["quic://a:1"],"max_devices":5}"#;
    let with = |from: &str, to: &str| stamp.replace(from, to);
    let enrolment = |proof: &str, shares: &str| {
        format!(r#"{{"id":"e1","environment":"production","proof":{proof},"shares":{shares}}}"#)
    };
    let (key, acme) = (r#"{"by":"key"}"#, r#"[{"tenant":"acme","devices":1}]"#);
    let operation = |task: &str| format!(r#"{{"task":{task}}}"#);
    let cases: Vec<(&str, &str, String, &str, &str)> = vec![
        ("POST", "stamps", "{".into(), "400 bad_request", "EOF"),
        ("POST", "stamps", String::new(), "400 bad_request", "EOF"),
        ("POST", "stamps", "[1, 2]".into(), "400 bad_request", "invalid"),
        ("POST", "stamps", with("us-1", "US 1"), "400 bad_request", "stamp id"),
        ("POST", "stamps", with("\"region\"", "\"regoin\""), "400 bad_request", "regoin"),
        ("POST", "stamps", with("quic://a:1", "http://a:1"), "400 bad_request", "endpoint"),
        ("POST", "stamps", with("[\"quic://a:1\"]", "[]"), "400 bad_request", "endpoints"),
        ("POST", "stamps", with(":5", ":0"), "400 bad_request", "max_devices"),
        ("POST", "stamps", with(":5", ":-1"), "400 bad_request", "max_devices"),
        ("POST", "stamps", with(":5", ":5000000000"), "400 bad_request", "max_devices"),
        ("PATCH", "stamps/eu-1", r#"{"region":"us"}"#.into(), "400 bad_request", "region"),
        ("PATCH", "stamps/eu-1", r#"{"state":"gone"}"#.into(), "400 bad_request", "gone"),
        ("PATCH", "stamps/EU", "{}".into(), "400 bad_request", "stamp id"),
        ("PATCH", "stamps/eu-9", "{}".into(), "404 unknown", "eu-9"),
        ("POST", "enrolments", enrolment(key, "[]"), "400 bad_request", "0 tenants"),
        (
            "POST",
            "enrolments",
            enrolment(key, r#"[{"tenant":"acme","devices":0}]"#),
            "400 bad_request",
            "0 devices",
        ),
        ("POST", "enrolments", enrolment(key, r#"[{"tenant":"t9","devices":1}]"#), "404 unknown", "t9"),
        (
            "POST",
            "enrolments",
            enrolment(key, &acme.replace(']', r#",{"tenant":"acme","devices":2}]"#)),
            "400 bad_request",
            "twice",
        ),
        ("POST", "enrolments", enrolment(r#"{"by":"key","key":"AAAA"}"#, acme), "400 bad_request", "3 bytes"),
        (
            "POST",
            "enrolments",
            enrolment(r#"{"by":"key","key":"!"}"#, acme),
            "400 bad_request",
            "Invalid symbol",
        ),
        (
            "POST",
            "enrolments",
            enrolment(r#"{"by":"fingerprint","sha256":"00"}"#, acme),
            "400 bad_request",
            "64",
        ),
        (
            "POST",
            "enrolments",
            enrolment(r#"{"by":"certificate","pem":"no"}"#, acme),
            "400 bad_request",
            "certificate",
        ),
        ("POST", "enrolments", enrolment(r#"{"by":"trust me"}"#, acme), "400 bad_request", "trust me"),
        ("POST", "operations", operation(r#"{"kind":"move"}"#), "409 unfit", "everything"),
        ("POST", "operations", operation(r#"{"kind":"explode"}"#), "400 bad_request", "explode"),
        ("POST", "operations", operation(r#"{"kind":"drain","stamp":"eu-9"}"#), "404 unknown", "eu-9"),
        (
            "POST",
            "operations",
            operation(r#"{"kind":"drain","stamp":"eu-1","to":"eu-1"}"#),
            "409 unfit",
            "cannot go",
        ),
        (
            "POST",
            "operations",
            operation(r#"{"kind":"promote","gateways":["g9"],"environment":"production"}"#),
            "404 unknown",
            "g9",
        ),
        (
            "POST",
            "operations",
            operation(r#"{"kind":"promote","enrolment":"by-key","environment":"moon"}"#),
            "404 unknown",
            "moon",
        ),
        (
            "POST",
            "operations",
            r#"{"task":{"kind":"drain","stamp":"eu-1"},"window":0}"#.into(),
            "400 bad_request",
            "window",
        ),
        (
            "POST",
            "operations",
            r#"{"task":{"kind":"drain","stamp":"eu-9"},"dry_run":true}"#.into(),
            "404 unknown",
            "eu-9",
        ),
        ("GET", "operations/none", String::new(), "400 bad_request", "none"),
        ("GET", "operations/7", String::new(), "404 unknown", "7"),
        ("POST", "operations/7/abort", String::new(), "404 unknown", "7"),
        ("GET", "operations?state=asleep", String::new(), "400 bad_request", "asleep"),
        ("GET", "gateways?stamp=%20", String::new(), "400 bad_request", "stamp"),
        ("GET", "audit?after=x", String::new(), "400 bad_request", "after"),
        ("PUT", "stamps/eu-1", "{}".into(), "405 no_method", "PUT"),
        ("GET", "nothing", String::new(), "404 no_route", "nothing"),
        ("POST", "stamps", format!("{stamp}{}", " ".repeat(1 << 20)), "413 bad_request", "length limit"),
    ];
    for (method, path, body, expected, said) in cases {
        let answer = ops.raw(method, &format!("/v1/admin/{path}"), body.clone()).await;
        let (status, problem) = answer.unwrap_err();
        let shown: String = body.chars().take(100).collect();
        assert_eq!(format!("{status} {}", problem.code), expected, "{method} {path} {shown}: {problem:?}");
        assert!(problem.message.contains(said), "{method} {path} {shown}: {problem:?}");
        assert!(!problem.remedy.is_empty(), "{problem:?}");
    }
    let audit: Value = ops.get("/v1/admin/audit").await.unwrap();
    assert_eq!(audit["items"].as_array().unwrap().len(), 0, "nothing was changed");
}
