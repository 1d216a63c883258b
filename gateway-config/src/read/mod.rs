//! From the document to the model, section by section; each notes what is wrong with it and goes on.

mod broker;
pub(crate) mod document;
mod files;
mod gateway;
mod keys;
mod listener;
mod plugin;
mod provisioning;
mod shadow;
mod source;
mod tenant;
mod topic;
mod uplink;

use std::path::Path;

pub(crate) use plugin::BY_DIGEST;

use crate::model::{Config, Identity, Provisioning};
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
    let provisioning = root.get("provisioning");
    let provisioned = provisioning.is_some();
    let provisioning =
        provisioning.and_then(|value| value.table()).and_then(|table| provisioning::read(&table));
    let given = gateway.as_ref().map(|gateway| Provisioning::identity(&gateway.data_dir));
    let uplink = match (root.get("uplink"), provisioned) {
        (Some(value), false) => value.table().and_then(|table| uplink::read(&table, &tenants.known)),
        (Some(value), true) => {
            value.table().and_then(|table| uplink::read_tuning(&table, given.unwrap_or_else(nowhere)))
        }
        (None, true) => given.map(uplink::untuned),
        (None, false) => {
            root.warn("there is no [uplink]: data stays in the stores until their quotas", "");
            None
        }
    };
    Some(Config { gateway: gateway?, plugins, sources, tenants: tenants.tenants, uplink, provisioning })
}

/// Something is wrong with `[gateway]`: nothing of the configuration is used, but the rest is checked.
fn nowhere() -> Identity {
    Provisioning::identity(Path::new(""))
}
