//! Which way to a stamp is tried next: its endpoints in order, each by the transport that is known to work there. Pure: no
//! I/O, the time is a parameter.
//!
//! ```text
//! quic://a ─silent─► tls://a ─fails─► quic://b ─silent─► tls://b ─fails─► quic://a …
//!                       └ connects: UDP is blocked there: tls://a goes first from now on, until QUIC is due to be looked for
//! ```
//! One step per failed attempt, within an episode: a blocked transport is found out at the first attempt that it swallows, not
//! after minutes. A connection that stood and was lost is sought where it was. Does not know when attempts are made.
//! What was found out is [`super::memory`]'s to keep over a restart.

use std::time::Duration;

use backoff::Moment;
use gateway_config::{Endpoint, Transport};

/// The ways to one stamp.
pub(super) struct Routes {
    places: Vec<Place>,
    place: usize,
    /// The next attempt takes the transport that usually goes second.
    second: bool,
    look_again: Duration,
}

struct Place {
    endpoint: Endpoint,
    /// The same over TCP, if that is allowed and another way.
    twin: Option<Endpoint>,
    /// QUIC does not come through here, TCP does; looked for again from then on.
    blocked_until: Option<Moment>,
}

impl Routes {
    /// `tcp`: whether QUIC endpoints may be reached over TCP too. `look_again`: how long a blocked QUIC is left alone, at
    /// least; up to half as long again is added.
    pub(super) fn new(endpoints: &[Endpoint], tcp: bool, look_again: Duration) -> Self {
        let place = |endpoint: &Endpoint| {
            let twin = Endpoint { transport: Transport::Tls, ..endpoint.clone() };
            let useful = tcp && !endpoints.contains(&twin);
            Place { endpoint: endpoint.clone(), twin: useful.then_some(twin), blocked_until: None }
        };
        Self { places: endpoints.iter().map(place).collect(), place: 0, second: false, look_again }
    }

    /// The way of the next attempt; `None` if there are no endpoints.
    pub(super) fn next(&self, now: Moment) -> Option<&Endpoint> {
        let place = self.places.get(self.place)?;
        let twin_first = place.blocked_until.is_some_and(|until| now < until);
        Some(place.twin.as_ref().filter(|_| twin_first != self.second).unwrap_or(&place.endpoint))
    }

    /// An attempt did not come to a session. `silent`: because nobody answered.
    pub(super) fn failed(&mut self, silent: bool) {
        let has_twin = self.places.get(self.place).is_some_and(|place| place.twin.is_some());
        if silent && has_twin && !self.second {
            self.second = true;
        } else {
            self.next_endpoint();
        }
    }

    /// Knows from a former life that QUIC does not come through at this endpoint, for so much longer.
    pub(super) fn remember(&mut self, endpoint: &Endpoint, blocked_for: Duration, now: Moment) {
        // A clock that was set must not make it last.
        let most = self.look_again.saturating_add(self.look_again / 2);
        for place in
            self.places.iter_mut().filter(|place| place.endpoint == *endpoint && place.twin.is_some())
        {
            place.blocked_until = Some(now.after(blocked_for.min(most)));
        }
    }

    /// Where QUIC is known not to come through, and until when that is believed; `None` where it does, as far as is known.
    pub(super) fn known(&self) -> impl Iterator<Item = (&Endpoint, Option<Moment>)> {
        self.places
            .iter()
            .filter(|place| place.twin.is_some())
            .map(|place| (&place.endpoint, place.blocked_until))
    }

    /// Goes to the next endpoint, if there is another one.
    pub(super) fn next_endpoint(&mut self) {
        self.place = (self.place + 1) % self.places.len().max(1);
        self.second = false;
    }

    /// A connection by `transport` stands: that goes first here from now on. `random` are 64 random bits, used once.
    pub(super) fn opened(&mut self, transport: Transport, now: Moment, random: u64) {
        let look_again = self.due(now, random);
        self.second = false;
        if let Some(place) = self.places.get_mut(self.place)
            && place.twin.is_some()
        {
            place.blocked_until = (transport == Transport::Tls).then_some(look_again);
        }
    }

    /// Where the present connection is a makeshift: what would be better, and from when on to look for it.
    pub(super) fn better(&self) -> Option<(Endpoint, Moment)> {
        let place = self.places.get(self.place)?;
        Some((place.endpoint.clone(), place.blocked_until?))
    }

    /// The better way is still blocked.
    pub(super) fn still_blocked(&mut self, now: Moment, random: u64) {
        self.opened(Transport::Tls, now, random);
    }

    fn due(&self, now: Moment, random: u64) -> Moment {
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        now.after(self.look_again.saturating_add(self.look_again.mul_f64(part / 2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(transport: Transport, host: &str) -> Endpoint {
        Endpoint { transport, host: host.to_owned(), port: 7443 }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn next(routes: &Routes, seconds: u64) -> String {
        routes.next(at(seconds)).unwrap().to_string()
    }

    fn routes(tcp: bool) -> Routes {
        let endpoints = [endpoint(Transport::Quic, "a"), endpoint(Transport::Quic, "b")];
        Routes::new(&endpoints, tcp, Duration::from_secs(600))
    }

    #[test]
    fn a_silent_endpoint_is_tried_over_tcp_before_the_next_one() {
        let mut routes = routes(true);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(next(&routes, 0));
            routes.failed(true);
        }
        assert_eq!(seen, ["quic://a:7443", "tls://a:7443", "quic://b:7443", "tls://b:7443", "quic://a:7443"]);
    }

    #[test]
    fn one_that_answers_and_refuses_needs_no_other_transport() {
        let mut routes = routes(true);
        routes.failed(false);
        assert_eq!(next(&routes, 0), "quic://b:7443");
    }

    #[test]
    fn what_a_former_life_found_out_holds_but_no_longer_than_it_would_have_been_believed() {
        let mut routes = routes(true);
        routes.remember(&endpoint(Transport::Quic, "a"), Duration::from_secs(300), at(5));
        assert_eq!(next(&routes, 6), "tls://a:7443");
        assert_eq!(next(&routes, 305), "quic://a:7443");
        routes.remember(&endpoint(Transport::Quic, "a"), Duration::from_secs(1 << 40), at(5));
        assert_eq!(routes.known().next(), Some((&endpoint(Transport::Quic, "a"), Some(at(905)))));
        // Without TCP there is nothing to remember.
        let mut routes = self::routes(false);
        routes.remember(&endpoint(Transport::Quic, "a"), Duration::from_secs(300), at(5));
        assert_eq!(next(&routes, 6), "quic://a:7443");
    }

    #[test]
    fn without_tcp_only_what_is_configured_is_tried() {
        let mut routes = routes(false);
        routes.failed(true);
        assert_eq!(next(&routes, 0), "quic://b:7443");
    }

    #[test]
    fn a_blocked_quic_is_remembered_and_looked_for_again_later() {
        let mut routes = routes(true);
        routes.failed(true);
        routes.opened(Transport::Tls, at(10), 0);
        assert_eq!(next(&routes, 11), "tls://a:7443", "remembered at a reconnect");
        assert_eq!(routes.better(), Some((endpoint(Transport::Quic, "a"), at(610))));
        assert_eq!(next(&routes, 610), "quic://a:7443", "a reconnect after that time looks for it");
        routes.still_blocked(at(610), u64::MAX);
        let (_, due) = routes.better().unwrap();
        assert!(due > at(1_509) && due <= at(1_510), "{due:?}");
        // TCP fails as well: perhaps UDP comes through now.
        routes.failed(true);
        assert_eq!(next(&routes, 700), "quic://a:7443");
        routes.opened(Transport::Quic, at(700), 0);
        assert_eq!(routes.better(), None);
        assert_eq!(next(&routes, 701), "quic://a:7443");
    }
}
