//! `[gateway]`.

use std::path::PathBuf;

use crate::model::{Gateway, LogLevel};
use crate::reader::Table;

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Most threads for plugins.
const MAX_WORKERS: usize = 256;

/// The section, and the plugins folder alone in case something else of the section is wrong.
pub(super) fn read(table: &Table<'_>) -> (Option<Gateway>, Option<PathBuf>) {
    let id = table.required("id", "id = \"plant7-line2\"").and_then(|value| value.parse());
    let data_dir = table.required("data_dir", "data_dir = \"/var/lib/sluice\"").and_then(|value| {
        let path = value.path_buf()?;
        if path.exists() && !path.is_dir() {
            value.error(
                format!("{} is not a folder", path.display()),
                "write the path of a folder of its own",
            );
        }
        Some(path)
    });
    let plugins_dir = match table.get("plugins_dir") {
        None => Some(beside_the_binary()),
        Some(value) => value.path_buf().filter(|path| {
            if !path.is_dir() {
                value.error(format!("{} is not a folder", path.display()), super::plugin::GET);
            }
            path.is_dir()
        }),
    };
    let workers = table.get("workers").and_then(|value| value.integer(1..=MAX_WORKERS as i64));
    let workers = workers.unwrap_or_else(|| processors().clamp(1, MAX_WORKERS));
    let log = table.get("log").and_then(|value| value.choice(&LEVELS)).unwrap_or_default();
    table.finish();
    let gateway = match (id, data_dir, plugins_dir.clone()) {
        (Some(id), Some(data_dir), Some(plugins_dir)) => {
            Some(Gateway { id, data_dir, plugins_dir, workers, log })
        }
        _ => None,
    };
    (gateway, plugins_dir)
}

fn beside_the_binary() -> PathBuf {
    let binary = std::env::current_exe().ok();
    binary.as_deref().and_then(std::path::Path::parent).unwrap_or(std::path::Path::new(".")).join("plugins")
}

/// Those that this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
