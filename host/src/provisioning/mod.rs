//! What this gateway and provisioning say to each other: who it is, which stamp serves which of its tenants, its certificate.
//!
//! ```text
//! agent    the one task: looks what is needed, asks, keeps, hands on; when it asks again is `backoff`'s decision
//! need     what is needed now, if anything: registration, renewal, the assignments as they are now
//! ask      one question: proof, request, and what is kept of the answer
//! client   the requests over HTTPS, one attempt each
//! proof    how the gateway proves who it is: a bootstrap certificate, or a symmetric key
//! kept     data_dir/provisioned/: key, certificate, assignments, by which the gateway works while provisioning is away
//! board    how all that stands, for status and people
//! ```
//! It asks only when it has no assignment, when a stamp has refused it for good, from half of its certificate's life on, and
//! when the machine's clock is known to be wrong. A stamp that is away, or answers that it cannot just now, is no reason. Does
//! not know stores or links: what was assigned is handed to whoever runs the agent.
//!
//! Invariants: the operational key is made here and never leaves the machine; what is handed on is on disk before; every
//! attempt beyond the first is granted by the one ledger; between two questions there is a reason.

mod agent;
mod ask;
mod board;
mod client;
mod kept;
mod need;
mod proof;

pub use agent::{Agent, Given, Setup};
pub use ask::Ask;
pub use board::{Asking, AssignmentStatus, BoardView, ProvisioningStatus};
pub use client::{CallError, ClientError};
pub use kept::{Kept, KeptError};
pub use proof::{Proof, ProofError};

/// What is wrong with the files that `[provisioning]` names, if anything. Asks nobody.
#[must_use]
pub fn check(section: &gateway_config::Provisioning) -> Option<String> {
    let client = |own| client::Client::new(section, own).map(drop);
    let checked = Proof::load(&section.attest).map_err(ClientError::from).and_then(|proof| match proof {
        Proof::Certificate(pair) => client(Some(pair)),
        Proof::Key { .. } => client(None),
    });
    checked.err().map(|error| error.to_string())
}
