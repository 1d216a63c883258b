//! The released interface does not change.

use sha2::{Digest, Sha256};

/// SHA-256 over name and content of each file of `wit/v1`, in order of names. A plugin in the field was built from
/// these files: whoever changes one makes a new folder instead.
const V1: &str = "97d088a85462b91a6a8ba7f808debcaa36629904f05c53a486d27730f3023fbe";

#[test]
fn wit_v1_is_frozen() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/v1");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.file_name().unwrap().as_encoded_bytes());
        hash.update(std::fs::read(file).unwrap());
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, V1, "wit/v1 was released: put the change into a new folder, wit/v2");
}
