//! JavaScript: jco from npm with the QuickJS engine, which lies in the component together with the source.

use std::process::Command;

use anyhow::Result;

use super::{run, tools};
use crate::interface;
use crate::project::Project;
use crate::vendor;

/// The component.
pub(super) fn build(project: &Project) -> Result<Vec<u8>> {
    let jco = tools::jco()?.join("node_modules/@bytecodealliance/jco/dist/jco.js");
    let of = &project.description;
    let made = super::unfinished(project);
    let mut node = Command::new("node");
    node.arg(jco).arg("componentize").arg(project.folder.join("src/plugin.js"));
    // The folder that imports may come from: the source's own and `sluice/`.
    node.arg("--cwd").arg(&project.folder);
    node.arg("--wit").arg(project.folder.join(vendor::FOLDER).join("wit").join(interface::VERSION));
    node.args(["--world-name", interface::world(of.kind, of.migrates), "--backend", "quickjs"]);
    // No WASI, which no gateway has, and no asynchronous calls, which the interface has none of.
    node.args(["--backend-qjs-stub-wasi", "--backend-qjs-disable-async", "--out"]).arg(&made);
    run::quietly(
        node.current_dir(&project.folder),
        "install Node.js 18 or later, e.g.: apt-get install --yes nodejs",
    )?;
    super::take(&made)
}
