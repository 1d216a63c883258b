//! Why a lane cannot do what it should; see `LaneError`.

use std::path::{Path, PathBuf};

use runtime::{ConfigureFault, LoadError};
use wire::ids::TenantId;

/// Why a lane cannot start, or cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// A plugin's file is missing or is no plugin.
    #[error("tenant {tenant}, step {step}: {cause}{advice}")]
    Plugin {
        /// Whose lane.
        tenant: TenantId,
        /// The step or decoder.
        step: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<LoadError>,
        /// What to do about it; begins with "; " or is empty.
        advice: String,
    },
    /// A plugin refuses its configuration.
    #[error("tenant {tenant}: {cause}; correct `with` of this step")]
    Configure {
        /// Whose lane.
        tenant: TenantId,
        /// What the plugin says.
        cause: Box<ConfigureFault>,
    },
    /// There is no such step or decoder.
    #[error("tenant {tenant} has no step {step:?}; there are: {known}")]
    NoStep {
        /// Whose lane.
        tenant: TenantId,
        /// What was asked for.
        step: String,
        /// What there is.
        known: String,
    },
    /// Nothing to release.
    #[error("tenant {tenant}: step {step} is not quarantined")]
    NotQuarantined {
        /// Whose lane.
        tenant: TenantId,
        /// The step.
        step: String,
    },
    /// Nothing to go back to.
    #[error("tenant {tenant}: no version before the present one is kept of step {step}")]
    NoPrevious {
        /// Whose lane.
        tenant: TenantId,
        /// The step.
        step: String,
    },
    /// The version to go back to cannot be had.
    #[error("tenant {tenant}: the version of step {step} before, {digest}, cannot be loaded: {reason}")]
    Shelf {
        /// Whose lane.
        tenant: TenantId,
        /// The step.
        step: String,
        /// What was looked for.
        digest: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to promote.
    #[error("tenant {tenant}: step {step} has no shadow that runs; give it one by `shadow = {{ use = … }}`")]
    NoShadow {
        /// Whose lane.
        tenant: TenantId,
        /// The step.
        step: String,
    },
    /// A release that should run at the start cannot.
    #[error("tenant {tenant}: {reason}")]
    Release {
        /// Whose lane.
        tenant: TenantId,
        /// What is wrong with it.
        reason: String,
    },
    /// The lane takes nothing just now.
    #[error("the lane of tenant {tenant} is held (see `sluice-gateway status`): release its step first")]
    Held {
        /// Whose lane.
        tenant: TenantId,
    },
    /// It was done and is not on disk: after a restart it is as it was before.
    #[error("tenant {tenant}: it cannot be stored: {reason}")]
    NotStored {
        /// Whose lane.
        tenant: TenantId,
        /// Why.
        reason: String,
    },
    /// The lane has ended.
    #[error("the lane of tenant {tenant} has ended")]
    Ended {
        /// Whose lane.
        tenant: TenantId,
    },
}

impl LaneError {
    pub(super) fn load(tenant: &TenantId, step: &str, path: &Path, cause: LoadError) -> Self {
        let missing =
            matches!(&cause, LoadError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let advice = match (missing, step.strip_prefix("builtin:")) {
            (true, Some(_)) => {
                "; built-in plugins are files in gateway.plugins_dir: unpack the release's folder \
                `plugins` there, or build them with `cargo xtask guests`"
                    .to_owned()
            }
            (true, None) => "; correct `use` of this step, or put the file there".to_owned(),
            _ => String::new(),
        };
        Self::Plugin {
            tenant: tenant.clone(),
            step: step.to_owned(),
            path: path.to_owned(),
            cause: Box::new(cause),
            advice,
        }
    }
}
