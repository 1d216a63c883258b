//! Steps: a plugin with its configuration in a lane. [`Step`] for processors, [`DecodeStep`] for decoders.
//!
//! A step keeps its instance from call to call. After a fault the next call gets a fresh, newly configured one; what the
//! failed call changed in the state is undone. A step keeps its state in memory and hands every change to the caller,
//! who writes it in the same commit as the output and gives it back when the step is made anew.

use std::time::Duration;

use wire::frame::Frame;

use crate::boundary::{with_frames, with_messages};
use crate::call::{CallContext, Messages, Processed};
use crate::engine::{Engine, Kind, Plugin};
use crate::fault::{ConfigureFault, StepFault};
use crate::instance::{Guest, Supervised};
use crate::limits::Limits;

/// How a plugin becomes a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepConfig {
    /// The step's name, for messages.
    pub name: String,
    /// The configuration as a JSON object: the step's `with` table.
    pub config_json: String,
    /// What it may use up.
    pub limits: Limits,
}

/// A processor in a lane.
pub struct Step(Supervised);

/// A decoder in a lane.
pub struct DecodeStep(Supervised);

impl Step {
    /// Makes and configures an instance. `state` is what was kept of this step, all of it.
    ///
    /// # Errors
    /// [`ConfigureFault`] if the plugin refuses the configuration, is no processor, or fails.
    pub fn new(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        Supervised::new(engine, plugin, Kind::Processor, config, state, context).map(Step)
    }

    /// Hands frames to the plugin; those without rows are left out by the caller.
    ///
    /// # Errors
    /// [`StepFault`]: nothing of the call is left, the frames are still the caller's.
    pub fn process(&mut self, frames: &[Frame], context: &CallContext) -> Result<Processed, Box<StepFault>> {
        let inputs: Vec<usize> = frames.iter().map(Frame::rows).collect();
        self.0.call(context, &inputs, |store, guest| match guest {
            Guest::Processor(guest) => with_frames(frames, |frames| guest.call_process(store, frames)),
            Guest::Decoder(_) => Err(wasmtime::format_err!("a decoder cannot process frames")),
        })
    }

    /// Tells the plugin that time has passed.
    ///
    /// # Errors
    /// As [`Step::process`].
    pub fn tick(&mut self, context: &CallContext) -> Result<Processed, Box<StepFault>> {
        self.0.call(context, &[], |store, guest| match guest {
            Guest::Processor(guest) => guest.call_tick(store),
            Guest::Decoder(_) => Err(wasmtime::format_err!("a decoder has no tick")),
        })
    }

    /// How often the plugin wants [`Step::tick`]; `None`: never. Never shorter than 10 ms.
    #[must_use]
    pub fn tick_every(&self) -> Option<Duration> {
        self.0.tick_every()
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        self.0.plugin()
    }

    /// How it was configured.
    #[must_use]
    pub fn config(&self) -> &StepConfig {
        self.0.config()
    }

    /// Bytes of its kept state.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes()
    }
}

impl DecodeStep {
    /// Makes and configures an instance. `state` is what was kept of this decoder, all of it.
    ///
    /// # Errors
    /// [`ConfigureFault`] if the plugin refuses the configuration, is no decoder, or fails.
    pub fn new(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        Supervised::new(engine, plugin, Kind::Decoder, config, state, context).map(DecodeStep)
    }

    /// Hands messages to the plugin. In what it hands back, origins and rejections are indices of messages.
    ///
    /// # Errors
    /// [`StepFault`]: nothing of the call is left, the messages are still the caller's.
    pub fn decode(
        &mut self,
        messages: &Messages<'_>,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        self.0.call(context, &[messages.arrived.len()], |store, guest| match guest {
            Guest::Decoder(guest) => with_messages(messages, |messages| guest.call_decode(store, messages)),
            Guest::Processor(_) => Err(wasmtime::format_err!("a processor cannot decode messages")),
        })
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        self.0.plugin()
    }

    /// How it was configured.
    #[must_use]
    pub fn config(&self) -> &StepConfig {
        self.0.config()
    }

    /// Bytes of its kept state.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_may_move_to_the_thread_of_their_lane() {
        fn sendable<T: Send>() {}
        sendable::<Step>();
        sendable::<DecodeStep>();
        sendable::<Engine>();
    }
}
