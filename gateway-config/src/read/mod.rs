//! From the document to the model, section by section; each notes what is wrong with it and goes on.

mod broker;
mod files;
mod gateway;
mod keys;
mod listener;
mod plugin;
mod shadow;
mod source;
mod tenant;
mod topic;
mod uplink;

use std::path::Path;

use crate::model::Config;
use crate::problem::{Problem, Severity};
use crate::reader::{Reader, Table};

/// Reads a document. The configuration is there exactly if no problem is an error.
pub(crate) fn read(file: &Path, text: &str) -> (Option<Config>, Vec<Problem>) {
    let (reader, document) = Reader::parse(file, text);
    let config = {
        let root = Table::new(&reader, document.get_ref(), document.span(), String::new());
        let config = sections(&root);
        root.finish();
        config
    };
    let problems = reader.into_problems();
    let sound = problems.iter().all(|problem| problem.severity == Severity::Warning);
    (config.filter(|_| sound), problems)
}

fn sections(root: &Table<'_>) -> Option<Config> {
    const EXAMPLE: &str = "[gateway], and below it id = \"plant7-line2\" and data_dir = \"/var/lib/sluice\"";
    let (gateway, plugins_dir) = root
        .required("gateway", EXAMPLE)
        .and_then(|value| value.table())
        .map_or((None, None), |table| gateway::read(&table));
    let plugins = root.get("plugins").and_then(|value| value.table()).map(|table| keys::read(&table));
    let plugins = plugins.unwrap_or_default();
    let tenants = tenant::read(root, plugins_dir.as_deref(), &plugins);
    let sources = source::read(root, gateway.as_ref().map(|gateway| &gateway.id), &tenants.known);
    let uplink = root.get("uplink").map(|value| {
        let table = value.table()?;
        uplink::read(&table, &tenants.known)
    });
    if uplink.is_none() {
        root.warn("there is no [uplink]: data stays in the stores until their quotas", "");
    }
    Some(Config { gateway: gateway?, plugins, sources, tenants: tenants.tenants, uplink: uplink.flatten() })
}
