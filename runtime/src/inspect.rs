//! What a file says about itself, read before anything is compiled: an interpreter takes ten seconds to compile, and a
//! plugin for another interface should be refused at once and in words.
//!
//! Does not validate; compiling does.

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use crate::engine::Kind;

/// The package of the interface.
const PACKAGE: &str = "sluice:plugin/";
/// The version of the interface that this host speaks.
pub(crate) const VERSION: &str = "1.0.0";
/// Interfaces that a plugin may import.
const IMPORTS: [&str; 6] = ["types", "log", "metrics", "state", "clock", "link"];
/// The custom section in which the SDK puts name and version.
const LABEL_SECTION: &str = "sluice-plugin";
/// Most bytes of a name or version that are kept.
const MAX_LABEL: usize = 128;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) kind: Kind,
    /// Name and version of the plugin, if it carries them.
    pub(crate) label: Option<(String, String)>,
}

/// Why it cannot be a plugin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Not WebAssembly.
    NotWasm,
    /// A core module.
    Module,
    /// Damaged.
    Damaged(String),
    /// It has no export of the interface.
    NoExport { exports: Vec<String> },
    /// An import or export of the interface in another version; or with a name that it does not have.
    Version { found: String },
    /// An import that the host does not have.
    Import { import: String },
}

/// Reads imports, exports and the label.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspected, Finding> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Finding::NotWasm);
    }
    let mut depth = 0_usize;
    let mut exports = Vec::new();
    let mut label = None;
    for payload in Parser::new(0).parse_all(bytes) {
        let damaged = |error: wasmparser::BinaryReaderError| Finding::Damaged(error.to_string());
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Finding::Module),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    check_import(import.map_err(damaged)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::CustomSection(section) if section.name() == LABEL_SECTION => {
                label = label.or_else(|| parse_label(section.data()));
            }
            _ => {}
        }
    }
    Ok(Inspected { kind: kind(exports)?, label })
}

fn check_import(import: &str) -> Result<(), Finding> {
    let Some(own) = import.strip_prefix(PACKAGE) else {
        return Err(Finding::Import { import: import.to_owned() });
    };
    let (name, version) = own.split_once('@').unwrap_or((own, ""));
    match (IMPORTS.contains(&name), version == VERSION) {
        (true, true) => Ok(()),
        (_, false) => Err(Finding::Version { found: import.to_owned() }),
        (false, true) => Err(Finding::Import { import: import.to_owned() }),
    }
}

fn kind(exports: Vec<String>) -> Result<Kind, Finding> {
    let mut another_version = None;
    for export in &exports {
        let Some((name, version)) = export.strip_prefix(PACKAGE).and_then(|own| own.split_once('@')) else {
            continue;
        };
        match (name, version) {
            ("processing", VERSION) => return Ok(Kind::Processor),
            ("decoding", VERSION) => return Ok(Kind::Decoder),
            _ => another_version = Some(export.clone()),
        }
    }
    match another_version {
        Some(found) => Err(Finding::Version { found }),
        None => Err(Finding::NoExport { exports }),
    }
}

fn parse_label(data: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(data).ok()?;
    let (name, version) = text.split_once('\0')?;
    let short = |part: &str| part.chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect::<String>();
    Some((short(name), short(version)))
}
