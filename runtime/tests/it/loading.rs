//! What is loaded, what is refused and in which words, and the cache.

use std::path::Path;
use std::time::SystemTime;

use runtime::{Engine, EngineConfig, Kind, LoadError};

use crate::guests::{Site, frame, path};

#[test]
fn a_plugin_says_who_it_is() {
    let site = Site::new();
    let linear = site.load("linear");
    assert_eq!(
        (linear.name(), linear.version(), linear.kind()),
        ("builtin-linear", "0.1.0", Kind::Processor)
    );
    assert_eq!(linear.interface(), "1.0.0");
    assert_eq!(linear.digest().to_string().len(), 64);
    assert_eq!(site.load("examples/vibration").kind(), Kind::Decoder);
}

#[test]
fn a_plugin_that_imports_wasi_is_refused_with_the_way_out() {
    let error = Site::new().engine.load(&path("fixtures/wasi")).unwrap_err();
    assert!(
        matches!(&error, LoadError::Import { import, .. } if import == "wasi:keyvalue/store@0.2.0"),
        "{error}"
    );
    assert!(error.to_string().contains("--target wasm32-unknown-unknown"), "{error}");
}

#[test]
fn a_plugin_for_another_version_is_refused_with_both_versions() {
    let error = Site::new().engine.load(&path("fixtures/future")).unwrap_err();
    assert!(matches!(error, LoadError::Version { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("sluice:plugin/processing@2.0.0") && text.contains("sluice:plugin@1.0.0"),
        "{text}"
    );
}

#[test]
fn what_is_no_plugin_is_refused_by_name() {
    let site = Site::new();
    let refused = |name: &str, bytes: &[u8]| {
        let file = site.cache.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        site.engine.load(&file).unwrap_err()
    };
    let text = refused("notes.txt", b"hello");
    assert!(matches!(text, LoadError::NotComponent { what: "no WebAssembly", .. }), "{text}");
    let module = refused("module.wasm", b"\0asm\x01\0\0\0");
    assert!(matches!(module, LoadError::NotComponent { what: "a core module", .. }), "{module}");
    let empty = refused("empty.wasm", b"\0asm\x0d\0\x01\0");
    assert!(matches!(empty, LoadError::NoInterface { .. }), "{empty}");
    let whole = std::fs::read(path("linear")).unwrap();
    let cut = refused("cut.wasm", &whole[..whole.len() / 2]);
    assert!(matches!(cut, LoadError::Invalid { .. }), "{cut}");
    let missing = site.engine.load(Path::new("/nowhere/x.wasm")).unwrap_err();
    assert!(matches!(missing, LoadError::Read { .. }) && missing.to_string().contains("/nowhere/x.wasm"));
}

#[test]
fn a_damaged_plugin_is_refused_and_never_panics() {
    let site = Site::new();
    let whole = std::fs::read(path("tag")).unwrap();
    let file = site.cache.path().join("damaged.wasm");
    // A step that is prime to the sections' layout touches all parts of the file.
    for at in (0..whole.len()).step_by(7_919) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&file, &damaged).unwrap();
        // Some bytes are data or names, so that the file is still a plugin.
        let _ = site.engine.load(&file);
    }
}

#[test]
fn a_file_beyond_the_bound_is_not_even_read() {
    let cache = tempfile::tempdir().unwrap();
    let config = EngineConfig { max_plugin_bytes: 1_000, ..EngineConfig::new(cache.path()) };
    let error = Engine::new(config).unwrap().load(&path("linear")).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { limit: 1_000, .. }), "{error}");
}

#[test]
fn a_plugin_is_compiled_once_and_a_damaged_cache_is_compiled_again() {
    let site = Site::new();
    let folder = site.cache.path().join("cache");
    let entry = || -> (std::path::PathBuf, SystemTime) {
        let entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(entries.len(), 1, "one entry and no leftovers");
        (entries[0].path(), entries[0].metadata().unwrap().modified().unwrap())
    };
    site.load("tag");
    let (file, written) = entry();
    site.load("tag");
    assert_eq!(entry(), (file.clone(), written), "the second load writes nothing");

    let sound = std::fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for broken in [damaged, sound[..sound.len() - 9].to_vec(), Vec::new()] {
        std::fs::write(&file, broken).unwrap();
        let mut step = site.step("tag", r#"{"column": "site", "value": "north"}"#);
        assert!(step.process(&[frame(&[("a", 1, 1.0)])], &Default::default()).is_ok());
        assert_eq!(std::fs::read(&file).unwrap(), sound, "the entry is whole again");
    }
}

#[test]
fn an_unwritable_cache_costs_time_but_not_function() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let engine = Engine::new(EngineConfig::new(file.join("cache"))).unwrap();
    assert!(engine.load(&path("tag")).is_ok());
}

#[cfg(unix)]
#[test]
fn the_cache_belongs_to_the_gateway_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let mode = std::fs::metadata(site.cache.path().join("cache")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
