//! `sluice-plugin new`: writes a project that builds and whose test passes at once. Never writes over anything.
//!
//! The templates are the projects in `plugins/examples`: what a new project says is what the continuous integration builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::embedded;
use crate::project::{self, Kind, Language, Project};
use crate::vendor;

const README: &str = include_str!("new/README.md");

/// Why no project is written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The name cannot be used.
    #[error("{0}")]
    Name(String),
    /// There is something already.
    #[error("{} is not empty; choose another name, or another folder with --into", .0.display())]
    NotEmpty(PathBuf),
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The command.
///
/// # Errors
/// [`NewError`]
pub fn command(lang: Language, kind: Kind, name: &str, into: Option<&Path>) -> Result<ExitCode> {
    let folder = into.unwrap_or(Path::new(name));
    check(name, folder)?;
    for (path, text) in files(lang, kind, name) {
        write(&folder.join(path), &text)?;
    }
    let project = Project::read(folder)?;
    write(&folder.join("README.md"), &readme(&project))?;
    vendor::complete(&project).context("the project is not complete")?;
    println!(
        "{}: a {} in {lang} ({}), its tests, and what it needs",
        folder.display(),
        word(kind),
        source(lang)
    );
    println!("\nNext:\n\n  cd {}\n  sluice-plugin build && sluice-plugin test", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn check(name: &str, folder: &Path) -> Result<(), NewError> {
    project::check_name(name).map_err(NewError::Name)?;
    let empty = fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none());
    if empty { Ok(()) } else { Err(NewError::NotEmpty(folder.to_owned())) }
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let failed = |source| NewError::Write { path: path.to_owned(), source };
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(path, text).map_err(failed)
}

/// The files of a new project but those of `sluice/` and the README, by path.
fn files(lang: Language, kind: Kind, name: &str) -> Vec<(&'static str, String)> {
    let example = example(kind);
    let folder = format!("{}/{example}/", lang.id());
    let of_example =
        embedded::EXAMPLES.iter().filter_map(|(path, text)| Some((path.strip_prefix(&folder)?, *text)));
    of_example.map(|(path, text)| (path, text.replace(example, name))).collect()
}

/// The example that a new project is a copy of.
fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Processor => "to-fahrenheit",
        Kind::Decoder => "sensor-payload",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Processor => "processor",
        Kind::Decoder => "decoder",
    }
}

/// The file that holds the plugin.
#[must_use]
pub fn source(lang: Language) -> &'static str {
    match lang {
        Language::Rust => "src/lib.rs",
        Language::C => "src/plugin.c",
        Language::Js => "src/plugin.js",
        Language::Python => "src/plugin.py",
    }
}

fn readme(project: &Project) -> String {
    let of = &project.description;
    let sdk = match of.lang {
        Language::Rust => "the SDK (`sluice/sdk`)",
        Language::C => {
            "the C bindings (`sluice/plugin.h`) with a few functions that help (`sluice/sluice.h`)"
        }
        Language::Js => "the SDK (`sluice/sluice.js`)",
        Language::Python => "the SDK (`sluice/sluice.py`)",
    };
    let (what, usage) = match of.kind {
        Kind::Processor => (
            "it is configured with the step's `with` table and gets frames",
            "    [[tenant.acme.step]]\n    use = \"plugins/{name}.wasm\"\n    \
             with = { column = \"temperature_c\", into = \"temperature_f\", deadband = 0.5 }",
        ),
        Kind::Decoder => (
            "it is configured with the decoder's `with` table and gets messages",
            "    [tenant.acme.decoder.{name}]\n    use = \"plugins/{name}.wasm\"\n    with = { offset = -0.5 }\n\n    \
             [[source.topic]]\n    filter = \"site/{tenant}/{device}/raw\"\n    format = \"raw\"\n    decoder = \"{name}\"",
        ),
    };
    let filled = [
        ("{use}", usage),
        ("{language}", &of.lang.to_string()),
        ("{description}", &of.description),
        ("{source}", source(of.lang)),
        ("{what}", what),
        ("{sdk}", sdk),
        ("{name}", &of.name),
    ];
    filled.iter().fold(README.to_owned(), |text, (mark, value)| text.replace(mark, value))
}
