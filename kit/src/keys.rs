//! `keygen`, `sign`, `verify`: who a plugin is from. The format of keys and signatures is `runtime::signature`'s.
//!
//! A secret key is a file that only its owner may read; it is never shown, and nothing is written over.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use runtime::signature::{self, KeyRing, PublicKey, SecretKey, Verdict};
use serde::Deserialize;

/// Exit code of `verify` for a file that is not signed by one of the keys.
const NOT_SIGNED: u8 = 3;

/// What a file's signature is worth with certain keys.
#[derive(Debug)]
pub struct Judgement(Verdict);

/// `keygen`: writes `NAME.key` and `NAME.pub`.
///
/// # Errors
/// A file that is there already, or cannot be written.
pub fn generate(name: &str, folder: &Path) -> Result<ExitCode> {
    crate::project::check_name(name).map_err(anyhow::Error::msg)?;
    let (secret, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    for path in [&secret, &public] {
        ensure!(!path.exists(), "{} is there already; a key is not written over", path.display());
    }
    let key = SecretKey::generate()?;
    create(&secret, 0o600, &key.to_pem())?;
    create(&public, 0o644, &format!("{}\n", key.public()))?;
    println!("{}  the secret key: keep it where plugins are signed, and nowhere else", secret.display());
    println!(
        "{}  the public key, for whoever shall trust it; in the gateway's configuration:",
        public.display()
    );
    println!("\n  [plugins]\n  keys = [{{ name = \"{name}\", key = \"{}\" }}]", key.public());
    Ok(ExitCode::SUCCESS)
}

/// `sign`: puts a signature at the end of the file, in place of one it had.
///
/// # Errors
/// No plugin, no key, or a key that others may read.
pub fn sign(file: &Path, key: &Path) -> Result<ExitCode> {
    let key = secret(key)?;
    let component = read(file)?;
    runtime::inspection::inspect_bytes(file, &component)?;
    let signed = signature::sign(&component, &key).with_context(|| file.display().to_string())?;
    let fresh = file.with_extension("wasm.new");
    fs::write(&fresh, &signed)
        .and_then(|()| fs::rename(&fresh, file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let digest = runtime::inspection::inspect_bytes(file, &signed)?.digest;
    println!("{}: signed with key {}, digest sha256:{digest}", file.display(), key.public().id());
    Ok(ExitCode::SUCCESS)
}

/// `verify`: exit code 0 only for a plugin that is signed by one of the keys.
///
/// # Errors
/// A file that cannot be read, or holds no key.
pub fn verify(file: &Path, keys: &[PathBuf]) -> Result<ExitCode> {
    let verdict = judge(file, keys)?;
    println!("{}: {verdict}", file.display());
    Ok(if matches!(verdict.0, Verdict::Signed { .. }) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_SIGNED)
    })
}

/// What the signature of a file is worth.
///
/// # Errors
/// A file that cannot be read, or holds no key.
pub fn judge(file: &Path, keys: &[PathBuf]) -> Result<Judgement> {
    let mut ring = KeyRing::default();
    for path in keys {
        trust(&mut ring, path)?;
    }
    Ok(Judgement(signature::verify(&read(file)?, &ring)))
}

impl Judgement {
    /// One word, for programs.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self.0 {
            Verdict::Signed { .. } => "signed",
            Verdict::Unsigned => "unsigned",
            Verdict::UnknownKey { .. } => "unknown-key",
            Verdict::Wrong => "wrong",
        }
    }

    /// The name of the key.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        if let Verdict::Signed { by } = &self.0 { Some(by) } else { None }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Verdict::Signed { by } => write!(f, "signed by {by}"),
            Verdict::Unsigned => f.write_str("not signed"),
            Verdict::UnknownKey { key } => write!(f, "signed with key {key}, which is none of these"),
            Verdict::Wrong => {
                f.write_str("the signature does not match: the file was changed after it was signed")
            }
        }
    }
}

/// The part of a gateway's configuration that holds keys.
#[derive(Deserialize)]
struct Gateway {
    plugins: Option<Plugins>,
}

#[derive(Deserialize)]
struct Plugins {
    #[serde(default)]
    keys: Vec<Trusted>,
}

#[derive(Deserialize)]
struct Trusted {
    name: String,
    key: Option<String>,
    key_file: Option<PathBuf>,
}

/// Adds the key of a `.pub` file, named as the file is, or those of a gateway's configuration.
fn trust(ring: &mut KeyRing, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        ring.insert(name, public(path)?);
        return Ok(());
    }
    let of: Gateway =
        toml::from_str(&text(path)?).with_context(|| format!("{} cannot be used", path.display()))?;
    for Trusted { name, key, key_file } in of.plugins.map(|plugins| plugins.keys).unwrap_or_default() {
        let key = match (key, key_file) {
            (Some(key), _) => key.parse().with_context(|| format!("{}: key {name:?}", path.display()))?,
            (None, Some(file)) => public(&path.parent().unwrap_or(Path::new("")).join(file))?,
            (None, None) => bail!("{}: the key {name:?} has neither key nor key_file", path.display()),
        };
        ring.insert(name, key);
    }
    ensure!(!ring.is_empty(), "{} has no keys in [plugins]", path.display());
    Ok(())
}

fn public(path: &Path) -> Result<PublicKey> {
    let text = text(path)?;
    ensure!(!text.contains("PRIVATE KEY"), "{} is a secret key; name the .pub file", path.display());
    text.parse().with_context(|| path.display().to_string())
}

fn secret(path: &Path) -> Result<SecretKey> {
    let mode =
        fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{} may be read by others; run: chmod 600 {}", path.display(), path.display());
    }
    SecretKey::from_pem(&text(path)?).with_context(|| path.display().to_string())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a new file with these permissions from its first byte on.
fn create(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
