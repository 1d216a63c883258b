//! Sources: where messages come from and how they become rows.
//!
//! In the order the data flows: a source reads ([`listener`], `mqtt`), a [`template`] says whose a topic is, [`json`] turns
//! a payload into the cells of a row, [`columns`] collects rows into frames, and [`rows`] gathers them per tenant into
//! intakes for the lanes. Sources do not know steps or stores: they send, and acknowledge when the intake's custody
//! tells them to.

mod batch;
mod columns;
pub mod json;
pub mod listener;
pub mod mqtt;
pub mod rows;
pub mod rules;
mod shapes;
pub mod template;
pub mod time;
