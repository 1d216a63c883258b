//! Signed plugins: what is taken where, and in which words it is refused.

use runtime::signature::{KeyRing, SecretKey, sign};
use runtime::{LoadError, Trust};

use crate::guests::{Site, path};

#[test]
fn a_signature_is_checked_against_the_ring_and_required_where_the_configuration_says_so() {
    let site = Site::new();
    let (acme, stranger) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let ring: KeyRing = [("acme-build".to_owned(), acme.public())].into_iter().collect();
    let (lax, strict) = (Trust { ring: ring.clone(), required: false }, Trust { ring, required: true });
    let tag = std::fs::read(path("tag")).unwrap();
    let unsigned = site.write("unsigned.wasm", &tag);
    let signed = site.write("signed.wasm", &sign(&tag, &acme).unwrap());
    let theirs = site.write("theirs.wasm", &sign(&tag, &stranger).unwrap());

    let plugin = site.engine.load_trusted(&signed, &strict).unwrap();
    assert_eq!(plugin.signed_by(), Some("acme-build"));
    assert_ne!(plugin.digest(), site.load("tag").digest(), "the digest is that of the whole file");
    assert_eq!(site.engine.load_trusted(&unsigned, &lax).unwrap().signed_by(), None);
    assert_eq!(site.engine.load_trusted(&theirs, &lax).unwrap().signed_by(), None);

    let refused = |file: &std::path::Path| site.engine.load_trusted(file, &strict).unwrap_err();
    let error = refused(&unsigned);
    assert!(matches!(error, LoadError::Unsigned { .. }), "{error}");
    assert!(error.to_string().contains("require_signature"), "{error}");
    let error = refused(&theirs);
    assert!(
        matches!(&error, LoadError::UntrustedKey { key, .. } if *key == stranger.public().id()),
        "{error}"
    );
}

#[test]
fn a_signature_that_does_not_match_is_refused_even_where_none_is_required() {
    let site = Site::new();
    let key = SecretKey::generate().unwrap();
    let ring = [("k".to_owned(), key.public())].into_iter().collect();
    let lax = Trust { ring, required: false };
    let signed = sign(&std::fs::read(path("tag")).unwrap(), &key).unwrap();
    // In a custom section, so that the component is still sound.
    let at = signed.windows(11).position(|window| window == b"builtin-tag").unwrap();
    let mut changed = signed.clone();
    changed[at] = b'X';
    let error = site.engine.load_trusted(&site.write("changed.wasm", &changed), &lax).unwrap_err();
    assert!(matches!(error, LoadError::BadSignature { .. }), "{error}");
    // Something after the signature, in a gateway that knows no keys at all.
    let longer = [&signed[..], b"\0\x03\x01xy"].concat();
    let error = site.engine.load(&site.write("longer.wasm", &longer)).unwrap_err();
    assert!(matches!(error, LoadError::BadSignature { .. }), "{error}");
}
