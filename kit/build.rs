//! Embeds what a new plugin project is made of: the SDKs and the example projects, which are the templates. Writes
//! `embedded.rs` with one list of (path, text) per folder, so that a file added there needs no other change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Per list, its name and its folder from this crate.
const FOLDERS: [(&str, &str); 5] = [
    ("RUST_SDK", "../plugins/sdk/src"),
    ("C_SDK", "sdk/c"),
    ("JS_SDK", "sdk/js"),
    ("PYTHON_SDK", "sdk/python"),
    ("EXAMPLES", "../plugins/examples"),
];

/// Folders that hold what was built or written by the tool.
const MADE: [&str; 5] = ["build", "target", "sluice", "node_modules", "__pycache__"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let mut written = String::new();
    for (list, folder) in FOLDERS {
        let folder = here.join(folder);
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        files.sort();
        writeln!(written, "/// Files of `{list}`, by path.\npub(crate) const {list}: &[(&str, &str)] = &[")?;
        for file in files {
            let path = file.strip_prefix(&folder)?;
            writeln!(written, "    ({path:?}, include_str!({file:?})),")?;
        }
        writeln!(written, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"), written)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let made = path.file_name().is_some_and(|name| MADE.iter().any(|made| *made == name));
        if path.is_dir() && !made {
            collect(&path, files)?;
        } else if path.is_file() {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
