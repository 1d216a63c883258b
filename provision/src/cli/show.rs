//! Pieces of text that several commands show.

use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use wire::table::{count, duration};

use crate::api::admin::dto::{JournalLine, Page, Share};

const SECOND: i64 = 1_000_000_000;

/// What people read fits so many columns.
const COLUMNS: usize = 100;

/// What there is nothing to say of.
pub(super) const NOTHING: &str = "-";

/// Seconds since 1970 UTC, now.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `2026-11-24T06:30:00Z`.
pub(super) fn moment(seconds: i64) -> String {
    wire::when::show(seconds.saturating_mul(SECOND))
}

/// `2026-11-24`.
pub(super) fn date(seconds: i64) -> String {
    moment(seconds).chars().take(10).collect()
}

/// `3 min`: so long ago, in the largest unit.
pub(super) fn age(at: i64, now: i64) -> String {
    let span = now.saturating_sub(at).max(0);
    match span {
        0..60 => format!("{span} s"),
        60..3_600 => format!("{} min", span / 60),
        3_600..86_400 => format!("{} h", span / 3_600),
        _ => format!("{} d", span / 86_400),
    }
}

/// `about 3 min 5 s`.
pub(super) fn about(seconds: u64) -> String {
    format!("about {}", duration(seconds as f64))
}

/// An enum without values as its word in JSON.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Names with commas; [`NOTHING`] if there are none.
pub(super) fn names<T: Display>(names: &[T]) -> String {
    if names.is_empty() {
        return NOTHING.to_owned();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// `acme 50, beta 5`.
pub(super) fn shares(shares: &[Share]) -> String {
    let shares: Vec<String> =
        shares.iter().map(|share| format!("{} {}", share.tenant, count(u64::from(share.devices)))).collect();
    names(&shares)
}

/// A text in a table that has its length elsewhere: its beginning.
pub(super) fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// Something, or [`NOTHING`].
pub(super) fn or_nothing<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

/// `1 move`, `2 moves`.
pub(super) fn some(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Lines of what and how it is, lined up, two spaces in.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    facts.iter().map(|(what, how)| format!("  {what:<width$}  {how}\n")).collect()
}

/// The journal of an operation or a rollout, with long lines broken; nothing if it is empty.
pub(super) fn journal(journal: &[JournalLine]) -> String {
    let mut text = String::new();
    for (place, entry) in journal.iter().enumerate() {
        if place == 0 {
            text.push_str("journal\n");
        }
        text.push_str(&broken(&format!("  {}  ", moment(entry.at)), 24, &entry.text));
    }
    text
}

/// Text behind what its first line begins with, broken between words; the lines that follow are set in by `indent`.
pub(super) fn broken(first: &str, indent: usize, text: &str) -> String {
    let (mut all, mut line, mut words) = (String::new(), first.to_owned(), 0);
    for word in text.split_whitespace() {
        if words > 0 && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            all.push_str(&line);
            all.push('\n');
            (line, words) = (" ".repeat(indent), 0);
        }
        if words > 0 {
            line.push(' ');
        }
        line.push_str(word);
        words += 1;
    }
    all.push_str(line.trim_end());
    all.push('\n');
    all
}

/// A list as a table, with what there is to say if it is empty or goes on.
pub(super) fn list<T>(page: &Page<T>, empty: &str, table: impl FnOnce(&[T]) -> String) -> String {
    if page.items.is_empty() {
        return format!("{empty}\n");
    }
    let mut text = table(&page.items);
    if let Some(next) = &page.next {
        text.push_str(&format!("  … and more: --after {next}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_said_as_people_say_them() {
        assert_eq!(age(0, 59), "59 s");
        assert_eq!(age(0, 3 * 86_400 + 5), "3 d");
        assert_eq!(age(10, 0), "0 s", "a clock that is ahead");
        assert_eq!(date(1_790_000_000), "2026-09-21");
        assert_eq!((cut("gate", 4), cut("gates", 4)), ("gate".into(), "gat…".into()));
        assert_eq!((some(1, "move"), some(2_000, "move")), ("1 move".into(), "2,000 moves".into()));
    }

    #[test]
    fn long_lines_of_a_journal_are_broken_between_words() {
        assert_eq!(journal(&[]), "");
        let text = "word ".repeat(40) + &"x".repeat(120);
        let shown = journal(&[
            JournalLine { at: 0, text: text.clone() },
            JournalLine { at: 1, text: "short".into() },
        ]);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!((lines[0], lines.len()), ("journal", 6), "{shown}");
        assert!(lines[1].starts_with("  1970-01-01T00:00:00Z  word word") && lines[1].len() <= COLUMNS);
        assert!(lines[2].starts_with(&(" ".repeat(24) + "word")) && lines[2].len() <= COLUMNS);
        assert_eq!(lines[5], "  1970-01-01T00:00:01Z  short");
        let said: Vec<&str> = shown.split_whitespace().filter(|word| *word == "word").collect();
        assert_eq!(said.len(), 40, "nothing is left out");
    }

    #[test]
    fn a_list_says_that_it_is_empty_or_goes_on() {
        let mut page = Page { items: vec![1], next: Some("x".into()) };
        assert_eq!(list(&page, "none", |_| "t\n".into()), "t\n  … and more: --after x\n");
        page.items.clear();
        assert_eq!(list(&page, "none", |_| "t\n".into()), "none\n");
    }
}
