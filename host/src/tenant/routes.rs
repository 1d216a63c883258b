//! Frames that leave the steps, by route, and how they become batches.
//!
//! A frame that a step sends to a route other than `telemetry` leaves the lane there and then: following steps do not
//! see it. Invariant: at most [`ROUTES`] routes a cycle; rows of further ones become dead letters.

use std::collections::BTreeMap;

use bytes::Bytes;
use gateway_config::Tenant;
use wire::codec::{EncodeError, Encoder};
use wire::ids::RouteName;

use super::flow::{Flow, Lines, Messages};
use super::letters::{Cause, Letters};
use crate::outbox::Priority;
use crate::store::{LetterKind, NewBatch};

/// Most routes of one cycle.
const ROUTES: usize = 64;

/// Frames by route.
#[derive(Default)]
pub(super) struct Routes(BTreeMap<RouteName, Flow>);

impl Routes {
    /// Adds a frame. Gives it back when there are too many routes.
    pub(super) fn push(
        &mut self,
        route: &RouteName,
        frame: wire::frame::Frame,
        lines: Lines,
    ) -> Option<(wire::frame::Frame, Lines)> {
        if let Some(flow) = self.0.get_mut(route) {
            flow.push(frame, lines);
        } else if self.0.len() < ROUTES {
            self.0.entry(route.clone()).or_default().push(frame, lines);
        } else {
            return Some((frame, lines));
        }
        None
    }

    /// Encodes everything, one batch a route where it fits into one.
    pub(super) fn encode(
        self,
        tenant: &Tenant,
        encoder: &mut Encoder,
        messages: &Messages,
        letters: &mut Letters,
    ) -> Vec<NewBatch> {
        let mut batches = Vec::with_capacity(self.0.len());
        for (name, flow) in self.0 {
            let route = tenant.route(&name);
            let priority = match route.priority {
                gateway_config::Priority::Low => Priority::Low,
                gateway_config::Priority::Normal => Priority::Normal,
                gateway_config::Priority::High => Priority::High,
            };
            encode_flow(flow, encoder, messages, letters, &mut |rows, payload| {
                batches.push(NewBatch { route: name.clone(), priority, keep: route.keep, rows, payload });
            });
        }
        batches
    }
}

/// Encodes a flow; in halves where a batch would be too long for a message.
fn encode_flow(
    flow: Flow,
    encoder: &mut Encoder,
    messages: &Messages,
    letters: &mut Letters,
    done: &mut impl FnMut(u32, Bytes),
) {
    if flow.is_empty() {
        return;
    }
    let mut payload = Vec::new();
    let failed = match encoder.encode(&flow.frames, &mut payload) {
        Ok(()) => {
            done(u32::try_from(flow.rows()).unwrap_or(u32::MAX), Bytes::from(payload.into_boxed_slice()));
            return;
        }
        Err(failed) => failed,
    };
    let whole = match failed {
        EncodeError::TooLarge { .. } => match flow.halves() {
            Ok((first, second)) => {
                encode_flow(first, encoder, messages, letters, done);
                encode_flow(second, encoder, messages, letters, done);
                return;
            }
            Err(row) => row,
        },
        EncodeError::Frame(_) | EncodeError::Texts(_) => flow,
    };
    let reason = format!("cannot be encoded: {failed}");
    let cause = Cause { kind: LetterKind::Unsendable, reason, ..Cause::default() };
    letters.push_flow(&whole, messages, &cause);
}
