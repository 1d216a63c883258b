//! A folder with the files that configurations name.

use std::path::PathBuf;

use gateway_config::{Problem, Report, check_text};

pub(crate) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        for name in ["linear", "range", "deadband", "window", "threshold", "tag"] {
            site.put(&format!("plugins/{name}.wasm"), "\0asm");
        }
        site.put("telegram.wasm", "\0asm");
        site.put("telegram-next.wasm", "\0asm");
        site.put("site.pub", "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
        site.put("site.key", "-----BEGIN PRIVATE KEY-----\n");
        for name in ["gateway", "listener", "ca", "devices-ca", "broker-ca"] {
            site.put(&format!("{name}.crt"), "-----BEGIN CERTIFICATE-----\n");
        }
        for name in ["gateway", "listener"] {
            site.put(&format!("{name}.key"), "-----BEGIN PRIVATE KEY-----\n");
        }
        site.put("enrolment.key", "c2l4dGVlbiBieXRlcyBvZiBrZXk=\n");
        site.put("empty.key", "\n");
        site.put("press-7.password", "open sesame\n");
        site.put("broker.password", "open sesame\n");
        site
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn check(&self, text: &str) -> Report {
        check_text(&self.path("gateway.toml"), text)
    }

    /// What is said about a text, as `line key: what; remedy`.
    pub(crate) fn says(&self, text: &str) -> Vec<String> {
        let line = |p: &Problem| format!("{} {}: {}; {}", p.line, p.key, p.what, p.remedy);
        self.check(text).problems.iter().map(line).collect()
    }
}
