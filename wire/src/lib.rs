//! What both ends of Sluice speak. No I/O, no clock, no workspace dependency.
//!
//! In the order the data flows: [`ids`] name things, a [`frame`] is a typed table of readings, [`codec`] turns frames
//! into the bytes of a batch and back, [`frame_json`] into JSON for people and tools, [`message`] are the messages of a
//! session and their encoding, [`ranges`] are sets of sequence numbers, and [`session`] holds the two state machines
//! that exchange the messages. [`provisioning`] is what both say to the service that brings them together. [`when`] reads
//! and writes points in time as people do, [`table`] sets what they read in columns, and [`pem`] finds certificates and keys.

pub mod codec;
pub mod frame;
pub mod frame_json;
pub mod ids;
pub mod message;
pub mod pem;
pub mod provisioning;
pub mod ranges;
pub mod session;
pub mod table;
pub mod when;
