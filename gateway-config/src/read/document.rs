//! The document of a release: what it says of one tenant.

use std::path::Path;

use wire::ids::TenantId;

use super::plugin::Plugins;
use super::tenant::{decoders, routes, steps};
use crate::document::{Document, Place};
use crate::problem::{Problem, Severity};
use crate::reader::{Reader, Table};

/// What a tenant's part of a gateway's own file may say, and a release may not.
const SITE: [&str; 4] = ["store", "queue", "cpu", "require_signature"];

/// Reads a document. It is there exactly if no problem is an error.
pub(crate) fn read(
    label: &Path,
    text: &str,
    tenant: &TenantId,
    place: Place<'_>,
) -> (Option<Document>, Vec<Problem>) {
    let (reader, document) = Reader::parse(label, text);
    let found = {
        let root = Table::new(&reader, document.get_ref(), document.span(), String::new());
        let found = section(&root, tenant, place);
        root.finish();
        found
    };
    let problems = reader.into_problems();
    let sound = problems.iter().all(|problem| problem.severity == Severity::Warning);
    (found.filter(|_| sound), problems)
}

fn section(root: &Table<'_>, tenant: &TenantId, place: Place<'_>) -> Option<Document> {
    let table = root.required("tenant", &format!("[[tenant.{tenant}.step]]"))?.table()?;
    let mut found = None;
    for (name, value) in table.entries() {
        if name != tenant.as_str() {
            value.error(format!("this release is for tenant {tenant}"), "give each tenant its own release");
            continue;
        }
        let Some(table) = value.table() else { continue };
        for key in SITE {
            if let Some(value) = table.get(key) {
                value.error(
                    "is for the site to say, in the gateway's own file",
                    "leave it out of the release",
                );
            }
        }
        let Place { builtin, contents, brings } = place;
        let plugins = Plugins::Release { builtin, contents, brings };
        found = Some(Document {
            steps: steps(&table, plugins),
            decoders: decoders(&table, plugins).unwrap_or_default(),
            routes: routes(&table).unwrap_or_default(),
        });
        table.finish();
    }
    if found.is_none() && table.entries().is_empty() {
        table.error(format!("there is no [tenant.{tenant}]"), format!("write e.g. [[tenant.{tenant}.step]]"));
    }
    found
}
