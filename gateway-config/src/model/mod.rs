//! What a gateway is configured to be. Values are of the domain's types and within their bounds: whoever holds a
//! [`Config`] checks nothing again. Paths are absolute or relative to the working folder, never to the file.

mod gateway;
mod plugin;
mod provisioning;
mod source;
mod tenant;
mod uplink;

use std::collections::BTreeMap;

use wire::ids::TenantId;

pub use gateway::{Gateway, LogLevel};
pub use plugin::{Budget, Import, Limits, OnFault, Plugins, Promote, Quarantine, Shadow, TrustedKey};
pub use provisioning::{Attest, DEFAULT_PROVISIONING_PORT, Provisioning};
pub use source::{
    Broker, Format, Gather, Listener, ListenerTls, QualityOfService, Secret, SecretError, Source, SourceKind,
    TimeField, TimeMissing, TimeUnit, Topic, User,
};
pub use tenant::{CpuShare, Decoder, Priority, Route, Step, StorePolicy, Tenant, WhenFull};
pub use uplink::{DEFAULT_PORT, Endpoint, EndpointError, Identity, Stamp, Transport, Uplink};

/// A whole, checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[gateway]`: the machine itself.
    pub gateway: Gateway,
    /// `[plugins]`: whose signatures count.
    pub plugins: Plugins,
    /// `[[source]]`: where messages come from, in the order of the file; names are unique.
    pub sources: Vec<Source>,
    /// `[tenant.NAME]`: whose data it is.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// `[uplink]`: where data goes. Without one everything stays in the stores until their quotas. With `[provisioning]` it is
    /// always there.
    pub uplink: Option<Uplink>,
    /// `[provisioning]`: who tells where data goes. Without one `[uplink]` says so.
    pub provisioning: Option<Provisioning>,
}
