//! The plugin author's tool, on the very runtime of the gateway.
//!
//! In the order of a plugin's life: [`new`] writes a project, [`build`] makes a component of it, [`inspect`] and [`keys`]
//! look at the file and sign it. [`project`] is what all of them read: the folder of a plugin and its `plugin.toml`.
//!
//! It hosts no plugin itself: whatever runs a guest is in `runtime`, so that a plugin behaves here as on a site.

pub mod bench;
pub mod build;
pub mod cases;
pub mod cli;
mod embedded;
pub mod guest;
pub mod inspect;
pub mod interface;
pub mod keys;
pub mod new;
pub mod project;
pub mod reference;
pub mod replay;
pub mod rows;
pub mod vendor;
