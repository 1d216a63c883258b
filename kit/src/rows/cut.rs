//! Parts of frames: the gateway hands a plugin at most a cycle's worth of rows at once, and so does this tool.

use wire::frame::{Blobs, Column, Frame, Texts, Values};

/// Most rows of a call: what a lane of the gateway gathers in one cycle.
pub const CALL_ROWS: usize = 4_096;

/// Frames in groups of at most `most` rows; of each piece, the index of its frame and its first row there.
#[must_use]
pub fn calls(frames: &[Frame], most: usize) -> Vec<Vec<(usize, usize, Frame)>> {
    let most = most.max(1);
    let mut calls = Vec::new();
    let mut call: Vec<(usize, usize, Frame)> = Vec::new();
    let mut room = most;
    for (at, frame) in frames.iter().enumerate() {
        let mut from = 0;
        while from < frame.rows() {
            let to = frame.rows().min(from + room);
            call.push((at, from, rows(frame, from, to)));
            room -= to - from;
            from = to;
            if room == 0 {
                calls.push(std::mem::take(&mut call));
                room = most;
            }
        }
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

/// The rows from one place to another, as a frame.
fn rows(frame: &Frame, from: usize, to: usize) -> Frame {
    if from == 0 && to == frame.rows() {
        return frame.clone();
    }
    let columns = frame.columns.iter().map(|column| Column {
        name: column.name.clone(),
        unit: column.unit.clone(),
        values: values(&column.values, from, to),
        status: part(&column.status, from, to),
    });
    Frame {
        profile: frame.profile.clone(),
        devices: frame.devices.clone(),
        device: part(&frame.device, from, to),
        time: part(&frame.time, from, to),
        columns: columns.collect(),
    }
}

fn values(values: &Values, from: usize, to: usize) -> Values {
    match values {
        Values::F64(values) => Values::F64(part(values, from, to)),
        Values::I64(values) => Values::I64(part(values, from, to)),
        Values::Bool(values) => Values::Bool(part(values, from, to)),
        Values::Text(texts) => {
            Values::Text(Texts { dictionary: texts.dictionary.clone(), index: part(&texts.index, from, to) })
        }
        Values::Blob(blobs) => {
            let mut cut = Blobs::default();
            (from..to).filter_map(|row| blobs.get(row)).for_each(|bytes| cut.push(bytes));
            Values::Blob(cut)
        }
    }
}

fn part<T: Clone>(list: &[T], from: usize, to: usize) -> Vec<T> {
    list.get(from..to).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_into_calls_that_together_are_the_same_rows() {
        let mut blobs = Blobs::default();
        (0..5u8).for_each(|n| blobs.push(&vec![n; usize::from(n)]));
        let frame = Frame {
            profile: "p".into(),
            devices: vec!["d".into()],
            device: vec![0; 5],
            time: vec![0, 1, 2, 3, 4],
            columns: vec![Column {
                name: "b".into(),
                unit: String::new(),
                values: Values::Blob(blobs),
                status: vec![9; 5],
            }],
        };
        let calls = calls(&[frame.clone(), frame.clone(), frame], 4);
        let shape: Vec<Vec<(usize, usize, usize)>> = calls
            .iter()
            .map(|call| call.iter().map(|(at, from, frame)| (*at, *from, frame.rows())).collect())
            .collect();
        assert_eq!(
            shape,
            [vec![(0, 0, 4)], vec![(0, 4, 1), (1, 0, 3)], vec![(1, 3, 2), (2, 0, 2)], vec![(2, 2, 3)]]
        );
        for (_, from, frame) in calls.iter().flatten() {
            frame.check().unwrap();
            assert_eq!(frame.time[0], *from as i64);
            let Values::Blob(blobs) = &frame.columns[0].values else { panic!("b is a blob") };
            assert_eq!(blobs.get(0), Some(&vec![*from as u8; *from][..]));
        }
    }
}
