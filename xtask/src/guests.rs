//! Builds the plugins from source and copies them to `plugins/dist`.
//!
//! Crate `builtin-linear` becomes `dist/linear.wasm`, `example-hot` becomes `dist/examples/hot.wasm`, `fixture-loop`
//! becomes `dist/fixtures/loop.wasm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const TARGET: &str = "wasm32-unknown-unknown";

/// Adds the wasm target if it is missing, builds every plugin, copies the results. Says what it does.
///
/// # Errors
/// The command that failed, and what to run by hand.
pub(crate) fn build() -> Result<()> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("plugins");
    add_target(&plugins)?;
    println!("plugins: cargo build --release ({TARGET})");
    // What cargo sets for this process (the outer workspace's toolchain and flags) must not reach the inner build.
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet"])
        .current_dir(&plugins)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!(
            "the plugins were not built; see above, or run `cargo build --release` in {}",
            plugins.display()
        );
    }
    copy(&plugins)
}

fn add_target(plugins: &Path) -> Result<()> {
    if has_target(plugins) {
        return Ok(());
    }
    println!("plugins: rustup target add {TARGET} (about 20 MB, once)");
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(plugins).status();
    if !added.is_ok_and(|status| status.success()) && !has_target(plugins) {
        bail!("Rust's target {TARGET} is missing and could not be added; run: rustup target add {TARGET}");
    }
    Ok(())
}

/// Asks the compiler, not rustup: a toolchain of another origin may have the target too.
fn has_target(plugins: &Path) -> bool {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(plugins)
        .output();
    let Ok(output) = asked else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn copy(plugins: &Path) -> Result<()> {
    let built = plugins.join("target").join(TARGET).join("release");
    let mut copied = 0;
    for (folder, prefix, into) in [
        ("builtin", "builtin_", ""),
        ("examples", "example_", "examples"),
        ("fixtures", "fixture_", "fixtures"),
    ] {
        let into = plugins.join("dist").join(into);
        fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
        for entry in fs::read_dir(plugins.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let from = built.join(format!("{prefix}{}.wasm", name.replace('-', "_")));
            if plugins.join(folder).join(&name).join("Cargo.toml").is_file() {
                let to = into.join(format!("{name}.wasm"));
                fs::copy(&from, &to).with_context(|| format!("{} was not built", from.display()))?;
                copied += 1;
            }
        }
    }
    println!("plugins: {copied} components in {}", plugins.join("dist").display());
    Ok(())
}
