//! The one place that loads machine code: a component that this engine compiled earlier.
//!
//! Deserializing is unsafe because the bytes are run as they are. They come only from [`crate::cache`], whose folder
//! belongs to the gateway alone (mode 0700) and which hands out an entry only if its checksum holds; wasmtime itself
//! refuses bytes of another version, target or configuration. Whoever can write to that folder can run code as the
//! gateway, just as with the gateway's own binary.

use wasmtime::Engine;
use wasmtime::component::Component;

/// The component of a cache entry.
#[expect(
    unsafe_code,
    reason = "running precompiled code is what a cache of it is for; see the module's text"
)]
pub(crate) fn load(engine: &Engine, checked: &crate::cache::Checked) -> wasmtime::Result<Component> {
    // SAFETY: `Checked` is made only by the cache, of bytes that `Component::serialize` returned and whose checksum held.
    unsafe { Component::deserialize(engine, checked.bytes()) }
}
