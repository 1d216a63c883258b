//! The document of a release, as far as it can be judged here.

use std::collections::BTreeSet;

use toml::{Table, Value};
use wire::ids::{Digest, TenantId};
use wire::message::{MAX_CONTENTS, MAX_DOCUMENT_BYTES};
use wire::provisioning::{BY_DIGEST, named};

/// What is for the site to say, in the gateway's own file; gateways refuse a release that says it.
const SITE: [&str; 4] = ["store", "queue", "cpu", "require_signature"];
/// What comes with every gateway.
const BUILTIN: &str = "builtin:";

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Too long.
    #[error("the document has {0} bytes, at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLarge(usize),
    /// Not TOML; with line and column.
    #[error("the document is not TOML: {0}")]
    Toml(String),
    /// Something else than the tenant's section.
    #[error("{key}: {cause}")]
    Section {
        /// Where.
        key: String,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// Too many contents.
    #[error("the document names {0} contents, at most {MAX_CONTENTS} are allowed")]
    Contents(usize),
}

/// The contents that a tenant's document names, each once.
///
/// # Errors
/// [`DocumentError`]: the first thing that is wrong.
pub fn check(tenant: &TenantId, text: &str) -> Result<Vec<Digest>, DocumentError> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(DocumentError::TooLarge(text.len()));
    }
    let root: Table = toml::from_str(text).map_err(|error| DocumentError::Toml(error.to_string()))?;
    let wrong = |key: &str, cause: String| Err(DocumentError::Section { key: key.to_owned(), cause });
    if let Some(key) = root.keys().find(|key| *key != "tenant") {
        return wrong(key, format!("a release has nothing but [tenant.{tenant}]: leave it out"));
    }
    let Some(Value::Table(tenants)) = root.get("tenant") else {
        return wrong("tenant", format!("is missing: write e.g. [[tenant.{tenant}.step]]"));
    };
    if let Some(other) = tenants.keys().find(|name| *name != tenant.as_str()) {
        return wrong(
            &format!("tenant.{other}"),
            format!("this release is for tenant {tenant}: give each tenant its own release"),
        );
    }
    let Some(Value::Table(section)) = tenants.get(tenant.as_str()) else {
        return wrong("tenant", format!("there is no [tenant.{tenant}]"));
    };
    if let Some(key) = SITE.iter().find(|key| section.contains_key(**key)) {
        let key = format!("tenant.{tenant}.{key}");
        return wrong(&key, "is for the site to say, in the gateway's own file: leave it out".to_owned());
    }
    let mut found = BTreeSet::new();
    collect(&format!("tenant.{tenant}"), section, &mut found)?;
    if found.len() > MAX_CONTENTS {
        return Err(DocumentError::Contents(found.len()));
    }
    Ok(found.into_iter().collect())
}

/// Every `use`, however deep, but in what is a plugin's own configuration.
fn collect(at: &str, table: &Table, found: &mut BTreeSet<Digest>) -> Result<(), DocumentError> {
    for (key, value) in table {
        let key_path = format!("{at}.{key}");
        match value {
            Value::String(text) if key == "use" => match named(text) {
                Some(digest) => {
                    found.insert(digest);
                }
                None if text.starts_with(BUILTIN) => {}
                None => {
                    let cause = format!(
                        "{text:?} is not there at the gateways: upload the file and write \"{BY_DIGEST}…\" with its 64 \
                         digits, or \"{BUILTIN}…\""
                    );
                    return Err(DocumentError::Section { key: key_path, cause });
                }
            },
            Value::Table(inner) if key != "with" => collect(&key_path, inner, found)?,
            Value::Array(items) if key != "with" => {
                for (place, item) in items.iter().enumerate() {
                    if let Value::Table(inner) = item {
                        collect(&format!("{key_path}[{place}]"), inner, found)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme(text: &str) -> Result<Vec<Digest>, DocumentError> {
        check(&"acme".parse().unwrap(), text)
    }

    #[test]
    fn contents_are_found_wherever_a_plugin_is_used_and_nowhere_else() {
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let found = acme(&format!(
            "[[tenant.acme.step]]\nuse = \"builtin:linear\"\nwith = {{ use = \"sha256:{c}\" }}\n\
             [[tenant.acme.step]]\nuse = \"sha256:{a}\"\nshadow = {{ use = \"sha256:{b}\" }}\n\
             [tenant.acme.decoder.x]\nuse = \"sha256:{a}\"\n"
        ));
        assert_eq!(found, Ok(vec![a.parse().unwrap(), b.parse().unwrap()]));
        assert_eq!(acme("[tenant.acme]\n"), Ok(vec![]));
    }

    #[test]
    fn what_no_gateway_could_run_is_refused_with_the_key() {
        let many: String = (0..=MAX_CONTENTS)
            .map(|place| format!("[[tenant.acme.step]]\nuse = \"sha256:{place:064x}\"\n"))
            .collect();
        for (text, said) in [
            ("[[tenant.acme.step]\n", "TOML parse error at line 1"),
            ("", "tenant: is missing"),
            ("[gateway]\nid = \"x\"\n[tenant.acme]\n", "gateway: a release has nothing but [tenant.acme]"),
            ("[tenant.umbra]\n", "tenant.umbra: this release is for tenant acme"),
            ("[tenant.acme.store]\nquota = \"1 GiB\"\n", "tenant.acme.store: is for the site"),
            (
                "[[tenant.acme.step]]\nuse = \"plugins/a.wasm\"\n",
                "tenant.acme.step[0].use: \"plugins/a.wasm\" is not there",
            ),
            ("[[tenant.acme.step]]\nuse = \"sha256:ab\"\n", "with its 64 digits"),
            (many.as_str(), "names 65 contents"),
            (&"#".repeat(MAX_DOCUMENT_BYTES + 1), "at most 262144"),
        ] {
            let error = acme(text).unwrap_err().to_string();
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
    }
}
