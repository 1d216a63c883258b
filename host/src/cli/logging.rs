//! Logs: text for people, JSON lines for collectors, always to standard error.
//!
//! Our own facts at the level of `gateway.log`, libraries' from `warn` on. `SLUICE_LOG` overrides both with a filter as
//! `tracing` understands it, e.g. `host::uplink=debug,info`.

use std::io::IsTerminal;

use clap::ValueEnum;
use gateway_config::LogLevel;
use tracing_subscriber::EnvFilter;

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

/// An error with what caused it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
