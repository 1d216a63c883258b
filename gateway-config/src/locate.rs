//! Where a key stands in a file, for mistakes that only show outside of this crate: a plugin that refuses its settings, a
//! certificate that has expired.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Severity};

/// An error at a key such as `tenant.acme.step[0].use`, with the line it stands on. If the key is not there, the line of
/// the nearest table around it; 0 if the file cannot be read any more.
#[must_use]
pub fn problem_at(file: &Path, key: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    let found = find(document.get_ref(), key).and_then(|offset| text.get(..offset));
    let (line, column) = match found {
        None => (0, 0),
        Some(before) => (
            before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
        ),
    };
    Problem {
        severity: Severity::Error,
        file: file.to_owned(),
        line,
        column,
        key: key.to_owned(),
        what: what.into(),
        remedy: remedy.into(),
    }
}

/// The data folder that a configuration names, mistakes elsewhere or not; `None` if it names none.
#[must_use]
pub fn data_dir(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    let (document, _) = DeTable::parse_recoverable(&text);
    let DeValue::Table(gateway) = document.get_ref().get("gateway")?.get_ref() else { return None };
    let DeValue::String(named) = gateway.get("data_dir")?.get_ref() else { return None };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // An absolute path stays as it is.
    (!named.is_empty()).then(|| folder.join(named.as_ref()))
}

/// The offset of the deepest part of the key that is there.
fn find(root: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = root;
    let mut offset = None;
    for part in key.split('.') {
        let (name, place) = match part.split_once('[') {
            Some((name, place)) => (name, place.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(mut value) = table.get(name) else { break };
        if let (Some(place), DeValue::Array(array)) = (place, value.get_ref()) {
            let Some(element) = array.get(place) else { break };
            value = element;
        }
        offset = Some(start(value));
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    offset
}

fn start(value: &Spanned<DeValue<'_>>) -> usize {
    value.span().start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_key_or_of_the_table_around_it_is_found() {
        let file = std::env::temp_dir().join(format!("sluice-locate-{}.toml", std::process::id()));
        std::fs::write(&file, "[uplink]\nwindow = \"1 MiB\"\n\n[[tenant.a.step]]\nuse = \"x\"\n[[tenant.a.step]]\nuse = \"y\"\n")
            .unwrap();
        let line = |key| problem_at(&file, key, "", "").line;
        assert_eq!(line("uplink.window"), 2);
        assert_eq!(line("tenant.a.step[1].use"), 7);
        assert_eq!(line("tenant.a.step[1].with"), 6);
        assert_eq!(line("nowhere"), 0);
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn the_data_folder_is_known_though_there_are_mistakes() {
        let file = std::env::temp_dir().join(format!("sluice-data-dir-{}.toml", std::process::id()));
        std::fs::write(&file, "[gateway]\ncolour = 1\ndata_dir = \"data\"\n[uplink\n").unwrap();
        assert_eq!(data_dir(&file), Some(file.with_file_name("data")));
        std::fs::write(&file, "[gateway]\ndata_dir = \"/var/lib/sluice\"\n").unwrap();
        assert_eq!(data_dir(&file), Some(PathBuf::from("/var/lib/sluice")));
        std::fs::write(&file, "[gateway]\ndata_dir = 1\n").unwrap();
        assert_eq!(data_dir(&file), None);
        std::fs::remove_file(&file).unwrap();
    }
}
