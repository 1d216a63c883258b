//! The document of a release: what the cloud says of one tenant, in the words of the gateway's own file.
//!
//! ```toml
//! [[tenant.acme.step]]
//! name = "bearing-health"              # under which it keeps its state from release to release
//! use = "sha256:3f2a…"                 # a content of the release; or builtin:NAME, which comes with the gateway
//! with = { window = "10 s" }
//! ```
//! A document is laid over the tenant's part of the gateway's own file: its list of steps takes the place of the list there,
//! its decoders and routes that of those of the same name. What it does not speak of stays as the file says. Sources, store,
//! queue, shares and whose signatures count are the site's alone.
//!
//! Does not look at the contents.

use std::collections::BTreeMap;
use std::path::Path;

use wire::ids::{RouteName, TenantId};

use crate::model::{Decoder, Route, Step, Tenant};
use crate::problem::Problem;

/// What a release says of its tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `[[tenant.X.step]]`; `None`: nothing is said of steps. A step without a `name` that uses a content is called as it is
    /// used; see [`Step::is_unnamed`].
    pub steps: Option<Vec<Step>>,
    /// `[tenant.X.decoder.NAME]`.
    pub decoders: BTreeMap<String, Decoder>,
    /// `[tenant.X.route.NAME]`.
    pub routes: BTreeMap<RouteName, Route>,
}

/// Where a document finds plugins.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Folder of those that come with the gateway.
    pub builtin: &'a Path,
    /// Folder of contents, `HEX.wasm` each; they need not be there yet.
    pub contents: &'a Path,
    /// Digests of the contents that the release brings, 64 digits each.
    pub brings: &'a [String],
}

impl Document {
    /// Reads the document of a tenant. It is there exactly if no problem is an error. `label` stands for the file in problems,
    /// e.g. `release 7`.
    #[must_use]
    pub fn read(
        label: &str,
        text: &str,
        tenant: &TenantId,
        place: Place<'_>,
    ) -> (Option<Self>, Vec<Problem>) {
        crate::read::document::read(Path::new(label), text, tenant, place)
    }

    /// The tenant as it is to run: this document over what the gateway's own file says.
    #[must_use]
    pub fn over(&self, file: &Tenant) -> Tenant {
        let mut tenant = file.clone();
        if let Some(steps) = &self.steps {
            tenant.steps.clone_from(steps);
        }
        tenant.decoders.extend(self.decoders.clone());
        tenant.routes.extend(self.routes.clone());
        tenant
    }
}

impl Step {
    /// Whether it has no name of its own but that of a content, which another version does not share.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.name == self.used && self.used.starts_with(crate::read::BY_DIGEST)
    }
}
