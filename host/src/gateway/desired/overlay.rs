//! A release over the tenant's part of the gateway's own file.

use std::path::Path;

use gateway_config::{Document, Place, Problem, Severity, Tenant};

use super::super::shelf::Shelf;
use super::kept::Release;

/// The tenant as it is to run. Contents need not be there yet.
///
/// # Errors
/// All mistakes of the document, one a line, with line and key.
pub(super) fn overlay(
    file: &Tenant,
    release: &Release,
    builtin: &Path,
    shelf: &Shelf,
) -> Result<Tenant, String> {
    if release.number == 0 {
        return Ok(file.clone());
    }
    let brings: Vec<String> = release.contents.iter().map(|content| content.digest.to_string()).collect();
    let label = format!("release {}", release.number);
    let place = Place { builtin, contents: shelf.folder(), brings: &brings };
    let (document, problems) = Document::read(&label, &release.document, &file.id, place);
    let Some(mut document) = document else {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        return Err(errors.map(Problem::to_string).collect::<Vec<_>>().join("\n"));
    };
    for step in document.steps.iter_mut().flatten().filter(|step| step.is_unnamed()) {
        // As its author calls it: so that it keeps its state when another version comes.
        let inspected = runtime::inspect_file(&step.plugin).ok();
        if let Some(name) =
            inspected.and_then(|inspected| inspected.manifest.name).filter(|name| !name.is_empty())
        {
            step.name = name;
        }
    }
    Ok(document.over(file))
}
