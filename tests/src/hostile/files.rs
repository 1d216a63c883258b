//! Plugin files that are broken in ways no compiler produces, made of ones that work.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::gateway::plugins_dir;

/// Bytes of a plugin that is too large.
const LARGE: usize = 100_000_000;
/// The preamble of a component: magic, version, layer (component model, Binary.md).
const COMPONENT: [u8; 8] = [0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];
/// A custom section's id.
const CUSTOM: u8 = 0;

/// One of the hostile plugins as built.
///
/// # Errors
/// When they have not been built.
pub fn fixture(name: &str) -> Result<PathBuf> {
    let path = plugins_dir()?.join("fixtures").join(format!("{name}.wasm"));
    anyhow::ensure!(path.exists(), "there is no {}: cargo xtask guests", path.display());
    Ok(path)
}

/// The first half of a plugin that works.
pub(super) fn truncated(dir: &Path) -> Result<PathBuf> {
    let whole = fs::read(fixture("trap")?)?;
    write(dir, "truncated", &[&whole[..whole.len() / 2]])
}

/// A plugin that works, with a custom section of nothing that makes it 100 MB large.
pub(super) fn large(dir: &Path) -> Result<PathBuf> {
    let whole = fs::read(fixture("trap")?)?;
    let padding = LARGE - whole.len();
    let mut content = leb128(3);
    content.extend_from_slice(b"pad");
    let mut head = vec![CUSTOM];
    head.extend(leb128(content.len() + padding));
    write(dir, "large", &[&whole, &head, &content, &vec![0; padding]])
}

/// A component that says nothing of plugins.
pub(super) fn empty(dir: &Path) -> Result<PathBuf> {
    write(dir, "empty", &[&COMPONENT])
}

fn write(dir: &Path, name: &str, parts: &[&[u8]]) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.wasm"));
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    for part in parts {
        file.write_all(part)?;
    }
    Ok(path)
}

/// Unsigned LEB128.
fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}
