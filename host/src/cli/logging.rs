//! Logs: text for people, JSON lines for collectors, always to standard error.
//!
//! Our own facts at the level of `gateway.log`, libraries' from `warn` on. `SLUICE_LOG` overrides both with a filter as
//! `tracing` understands it, e.g. `host::uplink=debug,info`.

use std::io::IsTerminal;

use clap::ValueEnum;
use gateway_config::LogLevel;
use tracing_subscriber::EnvFilter;

pub(super) use crate::gateway::chain;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text per fact, coloured on a terminal.
    Text,
    /// A JSON object per line.
    Json,
}

pub(super) fn start(level: LogLevel, format: LogFormat) {
    let ours = level.as_str();
    let usual = format!("{ours},quinn=warn,quinn_proto=warn,rustls=warn,wasmtime=warn,rumqttc=warn");
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        eprintln!("no log: {error}");
    }
}
