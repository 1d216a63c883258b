//! Reasons, each one byte on the wire.

use serde::{Deserialize, Serialize};

/// Enums that travel as one byte, so that a reason of a later version is still a reason.
macro_rules! reason {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "u8", into = "u8")]
        pub enum $type {
            $($(#[$vdoc])* $variant,)*
            /// A reason of a later version.
            Unknown(u8),
        }

        impl From<u8> for $type {
            fn from(code: u8) -> Self {
                match code { $($code => Self::$variant,)* other => Self::Unknown(other) }
            }
        }

        impl From<$type> for u8 {
            fn from(reason: $type) -> u8 {
                match reason { $($type::$variant => $code,)* $type::Unknown(other) => other }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant => f.write_str($text),)* Self::Unknown(code) => write!(f, "reason {code}") }
            }
        }
    };
}

reason! {
    /// Why a session or a tenant is not admitted.
    RefusalReason {
        /// The tenant is not this stamp's: ask provisioning, or correct the assignment.
        NotAssigned = 1, "not_assigned";
        /// The gateway is not on the stamp's roster.
        UnknownGateway = 2, "unknown_gateway";
        /// Another installation uses this gateway's identity.
        IdentityInUse = 3, "identity_in_use";
        /// The stamp speaks none of the session versions offered.
        Version = 4, "version";
        /// The stamp has no capacity left.
        Full = 5, "full";
        /// The stamp is going down.
        ShuttingDown = 6, "shutting_down";
        /// The name in the hello is not the one in the certificate.
        IdentityMismatch = 7, "identity_mismatch";
        /// The hello does not make sense, e.g. a tenant twice.
        Malformed = 8, "malformed";
        /// The stamp cannot read or write its own data.
        Storage = 9, "storage";
        /// More gateways come at once than the stamp admits per second: each is told its moment to come back.
        Throttled = 10, "throttled";
        /// The tenant has moved to another stamp: ask provisioning.
        Moved = 11, "moved";
        /// The assignment is newer than what the stamp has been told: come again soon.
        NotYet = 12, "not_yet";
    }
}

reason! {
    /// Why a batch is not taken.
    BatchRefusal {
        /// Its tenant was not admitted.
        NotAdmitted = 1, "not_admitted";
        /// Its payload is not what the codec writes.
        Undecodable = 2, "undecodable";
        /// It has devices beyond the gateway's quota or the stamp's capacity.
        Capacity = 3, "capacity";
    }
}

reason! {
    /// Why a stamp ends a session.
    CloseReason {
        /// It is going down.
        ShuttingDown = 1, "shutting_down";
        /// The gateway broke the protocol.
        Protocol = 2, "protocol";
        /// The same installation has come by a newer connection.
        Superseded = 3, "superseded";
        /// The roster has changed: come back for what now holds.
        RosterChanged = 4, "roster_changed";
        /// The stamp cannot write its data.
        Storage = 5, "storage";
    }
}

reason! {
    /// How far a gateway is with a release.
    ConditionState {
        /// Its contents are being fetched, checked and compiled; what ran before goes on.
        Fetching = 1, "fetching";
        /// It runs.
        Applied = 2, "applied";
        /// It will not run here, for the reason said; what ran before goes on.
        Refused = 3, "refused";
        /// It ran, and what was before it runs again: by the gateway's own rules, e.g. quarantine, or a person's word.
        RolledBack = 4, "rolled_back";
    }
}

impl RefusalReason {
    /// Whether coming back without a change on either side is of no use: such a refusal is not retried as if transient.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        match self {
            Self::NotAssigned
            | Self::UnknownGateway
            | Self::Version
            | Self::IdentityMismatch
            | Self::Malformed
            | Self::Moved => true,
            Self::IdentityInUse
            | Self::Full
            | Self::ShuttingDown
            | Self::Storage
            | Self::Throttled
            | Self::NotYet
            | Self::Unknown(_) => false,
        }
    }
}
