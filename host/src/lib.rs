//! The gateway. Data flows one way and the modules are read in that order:
//! [`source`] → [`intake`] → [`tenant`] → [`store`] → [`outbox`] → [`uplink`], put together in `gateway`.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod gateway;
pub mod intake;
pub mod outbox;
pub mod provisioning;
pub mod source;
pub mod store;
pub mod tenant;
pub mod uplink;
