//! Steps: a plugin with its configuration in a lane. [`Step`] for processors, [`DecodeStep`] for decoders.
//!
//! A step keeps its instance from call to call. After a fault the next call gets a fresh, newly configured one; what the
//! failed call changed in the state is undone. A step keeps its state in memory and hands every change to the caller,
//! who writes it in the same commit as the output and gives it back when the step is made anew.

use std::time::Duration;

use wire::frame::Frame;

use crate::call::{CallContext, Messages, Processed};
use crate::engine::Engine;
use crate::fault::{ConfigureFault, StepFault};
use crate::imports::Imports;
use crate::instance::{Input, Supervised};
use crate::limits::Limits;
use crate::plugin::{Kind, Plugin};
use crate::slices::block_on;
use crate::state::StateChange;

/// How a plugin becomes a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepConfig {
    /// The step's name, for messages.
    pub name: String,
    /// The configuration as a JSON object: the step's `with` table.
    pub config_json: String,
    /// What it may use up, as granted.
    pub limits: Limits,
    /// What it may ask of the host, as granted.
    pub imports: Imports,
    /// Version of the plugin that wrote the state which the step is made with; `None` if that is not known.
    pub state_version: Option<String>,
}

/// A processor in a lane.
pub struct Step(Supervised);

/// A decoder in a lane.
pub struct DecodeStep(Supervised);

impl Step {
    /// Makes and configures an instance. `state` is what was kept of this step, all of it. If another version of the plugin
    /// wrote it (`config.state_version`) and this one can, it takes the state over first: see [`Step::take_migration`].
    ///
    /// # Errors
    /// [`ConfigureFault`] if the plugin refuses the configuration or the state, is no processor, or fails.
    pub async fn new_async(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        Supervised::new(engine, plugin, Kind::Processor, config, state, context).await.map(Step)
    }

    /// As [`Step::new_async`], in this thread until it is done.
    ///
    /// # Errors
    /// As there.
    pub fn new(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        block_on(Self::new_async(engine, plugin, config, state, context))
    }

    /// Hands frames to the plugin; those without rows are left out by the caller. The future is pending once per time
    /// slice of the guest, about 5 ms, and woken at once. Dropped before its end, nothing of the call is left.
    ///
    /// # Errors
    /// [`StepFault`]: nothing of the call is left, the frames are still the caller's.
    pub async fn process_async(
        &mut self,
        frames: &[Frame],
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        self.0.call(context, Input::Frames(frames)).await
    }

    /// As [`Step::process_async`], in this thread until it is done.
    ///
    /// # Errors
    /// As there.
    pub fn process(&mut self, frames: &[Frame], context: &CallContext) -> Result<Processed, Box<StepFault>> {
        block_on(self.process_async(frames, context))
    }

    /// Tells the plugin that time has passed.
    ///
    /// # Errors
    /// As [`Step::process_async`].
    pub async fn tick_async(&mut self, context: &CallContext) -> Result<Processed, Box<StepFault>> {
        self.0.call(context, Input::Tick).await
    }

    /// As [`Step::tick_async`], in this thread until it is done.
    ///
    /// # Errors
    /// As [`Step::process_async`].
    pub fn tick(&mut self, context: &CallContext) -> Result<Processed, Box<StepFault>> {
        block_on(self.tick_async(context))
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

    /// How it was configured; limits and imports are the lower of what its plugin asks for and what was granted.
    #[must_use]
    pub fn config(&self) -> &StepConfig {
        self.0.config()
    }

    /// What taking over the state of another version changed in it, for the store: once, after the step was made. It is
    /// part of the state already.
    pub fn take_migration(&mut self) -> Vec<StateChange> {
        self.0.take_migration()
    }

    /// A copy of its kept state, as of the last call that succeeded.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Vec<u8>)> {
        self.0.state()
    }

    /// Bytes of its kept state.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes()
    }

    /// Bytes of its instance's linear memory; 0 while there is no instance. It never shrinks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

impl DecodeStep {
    /// Makes and configures an instance. `state` is what was kept of this decoder, all of it; else as [`Step::new_async`].
    ///
    /// # Errors
    /// [`ConfigureFault`] if the plugin refuses the configuration or the state, is no decoder, or fails.
    pub async fn new_async(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        Supervised::new(engine, plugin, Kind::Decoder, config, state, context).await.map(DecodeStep)
    }

    /// As [`DecodeStep::new_async`], in this thread until it is done.
    ///
    /// # Errors
    /// As there.
    pub fn new(
        engine: &Engine,
        plugin: &Plugin,
        config: StepConfig,
        state: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        block_on(Self::new_async(engine, plugin, config, state, context))
    }

    /// Hands messages to the plugin. In what it hands back, origins and rejections are indices of messages. The future
    /// behaves as that of [`Step::process_async`].
    ///
    /// # Errors
    /// [`StepFault`]: nothing of the call is left, the messages are still the caller's.
    pub async fn decode_async(
        &mut self,
        messages: &Messages<'_>,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        self.0.call(context, Input::Messages(messages)).await
    }

    /// As [`DecodeStep::decode_async`], in this thread until it is done.
    ///
    /// # Errors
    /// As there.
    pub fn decode(
        &mut self,
        messages: &Messages<'_>,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        block_on(self.decode_async(messages, context))
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        self.0.plugin()
    }

    /// How it was configured; limits and imports are the lower of what its plugin asks for and what was granted.
    #[must_use]
    pub fn config(&self) -> &StepConfig {
        self.0.config()
    }

    /// What taking over the state of another version changed in it, for the store: once, after the step was made. It is
    /// part of the state already.
    pub fn take_migration(&mut self) -> Vec<StateChange> {
        self.0.take_migration()
    }

    /// A copy of its kept state, as of the last call that succeeded.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Vec<u8>)> {
        self.0.state()
    }

    /// Bytes of its kept state.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes()
    }

    /// Bytes of its instance's linear memory; 0 while there is no instance. It never shrinks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_their_calls_may_move_between_threads() {
        fn sendable<T: Send>() {}
        fn sendable_value(_: &impl Send) {}
        sendable::<Step>();
        sendable::<DecodeStep>();
        sendable::<Engine>();
        let calls = |step: &mut Step, decoder: &mut DecodeStep, messages: Messages<'_>| {
            sendable_value(&step.process_async(&[], &CallContext::default()));
            sendable_value(&step.tick_async(&CallContext::default()));
            sendable_value(&decoder.decode_async(&messages, &CallContext::default()));
        };
        let _ = calls;
    }
}
