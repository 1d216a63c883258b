//! `sluice-plugin build`: from a project to `build/<name>.wasm`, a component with its manifest.
//!
//! Each language has its tool chain; what is not on the machine is fetched once, in exact versions, and kept ([`tools`]).
//! The result is looked at as the gateway looks at it: a file that no gateway would take is no result.

mod c;
mod javascript;
mod python;
mod run;
mod rust;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use runtime::manifest::{Asks, Manifest};

use crate::project::{Language, Project};
use crate::{inspect, vendor};

/// How much the result is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For trying: quickly built, with checks where the language has some (overflow of integers ends the call).
    Checked,
    /// For sites: small and fast.
    Release,
}

/// The command.
///
/// # Errors
/// What is missing or wrong, in words; what the tool chain said has gone to standard error.
pub fn command(folder: &Path, mode: Mode) -> Result<ExitCode> {
    let project = Project::find(folder)?;
    let begun = Instant::now();
    let built = build(&project, mode)?;
    print!("{}", inspect::summary(&built)?);
    println!("  built in   {:.1} s{}", begun.elapsed().as_secs_f64(), note(project.description.lang, mode));
    Ok(ExitCode::SUCCESS)
}

/// Builds a project; says on standard output what takes long.
///
/// # Errors
/// As [`command`].
pub fn build(project: &Project, mode: Mode) -> Result<PathBuf> {
    if vendor::complete(project)? {
        println!("{}: written, it was missing", project.folder.join(vendor::FOLDER).display());
    }
    let target = project.component();
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let component = match project.description.lang {
        Language::Rust => rust::build(project, mode),
        Language::C => c::build(project, mode),
        Language::Js => javascript::build(project),
        Language::Python => python::build(project),
    }?;
    let component = runtime::manifest::attach(&component, &manifest(project))?;
    runtime::inspection::inspect_bytes(&target, &component)?;
    // A gateway that watches the file never sees half of it.
    let fresh = target.with_extension("wasm.new");
    fs::write(&fresh, component)
        .and_then(|()| fs::rename(&fresh, &target))
        .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target)
}

/// Where a compiler that writes a file shall write it.
fn unfinished(project: &Project) -> PathBuf {
    project.folder.join("build/unfinished.wasm")
}

/// Takes such a file.
fn take(made: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(made).with_context(|| format!("the compiler made no {}", made.display()))?;
    fs::remove_file(made).with_context(|| format!("cannot remove {}", made.display()))?;
    Ok(bytes)
}

/// What the component says about itself.
fn manifest(project: &Project) -> Manifest {
    let of = &project.description;
    Manifest {
        name: Some(of.name.clone()),
        version: Some(of.version.clone()),
        description: Some(of.description.clone()).filter(|text| !text.is_empty()),
        asks: Asks {
            memory: of.asks.memory,
            time_ms: of.asks.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            output: of.asks.output,
            state: of.asks.state,
            imports: of.asks.imports.clone(),
        },
    }
}

fn note(lang: Language, mode: Mode) -> &'static str {
    match (lang, mode) {
        (Language::Rust | Language::C, Mode::Checked) => {
            ", with checks; for sites: sluice-plugin build --release"
        }
        _ => "",
    }
}
