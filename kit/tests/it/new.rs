//! `sluice-plugin new`: what it refuses.

use std::fs;
use std::process::{Command, Output};

fn new(folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-plugin"))
        .arg("new")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_name_that_is_none_is_refused_and_a_good_one_shown() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["Hot", "hot_pressure", "7up", "../up", "-x", "hot-"] {
        let output = new(folder.path(), &["--lang", "rust", "--", name]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(told(&output).contains("hot-pressure"), "{}", told(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("hot")).unwrap();
    fs::write(folder.path().join("hot/mine"), "work").unwrap();
    let output = new(folder.path(), &["--lang", "c", "hot"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("not empty"), "{}", told(&output));
    assert_eq!(fs::read_dir(folder.path().join("hot")).unwrap().count(), 1);
}
