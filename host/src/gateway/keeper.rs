//! Connects sources to the gateway's own store: MQTT sessions that outlive a connection, and messages of nobody.

use std::sync::Arc;

use crate::intake::{Custody, Undecodable};
use crate::source::listener;
use crate::store::DeadLetter;
use crate::store::gateway::{GatewayCommit, GatewayStore, SessionChange};

/// A source's way into `gateway.db`. Never waits: the store refuses what does not fit its queue.
#[derive(Clone)]
pub(super) struct Keeper(pub(super) Arc<GatewayStore>);

impl Keeper {
    fn change(&self, change: SessionChange) {
        self.0.commit(GatewayCommit { sessions: vec![change], ..GatewayCommit::default() });
    }
}

impl listener::Unrouted for Keeper {
    fn keep(&mut self, message: Undecodable, custody: Box<dyn Custody>) {
        let Undecodable { device, topic, arrived, payload, reason } = message;
        let letter =
            DeadLetter { device, topic, time: arrived, reason, original: payload, ..DeadLetter::default() };
        self.0.commit(GatewayCommit {
            unrouted: vec![letter],
            custody: vec![custody],
            ..GatewayCommit::default()
        });
    }
}

impl listener::Sessions for Keeper {
    fn kept(&mut self, client: &str, expires: Option<i64>) {
        self.change(SessionChange::Kept { client: client.to_owned(), expires });
    }

    fn ended(&mut self, client: &str) {
        self.change(SessionChange::Ended { client: client.to_owned() });
    }
}
