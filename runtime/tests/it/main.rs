//! The runtime against really built guests: `cargo xtask guests` makes them.

mod builtin;
mod decoder;
mod guests;
mod interface;
mod limits;
mod loading;
mod threshold;
mod window;
