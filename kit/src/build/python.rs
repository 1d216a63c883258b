//! Python: componentize-py from PyPI, which puts CPython and the sources into one component.

use anyhow::Result;

use super::{run, tools};
use crate::interface;
use crate::project::Project;
use crate::vendor;

/// The component.
pub(super) fn build(project: &Project) -> Result<Vec<u8>> {
    let compiler = tools::python_package(&tools::COMPONENTIZE_PY)?;
    let of = &project.description;
    let own = project.folder.join(vendor::FOLDER);
    let made = super::unfinished(project);
    println!(
        "componentize-py: CPython and {} in one component, about 15 s",
        project.folder.join("src").display()
    );
    let mut python = tools::python();
    // Not `-m componentize_py`: the package has no main module.
    python.args(["-c", "import sys; from componentize_py import script; sys.exit(script())"]);
    python.arg("--wit-path").arg(own.join("wit").join(interface::VERSION));
    python.args([
        "--world",
        interface::world(of.kind, of.migrates),
        "--quiet",
        "componentize",
        "--stub-wasi",
    ]);
    python.arg("--python-path").arg("src").arg("--python-path").arg(vendor::FOLDER);
    python.arg("--output").arg(&made).arg("plugin");
    python.env("PYTHONPATH", compiler).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("VIRTUAL_ENV");
    run::quietly(python.current_dir(&project.folder), tools::INSTALL_PYTHON)?;
    super::take(&made)
}
