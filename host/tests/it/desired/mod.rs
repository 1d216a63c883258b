//! What a stamp says should run: fetched, checked, applied, refused, taken back; by the gateway's binary with real plugins.

mod kills;
mod refusals;
mod releases;
mod site;
mod stamp;
