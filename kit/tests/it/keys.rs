//! `keygen`, `sign`, `verify`, and what `inspect` says of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::projects::{complained, plugin, said};

/// A built plugin.
const PLUGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist/linear.wasm");

#[test]
fn a_signed_file_is_verified_and_a_changed_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::copy(PLUGIN, here.join("p.wasm")).unwrap();
    let told = said(&plugin(here, &["keygen", "acme-build"]));
    let (secret, public) = (here.join("acme-build.key"), here.join("acme-build.pub"));
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = fs::read_to_string(&secret).unwrap();
    let body = pem.lines().nth(1).unwrap();
    assert!(!told.contains(body), "the secret is not shown");
    let key = fs::read_to_string(&public).unwrap().trim().to_owned();
    assert!(told.contains(&format!("keys = [{{ name = \"acme-build\", key = \"{key}\" }}]")), "{told}");

    let verify = |keys: &str| plugin(here, &["verify", "p.wasm", "--keys", keys]);
    assert_eq!(verify("acme-build.pub").status.code(), Some(3));
    said(&plugin(here, &["sign", "p.wasm", "--key", "acme-build.key"]));
    assert_eq!(said(&verify("acme-build.pub")), "p.wasm: signed by acme-build\n");
    fs::write(
        here.join("gateway.toml"),
        format!("[plugins]\nkeys = [{{ name = \"ring\", key = \"{key}\" }}]\n"),
    )
    .unwrap();
    assert_eq!(said(&verify("gateway.toml")), "p.wasm: signed by ring\n");
    let shown = said(&plugin(here, &["inspect", "--json", "p.wasm", "--keys", "acme-build.pub"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["signature"], serde_json::json!({"verdict": "signed", "by": "acme-build"}));

    said(&plugin(here, &["keygen", "other"]));
    let stranger = verify("other.pub");
    assert_eq!(stranger.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&stranger.stdout).contains("none of these"));

    let mut bytes = fs::read(here.join("p.wasm")).unwrap();
    let at = bytes.windows(6).position(|window| window == b"linear").unwrap();
    bytes[at] = b'L';
    fs::write(here.join("p.wasm"), bytes).unwrap();
    let changed = verify("acme-build.pub");
    assert_eq!(changed.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&changed.stdout).contains("was changed after it was signed"));
}

#[test]
fn keys_are_not_written_over_and_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::copy(PLUGIN, here.join("p.wasm")).unwrap();
    said(&plugin(here, &["keygen", "mine"]));
    let before = fs::read(here.join("mine.key")).unwrap();
    assert!(complained(&plugin(here, &["keygen", "mine"])).contains("not written over"));
    assert_eq!(fs::read(here.join("mine.key")).unwrap(), before);

    fs::set_permissions(here.join("mine.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let complaint = complained(&plugin(here, &["sign", "p.wasm", "--key", "mine.key"]));
    assert!(complaint.contains("chmod 600 mine.key"), "{complaint}");
    let complaint = complained(&plugin(here, &["verify", "p.wasm", "--keys", "mine.key"]));
    assert!(complaint.contains("is a secret key"), "{complaint}");
}

#[test]
fn what_is_no_plugin_is_refused_by_all_in_the_gateways_words() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("no.wasm"), b"hello").unwrap();
    said(&plugin(folder.path(), &["keygen", "mine"]));
    for arguments in [&["inspect", "no.wasm"][..], &["sign", "no.wasm", "--key", "mine.key"]] {
        let complaint = complained(&plugin(folder.path(), arguments));
        assert!(complaint.contains("no.wasm is no WebAssembly"), "{complaint}");
    }
    let wasi = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist/fixtures/wasi.wasm");
    let complaint = complained(&plugin(folder.path(), &["inspect", wasi]));
    assert!(complaint.contains("wasi:") && complaint.contains("--stub-wasi"), "{complaint}");
}
