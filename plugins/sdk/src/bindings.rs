//! The boundary, generated from `wit/v1`. All worlds share one set of types.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::indexing_slicing)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod processor {
    wit_bindgen::generate!({
        path: "../../wit/v1",
        world: "processor",
        pub_export_macro: true,
        default_bindings_module: "sluice_plugin::bindings::processor",
        runtime_path: "::sluice_plugin::wit_bindgen::rt",
        generate_unused_types: true,
        additional_derives: [Clone, PartialEq],
        generate_all,
    });
}

pub mod decoder {
    wit_bindgen::generate!({
        path: "../../wit/v1",
        world: "decoder",
        pub_export_macro: true,
        default_bindings_module: "sluice_plugin::bindings::decoder",
        runtime_path: "::sluice_plugin::wit_bindgen::rt",
        with: {
            "sluice:plugin/types@1.0.0": crate::bindings::processor::sluice::plugin::types,
            "sluice:plugin/log@1.0.0": crate::bindings::processor::sluice::plugin::log,
            "sluice:plugin/metrics@1.0.0": crate::bindings::processor::sluice::plugin::metrics,
            "sluice:plugin/state@1.0.0": crate::bindings::processor::sluice::plugin::state,
            "sluice:plugin/clock@1.0.0": crate::bindings::processor::sluice::plugin::clock,
            "sluice:plugin/link@1.0.0": crate::bindings::processor::sluice::plugin::link,
        },
    });
}

pub mod migrating {
    wit_bindgen::generate!({
        path: "../../wit/v1",
        inline: r#"
            package sluice:sdk@1.0.0;
            world migrating { export sluice:plugin/migration@1.0.0; }
        "#,
        world: "sluice:sdk/migrating@1.0.0",
        pub_export_macro: true,
        default_bindings_module: "sluice_plugin::bindings::migrating",
        runtime_path: "::sluice_plugin::wit_bindgen::rt",
    });
}
