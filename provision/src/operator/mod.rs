//! The operator's side of the admin API: where the service is, who the operator is, and the questions.
//!
//! ```text
//! access    where the service is and by which certificate it is asked: arguments, or a file
//! client    HTTPS with mutual TLS, one attempt each
//! routes    the questions of `/v1/admin`, with the types that the service answers with; releases' in a file of their own
//! bundle    the document of a release with the files it names, as they are uploaded
//! ```
//! Does not retry, follows no redirect and no proxy, prints nothing. Who waits for an operation ([`watch`]) asks again, by
//! the rules of `backoff` alone where the service does not answer.

pub mod access;
pub mod bundle;
mod client;
mod releases;
mod routes;
pub mod watch;

pub use access::{Access, AccessError};
pub use client::{Client, OperatorError};
pub use routes::Wanted;
