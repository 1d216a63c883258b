//! The trait of a decoder, the messages it gets, and its way across the boundary.

use std::cell::RefCell;
use std::thread::LocalKey;

use serde::de::DeserializeOwned;

use crate::bindings::processor::sluice::plugin::types;
use crate::{ConfigError, Dictionary, Fault, Output};

/// Messages in, frames out. Made a component by `sluice_plugin::export_decoder!(Type);`.
pub trait Decoder: Sized + 'static {
    /// The decoder's `with` table.
    type Config: DeserializeOwned;

    /// Makes the decoder. Called on every fresh instance.
    ///
    /// # Errors
    /// What is wrong in the configuration, for the site engineer.
    fn configure(config: Self::Config) -> Result<Self, ConfigError>;

    /// Decodes the messages of a call. Make rows with [`crate::Rows::push_decoded`], and reject what cannot be decoded
    /// with [`Output::reject_message`].
    ///
    /// # Errors
    /// [`Fault`] if the whole call must count for nothing.
    fn decode(&mut self, messages: &Messages, out: &mut Output) -> Result<(), Fault>;
}

/// Messages as devices sent them.
#[derive(Debug)]
pub struct Messages(types::Messages);

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its place in the call.
    pub index: usize,
    /// The device that its topic or path names.
    pub device: &'a str,
    /// When it arrived: nanoseconds since 1970 UTC.
    pub arrived: i64,
    /// Its topic or path.
    pub topic: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl Messages {
    /// The profile that the configuration names for what is decoded, or `default` if it names none.
    #[must_use]
    pub fn profile<'a>(&'a self, default: &'a str) -> &'a str {
        if self.0.profile.is_empty() { default } else { &self.0.profile }
    }

    /// The messages, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.0.arrived.iter().enumerate().map(|(index, &arrived)| Message {
            index,
            device: entry(&self.0.devices, self.0.device.get(index)),
            arrived,
            topic: entry(&self.0.topics.dictionary, self.0.topics.index.get(index)),
            payload: self.0.payloads.get(index).unwrap_or_default(),
        })
    }
}

fn entry<'a>(dictionary: &'a Dictionary, index: Option<&u32>) -> &'a str {
    index.and_then(|&index| dictionary.get(index)).unwrap_or_default()
}

type Slot<D> = LocalKey<RefCell<Option<D>>>;

/// `configure` of the component.
pub fn configure_decoder<D: Decoder>(slot: &'static Slot<D>, config: &str) -> Result<types::Setup, String> {
    crate::host::log_panics();
    slot.set(Some(D::configure(crate::config::parse(config)?).map_err(|error| error.0)?));
    Ok(types::Setup { tick_ms: 0 })
}

/// `decode` of the component.
pub fn run_decode<D: Decoder>(
    slot: &'static Slot<D>,
    messages: types::Messages,
) -> Result<types::Output, types::Fault> {
    slot.with_borrow_mut(|decoder| {
        let decoder = decoder.as_mut().ok_or_else(|| types::Fault { reason: "not configured".to_owned() })?;
        let mut out = Output::default();
        decoder.decode(&Messages(messages), &mut out).map_err(|fault| types::Fault { reason: fault.0 })?;
        Ok(out.finish())
    })
}
