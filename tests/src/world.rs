//! A folder with certificates, a stamp and its gateways: what a test or the demo happens in. Removed when dropped.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::gateway::{Gateway, Setup, Upstream};
use crate::oracle::Rules;
use crate::pki::{Identity, Pki};
use crate::stamp::Stamp;

/// The folder and its certificate authority.
pub struct World {
    dir: TempDir,
    /// Makes certificates.
    pub pki: Pki,
}

impl World {
    /// An empty one.
    ///
    /// # Errors
    /// When no temporary folder can be made.
    pub fn create() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-").tempdir()?;
        let pki = Pki::create(&dir.path().join("pki"))?;
        Ok(Self { dir, pki })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A stamp that serves these gateways and their tenants; not started.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn stamp(&self, id: &str, roster: &[(&str, &[&str])]) -> Result<Stamp> {
        Stamp::create(self.path(), id, roster, &self.pki)
    }

    /// A gateway that sends to the stamp, with a certificate in its name; not started.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn gateway(&self, id: &str, setup: &Setup, stamp: &Stamp) -> Result<Gateway> {
        Gateway::create(self.path(), id, setup, &self.upstream(stamp, self.pki.gateway(id)?))
    }

    /// The way to a stamp with any certificate.
    #[must_use]
    pub fn upstream(&self, stamp: &Stamp, identity: Identity) -> Upstream {
        let (stamp, address) = (stamp.id.clone(), stamp.address);
        Upstream { stamp, transport: "quic", address, identity, trust: self.pki.trust() }
    }
}

/// The chain of the workload in the benches: °C → °F, drop outside −40..125 °C, a tag.
#[must_use]
pub fn workload_chain(tenant: &str) -> String {
    [to_fahrenheit(tenant), in_range(tenant), tag(tenant)].concat()
}

/// Conversion, range filter, and an alarm on its own route.
#[must_use]
pub fn alarm_chain(tenant: &str) -> String {
    let threshold = format!(
        "[[tenant.{tenant}.step]]\nuse = \"builtin:threshold\"\n\
         with = {{ column = \"temperature_c\", above = {ALARM_ABOVE:?}, clear = {ALARM_CLEAR:?}, route = \"alarms\" }}\n\
         [tenant.{tenant}.route.alarms]\npriority = \"high\"\n"
    );
    [to_fahrenheit(tenant), in_range(tenant), threshold].concat()
}

/// Range filter, a deadband, and a tag.
#[must_use]
pub fn deadband_chain(tenant: &str) -> String {
    let deadband = format!(
        "[[tenant.{tenant}.step]]\nuse = \"builtin:deadband\"\n\
         with = {{ column = \"temperature_c\", absolute = {DEADBAND:?} }}\n"
    );
    [in_range(tenant), deadband, tag(tenant)].concat()
}

/// What the oracle has to know of [`alarm_chain`].
pub const ALARM_RULES: Rules = Rules { alarm: Some((ALARM_ABOVE, ALARM_CLEAR)), deadband: None };
/// What the oracle has to know of [`deadband_chain`].
pub const DEADBAND_RULES: Rules = Rules { alarm: None, deadband: Some(DEADBAND) };

/// Degrees Celsius above which the alarm is raised.
const ALARM_ABOVE: f64 = 80.0;
/// Degrees Celsius at which it is cleared.
const ALARM_CLEAR: f64 = 78.5;
/// Degrees Celsius that a value has to move to be kept.
const DEADBAND: f64 = 0.15;

fn to_fahrenheit(tenant: &str) -> String {
    format!(
        "[[tenant.{tenant}.step]]\nuse = \"builtin:linear\"\nwith = {{ column = \"temperature_c\", \
         into = \"temperature_f\", scale = 1.8, offset = 32.0, resolution = 0.001 }}\n"
    )
}

fn in_range(tenant: &str) -> String {
    format!(
        "[[tenant.{tenant}.step]]\nuse = \"builtin:range\"\n\
         with = {{ column = \"temperature_c\", min = -40.0, max = 125.0 }}\n"
    )
}

fn tag(tenant: &str) -> String {
    format!(
        "[[tenant.{tenant}.step]]\nuse = \"builtin:tag\"\nwith = {{ column = \"plant\", value = {tenant:?} }}\n"
    )
}
