//! Differences as a table for people: what is expected above what came, the cells that differ in brackets (and in colour
//! on a terminal).
//!
//! ```text
//!             row  device   time  temperature_c  state
//!   expected    1  press-1  10 s  [22]           RUN
//!   got         1  press-1  10 s  [22.1]         RUN
//!   expected    2  press-1  20 s  23             RUN
//!   got         –  (missing)
//! ```

use super::diff::{Difference, Differences, Shown};
use super::moment;

/// Most columns beside row, device and time; those that differ come first.
const MAX_COLUMNS: usize = 8;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours(pub bool);

impl Colours {
    /// Colours if standard output is a terminal and NO_COLOR is not set.
    #[must_use]
    pub fn of_stdout() -> Self {
        use std::io::IsTerminal as _;
        Colours(
            std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        )
    }

    /// In green.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.paint(text, "32")
    }

    /// In red.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.paint(text, "31")
    }

    /// In bold.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn paint(self, text: &str, code: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// How the two sides are called.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// Of what is expected.
    pub expected: &'a str,
    /// Of what came.
    pub got: &'a str,
}

struct Line {
    label: String,
    row: String,
    /// None: the row is not there.
    cells: Option<Vec<(String, bool)>>,
    good: bool,
    missing: &'static str,
}

/// The table, each line two spaces in.
#[must_use]
pub fn table(found: &Differences, start: i64, sides: Sides<'_>, colours: Colours) -> String {
    let heads = heads(&found.first);
    let lines: Vec<Line> = found
        .first
        .iter()
        .flat_map(|difference| {
            let line = |shown: &Option<Shown>, label: &str, good: bool, missing| Line {
                label: label.to_owned(),
                row: shown.as_ref().map_or_else(|| "–".to_owned(), |shown| shown.row.to_string()),
                cells: shown.as_ref().map(|shown| cells(shown, &heads, difference, start)),
                good,
                missing,
            };
            [
                line(&difference.expected, sides.expected, true, "(no such row)"),
                line(&difference.got, sides.got, false, "(missing)"),
            ]
        })
        .collect();
    let width = |column: usize, head: &str| {
        let cells = lines.iter().filter_map(|line| line.cells.as_ref()?.get(column));
        let widths = cells.map(|(cell, marked)| cell.chars().count() + if *marked { 2 } else { 0 });
        widths.chain([head.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = heads.iter().enumerate().map(|(column, head)| width(column, head)).collect();
    let label = lines.iter().map(|line| line.label.chars().count()).max().unwrap_or(0);
    let row = lines.iter().map(|line| line.row.chars().count()).max().unwrap_or(0).max(3);
    let mut text = format!("  {:label$}  {:>row$}", "", "row");
    for (head, width) in heads.iter().zip(&widths) {
        text.push_str(&format!("  {head:width$}"));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    for line in &lines {
        let mut out = format!("  {:label$}  {:>row$}", line.label, line.row);
        match &line.cells {
            None => out.push_str(&format!("  {}", line.missing)),
            Some(cells) => {
                for ((cell, marked), width) in cells.iter().zip(&widths) {
                    let plain = if *marked { format!("[{cell}]") } else { cell.clone() };
                    let padding = width.saturating_sub(plain.chars().count());
                    let painted = match (marked, line.good) {
                        (false, _) => plain,
                        (true, true) => colours.good(&plain),
                        (true, false) => colours.bad(&plain),
                    };
                    out.push_str(&format!("  {painted}{:padding$}", ""));
                }
            }
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    let more = found.differing - found.first.len();
    if more > 0 {
        text.push_str(&format!("  … and {more} more rows\n"));
    }
    text
}

/// Device, time, then the columns that differ, then the others, as far as there is room.
fn heads(differences: &[Difference]) -> Vec<String> {
    let mut heads = vec!["device".to_owned(), "time".to_owned()];
    let mut add = |name: &String| {
        if !heads.contains(name) && heads.len() < MAX_COLUMNS + 2 {
            heads.push(name.clone());
        }
    };
    let differing: Vec<&String> = differences.iter().flat_map(|difference| &difference.columns).collect();
    let all = || {
        let rows = differences.iter().flat_map(|difference| [&difference.expected, &difference.got]);
        rows.flatten().flat_map(|shown| shown.cells.iter().map(|(name, _)| name))
    };
    // In the order of the frame if there is room for all.
    let names: std::collections::BTreeSet<&String> = all().collect();
    if names.len() > MAX_COLUMNS {
        differing.iter().copied().for_each(&mut add);
    }
    all().for_each(&mut add);
    differing.into_iter().for_each(&mut add);
    heads
}

fn cells(shown: &Shown, heads: &[String], difference: &Difference, start: i64) -> Vec<(String, bool)> {
    let cell = |name: &String| {
        let text = match name.as_str() {
            "device" => shown.device.clone(),
            "time" => moment::show(shown.time, start),
            "profile" => shown.profile.clone(),
            _ => match shown.cells.iter().find(|(column, _)| column == name) {
                Some((_, text)) => text.clone(),
                None if name.starts_with("status:") => "good".to_owned(),
                None => "–".to_owned(),
            },
        };
        (text, difference.columns.contains(name))
    };
    heads.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(row: usize, x: &str) -> Shown {
        Shown {
            row,
            device: "press-1".into(),
            time: moment::START + row as i64 * 10_000_000_000,
            profile: "p".into(),
            cells: vec![("temperature_c".into(), x.into()), ("state".into(), "RUN".into())],
        }
    }

    #[test]
    fn the_cells_that_differ_are_marked() {
        let found = Differences {
            expected: 3,
            got: 2,
            differing: 5,
            first: vec![
                Difference {
                    expected: Some(shown(1, "22")),
                    got: Some(shown(1, "22.1")),
                    columns: vec!["temperature_c".into()],
                },
                Difference { expected: Some(shown(2, "23")), got: None, columns: vec![] },
            ],
        };
        let sides = Sides { expected: "expected", got: "got" };
        assert_eq!(
            table(&found, moment::START, sides, Colours(false)),
            "            row  device   time  temperature_c  state\n\
             \x20 expected    1  press-1  10 s  [22]           RUN\n\
             \x20 got         1  press-1  10 s  [22.1]         RUN\n\
             \x20 expected    2  press-1  20 s  23             RUN\n\
             \x20 got         –  (missing)\n\
             \x20 … and 3 more rows\n"
        );
        let coloured = table(&found, moment::START, sides, Colours(true));
        assert!(coloured.contains("\u{1b}[31m[22.1]\u{1b}[0m         RUN"), "{coloured}");
    }
}
