//! The trait of a processor, and its way across the boundary.

use std::cell::RefCell;
use std::thread::LocalKey;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::bindings::processor::sluice::plugin::types;
use crate::{ConfigError, Fault, Frame, Output};

/// Frames in, frames out. Made a component by `sluice_plugin::export!(Type);`.
pub trait Processor: Sized + 'static {
    /// The step's `with` table. Use `#[serde(deny_unknown_fields)]`, so that a typing error is found.
    type Config: DeserializeOwned;

    /// Makes the processor. Called on every fresh instance; state that was kept may be read here.
    ///
    /// # Errors
    /// What is wrong in the configuration, for the site engineer.
    fn configure(config: Self::Config) -> Result<Self, ConfigError>;

    /// How often [`Processor::tick`] shall be called, at least 10 ms; `None` for never.
    fn tick_every(&self) -> Option<Duration> {
        None
    }

    /// One frame of a call. What is neither forwarded nor rejected counts as filtered.
    ///
    /// # Errors
    /// [`Fault`] if the whole call must count for nothing.
    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault>;

    /// Time has passed.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn tick(&mut self, _out: &mut Output) -> Result<(), Fault> {
        Ok(())
    }

    /// The end of a call, after all its frames or its tick: the place to keep state once per call.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn end_of_call(&mut self, _out: &mut Output) -> Result<(), Fault> {
        Ok(())
    }
}

type Slot<P> = LocalKey<RefCell<Option<P>>>;

/// `configure` of the component.
pub fn configure_processor<P: Processor>(
    slot: &'static Slot<P>,
    config: &str,
) -> Result<types::Setup, String> {
    crate::host::log_panics();
    let plugin = P::configure(crate::config::parse(config)?).map_err(|error| error.0)?;
    let tick_ms =
        plugin.tick_every().map_or(0, |every| every.as_millis().clamp(10, u128::from(u32::MAX)) as u32);
    slot.set(Some(plugin));
    Ok(types::Setup { tick_ms })
}

/// `process` of the component.
pub fn run_process<P: Processor>(
    slot: &'static Slot<P>,
    frames: Vec<types::Frame>,
) -> Result<types::Output, types::Fault> {
    run(slot, |plugin, out| {
        (0..).zip(frames).try_for_each(|(index, table)| plugin.process(Frame::from_input(table, index), out))
    })
}

/// `tick` of the component.
pub fn run_tick<P: Processor>(slot: &'static Slot<P>) -> Result<types::Output, types::Fault> {
    run(slot, |plugin, out| plugin.tick(out))
}

fn run<P: Processor>(
    slot: &'static Slot<P>,
    call: impl FnOnce(&mut P, &mut Output) -> Result<(), Fault>,
) -> Result<types::Output, types::Fault> {
    slot.with_borrow_mut(|plugin| {
        let plugin = plugin.as_mut().ok_or_else(|| types::Fault { reason: "not configured".to_owned() })?;
        let mut out = Output::default();
        call(plugin, &mut out)
            .and_then(|()| plugin.end_of_call(&mut out))
            .map_err(|fault| types::Fault { reason: fault.0 })?;
        Ok(out.finish())
    })
}
