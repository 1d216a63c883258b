//! The cloud side: receives batches from gateways, lands each once, and shows what landed.
//!
//! In the order the data flows: [`receiver`] accepts gateways by certificate and [`roster`], which [`provisioning`] may bring,
//! and speaks the session protocol with them; [`desired`] is what they should run; [`landing`] makes batches durable and
//! answers; [`show`] reads them again. [`config`] (by [`document`]) is read at the start, [`identity`] as well and again by
//! [`renewal`]; [`run`] puts it all together, and [`cli`] is the command line.

pub mod cli;
pub mod config;
pub mod copies;
pub mod desired;
pub mod document;
pub mod identity;
pub mod landing;
pub mod provisioning;
pub mod receiver;
pub mod renewal;
pub mod roster;
pub mod run;
pub mod show;
