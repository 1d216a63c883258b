//! Compilers that come from a package registry, each in one exact version, in a folder of its own:
//! `$SLUICE_TOOLS`, else `$XDG_CACHE_HOME/sluice-plugin/tools`, else `~/.cache/sluice-plugin/tools`.
//!
//! A folder is complete or absent: it is filled under another name and then renamed, so that a broken download leaves
//! nothing, and two builds at once do not disturb each other. Deleting it costs a download.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::run;

/// Python packages, as `pip` names them.
pub(super) const COMPONENTIZE_PY: Package =
    Package { name: "componentize-py", version: "0.25.1", size: "47 MB" };
pub(super) const ZIG: Package =
    Package { name: "ziglang", version: "0.17.1", size: "410 MB, 90 MB to fetch" };
/// The npm package; its lock file pins everything below it.
const JCO: Package = Package { name: "@bytecodealliance/jco", version: "1.35.0", size: "340 MB" };

const NPM_FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("jco/package.json")),
    ("package-lock.json", include_str!("jco/package-lock.json")),
];

/// A package of a registry.
pub(super) struct Package {
    name: &'static str,
    version: &'static str,
    /// On disk, for the person who waits.
    size: &'static str,
}

/// The Python interpreter; its absence is told with what to install.
pub(super) fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

/// What to say if there is no Python.
pub(super) const INSTALL_PYTHON: &str =
    "install Python 3.10 or later with pip, e.g.: apt-get install --yes python3 python3-pip";

/// A Python package's folder, to be put on `PYTHONPATH`; fetched if it is missing.
pub(super) fn python_package(package: &Package) -> Result<PathBuf> {
    once(package, "PyPI", |folder| {
        let pip = pip(folder)?;
        let wanted = format!("{}=={}", package.name, package.version);
        let mut install = pip.command();
        install.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
        install.arg("--target").arg(folder).arg(wanted).env("PIP_ROOT_USER_ACTION", "ignore");
        run::quietly(&mut install, INSTALL_PYTHON).map(drop)
    })
}

/// The folder that holds jco's `node_modules`; fetched if it is missing.
pub(super) fn jco() -> Result<PathBuf> {
    const INSTALL: &str = "install Node.js 18 or later with npm, e.g.: apt-get install --yes nodejs npm";
    once(&JCO, "npm", |folder| {
        for (name, text) in NPM_FILES {
            fs::write(folder.join(name), text)?;
        }
        let mut install = Command::new("npm");
        // Not `npm ci`: it asks for a lock that names the native parts of every platform.
        install.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        install.current_dir(folder);
        run::quietly(&mut install, INSTALL).map(drop)
    })
}

/// A way to run pip.
struct Pip(PathBuf, Vec<OsString>);

impl Pip {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.args(&self.1);
        command
    }
}

/// The interpreter's own pip, or one of a virtual environment, as Debian's Python has none.
fn pip(folder: &Path) -> Result<Pip> {
    let own = python();
    let own = Pip(PathBuf::from(own.get_program()), vec!["-m".into(), "pip".into()]);
    ensure!(run::works(python().arg("--version")), "python3 is not installed; {INSTALL_PYTHON}");
    if run::works(own.command().arg("--version")) {
        return Ok(own);
    }
    let environment = folder.join(".pip");
    if run::works(python().args(["-m", "venv"]).arg(&environment)) {
        return Ok(Pip(environment.join("bin/python"), vec!["-m".into(), "pip".into()]));
    }
    bail!("python3 has no pip; {INSTALL_PYTHON}")
}

/// The package's folder, filled by `fill` if it is not there yet.
fn once(package: &Package, registry: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let Package { name, version, size } = package;
    let all = root()?;
    let folder = all.join(format!("{}-{version}", name.trim_start_matches('@').replace('/', "-")));
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = folder.with_extension(format!("{}.partial", std::process::id()));
    println!("fetching {name} {version} from {registry}, once ({size}), to {}", folder.display());
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let filled =
        fill(&partial).with_context(|| format!("{name} {version} could not be fetched from {registry}"));
    // Another build may have been faster: then its folder is as good.
    let placed = filled.and_then(|()| match fs::rename(&partial, &folder) {
        Err(error) if !folder.is_dir() => {
            Err(error).with_context(|| format!("cannot make {}", folder.display()))
        }
        _ => Ok(folder),
    });
    let _ = fs::remove_dir_all(&partial);
    placed
}

fn root() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below = |cache: PathBuf| cache.join("sluice-plugin/tools");
    let root = folder("SLUICE_TOOLS")
        .or_else(|| folder("XDG_CACHE_HOME").map(below))
        .or_else(|| folder("HOME").map(|home| below(home.join(".cache"))));
    let root =
        root.context("neither SLUICE_TOOLS nor HOME is set: set SLUICE_TOOLS to a folder for the compilers")?;
    std::path::absolute(&root).with_context(|| format!("{} is no folder", root.display()))
}
