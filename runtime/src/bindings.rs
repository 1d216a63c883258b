//! The boundary as wasmtime sees it, generated from `wit/v1`. The only `bindgen!`.
//!
//! One world that has both kinds of export, so that they share one set of types; which one a component has, its exports
//! say. Parameters borrow: a frame goes to the guest without being copied on this side first. Exports are asynchronous, as
//! a guest hands its thread back at each time slice; what it calls of the host answers at once.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::indexing_slicing, clippy::unwrap_used)]
#![allow(clippy::expect_used, clippy::panic)]

wasmtime::component::bindgen!({
    path: "../wit/v1",
    inline: r#"
        package sluice:host@1.0.0;
        world plugin {
            include sluice:plugin/stateful-processor@1.0.0;
            include sluice:plugin/decoder@1.0.0;
        }
    "#,
    world: "sluice:host/plugin@1.0.0",
    imports: { default: trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
