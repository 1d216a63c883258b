//! A step's or decoder's instance, called with rows of a lane or beside it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use runtime::{CallContext, DecodeStep, Processed, Step, StepFault};
use wire::frame::Frame;

use super::flow::{Flow, Messages};

/// A step with its plugin's instance.
pub(super) enum Runner {
    Step(Step),
    Decoder(DecodeStep),
}

impl Runner {
    pub(super) async fn call(
        &mut self,
        flow: &Flow,
        messages: &Messages,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        match self {
            Runner::Step(step) => step.process_async(&flow.frames, context).await,
            Runner::Decoder(decoder) => {
                let gathered = Gathered::of(flow, messages);
                decoder.decode_async(&gathered.lend(flow), context).await
            }
        }
    }

    pub(super) fn tick_every(&self) -> Option<Duration> {
        match self {
            Runner::Step(step) => step.tick_every(),
            Runner::Decoder(_) => None,
        }
    }

    /// One call beside the lane: frames, or a tick. A decoder is given neither.
    pub(super) async fn call_frames(
        &mut self,
        frames: Option<&[Frame]>,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        match (self, frames) {
            (Runner::Step(step), Some(frames)) => step.process_async(frames, context).await,
            (Runner::Step(step), None) => step.tick_async(context).await,
            (Runner::Decoder(_), _) => Ok(Processed::default()),
        }
    }

    /// What a migration changed of the state, once.
    pub(super) fn take_migration(&mut self) -> Vec<runtime::StateChange> {
        match self {
            Runner::Step(step) => step.take_migration(),
            Runner::Decoder(decoder) => decoder.take_migration(),
        }
    }

    /// Bytes of linear memory of its instance.
    pub(super) fn memory(&self) -> u64 {
        let bytes = match self {
            Runner::Step(step) => step.memory_bytes(),
            Runner::Decoder(decoder) => decoder.memory_bytes(),
        };
        bytes as u64
    }

    /// A copy of what it keeps.
    pub(super) fn state(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Runner::Step(step) => step.state(),
            Runner::Decoder(decoder) => decoder.state(),
        }
    }
}

/// The messages that rows without columns stand for.
struct Gathered {
    topics: Vec<String>,
    topic: Vec<u32>,
    ends: Vec<u32>,
    payloads: Vec<u8>,
}

impl Gathered {
    fn of(flow: &Flow, messages: &Messages) -> Self {
        let mut all = Self { topics: Vec::new(), topic: Vec::new(), ends: Vec::new(), payloads: Vec::new() };
        let mut places = HashMap::new();
        let Some((frame, lines)) = flow.iter().next() else { return all };
        for row in 0..u32::try_from(frame.rows()).unwrap_or(u32::MAX) {
            let (payload, topic) = lines.get(row).and_then(|line| messages.get(line)).unwrap_or_default();
            let place = *places.entry(topic).or_insert_with(|| {
                all.topics.push(topic.to_owned());
                u32::try_from(all.topics.len() - 1).unwrap_or(u32::MAX)
            });
            all.topic.push(place);
            all.payloads.extend_from_slice(payload);
            all.ends.push(u32::try_from(all.payloads.len()).unwrap_or(u32::MAX));
        }
        all
    }

    fn lend<'a>(&'a self, flow: &'a Flow) -> runtime::Messages<'a> {
        let frame = flow.frames.first();
        runtime::Messages {
            profile: frame.map_or("", |frame| &frame.profile),
            devices: frame.map_or(&[], |frame| &frame.devices),
            device: frame.map_or(&[], |frame| &frame.device),
            arrived: frame.map_or(&[], |frame| &frame.time),
            topics: &self.topics,
            topic: &self.topic,
            ends: &self.ends,
            payloads: &self.payloads,
        }
    }
}

/// How long a future was at work: the time it waited for a worker does not count.
pub(super) async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut busy = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        let began = Instant::now();
        let polled = future.as_mut().poll(context);
        busy += began.elapsed();
        match polled {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    (output, busy)
}
