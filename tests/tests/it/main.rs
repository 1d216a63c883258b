//! The end-to-end tests: real processes, real sockets. One module per behaviour; names state facts.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is a failed test"
)]

mod bad_input;
mod config;
mod desired_stamp;
mod disk;
mod faults_blocked;
mod faults_clock;
mod faults_kill;
mod faults_line;
mod faults_network;
mod faults_refused;
mod faults_stamp;
mod fleet;
mod generator;
mod hostile;
mod identity;
mod intruders;
mod letters;
mod main_path;
mod outage;
mod plugins;
mod promote;
mod provisioned_gateway;
mod provisioning_stamp;
mod registrations;
mod reload;
mod rings;
mod site;
mod stamp_tenants;
mod state;
mod subscription;
mod tidy;
mod tls;
