//! Files no toolchain makes: refused before they are compiled, with what there is too much of.

use std::time::{Duration, Instant};

use runtime::LoadError;

use crate::guests::{Site, path};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A vector of `count` times the same.
fn vector(count: usize, item: &[u8]) -> Vec<u8> {
    [leb(count), item.repeat(count)].concat()
}

/// A component with a core module of these sections.
fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    let module = [MODULE.to_vec(), sections.concat()].concat();
    [COMPONENT.to_vec(), section(1, &module)].concat()
}

const EMPTY_TYPE: &[u8] = &[0x60, 0, 0];
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const TABLES: u8 = 4;
const MEMORIES: u8 = 5;
const CODE: u8 = 10;

fn body(length: usize) -> Vec<u8> {
    let code = [vec![0], vec![1; length], vec![0x0b]].concat();
    [leb(code.len()), code].concat()
}

#[test]
fn a_file_with_too_much_of_something_is_refused_before_it_is_compiled() {
    let site = Site::new();
    let types = section(TYPES, &vector(1, EMPTY_TYPE));
    let functions = |count| section(FUNCTIONS, &vector(count, &[0]));
    let nested =
        (0..20).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT.to_vec(), section(4, &inner)].concat());
    let modules = [COMPONENT.to_vec(), section(1, MODULE).repeat(65)].concat();
    for (what, bytes) in [
        ("functions", component(&[types.clone(), functions(100_001)])),
        ("types", component(&[section(TYPES, &vector(50_001, EMPTY_TYPE))])),
        ("memories", component(&[section(MEMORIES, &vector(5, &[0, 1]))])),
        ("tables", component(&[section(TABLES, &vector(17, &[0x70, 0, 1]))])),
        (
            "bytes of code in one function",
            component(&[types.clone(), functions(1), section(CODE, &vector(1, &body(1 << 20)))]),
        ),
        (
            "bytes of code",
            component(&[types.clone(), functions(40), section(CODE, &vector(40, &body(900_000)))]),
        ),
        ("core modules", modules),
        ("levels of nested components", nested),
    ] {
        let file = site.write("absurd.wasm", &bytes);
        let begun = Instant::now();
        match site.engine.load(&file).unwrap_err() {
            LoadError::TooComplex { what: found, .. } => assert_eq!(found, what),
            other => panic!("{what}: {other}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
        assert!(!site.engine.is_compiled(&file));
    }
}

#[test]
fn a_file_of_a_hundred_megabytes_is_not_even_read() {
    let site = Site::new();
    let file = site.cache.path().join("large.wasm");
    std::fs::copy(path("tag"), &file).unwrap();
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(100_000_000).unwrap();
    let error = site.engine.load(&file).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { bytes: 100_000_000, .. }), "{error}");
}

#[test]
fn a_memory_or_table_larger_than_any_step_may_have_is_refused() {
    let site = Site::new();
    for sections in [
        vec![section(MEMORIES, &vector(1, &[[0].as_slice(), &leb(65_536)].concat()))],
        vec![section(TABLES, &vector(1, &[[0x70, 0].as_slice(), &leb(10_000_000)].concat()))],
    ] {
        let error = site.engine.load(&site.write("wide.wasm", &component(&sections))).unwrap_err();
        // Without exports it is no plugin anyway; what counts is that nothing was reserved for it.
        assert!(matches!(error, LoadError::NoInterface { .. } | LoadError::Invalid { .. }), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_and_never_panics() {
    let site = Site::new();
    let whole = std::fs::read(path("tag")).unwrap();
    for length in (0..whole.len()).step_by(1_009) {
        let error = site.engine.load(&site.write("cut.wasm", &whole[..length])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cut.wasm"), "{length}: {text}");
    }
}
