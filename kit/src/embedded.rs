//! What a new plugin project is made of, as `build.rs` collected it: SDKs and example projects by path.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The manifest of the Rust SDK outside its own workspace.
pub(crate) const RUST_SDK_MANIFEST: &str = include_str!("../sdk/rust/Cargo.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rust_sdk_depends_on_the_same_outside_its_workspace() {
        let workspace: toml::Table = include_str!("../../plugins/Cargo.toml").parse().unwrap();
        let inside: toml::Table = include_str!("../../plugins/sdk/Cargo.toml").parse().unwrap();
        let outside: toml::Table = RUST_SDK_MANIFEST.parse().unwrap();
        let names =
            |of: &toml::Table| of["dependencies"].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&inside), names(&outside));
        for name in names(&outside) {
            let (shared, own) =
                (&workspace["workspace"]["dependencies"][&name], &outside["dependencies"][&name]);
            assert_eq!(shared, own, "{name}");
        }
        for key in ["version", "edition", "rust-version"] {
            assert_eq!(workspace["workspace"]["package"][key], outside["package"][key], "{key}");
        }
    }
}
