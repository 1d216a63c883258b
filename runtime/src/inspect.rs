//! What a file says about itself, read before anything is compiled: an interpreter takes ten seconds to compile, and a
//! plugin for another interface, or an absurd one, should be refused at once and in words.
//!
//! Does not validate; compiling does. The bounds here are far above what interpreters compiled to WebAssembly have, and
//! keep the time and memory of compiling in proportion.

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use crate::imports::{Import, Imports};
use crate::manifest::{self, Manifest, ManifestError};
use crate::plugin::Kind;

/// The package of the interface.
const PACKAGE: &str = "sluice:plugin/";
/// The version of the interface that this host speaks.
pub(crate) const VERSION: &str = "1.0.0";

/// Most functions of all modules together; CPython has about 20,000.
const MAX_FUNCTIONS: u64 = 100_000;
/// Most bytes of code of all modules together.
const MAX_CODE: u64 = 32 << 20;
/// Most bytes of one function's code: its compile time grows faster than its length.
const MAX_FUNCTION: u64 = 1 << 20;
/// Most types, of all modules and components together.
const MAX_TYPES: u64 = 50_000;
/// Most memories of all modules together; toolchains make one.
const MAX_MEMORIES: u64 = 4;
/// Most tables of all modules together.
const MAX_TABLES: u64 = 16;
/// Most core modules.
const MAX_MODULES: u64 = 64;
/// How deep components may be nested.
const MAX_DEPTH: u64 = 16;
/// Most imports, and most exports, of the component.
const MAX_NAMES: u64 = 1_000;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) kind: Kind,
    /// Whether it exports the interface for taking over state.
    pub(crate) migrates: bool,
    pub(crate) manifest: Manifest,
    /// The interfaces it imports.
    pub(crate) imports: Vec<String>,
    /// The interfaces it exports.
    pub(crate) exports: Vec<String>,
    /// Those of the host's interfaces that it imports.
    pub(crate) uses: Imports,
    pub(crate) counts: Counts,
}

/// What it is made of.
#[derive(Debug, PartialEq, Eq, Default, Clone, Copy, serde::Serialize)]
pub struct Counts {
    /// Core modules.
    pub modules: u64,
    /// Functions of all modules.
    pub functions: u64,
    /// Bytes of code of all modules.
    pub code_bytes: u64,
    /// Bytes of code of the longest function.
    pub longest_function_bytes: u64,
    /// Bytes of data of all modules.
    pub data_bytes: u64,
    /// Types of all modules and components.
    pub types: u64,
    /// Memories of all modules.
    pub memories: u64,
    /// Tables of all modules.
    pub tables: u64,
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
    /// More of something than there should be.
    TooMany { what: &'static str, found: u64, limit: u64 },
    /// A manifest that cannot be used.
    Manifest(ManifestError),
    /// It has no export of the interface.
    NoExport { exports: Vec<String> },
    /// An import or export of the interface in another version; or with a name that it does not have.
    Version { found: String },
    /// An import that the host does not have.
    Import { import: String },
}

/// Reads imports, exports and manifest, and counts what there is.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspected, Finding> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Finding::NotWasm);
    }
    let mut found = Reading::default();
    for payload in Parser::new(0).parse_all(bytes) {
        found.take(payload.map_err(damaged)?)?;
    }
    let kind = kind(&found.exports)?;
    let own = |name: &str| format!("{PACKAGE}{name}@{VERSION}");
    let uses = |import: &Import| found.imports.contains(&own(import.name()));
    Ok(Inspected {
        kind,
        migrates: found.exports.contains(&own("migration")),
        manifest: found.of_component.unwrap_or_default().or(found.of_module.unwrap_or_default()),
        uses: Import::ALL.into_iter().filter(uses).collect(),
        imports: found.imports,
        exports: found.exports,
        counts: found.counts,
    })
}

/// The file so far.
#[derive(Default)]
struct Reading {
    depth: u64,
    imports: Vec<String>,
    exports: Vec<String>,
    of_component: Option<Manifest>,
    of_module: Option<Manifest>,
    counts: Counts,
}

impl Reading {
    fn take(&mut self, payload: Payload<'_>) -> Result<(), Finding> {
        let counts = &mut self.counts;
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if self.depth == 0 => {
                return Err(Finding::Module);
            }
            Payload::ModuleSection { .. } => {
                count(&mut counts.modules, 1, "core modules", MAX_MODULES)?;
                self.enter()?;
            }
            Payload::ComponentSection { .. } => self.enter()?,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::TypeSection(section) => {
                count(&mut counts.types, section.count().into(), "types", MAX_TYPES)?;
            }
            Payload::CoreTypeSection(section) => {
                count(&mut counts.types, section.count().into(), "types", MAX_TYPES)?;
            }
            Payload::ComponentTypeSection(section) => {
                count(&mut counts.types, section.count().into(), "types", MAX_TYPES)?;
            }
            Payload::MemorySection(section) => {
                count(&mut counts.memories, section.count().into(), "memories", MAX_MEMORIES)?;
            }
            Payload::TableSection(section) => {
                count(&mut counts.tables, section.count().into(), "tables", MAX_TABLES)?;
            }
            Payload::FunctionSection(section) => {
                count(&mut counts.functions, section.count().into(), "functions", MAX_FUNCTIONS)?;
            }
            Payload::CodeSectionStart { size, .. } => {
                count(&mut counts.code_bytes, size.into(), "bytes of code", MAX_CODE)?;
            }
            Payload::CodeSectionEntry(body) => {
                let mut length = 0;
                let bytes = body.range().len() as u64;
                count(&mut length, bytes, "bytes of code in one function", MAX_FUNCTION)?;
                counts.longest_function_bytes = counts.longest_function_bytes.max(length);
            }
            Payload::DataSection(section) => counts.data_bytes += section.range().len() as u64,
            Payload::ComponentImportSection(section) if self.depth == 0 => {
                count(&mut (self.imports.len() as u64), section.count().into(), "imports", MAX_NAMES)?;
                for import in section {
                    let name = import.map_err(damaged)?.name.name;
                    check_import(name)?;
                    self.imports.push(name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 0 => {
                count(&mut (self.exports.len() as u64), section.count().into(), "exports", MAX_NAMES)?;
                for export in section {
                    let export = export.map_err(damaged)?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            Payload::CustomSection(section) if section.name() == manifest::SECTION => {
                let manifest = Manifest::parse(section.data()).map_err(Finding::Manifest)?;
                let place = if self.depth == 0 { &mut self.of_component } else { &mut self.of_module };
                *place = Some(manifest);
            }
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Finding> {
        count(&mut self.depth, 1, "levels of nested components", MAX_DEPTH)
    }
}

fn damaged(error: wasmparser::BinaryReaderError) -> Finding {
    Finding::Damaged(error.to_string())
}

/// Adds to a count, up to a limit.
fn count(sum: &mut u64, more: u64, what: &'static str, limit: u64) -> Result<(), Finding> {
    *sum = sum.saturating_add(more);
    if *sum > limit { Err(Finding::TooMany { what, found: *sum, limit }) } else { Ok(()) }
}

fn check_import(import: &str) -> Result<(), Finding> {
    let Some(own) = import.strip_prefix(PACKAGE) else {
        return Err(Finding::Import { import: import.to_owned() });
    };
    let (name, version) = own.split_once('@').unwrap_or((own, ""));
    let known = name == "types" || name.parse::<Import>().is_ok();
    match (known, version == VERSION) {
        (true, true) => Ok(()),
        (_, false) => Err(Finding::Version { found: import.to_owned() }),
        (false, true) => Err(Finding::Import { import: import.to_owned() }),
    }
}

fn kind(exports: &[String]) -> Result<Kind, Finding> {
    let mut another_version = None;
    for export in exports {
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
        None => Err(Finding::NoExport { exports: exports.to_vec() }),
    }
}
