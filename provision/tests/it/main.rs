//! The service as its clients see it: the real binary, real TLS.

mod intruders;
mod registration;
mod roster;
mod site;
