//! The same plugin in four languages, as `docs/plugins.md` shows it: size, load, rows a second, memory, each beside the same
//! step as a native function. Builds and measures with the author's own tool, `sluice-plugin`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::report::{Bench, thousands};

/// Folder under `plugins/examples` and name of each language.
const LANGUAGES: [(&str, &str); 4] =
    [("rust", "Rust"), ("c", "C"), ("js", "JavaScript"), ("python", "Python")];

/// The example that all of them have: deadband, then conversion.
const EXAMPLE: &str = "to-fahrenheit";

/// Measures each language; one whose tools are missing is named and left out. With `build` the examples are built first.
///
/// # Errors
/// When a plugin that was built cannot be measured.
pub fn run(bench: &mut Bench, build: bool) -> Result<()> {
    println!("\nThe same plugin ({EXAMPLE}) in four languages\n");
    println!(
        "| | file | load, compiling | load, from the cache | first call | memory | 256 rows a call | 4,096 rows a call | × native |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (folder, name) in LANGUAGES {
        let project = example(folder);
        let file = project.join(format!("build/{EXAMPLE}.wasm"));
        if build && let Err(error) = built(&project) {
            println!("| {name} | not built: {error:#} |");
            continue;
        }
        if !file.is_file() {
            println!("| {name} | not built: run sluice-plugin build in {} |", project.display());
            continue;
        }
        let measured = measured(&file)?;
        println!("{}", line(name, &measured).with_context(|| format!("{measured}"))?);
        bench.figures.insert(format!("plugin_{folder}"), measured);
    }
    Ok(())
}

fn example(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("plugins")
        .join("examples")
        .join(folder)
        .join(EXAMPLE)
}

fn built(project: &Path) -> Result<()> {
    let output = tool()?.args(["build", "--release"]).current_dir(project).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", told.lines().last().unwrap_or("sluice-plugin build failed"));
    Ok(())
}

fn measured(file: &Path) -> Result<Value> {
    let output =
        tool()?.arg("bench").arg(file).args(["--rows=256,4096", "--seconds=1", "--json"]).output()?;
    ensure!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn tool() -> Result<Command> {
    Ok(Command::new(crate::process::binary("sluice-plugin")?))
}

/// A line of the table.
fn line(name: &str, measured: &Value) -> Option<String> {
    let number = |place: &str| measured.pointer(place)?.as_f64();
    let run = |at: usize| {
        let rate = number(&format!("/runs/{at}/rows_per_s"))?;
        Some(format!("{} rows/s, {:.0} µs", thousands(rate), number(&format!("/runs/{at}/call_us_p50"))?))
    };
    Some(format!(
        "| {name} | {} | {:.0} ms | {:.2} ms | {:.2} ms | {:.1} MiB | {} | {} | {:.1} |",
        size(number("/bytes")?),
        number("/load_cold_ms")?,
        number("/load_cached_ms")?,
        number("/first_call_ms")?,
        number("/memory_bytes")? / f64::from(1 << 20),
        run(0)?,
        run(1)?,
        number("/runs/1/beside/ratio")?,
    ))
}

fn size(bytes: f64) -> String {
    if bytes < f64::from(1 << 20) {
        format!("{:.0} KiB", bytes / 1024.0)
    } else {
        format!("{:.1} MiB", bytes / f64::from(1 << 20))
    }
}
