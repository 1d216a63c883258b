//! Dead letters for people. What devices and plugins sent is shown with its control characters made visible, so that it
//! does nothing to the terminal.

use std::fmt::Write;

use wire::frame::Frame;
use wire::frame_json::value_to_json;
use wire::ids::TenantId;

use super::super::table::{Set, bytes, count, table};
use super::super::when;
use crate::admin::question::Stays;
use crate::store::{KeptLetter, Totals};

/// A tenant, its totals, how many letters pass the filter and their bytes, and the newest of them.
pub(super) type Listed = (TenantId, Totals, (u64, u64), Vec<KeptLetter>);

/// Most characters of a reason in a table.
const REASON: usize = 72;
/// Most bytes of an original that are shown.
const ORIGINAL: usize = 4 << 10;

pub(super) fn list(tenants: &[Listed]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (tenant, totals, (found, size), letters) in tenants {
        let _ = write!(text, "{tenant}: {} dead letters", count(*found));
        if *found > 0 {
            let _ = write!(text, " ({})", bytes(*size));
        }
        if *found != totals.dead_letters {
            let _ = write!(text, " of {}", count(totals.dead_letters));
        }
        let gone = [
            (totals.dead_replayed, "replayed"),
            (totals.dead_dropped, "dropped by hand"),
            (totals.dead_evicted, "pushed out by newer ones"),
        ];
        for (number, what) in gone.into_iter().filter(|(number, _)| *number > 0) {
            let _ = write!(text, ", {} {what}", count(number));
        }
        text.push('\n');
        text.push_str(&rows(tenant, letters));
        let more = found.saturating_sub(letters.len() as u64);
        if more > 0 && !letters.is_empty() {
            let _ = writeln!(text, "  and {} older ones: narrow them down or raise --limit", count(more));
        }
    }
    if tenants.is_empty() {
        text.push_str("there are no stores here yet\n");
    }
    text
}

fn rows(tenant: &TenantId, letters: &[KeptLetter]) -> String {
    let heads = [
        ("LETTER", Set::Left),
        ("DIED", Set::Left),
        ("KIND", Set::Left),
        ("STEP", Set::Left),
        ("DEVICE", Set::Left),
        ("REASON", Set::Left),
    ];
    let row = |kept: &KeptLetter| {
        let letter = &kept.letter;
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { visible(text) };
        vec![
            format!("{tenant}/{}", kept.id),
            when::show(kept.kept),
            letter.kind.as_str().to_owned(),
            dash(&letter.step),
            dash(&letter.device),
            cut(&visible(letter.reason.lines().next().unwrap_or_default())),
        ]
    };
    table(&heads, &letters.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn letter(tenant: &TenantId, kept: &KeptLetter) -> String {
    let letter = &kept.letter;
    let mut text = format!("{tenant}/{}: {}\n", kept.id, letter.kind.as_str());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<14}{value}");
        }
    };
    line("reason", &visible(&letter.reason));
    line("step", &visible(&letter.step));
    line("plugin", &visible(&letter.plugin));
    line("digest", &letter.digest);
    line("configuration", &visible(&letter.config));
    line("device", &visible(&letter.device));
    line("topic", &visible(&letter.topic));
    line("time", &when::show(letter.time));
    line("died", &when::show(kept.kept));
    if !letter.trace.is_empty() {
        text.push_str("  back trace\n");
        indented(&mut text, &letter.trace);
    }
    if let Some(frame) = super::row(letter) {
        text.push_str("  the row as it came to the step\n");
        text.push_str(&cells(&frame));
    }
    let _ = writeln!(text, "  original, {} bytes", count(letter.original.len() as u64));
    text.push_str(&original(&letter.original));
    let _ = match letter.replays() {
        Ok(()) => writeln!(text, "  mended? sluice-gateway dead-letters replay {tenant}/{}", kept.id),
        Err(why) => writeln!(text, "  cannot be replayed: {why}"),
    };
    text
}

pub(super) fn replayed(replayed: u64, dead_again: u64, stay: &[(TenantId, Stays)]) -> String {
    let mut text = format!("{} dead letters replayed", count(replayed));
    if dead_again > 0 {
        let _ = write!(text, "; {} rows failed again and are new dead letters", count(dead_again));
    }
    text.push('\n');
    for (tenant, Stays { id, why }) in stay {
        let _ = writeln!(text, "{tenant}/{id} stays: {why}");
    }
    text
}

/// A row, one line a column.
fn cells(frame: &Frame) -> String {
    let mut text = String::new();
    for column in &frame.columns {
        let value = visible(&value_to_json(&column.values, 0).to_string());
        let status = column.status.first().filter(|status| **status != 0);
        let status = status.map_or(String::new(), |status| format!("  status 0x{status:08X}"));
        let _ = writeln!(
            text,
            "    {} = {}{}{status}",
            visible(&column.name),
            cut_to(&value, 200),
            if column.unit.is_empty() { String::new() } else { format!(" {}", visible(&column.unit)) },
        );
    }
    text
}

/// Text as it is, anything else in hexadecimal.
fn original(bytes: &[u8]) -> String {
    let shown = bytes.get(..ORIGINAL).unwrap_or(bytes);
    let mut text = String::new();
    match std::str::from_utf8(shown) {
        Ok(lines) => indented(&mut text, lines),
        Err(_) => {
            for (at, part) in (0..).step_by(16).zip(shown.chunks(16)) {
                let hex: String = part.iter().map(|byte| format!("{byte:02x} ")).collect();
                let plain: String = part
                    .iter()
                    .map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' })
                    .collect();
                let _ = writeln!(text, "    {at:06x}  {hex:<48} {plain}");
            }
        }
    }
    if shown.len() < bytes.len() {
        text.push_str("    … (--json shows all)\n");
    }
    text
}

fn indented(text: &mut String, lines: &str) {
    for line in lines.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {}", visible(line));
    }
}

/// Control characters as escapes.
pub(in super::super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // Also those that turn the direction of writing.
        let turns =
            matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn cut(text: &str) -> String {
    cut_to(text, REASON)
}

fn cut_to(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DeadLetter, LetterKind};

    #[test]
    fn what_a_device_sent_does_nothing_to_the_terminal() {
        let letter = DeadLetter {
            kind: LetterKind::Undecodable,
            reason: "bad\u{1b}[2J".to_owned(),
            original: b"{\"a\":\x1b[31m}".to_vec(),
            ..DeadLetter::default()
        };
        let kept = KeptLetter { id: 3, letter, ..KeptLetter::default() };
        let text = super::letter(&TenantId::new("acme").unwrap(), &kept);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("cannot be replayed: it never became a row"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hexadecimal() {
        assert_eq!(
            original(&[0, 255, b'a']),
            "    000000  00 ff 61                                         ..a\n"
        );
    }
}
