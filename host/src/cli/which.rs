//! How an operator says which dead letters, which step: `TENANT/ID`, `TENANT/STEP`, and filters.

use std::path::{Path, PathBuf};

use clap::Args;
use wire::ids::TenantId;

use super::{Place, when};
use crate::store::{LetterFilter, LetterKind, Look, OpenError, tenants};

/// Which dead letters: those named, or those that pass all filters.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// Letters by number, as `list` shows them, e.g. acme/17.
    #[arg(value_name = "TENANT/ID", value_parser = letter)]
    pub(super) letters: Vec<(TenantId, i64)>,
    #[command(flatten)]
    pub(super) filters: Filters,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filters {
    /// Only of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<TenantId>,
    /// Only of this step, by its name in the lane.
    #[arg(long, value_name = "NAME")]
    pub(super) step: Option<String>,
    /// Only of this device.
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// Only of this kind: undecodable, rejected, fault, unsendable, refused, unknown.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(super) kind: Option<LetterKind>,
    /// Only those that died then or later: a time (2026-01-31T08:00:00Z) or how long ago ("2 h").
    #[arg(long, value_name = "WHEN", value_parser = when::argument)]
    pub(super) since: Option<i64>,
    /// Only those that died before then.
    #[arg(long, value_name = "WHEN", value_parser = when::argument)]
    pub(super) until: Option<i64>,
}

impl Which {
    /// Whether nothing narrows it down.
    pub(super) fn is_all(&self) -> bool {
        self.letters.is_empty() && self.filters.is_all()
    }

    /// Each tenant with its filter. A letter that is named must also pass the filters.
    pub(super) fn per_tenant(&self, data_dir: &Path) -> Vec<(TenantId, LetterFilter)> {
        let mut found = self.filters.per_tenant(data_dir);
        if !self.letters.is_empty() {
            for (tenant, filter) in &mut found {
                filter.ids = self.letters.iter().filter(|(of, _)| of == tenant).map(|(_, id)| *id).collect();
            }
            found.retain(|(_, filter)| !filter.ids.is_empty());
        }
        found
    }
}

impl Filters {
    fn is_all(&self) -> bool {
        let Self { tenant, step, device, kind, since, until } = self;
        let one = tenant.is_some() || step.is_some() || device.is_some() || kind.is_some();
        !(one || since.is_some() || until.is_some())
    }

    /// Each tenant with its filter.
    pub(super) fn per_tenant(&self, data_dir: &Path) -> Vec<(TenantId, LetterFilter)> {
        let filter = LetterFilter {
            step: self.step.clone(),
            device: self.device.clone(),
            kind: self.kind,
            since: self.since,
            until: self.until,
            ids: Vec::new(),
        };
        chosen(self.tenant.as_ref(), data_dir).into_iter().map(|tenant| (tenant, filter.clone())).collect()
    }
}

/// The one tenant, or all that have a store.
pub(super) fn chosen(tenant: Option<&TenantId>, data_dir: &Path) -> Vec<TenantId> {
    tenant.map_or_else(|| tenants(data_dir), |tenant| vec![tenant.clone()])
}

/// Looks into a tenant's store; that there is none is told as such.
pub(super) fn look(data_dir: &Path, tenant: &TenantId) -> Result<Look, String> {
    Look::open(data_dir, tenant).map_err(|error| match error {
        OpenError::NotWritable { path, .. } if !path.exists() => {
            format!("there is no store of tenant {tenant} in {}", data_dir.display())
        }
        other => other.to_string(),
    })
}

/// The data folder, or why it is not known (told already).
pub(super) fn folder(of: &Place) -> Option<PathBuf> {
    of.data_dir.clone().or_else(|| super::status::configured(of.config.as_deref()))
}

/// `acme/17`.
pub(super) fn letter(text: &str) -> Result<(TenantId, i64), String> {
    let wrong =
        || format!("{text:?} is no letter: write TENANT/ID as `dead-letters list` shows it, e.g. acme/17");
    let (tenant, id) = text.split_once('/').ok_or_else(wrong)?;
    let id = id.parse().map_err(|_| wrong())?;
    Ok((TenantId::new(tenant).map_err(|error| error.to_string())?, id))
}

/// `acme/builtin:window`; a step's name may hold slashes itself.
pub(super) fn step(text: &str) -> Result<(TenantId, String), String> {
    let wrong = || {
        format!("{text:?} is no step: write TENANT/STEP as `state list` shows it, e.g. acme/builtin:window")
    };
    let (tenant, step) = text.split_once('/').filter(|(_, step)| !step.is_empty()).ok_or_else(wrong)?;
    Ok((TenantId::new(tenant).map_err(|error| error.to_string())?, step.to_owned()))
}

fn kind(text: &str) -> Result<LetterKind, String> {
    LetterKind::named(text).ok_or_else(|| {
        let kinds: Vec<&str> = LetterKind::ALL.into_iter().map(LetterKind::as_str).collect();
        format!("{text:?} is no kind: one of {}", kinds.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_steps_are_named_with_their_tenant() {
        assert_eq!(letter("acme/17").unwrap().1, 17);
        assert_eq!(step("acme/fixtures/trap#2").unwrap().1, "fixtures/trap#2");
        assert!(letter("17").unwrap_err().contains("acme/17") && letter("acme/x").is_err());
        assert!(step("acme/").is_err() && kind("broken").unwrap_err().contains("rejected"));
    }
}
