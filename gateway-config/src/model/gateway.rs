//! `[gateway]`: the machine itself.

use std::path::PathBuf;

use wire::ids::GatewayId;

/// The machine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// `id`, required: as in the Common Name of its client certificate.
    pub id: GatewayId,
    /// `data_dir`, required: stores, compiled plugins, admin socket. Made if missing.
    pub data_dir: PathBuf,
    /// `plugins_dir`: where `builtin:NAME` is looked up as `NAME.wasm`. Default: folder `plugins` beside the binary.
    pub plugins_dir: PathBuf,
    /// `workers`: threads that run the plugins of all tenants. Default: as many as there are processors; from 1 to 256.
    pub workers: usize,
    /// `log`: least severe level that is logged. Default `info`.
    pub log: LogLevel,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Data lost or an operator is needed.
    Error,
    /// Something recovered.
    Warn,
    /// Life events.
    #[default]
    Info,
    /// For the developer of a plugin or of a site.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As written in the configuration and understood by log filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
