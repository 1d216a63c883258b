//! Who asks the cloud, beside real gateways: clients of provisioning's API, and sessions with stamps in which each number
//! sent and acknowledged is known.

pub mod client;
pub mod edge;
