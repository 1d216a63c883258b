//! Configurations as people write them: the examples, and mistakes with what is said about them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails, also in what it shares")]

mod documents;
mod examples;
mod mistakes;
mod mistakes_plugins;
mod mistakes_provisioning;
mod site;
