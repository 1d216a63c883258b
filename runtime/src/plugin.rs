//! A plugin: a file that was read, found to be sound, and compiled.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::bindings::exports::sluice::plugin::{decoding, migration, processing};
use crate::host::HostState;
use crate::inspect::VERSION;
use crate::manifest::Manifest;

/// Which world a plugin implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Frames in, frames out.
    Processor,
    /// Messages in, frames out.
    Decoder,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Processor => "processor",
            Kind::Decoder => "decoder",
        })
    }
}

/// SHA-256 of a plugin file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::cache::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A plugin, compiled and ready to be instantiated; clones share it.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) shared: Arc<Loaded>,
}

pub(crate) struct Loaded {
    pub(crate) digest: Digest,
    /// With a name, in any case.
    pub(crate) manifest: Manifest,
    pub(crate) signed_by: Option<String>,
    /// The component with its imports resolved, and where its exports are.
    pub(crate) pre: wasmtime::component::InstancePre<HostState>,
    pub(crate) exports: Exports,
    pub(crate) migration: Option<migration::GuestIndices>,
}

/// Where the exports of a component are.
pub(crate) enum Exports {
    Processor(processing::GuestIndices),
    Decoder(decoding::GuestIndices),
}

impl Plugin {
    /// SHA-256 of its file.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.shared.digest
    }

    /// Its name: as its author wrote it into the file, else the file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.manifest.name.as_deref().unwrap_or_default()
    }

    /// Its version, as its author wrote it into the file; empty if there is none.
    #[must_use]
    pub fn version(&self) -> &str {
        self.shared.manifest.version.as_deref().unwrap_or_default()
    }

    /// Name and version, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        match self.version() {
            "" => self.name().to_owned(),
            version => format!("{} {version}", self.name()),
        }
    }

    /// What it says about itself and asks for.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// Name of the trusted key that signed it; `None` if it is not signed with one.
    #[must_use]
    pub fn signed_by(&self) -> Option<&str> {
        self.shared.signed_by.as_deref()
    }

    /// The interface it was built for.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        VERSION
    }

    /// Which world it implements.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.shared.exports {
            Exports::Processor(_) => Kind::Processor,
            Exports::Decoder(_) => Kind::Decoder,
        }
    }

    /// Whether it takes over the state of other versions of itself.
    #[must_use]
    pub fn migrates(&self) -> bool {
        self.shared.migration.is_some()
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({}, {}, {})", self.label(), self.kind(), self.digest())
    }
}
