//! A project of each language, written by `new`, built and tested by the real binary with the real compilers. Compilers
//! and cargo's results are kept in `target/kit`, so that only the first run takes long.
//!
//! Needs node with npm, Python with pip, cargo, and on the first run their registries: without them these tests fail and
//! say what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Once, OnceLock};

/// The languages, as the command line names them, and the flag each is built with here.
pub(crate) const LANGUAGES: [&str; 4] = ["rust", "c", "js", "python"];

/// Compiled plugins of this run: interpreters are built differently each time, so that those of old runs are of no use.
pub(crate) fn compiled() -> PathBuf {
    static EMPTIED: Once = Once::new();
    let folder = kept("compiled");
    EMPTIED.call_once(|| drop(fs::remove_dir_all(&folder)));
    folder
}

/// What the tests keep from run to run.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/kit").join(name)
}

/// The binary, with its caches in the build folder.
pub(crate) fn plugin(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-plugin"))
        .args(arguments)
        .current_dir(folder)
        .env("SLUICE_TOOLS", kept("tools"))
        .env("SLUICE_PLUGIN_CACHE", compiled())
        .env("CARGO_TARGET_DIR", kept("cargo"))
        .output()
        .unwrap()
}

/// What it printed; it must have succeeded.
pub(crate) fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out.into_owned()
}

/// What it complained about; it must have failed.
pub(crate) fn complained(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A project that is written, built and tested once for all tests of this run; its component.
pub(crate) fn built(lang: &'static str) -> &'static Path {
    static BUILT: [OnceLock<PathBuf>; 4] = [const { OnceLock::new() }; 4];
    let at = LANGUAGES.iter().position(|known| *known == lang).unwrap();
    BUILT[at].get_or_init(|| fresh(lang, "processor", &["--release"]))
}

/// Writes, builds and tests a project; its component.
fn fresh(lang: &str, kind: &str, flags: &[&str]) -> PathBuf {
    // Always the same place, as some compilers put it into what they make.
    let folder = kept("built").join(format!("{lang}-{kind}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let told = said(&plugin(&folder, &["new", "--lang", lang, "--kind", kind, "hot-pressure"]));
    assert!(told.ends_with("\n  cd hot-pressure\n  sluice-plugin build && sluice-plugin test\n"), "{told}");
    let project = folder.join("hot-pressure");
    let told = said(&plugin(&project, &[&["build"][..], flags].concat()));
    assert!(told.contains("hot-pressure 0.1.0"), "{told}");
    let told = said(&plugin(&project, &["test"]));
    assert!(told.ends_with(" passed\n"), "{told}");
    // Only the component is left: projects are many files.
    let kept = folder.join("hot-pressure.wasm");
    fs::rename(project.join("build/hot-pressure.wasm"), &kept).unwrap();
    fs::remove_dir_all(project).unwrap();
    kept
}

#[test]
fn a_new_rust_project_builds_and_passes_its_test_at_once() {
    built("rust");
    fresh("rust", "decoder", &["--release"]);
}

#[test]
fn a_new_c_project_builds_and_passes_its_test_at_once() {
    built("c");
    fresh("c", "decoder", &[]);
}

#[test]
fn a_new_javascript_project_builds_and_passes_its_test_at_once() {
    built("js");
    fresh("js", "decoder", &[]);
}

#[test]
fn a_new_python_project_builds_and_passes_its_test_at_once() {
    built("python");
    fresh("python", "decoder", &[]);
}

#[test]
fn what_is_built_says_what_it_is_and_imports_nothing_but_the_interface() {
    for lang in ["rust", "c", "js"] {
        let file = built(lang).to_str().unwrap();
        let shown = said(&plugin(Path::new("."), &["inspect", "--json", file]));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["kind"], "processor", "{lang}: {shown}");
        assert_eq!(shown["manifest"]["name"], "hot-pressure");
        assert_eq!(shown["manifest"]["version"], "0.1.0");
        assert_eq!(shown["manifest"]["asks"]["state"], 256 << 10);
        assert_eq!(shown["manifest"]["asks"]["imports"], serde_json::json!(["log", "state"]));
        let imports = shown["imports"].as_array().unwrap();
        assert!(
            imports.iter().all(|import| import.as_str().unwrap().starts_with("sluice:plugin/")),
            "{imports:?}"
        );
    }
}

#[test]
fn an_example_is_what_a_new_project_is() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("plugins/examples");
    let folder = tempfile::tempdir().unwrap();
    for lang in LANGUAGES {
        for (kind, name) in [("processor", "to-fahrenheit"), ("decoder", "sensor-payload")] {
            let into = format!("{lang}-{kind}");
            said(&plugin(folder.path(), &["new", "--lang", lang, "--kind", kind, name, "--into", &into]));
            let (fresh, example) = (folder.path().join(into), examples.join(lang).join(name));
            for file in ["plugin.toml", "tests/cases.toml", ".gitignore", kit_source(lang)] {
                let read = |of: &Path| fs::read_to_string(of.join(file)).unwrap();
                assert_eq!(read(&fresh), read(&example), "{lang} {name} {file}");
            }
            let cases = |lang: &str| {
                fs::read_to_string(examples.join(lang).join(name).join("tests/cases.toml")).unwrap()
            };
            assert_eq!(cases(lang), cases("rust"), "the same job, the same cases: {lang} {name}");
        }
    }
}

fn kit_source(lang: &str) -> &'static str {
    match lang {
        "rust" => "src/lib.rs",
        "c" => "src/plugin.c",
        "js" => "src/plugin.js",
        _ => "src/plugin.py",
    }
}

#[test]
fn a_tool_that_is_missing_is_named_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    for (lang, tool) in
        [("rust", "https://rustup.rs"), ("js", "apt-get install --yes nodejs"), ("python", "python3-pip")]
    {
        said(&plugin(folder.path(), &["new", "--lang", lang, &format!("p-{lang}")]));
        let built = Command::new(env!("CARGO_BIN_EXE_sluice-plugin"))
            .arg("build")
            .current_dir(folder.path().join(format!("p-{lang}")))
            .env("PATH", "/nowhere")
            .env("SLUICE_TOOLS", folder.path().join("tools"))
            .output()
            .unwrap();
        let complaint = complained(&built);
        assert!(complaint.contains("not installed") && complaint.contains(tool), "{lang}: {complaint}");
    }
    let left = fs::read_dir(folder.path().join("tools")).unwrap().count();
    assert_eq!(left, 0, "a download that failed leaves nothing");
}

#[test]
fn what_does_not_compile_or_fit_is_told_and_leaves_the_last_result() {
    let folder = tempfile::tempdir().unwrap();
    said(&plugin(folder.path(), &["new", "--lang", "c", "cee"]));
    let project = folder.path().join("cee");
    said(&plugin(&project, &["build"]));
    let source = fs::read_to_string(project.join("src/plugin.c")).unwrap();
    let last = fs::read(project.join("build/cee.wasm")).unwrap();

    fs::write(
        project.join("src/plugin.c"),
        source.replace("const char *fault = NULL;", "const char *fault = NUL;"),
    )
    .unwrap();
    let complaint = complained(&plugin(&project, &["build"]));
    assert!(complaint.contains("src/plugin.c:") && complaint.contains("NUL"), "{complaint}");

    let prints = source
        .replace("#include <math.h>", "#include <math.h>\n#include <stdio.h>")
        .replace("return fault;", "puts(\"hello\");\n  return fault;");
    fs::write(project.join("src/plugin.c"), prints).unwrap();
    let complaint = complained(&plugin(&project, &["build"]));
    assert!(complaint.contains("use WASI") && complaint.contains("sluice_log"), "{complaint}");
    assert_eq!(fs::read(project.join("build/cee.wasm")).unwrap(), last);

    said(&plugin(folder.path(), &["new", "--lang", "rust", "rusty"]));
    let manifest = folder.path().join("rusty/plugin.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("0.1.0", "0.2.0")).unwrap();
    let complaint = complained(&plugin(&folder.path().join("rusty"), &["build"]));
    assert!(complaint.contains("make them the same"), "{complaint}");
}
