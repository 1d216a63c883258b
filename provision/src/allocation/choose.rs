//! The choice among the stamps that may serve.

use std::cmp::Ordering;

use wire::ids::StampId;

use super::request::{Policy, Request};
use super::stamps::{Entry, Misfit, Stamps};

/// The answer to a request, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The stamp; `None`: none may serve.
    pub stamp: Option<StampId>,
    /// Stamps that may serve, the chosen one first.
    pub fitting: Vec<StampId>,
    /// Why each of the others may not.
    pub misfits: Vec<(StampId, Misfit)>,
}

/// Chooses a stamp. Promises nothing: see [`Stamps::promise`].
#[must_use]
pub fn allocate(request: &Request<'_>, stamps: &Stamps) -> Option<StampId> {
    let key = key(request);
    let fitting = candidates(request, stamps).filter(|entry| entry.misfit(request).is_none());
    // Each is ranked once: a rank costs more than all the rest of a look.
    let best = fitting.map(|entry| Ranked::of(request, key, entry)).max_by(Ranked::compare);
    best.map(|ranked| ranked.entry.stamp.id.clone())
}

/// As [`allocate`], with the reasons for each stamp: the dry run.
#[must_use]
pub fn explain(request: &Request<'_>, stamps: &Stamps) -> Choice {
    let key = key(request);
    let (mut fitting, mut misfits) = (Vec::new(), Vec::new());
    for entry in stamps.entries() {
        match entry.misfit(request) {
            None => fitting.push(Ranked::of(request, key, entry)),
            Some(misfit) => misfits.push((entry.stamp.id.clone(), misfit)),
        }
    }
    fitting.sort_by(|one, other| other.compare(one));
    let fitting: Vec<StampId> = fitting.into_iter().map(|ranked| ranked.entry.stamp.id.clone()).collect();
    Choice { stamp: fitting.first().cloned(), fitting, misfits }
}

/// Why one stamp may not serve a request; `None`: it may, or there is none of that name.
#[must_use]
pub fn judge(request: &Request<'_>, stamps: &Stamps, stamp: &StampId) -> Option<Misfit> {
    stamps.entry(stamp).and_then(|entry| entry.misfit(request))
}

/// The stamps to look at: of a pinned tenant one.
fn candidates<'a>(request: &Request<'_>, stamps: &'a Stamps) -> impl Iterator<Item = &'a Entry> {
    let pinned = request.pinned.map(|pinned| stamps.entry(pinned));
    let all = if pinned.is_some() { &[] } else { stamps.entries() };
    pinned.flatten().into_iter().chain(all)
}

/// A stamp that may serve, with how well it suits. The better of two is the greater: a tenant with stamps of its own fills
/// those before it takes an empty one, which the next such tenant may need; names settle a tie, so that the answer does not
/// depend on the order in which stamps were added.
struct Ranked<'a> {
    home: bool,
    rank: f64,
    entry: &'a Entry,
}

impl<'a> Ranked<'a> {
    fn of(request: &Request<'_>, key: u64, entry: &'a Entry) -> Self {
        let home = request.dedicated && entry.occupant().is_some();
        Self { home, rank: rank(request, key, entry), entry }
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.home
            .cmp(&other.home)
            .then_with(|| self.rank.total_cmp(&other.rank))
            .then_with(|| other.entry.stamp.id.cmp(&self.entry.stamp.id))
    }
}

/// How well a stamp suits.
fn rank(request: &Request<'_>, key: u64, entry: &Entry) -> f64 {
    match request.policy {
        Policy::Hashed => rendezvous(key, entry.hash, entry.stamp.weight),
        Policy::LeastFilled => -entry.filled(),
        Policy::LowestLatency => {
            let measured = request.latencies.iter().find(|latency| latency.stamp == entry.stamp.id);
            measured.map_or(f64::NEG_INFINITY, |latency| -f64::from(latency.micros))
        }
    }
}

/// Weighted rendezvous hashing: with u uniform in (0, 1), the largest of w / -ln u is each stamp's in proportion to w.
fn rendezvous(key: u64, stamp: u64, weight: u32) -> f64 {
    let mixed = mix(key ^ stamp.rotate_left(32));
    // 53 bits, moved off 0.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -uniform.ln()
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes half of the output's.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Of gateway and tenant; a byte that no name holds parts them.
fn key(request: &Request<'_>) -> u64 {
    let tenant = twox_hash::XxHash3_64::oneshot(request.tenant.as_str().as_bytes());
    twox_hash::XxHash3_64::oneshot_with_seed(tenant, request.gateway.as_str().as_bytes())
}
