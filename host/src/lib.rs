//! The gateway. Data flows one way and the modules are read in that order:
//! [`source`] → [`intake`] → [`tenant`] → [`store`] → [`outbox`] → [`uplink`], put together in `gateway`.

pub mod admin;
pub mod intake;
pub mod outbox;
pub mod source;
pub mod store;
pub mod uplink;
