//! The document is current, whole, and true.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use wire::provisioning as said;
use wire::ranges::RangeSet;

use super::document;

fn parsed() -> Value {
    serde_json::from_str(&document()).unwrap()
}

#[test]
fn the_file_that_is_checked_in_is_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == document(),
        "provision/openapi.json is not current: `sluice-provision openapi > provision/openapi.json`"
    );
}

/// Paths and methods as they are written where routes are made.
fn routes(folder: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for route in code.split(".route(").skip(1) {
            let mut parts = route.splitn(3, '"');
            let (_, Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { continue };
            if !name.starts_with("/v1/") {
                continue;
            }
            let methods = rest.split(".route(").next().unwrap().split(".merge(").next().unwrap();
            for method in ["get", "put", "post", "patch", "delete"] {
                if methods.contains(&format!("{method}(")) {
                    found.insert((name.to_owned(), method.to_owned()));
                }
            }
        }
    }
}

#[test]
fn each_route_is_in_the_document_and_nothing_else_is() {
    let mut made = BTreeSet::new();
    routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut made);
    let mut written = BTreeSet::new();
    for (path, methods) in parsed()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            written.insert((path.clone(), method.clone()));
        }
    }
    assert!(made.len() > 40, "routes are looked for in the wrong place: {made:?}");
    assert_eq!(made, written);
}

#[test]
fn each_operation_has_words_a_tag_and_a_name_of_its_own() {
    let document = parsed();
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: {name} is there twice");
            assert!(operation["summary"].as_str().is_some_and(|it| !it.is_empty()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].is_string(), "{method} {path} {status}");
            }
        }
    }
    // Whatever is referred to is there.
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
    }
}

/// What is written has the fields of the document, all that it requires, and no other.
fn agrees(schema: &str, value: &impl Serialize) {
    let document = parsed();
    let value = serde_json::to_value(value).unwrap();
    check(&document, &document["components"]["schemas"][schema], &value, schema);
}

fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return check(document, &document["components"]["schemas"][name], value, place);
    }
    for kind in ["oneOf", "anyOf"] {
        if let Some(ways) = schema[kind].as_array() {
            let fits = |way: &Value| {
                let way = way.clone();
                std::panic::catch_unwind(|| check(document, &way, value, place)).is_ok()
            };
            assert!(ways.iter().any(fits), "{place}: {value} is none of {schema}");
            return;
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().for_each(|part| check(document, part, value, place));
    }
    let is = |kind: &str| match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(many) => many.iter().any(|it| it == kind),
        _ => true,
    };
    match value {
        Value::Null => assert!(is("null"), "{place} is null"),
        Value::Bool(_) => assert!(is("boolean"), "{place}: {value}, not {schema}"),
        Value::Number(_) => assert!(is("integer") || is("number"), "{place}: {value}, not {schema}"),
        Value::String(text) => {
            assert!(is("string"), "{place}: {value}, not {schema}");
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.iter().any(|it| it == text), "{place}: {text} is none of {words:?}");
            }
        }
        Value::Array(items) => {
            assert!(is("array"), "{place}: {value}, not {schema}");
            if schema["items"].is_object() {
                items.iter().for_each(|item| check(document, &schema["items"], item, place));
            }
        }
        Value::Object(fields) => {
            assert!(is("object"), "{place}: {value}, not {schema}");
            let properties = schema["properties"].as_object().unwrap();
            for (name, field) in fields {
                let known = properties.get(name);
                let known = known.unwrap_or_else(|| panic!("{place}: {name} is not in the document"));
                check(document, known, field, &format!("{place}.{name}"));
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{place}: {required} is missing");
            }
            for name in properties.keys() {
                let seen = fields.contains_key(name);
                assert!(seen || ABSENT.contains(&name.as_str()), "{place}: {name} is never written");
            }
        }
    }
}

/// Fields that some examples below leave out.
const ABSENT: [&str; 4] = ["answer", "retry_after_ms", "certificate", "not_after"];

#[test]
fn what_is_said_to_gateways_and_stamps_is_as_the_document_says() {
    let bytes = || said::Bytes(vec![1, 2, 3]);
    let mut ranges = RangeSet::new();
    ranges.insert_range(wire::ids::Sequence(1), wire::ids::Sequence(9));
    let landed = vec![(wire::ids::StreamId(7), ranges)];
    agrees("Challenge", &said::Challenge { nonce: bytes(), seconds: 60 });
    let latency = said::Latency { stamp: "eu-1".parse().unwrap(), micros: 3 };
    let answer = said::Answer { nonce: bytes(), group: Some("line".parse().unwrap()), mac: bytes() };
    agrees(
        "Register",
        &said::Register {
            gateway: "g1".parse().unwrap(),
            request: bytes(),
            answer: Some(answer),
            latencies: vec![latency],
            software: "1".into(),
        },
    );
    agrees("Renew", &said::Renew { request: bytes() });
    let assigned = said::Assigned {
        tenant: "acme".parse().unwrap(),
        stamp: "eu-1".parse().unwrap(),
        endpoints: vec!["quic://a:1".into()],
        epoch: 2,
        devices: 3,
        backlog: said::Backlog::Drop,
        dropped: 2,
    };
    agrees(
        "Registration",
        &said::Registration {
            gateway: "g1".parse().unwrap(),
            environment: "test".parse().unwrap(),
            certificate: Some("PEM".into()),
            not_after: Some(1),
            trust: "PEM".into(),
            assignments: vec![assigned],
            revision: 4,
            now: 5,
        },
    );
    let problem =
        said::Problem { code: "c".into(), message: "m".into(), remedy: "r".into(), retry_after_ms: Some(1) };
    agrees("Problem", &problem);
    let entry = |treatment| said::RosterEntry {
        gateway: "g1".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        epoch: 1,
        treatment,
    };
    let entries = vec![
        entry(said::Treatment::Served { devices: 1, landed: landed.clone() }),
        entry(said::Treatment::Departed { watermark_wanted: true }),
        entry(said::Treatment::Blocked),
    ];
    agrees("Roster", &said::Roster { revision: 1, more: false, entries });
    let (gateway, tenant) = ("g1".parse().unwrap(), "acme".parse().unwrap());
    agrees("Fenced", &said::Fenced { gateway, tenant, epoch: 2, landed });
    agrees("FenceAnswer", &said::FenceAnswer { copy: said::CopyPolicy::Delete });
    let digest = || wire::ids::Digest([7; 32]);
    let receipt = |what| said::Receipt {
        number: 1,
        gateway: "g1".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        at_ns: 2,
        rows: 3,
        what,
    };
    let receipts = vec![
        receipt(said::Receipted::Loss {
            stream: wire::ids::StreamId(1),
            first: 2,
            last: 3,
            reason: "quota".into(),
        }),
        receipt(said::Receipted::Deletion { epoch: 1, batches: 2, bytes: 3, sha256: digest() }),
        receipt(said::Receipted::Export {
            epoch: 1,
            batches: 2,
            bytes: 3,
            sha256: digest(),
            file: "f".into(),
        }),
    ];
    agrees("Receipts", &said::Receipts { log: 1, after: Some(0), receipts });
    agrees("ReceiptsKept", &said::ReceiptsKept { up_to: 3 });
    agrees("Report", &said::Report { software: "1".into(), revision: 1, connected: 2, devices: 3 });
    let content = || wire::message::ContentRef { digest: wire::ids::Digest([7; 32]), size: 9 };
    let state = said::DesiredState {
        tenant: "acme".parse().unwrap(),
        release: wire::ids::Release(3),
        rollback: false,
        document: Some(content()),
        contents: vec![content()],
    };
    let states = vec![state];
    agrees(
        "DesiredStates",
        &said::DesiredStates { ring: "fast".into(), revision: 1, more: false, full: true, states },
    );
    let releases = vec![said::ReleaseCondition { reasons: vec!["why".into()], ..Default::default() }];
    let tenants = vec![said::TenantConditions { tenant: "acme".parse().unwrap(), connected: 1, releases }];
    agrees("Conditions", &said::Conditions { revision: 1, tenants });
}

#[test]
fn the_check_sees_a_field_that_the_document_does_not_have() {
    let wrong = json!({ "nonce": "AAAA", "seconds": 1, "minutes": 2 });
    assert!(std::panic::catch_unwind(|| agrees("Challenge", &wrong)).is_err());
}
