//! The binary, built guests, and folders of cases.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A guest by its path in `plugins/dist`, without `.wasm`.
pub(crate) fn guest(name: &str) -> PathBuf {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/dist")).join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask guests`", path.display());
    path.canonicalize().unwrap()
}

/// What the tool said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

/// A folder in which the tool runs.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    /// One with a file of cases for a guest.
    pub(crate) fn cases(name: &str, cases: &str) -> Self {
        let folder = Self::new();
        folder.rewrite(name, cases);
        folder
    }

    pub(crate) fn rewrite(&self, name: &str, cases: &str) {
        self.write("cases.toml", format!("plugin = {:?}\n{cases}", guest(name).display().to_string()));
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Runs `sluice-plugin`. Compiled guests are shared by all tests.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sluice-plugin"))
            .args(arguments)
            .current_dir(self.path())
            .env("SLUICE_PLUGIN_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    /// Runs the cases.
    pub(crate) fn test(&self, arguments: &[&str]) -> Said {
        self.run(&[&["test", "--cases", "cases.toml"], arguments].concat())
    }

    /// Runs the cases, all of which must pass.
    pub(crate) fn passes(&self) {
        let said = self.test(&[]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }
}
