//! What the bench prints: a table for people as it goes, and one JSON object at the end.

use serde::Serialize;
use serde_json::{Map, Value};

use super::measure::Rate;

/// One measured thing, beside its limit.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What was measured.
    pub name: String,
    /// What is counted.
    pub unit: String,
    /// Of these, per second of wall time.
    pub per_second: f64,
    /// CPU seconds for a million of these.
    pub cpu_s_per_million: f64,
    /// What bounds it, measured in the same run.
    pub limit: Option<Limit>,
    /// Further figures, for people.
    pub note: String,
}

/// What bounds a measured thing.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What was done instead.
    pub name: String,
    /// In the unit of the line, per second.
    pub per_second: f64,
    /// CPU seconds for a million.
    pub cpu_s_per_million: f64,
    /// How many times more CPU the measured thing takes.
    pub cpu_ratio: f64,
}

impl Line {
    /// A measurement without a limit.
    #[must_use]
    pub fn new(name: &str, unit: &str, rate: Rate) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            per_second: rate.per_second(),
            cpu_s_per_million: rate.cpu_per_million(),
            limit: None,
            note: String::new(),
        }
    }

    /// Sets it beside its limit.
    #[must_use]
    pub fn limit(mut self, name: &str, rate: Rate) -> Self {
        self.limit = Some(Limit {
            name: name.to_owned(),
            per_second: rate.per_second(),
            cpu_s_per_million: rate.cpu_per_million(),
            cpu_ratio: self.cpu_s_per_million / rate.cpu_per_million(),
        });
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }
}

/// A bench while it runs.
#[derive(Debug, Default, Serialize)]
pub struct Bench {
    /// What was measured so far.
    pub lines: Vec<Line>,
    /// Single figures by name.
    pub figures: Map<String, Value>,
}

impl Bench {
    /// Takes a line and prints it.
    pub fn line(&mut self, line: Line) {
        println!("{}", line.text());
        self.lines.push(line);
    }

    /// Takes a single figure.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), Value::from((value * 1_000.0).round() / 1_000.0));
    }

    /// Takes a target and prints whether it was reached.
    pub fn target(&mut self, name: &str, value: f64, limit: f64, unit: &str, more_is_better: bool) {
        let (reached, relation) =
            if more_is_better { (value >= limit, "≥") } else { (value <= limit, "≤") };
        println!(
            "  {} {name}: {value:.2} {unit} (target {relation} {limit} {unit})",
            if reached { "reached" } else { "MISSED " }
        );
        self.figure(name, value);
    }
}

impl Line {
    fn text(&self) -> String {
        let mut text = format!(
            "{:<46} {:>10} {}/s {:>9.3} CPU-s/M",
            self.name,
            thousands(self.per_second),
            self.unit,
            self.cpu_s_per_million
        );
        if let Some(limit) = &self.limit {
            text += &format!(
                "\n    limit: {:<35} {:>10} {}/s {:>9.3} CPU-s/M   × {:.1}",
                limit.name,
                thousands(limit.per_second),
                self.unit,
                limit.cpu_s_per_million,
                limit.cpu_ratio
            );
        }
        if !self.note.is_empty() {
            text += &format!("\n    {}", self.note);
        }
        text
    }
}

/// A large number as people read it.
#[must_use]
pub fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2} G", value / 1e9),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}
