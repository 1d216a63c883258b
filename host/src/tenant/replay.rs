//! Dead letters that go through the lane again, from the step on that they failed in.
//!
//! A letter of a step holds the row as it entered it; one of a decoder the message. Letters of a source, and of what
//! could not be sent, have neither a row nor a way on: they stay. Invariant: a letter's deletion and what comes of its row
//! are in one commit.

use wire::codec::{Limits, decode};

use super::chain::Chain;
use super::cycle::Cycle;
use super::flow::{Flow, Lines, Topics};
use crate::intake::{Originals, Raw};
use crate::store::DeadLetter;

/// Letters of one cycle.
const LETTERS: usize = 1_024;

/// Cycles that replay letters, and the letters that stay, with the reason.
pub(super) type Sorted = (Vec<Cycle>, Vec<(i64, String)>);

/// Puts letters that begin at the same step into cycles together, in their order.
pub(super) fn cycles(chain: &Chain, letters: Vec<(i64, DeadLetter)>) -> Sorted {
    let (mut cycles, mut left): Sorted = (Vec::new(), Vec::new());
    for (id, letter) in letters {
        let at = match place(chain, &letter) {
            Ok(at) => at,
            Err(why) => {
                left.push((id, why));
                continue;
            }
        };
        let fits = |cycle: &Cycle| cycle.at == at && cycle.work.commit.letters_gone.len() < LETTERS;
        let mut cycle = match cycles.pop_if(|cycle| fits(cycle)) {
            Some(cycle) => cycle,
            None => Cycle { at, ..Cycle::default() },
        };
        match add(&mut cycle, chain, letter) {
            Ok(()) => cycle.work.commit.letters_gone.push(id),
            Err(why) => left.push((id, why)),
        }
        if !cycle.work.commit.letters_gone.is_empty() {
            cycles.push(cycle);
        }
    }
    (cycles, left)
}

/// The step that a letter's row enters; a decoder's message enters the first with what is decoded of it.
fn place(chain: &Chain, letter: &DeadLetter) -> Result<usize, String> {
    if letter.step.is_empty() {
        return Err(format!("it reached no step ({}): only `export` gets it out", letter.kind.as_str()));
    }
    if chain.decoders.iter().any(|link| link.is(&letter.step)) {
        return Ok(0);
    }
    chain.place(&letter.step).ok_or_else(|| format!("the lane has no step {:?} any more", letter.step))
}

fn add(cycle: &mut Cycle, chain: &Chain, letter: DeadLetter) -> Result<(), String> {
    let frames = match letter.frame.is_empty() {
        true => Vec::new(),
        false => decode(&letter.frame, &Limits::default()).map_err(|error| format!("its row: {error}"))?,
    };
    let mut payloads = Originals::default();
    payloads.push(&letter.original);
    if let Some(link) = chain.decoders.iter().find(|link| link.is(&letter.step)) {
        cycle.accept_raw(Raw {
            decoder: link.setup.name.clone(),
            profile: frames.into_iter().next().map(|frame| frame.profile).unwrap_or_default(),
            devices: vec![letter.device],
            device: vec![0],
            arrived: vec![letter.time],
            topics: vec![letter.topic],
            payloads,
        });
        return Ok(());
    }
    let [frame] = frames.try_into().map_err(|_| "its row was not kept".to_owned())?;
    if frame.rows() != 1 {
        return Err(format!("it holds {} rows instead of one", frame.rows()));
    }
    let line = cycle.work.messages.add(payloads, Topics::Each(vec![letter.topic]));
    let mut flow = Flow::default();
    flow.push(frame, Lines::Run(line));
    cycle.flow.extend(flow);
    Ok(())
}
