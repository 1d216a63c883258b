//! Write a Sluice plugin in a dozen lines of Rust.
//!
//! ```ignore
//! use sluice_plugin::{ConfigError, Fault, Frame, Output, Processor};
//!
//! #[derive(serde::Deserialize)]
//! struct Config { column: String, above: f64 }
//! struct Hot(Config);
//!
//! impl Processor for Hot {
//!     type Config = Config;
//!     fn configure(config: Config) -> Result<Self, ConfigError> { Ok(Hot(config)) }
//!     fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
//!         let hot = frame.filter(frame.f64(&self.0.column)?.iter().map(|v| *v > self.0.above));
//!         out.emit("alarms", hot);
//!         out.forward(frame);
//!         Ok(())
//!     }
//! }
//! sluice_plugin::export!(Hot);
//! ```
//!
//! In the order of a plugin's life: [`config`] is parsed, a [`Processor`] or a [`Decoder`] is made of it, gets a
//! [`Frame`] or [`Messages`], asks the [`host`] and its [`state`], and hands results to an [`Output`].
//! Calls are synchronous and without I/O; the host limits memory, time and output.

// The bindings name the crate by its own name, so that they work inside it and in the plugin's crate alike.
extern crate self as sluice_plugin;

#[doc(hidden)]
pub mod bindings;
pub mod config;
mod decoder;
mod dictionary;
mod errors;
mod frame;
mod frame_rows;
pub mod host;
#[doc(hidden)]
pub mod manifest;
mod output;
mod processor;
mod rows;
pub mod state;

pub use bindings::processor::sluice::plugin::types::{Blobs, Column, Dictionary, Texts, Values};
pub use config::{Missing, Span};
pub use decoder::{Decoder, Message, Messages};
pub use errors::{ColumnError, ConfigError, Fault};
pub use frame::{Frame, TextColumn};
pub use frame_rows::Row;
pub use output::{Output, TELEMETRY};
pub use processor::Processor;
pub use rows::Rows;
pub use state::Migrate;

#[doc(hidden)]
pub mod glue {
    pub use crate::bindings::{decoder, migrating, processor};
    pub use crate::decoder::{configure_decoder, run_decode};
    pub use crate::manifest;
    pub use crate::processor::{configure_processor, run_process, run_tick};
    pub use crate::state::run_migrate;
}

#[doc(hidden)]
pub use wit_bindgen;

/// Makes a component of a [`Processor`]; with `, migrating` after the type, of one that is [`Migrate`] too.
#[macro_export]
macro_rules! export {
    ($plugin:ty, migrating) => {
        $crate::export!($plugin);
        $crate::export_migration!($plugin);
    };
    ($plugin:ty) => {
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }
            struct Component;
            impl $crate::glue::processor::exports::sluice::plugin::processing::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<
                    $crate::glue::processor::sluice::plugin::types::Setup,
                    ::std::string::String,
                > {
                    $crate::glue::configure_processor(&PLUGIN, &config)
                }
                fn process(
                    frames: ::std::vec::Vec<$crate::glue::processor::sluice::plugin::types::Frame>,
                ) -> ::std::result::Result<
                    $crate::glue::processor::sluice::plugin::types::Output,
                    $crate::glue::processor::sluice::plugin::types::Fault,
                > {
                    $crate::glue::run_process(&PLUGIN, frames)
                }
                fn tick() -> ::std::result::Result<
                    $crate::glue::processor::sluice::plugin::types::Output,
                    $crate::glue::processor::sluice::plugin::types::Fault,
                > {
                    $crate::glue::run_tick(&PLUGIN)
                }
            }
    $crate::glue::processor::export!(Component with_types_in $crate::glue::processor);
            $crate::manifest!();
        };
    };
}

/// Makes a component of a [`Decoder`]; with `, migrating` after the type, of one that is [`Migrate`] too.
#[macro_export]
macro_rules! export_decoder {
    ($plugin:ty, migrating) => {
        $crate::export_decoder!($plugin);
        $crate::export_migration!($plugin);
    };
    ($plugin:ty) => {
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }
            struct Component;
            impl $crate::glue::decoder::exports::sluice::plugin::decoding::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<
                    $crate::glue::processor::sluice::plugin::types::Setup,
                    ::std::string::String,
                > {
                    $crate::glue::configure_decoder(&PLUGIN, &config)
                }
                fn decode(
                    messages: $crate::glue::processor::sluice::plugin::types::Messages,
                ) -> ::std::result::Result<
                    $crate::glue::processor::sluice::plugin::types::Output,
                    $crate::glue::processor::sluice::plugin::types::Fault,
                > {
                    $crate::glue::run_decode(&PLUGIN, messages)
                }
            }
    $crate::glue::decoder::export!(Component with_types_in $crate::glue::decoder);
            $crate::manifest!();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_migration {
    ($plugin:ty) => {
        const _: () = {
            struct Migration;
            impl $crate::glue::migrating::exports::sluice::plugin::migration::Guest for Migration {
                fn migrate(from: ::std::string::String) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::glue::run_migrate::<$plugin>(&from)
                }
            }
    $crate::glue::migrating::export!(Migration with_types_in $crate::glue::migrating);
        };
    };
}

/// Puts the plugin's name, version and description into the file, where the host reads them without running it.
#[doc(hidden)]
#[macro_export]
macro_rules! manifest {
    () => {
        #[used]
        #[unsafe(link_section = "sluice:manifest")]
        static MANIFEST: [u8; $crate::glue::manifest::length([
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_DESCRIPTION"),
        ])] = $crate::glue::manifest::json([
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_DESCRIPTION"),
        ]);
    };
}
