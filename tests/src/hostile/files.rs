//! Plugin files that are broken in ways no compiler produces, made of ones that work.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::signature::{SecretKey, sign};

use crate::gateway::plugins_dir;

/// Bytes of a plugin that is too large.
const LARGE: usize = 100_000_000;
/// The preamble of a component: magic, version, layer (component model, Binary.md).
const COMPONENT: [u8; 8] = [0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];
/// Ids of sections.
const CUSTOM: u8 = 0;
const INSTANCE: u8 = 5;
const EXPORT: u8 = 11;

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

/// A component of an interface that has nothing to do with plugins.
pub(super) fn another_interface(dir: &Path) -> Result<PathBuf> {
    exporting(dir, "another", "acme:telemetry/uplink@1.0.0")
}

/// A component of the plugin interface as it was before its first release.
pub(super) fn old_version(dir: &Path) -> Result<PathBuf> {
    exporting(dir, "old", "sluice:plugin/processing@0.9.0")
}

/// A plugin with a trusted key's signature of another one, and the table that says whom to trust.
pub(super) fn signature_of_another(dir: &Path) -> Result<(PathBuf, String)> {
    let key = SecretKey::generate()?;
    let another = fs::read(fixture("loop")?)?;
    let signed = sign(&another, &key)?;
    let file = write(dir, "signed", &[&fs::read(fixture("trap")?)?, &signed[another.len()..]])?;
    Ok((file, format!("[plugins]\nkeys = [{{ name = \"build\", key = \"{}\" }}]\n", key.public())))
}

/// A component that exports an interface of this name with nothing in it.
fn exporting(dir: &Path, file: &str, interface: &str) -> Result<PathBuf> {
    // One instance without exports of its own; exported: by a plain name, an instance, number 0, of no declared type.
    let instance = [INSTANCE, 3, 1, 0x01, 0];
    let mut export = vec![1, 0x00];
    export.extend(leb128(interface.len()));
    export.extend_from_slice(interface.as_bytes());
    export.extend_from_slice(&[0x05, 0, 0]);
    let mut head = vec![EXPORT];
    head.extend(leb128(export.len()));
    write(dir, file, &[&COMPONENT, &instance, &head, &export])
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
