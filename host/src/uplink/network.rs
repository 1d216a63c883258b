//! Whether a way out has appeared on this machine: an address, a route or a cable that was not there before, as the kernel
//! tells (rtnetlink(7)). Then links that wait or are parked need not wait on.
//!
//! ```text
//! kernel ─ netlink datagram: one or more of { length u32, type u16, …, family header, attributes } ─→ Ways ─ new? ─→ count + 1
//! ```
//! Nothing is asked of the kernel and nothing is changed. What it repeats (IPv6 renews addresses and routes with each
//! advertisement of a router) is no news; nor are loopback, link-local and not yet usable addresses, or local routes.
//! Does not decide whether an attempt is made: that is [`super::link`]'s and `backoff`'s.
//!
//! Invariants: where the kernel does not let us listen, nothing is ever said, and links wait as long as their rules say; what
//! is remembered is bounded, and forgetting makes a repetition news once more, no worse.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink::SocketAddrNetlink};
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::Instant;

/// Groups of rtnetlink: links; addresses and routes of IPv4 and of IPv6.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Most addresses and routes that are remembered, most interfaces too; beyond, all are forgotten.
const MAX_KNOWN: usize = 512;
/// Bytes of a datagram: the kernel's own are of at most a page, or 8 KiB.
const DATAGRAM: usize = 32 * 1024;
/// After a way out has appeared: so long, at least and at most, until it is tried. Routes follow addresses, and who shares a
/// switch shall not come at the same moment.
const TRIED_AFTER: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(2);
/// What a network that flaps makes try is at least so far apart.
const TRIED_APART: Duration = Duration::from_secs(30);

/// Ways out that appear, for one who waits for something on the network.
#[derive(Debug, Clone)]
pub struct Comings {
    appeared: watch::Receiver<u64>,
    /// When one that has appeared is to be tried.
    due: Option<Instant>,
    tried: Option<Instant>,
}

/// When what has appeared now is to be tried.
fn due(now: Instant, tried: Option<Instant>, after: Duration) -> Instant {
    let soon = now + after;
    tried.map_or(soon, |last| soon.max(last + TRIED_APART))
}

impl Comings {
    /// Of a count that goes up with each.
    pub(crate) fn new(appeared: watch::Receiver<u64>) -> Self {
        Self { appeared, due: None, tried: None }
    }

    /// An attempt begins: it tries what has appeared before.
    pub(crate) fn forget(&mut self) {
        self.appeared.borrow_and_update();
        self.due = None;
    }

    /// Waits until one has appeared and may be tried. What was waited so far is not lost when this is dropped.
    pub(crate) async fn come(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                if self.appeared.changed().await.is_err() {
                    // Who could say so is gone only with the uplink.
                    return std::future::pending().await;
                }
                *self.due.insert(due(Instant::now(), self.tried, rand::random_range(TRIED_AFTER)))
            }
        };
        tokio::time::sleep_until(due).await;
        self.due = None;
    }

    /// One that had appeared is tried now.
    pub(crate) fn tried(&mut self) {
        self.tried = Some(Instant::now());
    }
}

/// Counts up whenever a way out has appeared. Never ends.
pub(super) async fn watch(appeared: watch::Sender<u64>) -> Infallible {
    if let Err(error) = listen(&appeared).await {
        tracing::info!(%error, "the kernel does not tell of networks that come up: links wait their full time");
    }
    std::future::pending().await
}

async fn listen(appeared: &watch::Sender<u64>) -> std::io::Result<()> {
    let socket = open()?;
    let mut ways = Ways::default();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let news = match socket.recv(&mut datagram).await {
            Ok(length) => ways.note(datagram.get(..length).unwrap_or_default()),
            // More came than the kernel keeps for us: something did.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                ways = Ways::default();
                true
            }
            Err(error) => return Err(error),
        };
        if news {
            appeared.send_modify(|count| *count += 1);
        }
    }
}

/// A socket of datagrams, which is all that tokio must know of it.
fn open() -> std::io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a protocol it is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    UnixDatagram::from_std(socket.into())
}

/// What is there, as far as it was told since the start.
#[derive(Default)]
struct Ways {
    /// Addresses and routes, by what does not change when they are renewed.
    known: BTreeSet<Vec<u8>>,
    /// Interfaces by index: whether they carry.
    carries: BTreeMap<u32, bool>,
}

/// Types of messages (linux/rtnetlink.h).
mod kind {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const GONE_LINK: u16 = 17;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const GONE_ADDRESS: u16 = 21;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const GONE_ROUTE: u16 = 25;
}

impl Ways {
    /// Takes note of all messages of a datagram; whether a way out has appeared.
    fn note(&mut self, mut datagram: &[u8]) -> bool {
        const HEADER: usize = 16;
        let mut news = false;
        while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
            let length = length as usize;
            let Some(body) = datagram.get(HEADER..length) else { break };
            news |= match kind {
                kind::NEW_LINK => self.link(body),
                kind::GONE_LINK => self.gone(body),
                kind::NEW_ADDRESS => address(body).is_some_and(|address| self.learn(address)),
                kind::NEW_ROUTE => route(body).is_some_and(|route| self.learn(route)),
                kind::GONE_ADDRESS => address(body).is_some_and(|address| self.forget(&address)),
                kind::GONE_ROUTE => route(body).is_some_and(|route| self.forget(&route)),
                _ => false,
            };
            datagram = datagram.get(aligned(length)..).unwrap_or_default();
        }
        news
    }

    /// `struct ifinfomsg`: family u8, pad u8, type u16, index i32, flags u32, change u32. News if it carries again.
    fn link(&mut self, body: &[u8]) -> bool {
        const LOOPBACK: u32 = 0x8;
        const RUNNING: u32 = 0x40;
        let (Some(index), Some(flags)) = (u32_at(body, 4), u32_at(body, 8)) else { return false };
        if flags & LOOPBACK != 0 {
            return false;
        }
        if self.carries.len() >= MAX_KNOWN {
            self.carries.clear();
        }
        let carries = flags & RUNNING != 0;
        let before = self.carries.insert(index, carries);
        if !carries {
            // Its routes go without a word.
            self.known.clear();
        }
        carries && before == Some(false)
    }

    fn gone(&mut self, body: &[u8]) -> bool {
        if let Some(index) = u32_at(body, 4) {
            self.carries.remove(&index);
        }
        self.known.clear();
        false
    }

    fn learn(&mut self, way: Vec<u8>) -> bool {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(way)
    }

    fn forget(&mut self, way: &[u8]) -> bool {
        self.known.remove(way);
        false
    }
}

/// `struct ifaddrmsg`: family, prefix, flags, scope (u8 each), index u32; then attributes. `None` if it leads nowhere.
fn address(body: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 8;
    const LINK_SCOPE: u8 = 253;
    const TENTATIVE: u8 = 0x40;
    const CACHE_INFO: u16 = 6;
    const FLAGS: u16 = 8;
    let [family, prefix, flags, scope, ..] = *body else { return None };
    if scope >= LINK_SCOPE || flags & TENTATIVE != 0 {
        return None;
    }
    let mut way = vec![b'a', family, prefix];
    way.extend_from_slice(body.get(4..HEADER)?);
    extend(&mut way, body.get(HEADER..)?, &[CACHE_INFO, FLAGS]);
    Some(way)
}

/// `struct rtmsg`: family, destination's and source's length, tos, table, protocol, scope, type (u8 each), flags u32; then
/// attributes. `None` if it leads nowhere.
fn route(body: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const LOCAL_TABLE: u8 = 255;
    const UNICAST: u8 = 1;
    const CACHE_INFO: u16 = 12;
    const EXPIRES: u16 = 23;
    let [family, length, _, _, table, _, _, kind, ..] = *body else { return None };
    if table == LOCAL_TABLE || kind != UNICAST {
        return None;
    }
    let mut way = vec![b'r', family, length, table];
    extend(&mut way, body.get(HEADER..)?, &[CACHE_INFO, EXPIRES]);
    Some(way)
}

/// Adds the attributes (length u16, type u16, value; aligned to four bytes) but those that change by themselves.
fn extend(way: &mut Vec<u8>, mut attributes: &[u8], without: &[u16]) {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let Some(attribute) = attributes.get(..length).filter(|_| length >= 4) else { return };
        if !without.contains(&kind) {
            way.extend_from_slice(attribute);
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(body);
        message.resize(aligned(message.len()), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        attribute.extend_from_slice(&kind.to_ne_bytes());
        attribute.extend_from_slice(value);
        attribute.resize(aligned(attribute.len()), 0);
        attribute
    }

    /// An address 10.0.0.`last`/24 of interface 2, with lifetimes.
    fn ipv4(last: u8, flags: u8, scope: u8, lifetime: u32) -> Vec<u8> {
        let mut body = vec![2, 24, flags, scope];
        body.extend_from_slice(&2_u32.to_ne_bytes());
        body.extend(attribute(6, &lifetime.to_ne_bytes()));
        body.extend(attribute(1, &[10, 0, 0, last]));
        body
    }

    /// A default route by 10.0.0.`gateway`.
    fn default_route(gateway: u8, table: u8) -> Vec<u8> {
        let mut body = vec![2, 0, 0, 0, table, 3, 0, 1, 0, 0, 0, 0];
        body.extend(attribute(5, &[10, 0, 0, gateway]));
        body
    }

    fn interface(index: u32, flags: u32) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&flags.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body
    }

    #[test]
    fn a_network_that_flaps_does_not_make_try_all_the_time() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(due(now, None, second), now + second);
        assert_eq!(due(now, Some(now), second), now + TRIED_APART);
        assert_eq!(due(now + TRIED_APART, Some(now), second), now + TRIED_APART + second);
    }

    #[tokio::test]
    async fn what_appears_is_tried_soon_unless_an_attempt_begins_before() {
        let (appear, appeared) = watch::channel(0);
        let mut comings = Comings::new(appeared);
        let begun = Instant::now();
        appear.send_replace(1);
        // Whoever waits looks at other things in between.
        while tokio::time::timeout(Duration::from_millis(20), comings.come()).await.is_err() {}
        assert!(begun.elapsed() >= TRIED_AFTER.start);
        appear.send_replace(2);
        comings.forget();
        let nothing = tokio::time::timeout(TRIED_AFTER.end, comings.come()).await;
        assert!(nothing.is_err(), "it was tried by that");
    }

    #[test]
    fn an_address_or_route_is_news_once_until_it_has_gone() {
        let mut ways = Ways::default();
        assert!(ways.note(&message(kind::NEW_ADDRESS, &ipv4(1, 0, 0, 100))));
        assert!(!ways.note(&message(kind::NEW_ADDRESS, &ipv4(1, 0, 0, 90))), "renewed");
        assert!(ways.note(&message(kind::NEW_ADDRESS, &ipv4(2, 0, 0, 100))));
        assert!(!ways.note(&message(kind::GONE_ADDRESS, &ipv4(1, 0, 0, 80))));
        assert!(ways.note(&message(kind::NEW_ADDRESS, &ipv4(1, 0, 0, 100))), "it is back");
        assert!(ways.note(&message(kind::NEW_ROUTE, &default_route(1, 254))));
        assert!(!ways.note(&message(kind::NEW_ROUTE, &default_route(1, 254))));
        assert!(!ways.note(&message(kind::GONE_ROUTE, &default_route(1, 254))));
        assert!(ways.note(&message(kind::NEW_ROUTE, &default_route(1, 254))));
    }

    #[test]
    fn what_leads_nowhere_is_no_news() {
        let mut ways = Ways::default();
        assert!(!ways.note(&message(kind::NEW_ADDRESS, &ipv4(1, 0x40, 0, 100))), "tentative");
        assert!(ways.note(&message(kind::NEW_ADDRESS, &ipv4(1, 0, 0, 100))), "and now usable");
        assert!(!ways.note(&message(kind::NEW_ADDRESS, &ipv4(3, 0, 253, 100))), "link-local");
        assert!(!ways.note(&message(kind::NEW_ADDRESS, &ipv4(4, 0, 254, 100))), "loopback");
        assert!(!ways.note(&message(kind::NEW_ROUTE, &default_route(9, 255))), "local table");
    }

    #[test]
    fn a_cable_is_news_when_it_carries_again_and_what_is_configured_anew_too() {
        const UP: u32 = 1 | 0x40;
        let mut ways = Ways::default();
        assert!(!ways.note(&message(kind::NEW_LINK, &interface(2, UP))), "it may have been up for days");
        assert!(ways.note(&message(kind::NEW_ROUTE, &default_route(1, 254))));
        assert!(!ways.note(&message(kind::NEW_LINK, &interface(2, 1))));
        let both = [message(kind::NEW_LINK, &interface(2, UP)), message(kind::NEW_LINK, &interface(2, UP))];
        assert!(ways.note(&both.concat()));
        assert!(ways.note(&message(kind::NEW_ROUTE, &default_route(1, 254))));
        assert!(!ways.note(&message(kind::NEW_LINK, &interface(1, UP | 8))), "loopback");
    }

    #[test]
    fn a_datagram_that_is_cut_off_or_garbage_does_no_harm() {
        let whole = message(kind::NEW_ADDRESS, &ipv4(1, 0, 0, 100));
        for length in 0..whole.len() {
            let _ = Ways::default().note(&whole[..length]);
        }
        for garbage in [&[0; 64][..], &[255; 64], &[16, 0, 0, 0, 20, 0, 0, 0]] {
            assert!(!Ways::default().note(garbage));
        }
    }
}
