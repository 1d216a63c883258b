//! Rust: cargo, the target `wasm32-unknown-unknown`, and the linker of the tool chain that makes components.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Mode, run};
use crate::project::{Description, Project};

const TARGET: &str = "wasm32-unknown-unknown";
const INSTALL: &str = "install Rust from https://rustup.rs (1.95 or later)";

/// The component.
pub(super) fn build(project: &Project, mode: Mode) -> Result<Vec<u8>> {
    let folder = &project.folder;
    let library = library(folder, &project.description)?;
    add_target(folder)?;
    let mut cargo = cargo(folder);
    cargo.args(["build", "--quiet", "--target", TARGET]).args((mode == Mode::Release).then_some("--release"));
    run::loudly(&mut cargo, INSTALL)?;
    let profile = if mode == Mode::Release { "release" } else { "debug" };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    let file = folder.join(target).join(TARGET).join(profile).join(format!("{library}.wasm"));
    std::fs::read(&file).with_context(|| {
        format!("cargo made no {}; Cargo.toml needs [lib] crate-type = [\"cdylib\"]", file.display())
    })
}

/// cargo, without what an outer cargo set for its own build.
fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    for variable in
        ["CARGO_BUILD_TARGET", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO"]
    {
        cargo.env_remove(variable);
    }
    cargo.current_dir(folder);
    cargo
}

#[derive(Deserialize)]
struct CargoManifest {
    package: Package,
    lib: Option<Library>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Library {
    name: Option<String>,
}

/// The name of the library that cargo makes. `Cargo.toml` and `plugin.toml` must not contradict each other.
fn library(folder: &Path, description: &Description) -> Result<String> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let CargoManifest { package, lib } =
        toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))?;
    if package.version != description.version {
        bail!(
            "Cargo.toml has version {:?}, plugin.toml has {:?}: make them the same",
            package.version,
            description.version
        );
    }
    Ok(lib.and_then(|lib| lib.name).unwrap_or(package.name).replace('-', "_"))
}

fn add_target(folder: &Path) -> Result<()> {
    if has_target(folder)? {
        return Ok(());
    }
    println!("fetching Rust's target {TARGET} (20 MB, once)");
    let added = run::works(Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder));
    if added && has_target(folder)? {
        return Ok(());
    }
    bail!("Rust's target {TARGET} is missing; run: rustup target add {TARGET}")
}

/// Asks the compiler, not rustup: a tool chain of another origin may have the target too.
fn has_target(folder: &Path) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .env_remove("RUSTUP_TOOLCHAIN");
    let libraries = run::quietly(&mut rustc, INSTALL)?;
    let is_core = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    Ok(std::fs::read_dir(libraries.trim()).is_ok_and(|entries| entries.flatten().any(is_core)))
}
