//! What this stamp and provisioning say to each other: whom it serves, whom no more, what had landed of those.
//!
//! ```text
//! follower   asks, applies, keeps, tells
//! rounds     the loop around that and around whatever else is followed or told: after a failure, whether and when it is tried
//!            again is `backoff`'s decision, by one ledger for all
//! client     the requests over HTTPS, with the stamp's own certificate
//! kept       data_dir/roster.jsonl: the last roster, by which the stamp works while provisioning is down
//! receipts   tells receipts as they come about
//! ```
//! Order of a change: the landing makes fences and seeds durable, the file keeps the roster, then gateways are let in (or
//! out) by it, then watermarks are told. A crash between two of them repeats what came before, which changes nothing.

mod client;
mod follower;
mod kept;
mod receipts;
mod rounds;

pub(crate) use client::outcome;
pub use client::{Client, ClientError, check_endpoint};
pub use follower::Follower;
pub use kept::Kept;
pub use receipts::Teller;
pub(crate) use rounds::Poll;
