//! C: clang with the libraries of wasi-libc, be it Debian's or zig's from PyPI, then `wit-component`.
//!
//! Debian's is taken where it is installed, else zig is fetched; `SLUICE_CC` = `clang` or `zig` decides otherwise.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use wit_component::ComponentEncoder;

use super::{Mode, run, tools};
use crate::project::{Kind, Project};
use crate::vendor;

/// A library without `main`: called again and again, started once.
const REACTOR: [&str; 6] = [
    "-mexec-model=reactor",
    "-std=c11",
    "-Wall",
    "-Wextra",
    // Its guard would be a random number, which WASI has and plugins do not.
    "-fno-stack-protector",
    // zig reserves 16 MiB otherwise; an overflow of the stack is a trap with either.
    "-Wl,-z,stack-size=262144",
];

/// The component.
pub(super) fn build(project: &Project, mode: Mode) -> Result<Vec<u8>> {
    let made = super::unfinished(project);
    let mut compiler = compiler()?;
    compiler.args(REACTOR).args(match mode {
        // What C leaves undefined ends the call instead of going on with nonsense.
        Mode::Checked => ["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined"].as_slice(),
        Mode::Release => &["-Os", "-fno-sanitize=all", "-flto"],
    });
    // Without debug information, but with the names of functions, for back traces.
    let kind = match project.description.kind {
        Kind::Processor => "-DSLUICE_PROCESSOR",
        Kind::Decoder => "-DSLUICE_DECODER",
    };
    compiler.args(["-Wl,--strip-debug", "-I", vendor::FOLDER, kind]);
    let sources = sources(&project.folder)?;
    compiler.args(sources).arg("-o").arg(&made);
    run::loudly(compiler.current_dir(&project.folder), "install clang, or unset SLUICE_CC")?;
    component(&super::take(&made)?)
}

/// The plugin's sources, and what lies in `sluice/`.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for part in ["src", vendor::FOLDER] {
        let inside =
            std::fs::read_dir(folder.join(part)).with_context(|| format!("there is no folder {part}"))?;
        let names = inside.flatten().map(|entry| Path::new(part).join(entry.file_name()));
        let compiled = |path: &PathBuf| {
            path.extension().and_then(OsStr::to_str).is_some_and(|of| of == "c" || of == "o")
        };
        found.extend(names.filter(compiled));
    }
    found.sort();
    Ok(found)
}

fn compiler() -> Result<Command> {
    match std::env::var("SLUICE_CC").as_deref() {
        Ok("zig") => zig(),
        Ok("clang") => Ok(clang()),
        Ok(other) => bail!("SLUICE_CC is {other:?}; it may be \"clang\" or \"zig\""),
        Err(_) if debian_has_all() => Ok(clang()),
        Err(_) => zig(),
    }
}

fn clang() -> Command {
    let mut clang = Command::new("clang");
    clang.arg("--target=wasm32-wasi");
    clang
}

/// Whether clang, its linker and the libraries for WebAssembly are installed.
fn debian_has_all() -> bool {
    let libraries = Path::new("/usr/lib/wasm32-wasi/libc.a").is_file();
    libraries && run::works(clang().arg("--version")) && run::works(Command::new("wasm-ld").arg("--version"))
}

fn zig() -> Result<Command> {
    let package = tools::python_package(&tools::ZIG)?;
    let mut zig = tools::python();
    zig.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi"]);
    zig.env("PYTHONPATH", &package).env("PYTHONDONTWRITEBYTECODE", "1");
    // zig compiles the libraries it needs once; that too belongs to the tool.
    zig.env("ZIG_GLOBAL_CACHE_DIR", package.join(".cache"))
        .env("ZIG_LOCAL_CACHE_DIR", package.join(".cache"));
    Ok(zig)
}

/// A component of a core module that was linked with the interface's type.
fn component(module: &[u8]) -> Result<Vec<u8>> {
    let encoded =
        ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let what = format!("{error:#}");
        if what.contains("wasi_snapshot_preview1") {
            return anyhow::anyhow!(
                "the sources use WASI (files, printf, clocks, exit …), which plugins do not have; \
                 write log lines with sluice_log, ask for the time with sluice_now\n{what}"
            );
        }
        anyhow::anyhow!("no component can be made of the module: {what}")
    })
}
