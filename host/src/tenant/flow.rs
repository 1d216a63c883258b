//! Rows on their way through a lane, and the messages they came from.
//!
//! Every message of a cycle has a number; a frame's [`Lines`] say which message each of its rows came from, through all
//! steps that tell. So a row that the third step rejects is kept with the bytes the device sent.

use std::collections::HashMap;
use std::sync::Arc;

use wire::frame::Frame;

use super::rows::{append, columns_key, same_columns};
use crate::intake::Originals;

/// A row whose message is not known.
const UNKNOWN: u32 = u32::MAX;

/// Where the rows of a frame came from: numbers of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lines {
    /// Made by a plugin.
    Unknown,
    /// Row r came from this message + r.
    Run(u32),
    /// Per row.
    List(Vec<u32>),
}

impl Lines {
    /// The message of a row.
    pub(super) fn get(&self, row: u32) -> Option<u32> {
        match self {
            Lines::Unknown => None,
            Lines::Run(first) => Some(first + row),
            Lines::List(lines) => lines.get(row as usize).copied().filter(|&line| line != UNKNOWN),
        }
    }

    /// The lines of some of the rows.
    pub(super) fn select(&self, rows: &[u32]) -> Self {
        match self {
            Lines::Unknown => Lines::Unknown,
            Lines::Run(_) | Lines::List(_) => {
                Lines::List(rows.iter().map(|&row| self.get(row).unwrap_or(UNKNOWN)).collect())
            }
        }
    }

    /// Puts the lines of more rows behind those of the first `rows`.
    fn append(&mut self, rows: usize, other: &Lines, added: usize) {
        let rows = u32::try_from(rows).unwrap_or(UNKNOWN);
        let added = u32::try_from(added).unwrap_or(UNKNOWN);
        match (&*self, other) {
            (Lines::Unknown, Lines::Unknown) => {}
            (Lines::Run(first), Lines::Run(next)) if first + rows == *next => {}
            _ => {
                let list =
                    |lines: &Lines, count| (0..count).map(|row| lines.get(row).unwrap_or(UNKNOWN)).collect();
                let mut all: Vec<u32> = match std::mem::replace(self, Lines::Unknown) {
                    Lines::List(all) => all,
                    lines => list(&lines, rows),
                };
                let more: Vec<u32> = list(other, added);
                all.extend(more);
                *self = Lines::List(all);
            }
        }
    }
}

/// Frames and their lines, side by side because steps take frames as a slice.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) frames: Vec<Frame>,
    pub(super) lines: Vec<Lines>,
}

impl Flow {
    /// Adds a frame, if it has rows.
    pub(super) fn push(&mut self, frame: Frame, lines: Lines) {
        if frame.rows() > 0 {
            self.frames.push(frame);
            self.lines.push(lines);
        }
    }

    /// Adds all frames of another flow.
    pub(super) fn extend(&mut self, other: Flow) {
        self.frames.extend(other.frames);
        self.lines.extend(other.lines);
    }

    /// Rows of all frames.
    pub(super) fn rows(&self) -> u64 {
        self.frames.iter().map(|frame| frame.rows() as u64).sum()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames with their lines.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Frame, &Lines)> {
        self.frames.iter().zip(&self.lines)
    }

    /// Lets frames with the same columns become one: fewer, longer columns for the steps and the codec.
    pub(super) fn merge(&mut self) {
        if self.frames.len() < 2 {
            return;
        }
        let mut merged = Flow::default();
        let mut places: HashMap<u64, usize> = HashMap::with_capacity(self.frames.len());
        for (frame, lines) in
            std::mem::take(&mut self.frames).into_iter().zip(std::mem::take(&mut self.lines))
        {
            let place = *places.entry(columns_key(&frame)).or_insert(merged.frames.len());
            match (merged.frames.get_mut(place), merged.lines.get_mut(place)) {
                (Some(first), Some(first_lines)) if same_columns(first, &frame) => {
                    first_lines.append(first.rows(), &lines, frame.rows());
                    append(first, frame);
                }
                _ => merged.push(frame, lines),
            }
        }
        *self = merged;
    }

    /// Two flows with half of it each; `None` if it is a single row.
    pub(super) fn halves(self) -> Result<(Flow, Flow), Flow> {
        let (mut first, mut second) = (Flow::default(), Flow::default());
        match self.frames.as_slice() {
            [] => return Err(self),
            [frame] => {
                let rows = u32::try_from(frame.rows()).unwrap_or(u32::MAX);
                if rows < 2 {
                    return Err(self);
                }
                let lines = self.lines.first().cloned().unwrap_or(Lines::Unknown);
                for (half, rows) in [(&mut first, 0..rows / 2), (&mut second, rows / 2..rows)] {
                    let rows: Vec<u32> = rows.collect();
                    half.push(frame.take_rows(&rows), lines.select(&rows));
                }
            }
            frames => {
                let middle = frames.len() / 2;
                for (at, (frame, lines)) in self.frames.into_iter().zip(self.lines).enumerate() {
                    if at < middle { &mut first } else { &mut second }.push(frame, lines);
                }
            }
        }
        Ok((first, second))
    }
}

/// The messages of a cycle, by number.
#[derive(Default)]
pub(super) struct Messages {
    tables: Vec<Table>,
    next: u32,
}

struct Table {
    first: u32,
    payloads: Originals,
    topics: Topics,
}

/// Where messages came by.
pub(super) enum Topics {
    /// All by one source, whose name stands for their topics.
    Source(Arc<str>),
    /// Per message.
    Each(Vec<String>),
}

impl Messages {
    /// Adds messages and gives the number of the first.
    pub(super) fn add(&mut self, payloads: Originals, topics: Topics) -> u32 {
        let first = self.next;
        let count = u32::try_from(payloads.ends.len()).unwrap_or(0);
        self.next = self.next.saturating_add(count);
        self.tables.push(Table { first, payloads, topics });
        first
    }

    /// Payload and topic of a message.
    pub(super) fn get(&self, line: u32) -> Option<(&[u8], &str)> {
        let after = self.tables.partition_point(|table| table.first <= line);
        let table = self.tables.get(after.checked_sub(1)?)?;
        let at = (line - table.first) as usize;
        let topic = match &table.topics {
            Topics::Source(name) => name,
            Topics::Each(topics) => topics.get(at).map_or("", String::as_str),
        };
        Some((table.payloads.get(at)?, topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(times: std::ops::Range<i64>) -> Frame {
        Frame {
            profile: "p".into(),
            devices: vec!["d".into()],
            device: times.clone().map(|_| 0).collect(),
            time: times.collect(),
            columns: vec![],
        }
    }

    #[test]
    fn rows_keep_their_messages_when_frames_are_merged_and_halved() {
        let mut messages = Messages::default();
        let mut flow = Flow::default();
        for part in [0..3, 3..5, 5..9] {
            let mut payloads = Originals::default();
            part.clone().for_each(|n: i64| payloads.push(&[n as u8]));
            let first = messages.add(payloads, Topics::Source("floor".into()));
            flow.push(frame(part), Lines::Run(first));
        }
        flow.push(frame(100..101), Lines::Unknown);
        flow.merge();
        assert_eq!((flow.frames.len(), flow.rows()), (1, 10));
        let (first, second) = flow.halves().ok().unwrap();
        for half in [&first, &second] {
            for (frame, lines) in half.iter() {
                for (row, &time) in (0..).zip(&frame.time) {
                    let payload = lines.get(row).map(|line| messages.get(line).unwrap().0.to_vec());
                    assert_eq!(payload, (time < 100).then(|| vec![time as u8]));
                }
            }
        }
        assert_eq!(first.rows() + second.rows(), 10);
    }

    #[test]
    fn runs_that_follow_each_other_stay_a_run() {
        let mut lines = Lines::Run(4);
        lines.append(3, &Lines::Run(7), 2);
        assert_eq!(lines, Lines::Run(4));
        lines.append(5, &Lines::Run(20), 1);
        assert_eq!(lines, Lines::List(vec![4, 5, 6, 7, 8, 20]));
    }
}
