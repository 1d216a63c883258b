//! What the house rules say and a compiler does not check: who imports whom, where a library may be used, that modules
//! say what they are for, and that ARCHITECTURE.md names the folders there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Per crate, the workspace crates it may import. A crate that is not listed may import none.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("wire", &[]),
    ("backoff", &[]),
    ("xtask", &[]),
    ("runtime", &["wire"]),
    ("gateway-config", &["backoff", "wire"]),
    ("stamp", &["backoff", "wire"]),
    ("provision", &["backoff", "wire"]),
    ("kit", &["runtime", "wire"]),
    ("host", &["backoff", "gateway-config", "runtime", "wire"]),
    ("e2e", &["backoff", "gateway-config", "host", "provision", "runtime", "stamp", "wire"]),
];

/// Per library, where its name may occur in code. The crate `e2e` measures bare libraries and is left out.
const CONFINED: [(&str, &[&str]); 4] = [
    ("wasmtime", &["runtime/"]),
    ("rusqlite", &["host/src/store", "stamp/src/landing", "provision/src/registry"]),
    ("quinn", &["host/src/uplink/quic.rs", "stamp/src/receiver/listener.rs"]),
    ("rumqttc", &["host/src/source/mqtt"]),
];

/// Longest file that needs no reason in its header.
const LONGEST: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A source file, by its path from the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines of code: without comment lines.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut found = vec![];
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "dist" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the sources were not found: {} files", found.len());
    found
}

/// Per workspace crate, its manifest.
fn manifests() -> BTreeMap<String, toml::Table> {
    let parse = |path: PathBuf| fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap();
    let members = parse(root().join("Cargo.toml"))["workspace"]["members"].as_array().unwrap().clone();
    let manifests = members.iter().map(|member| {
        let manifest = parse(root().join(member.as_str().unwrap()).join("Cargo.toml"));
        (manifest["package"]["name"].as_str().unwrap().to_owned(), manifest)
    });
    manifests.collect()
}

/// Names of all dependencies of a manifest, those of tests included.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

/// Whether the word occurs in the line as an identifier of its own.
fn mentions(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part_of_name)
            && !line[at + word.len()..].chars().next().is_some_and(part_of_name)
    })
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn crates_import_only_what_the_design_allows() {
    let manifests = manifests();
    let mut wrong = vec![];
    for (name, manifest) in &manifests {
        let allowed = MAY_IMPORT.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, allowed)| *allowed);
        let own = dependencies(manifest).into_iter().filter(|dependency| manifests.contains_key(dependency));
        wrong.extend(
            own.filter(|own| !allowed.contains(&own.as_str())).map(|own| format!("{name} imports {own}")),
        );
    }
    assert_none(&wrong);
}

#[test]
fn each_library_is_used_only_where_it_is_confined() {
    let mut wrong = vec![];
    // Tests play the other side with whatever it takes.
    let product = |source: &&Source| !source.path.starts_with("tests/") && !source.path.contains("/tests/");
    for source in sources().iter().filter(product) {
        for (library, places) in CONFINED {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let used = source.code().find(|(_, line)| {
                mentions(line, library) && (line.contains(&format!("{library}::")) || line.contains("use "))
            });
            wrong
                .extend(used.map(|(at, _)| format!("{}:{at}: {library} belongs in {places:?}", source.path)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn source_store_and_uplink_do_not_know_each_other() {
    let parts = ["source", "store", "uplink"];
    let mut wrong = vec![];
    for source in sources() {
        let Some(part) = parts.iter().find(|part| source.path.starts_with(&format!("host/src/{part}")))
        else {
            continue;
        };
        for other in parts.iter().filter(|other| other != &part) {
            let path = format!("crate::{other}");
            let used = source.code().find(|(_, line)| mentions(line, &path));
            wrong.extend(used.map(|(at, _)| format!("{}:{at}: {part} imports {other}", source.path)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_module_opens_by_saying_what_it_is_for() {
    // The unit tests of a module, in a file of their own, are part of that module.
    let part_of_another = |path: &str| path.ends_with("_tests.rs") || path.ends_with("/tests.rs");
    let says = |text: &str| text.starts_with("//! ") && !text.starts_with("//! .\n");
    let bare = sources().into_iter().filter(|source| !part_of_another(&source.path) && !says(&source.text));
    assert_none(&bare.map(|source| format!("{} does not open with `//!`", source.path)).collect::<Vec<_>>());
}

#[test]
fn a_long_file_says_why_it_is_long() {
    let reason = |source: &Source| {
        source.text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("500"))
    };
    let long =
        sources().into_iter().filter(|source| source.text.lines().count() > LONGEST && !reason(source));
    assert_none(
        &long.map(|source| format!("{} has more than {LONGEST} lines", source.path)).collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_undone_or_left_out() {
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("dbg", "!("),
    ];
    let mut wrong = vec![];
    for source in sources() {
        for (at, line) in source.code() {
            let mark = marks.iter().find(|mark| line.contains(**mark));
            wrong.extend(mark.map(|mark| format!("{}:{at}: {mark}", source.path)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_are_named_for_what_is_in_them() {
    let vague = ["utils", "util", "manager", "common", "helpers", "helper", "misc"];
    let parts = |path: &str| path.trim_end_matches(".rs").split('/').map(str::to_owned).collect::<Vec<_>>();
    let wrong = sources()
        .into_iter()
        .filter(|source| parts(&source.path).iter().any(|part| vague.contains(&part.as_str())));
    assert_none(&wrong.map(|source| source.path).collect::<Vec<_>>());
}

/// Whether the map's path exists: as it is, as a module's file, or with `src` left out.
fn exists(path: &str) -> bool {
    let with_src = path.split_once('/').map(|(top, rest)| format!("{top}/src/{rest}")).unwrap_or_default();
    let spelled = [path.to_owned(), format!("{path}.rs"), format!("{with_src}.rs"), with_src];
    spelled.iter().any(|path| root().join(path).exists())
}

#[test]
fn the_map_names_the_folders_there_are() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let folders: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    let unnamed = folders.iter().filter(|folder| !map.contains(&format!("`{folder}/")));
    let mut wrong: Vec<String> =
        unnamed.map(|folder| format!("ARCHITECTURE.md does not name {folder}/")).collect();
    for path in map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains('/') && !code.contains([' ', '<', '*', '{', ':']))
    {
        let top = path.split('/').next().unwrap();
        if folders.contains(top) && !exists(path) {
            wrong.push(format!("ARCHITECTURE.md names {path}, which is not there"));
        }
    }
    assert_none(&wrong);
}
