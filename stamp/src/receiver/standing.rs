//! What a changed roster means to a session under way.
//!
//! A tenant that is no longer served is withdrawn, a quota holds from now on. For a tenant that is served now and was not the
//! gateway has to come again, and so where devices were refused and there may be room for them now. The tenants of the
//! gateway that are not concerned go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info, warn};
use wire::ids::{Sequence, TenantId};
use wire::message::{CloseReason, Hello, RefusalReason, TenantIndex};

use super::admission::{self, Allowed, Declined};
use super::connection::{Close, Connection, Open};
use crate::landing::Limits;

/// The gateway comes again at once, to be let in by what holds now.
const COME_AGAIN: Option<Duration> = Some(Duration::ZERO);
/// While devices are refused, it is said this often for a gateway.
const REFUSED_SAID_EVERY: Duration = Duration::from_secs(60);
const MOVED: &str = "a tenant has moved to another stamp";

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    /// Looks at the roster, and lets it hold; how to end the session, if it cannot go on.
    pub(super) async fn look(&mut self, open: &mut Open) -> Option<Close> {
        let roster = self.receiver.roster();
        if Arc::ptr_eq(&roster, &open.roster) {
            return None;
        }
        open.roster = roster;
        let come_again =
            |text| Some(Close { reason: CloseReason::RosterChanged, text, return_after: COME_AGAIN });
        // Nobody is served any more: the answer to its next hello says why.
        let Ok(allowed) = admission::decide(&open.hello, &self.peer.name, &open.roster) else {
            return come_again("the roster has changed");
        };
        let mut both = open.tenants.iter().zip(&allowed.tenants);
        if both.any(|(here, now)| here.is_none() && now.is_ok()) {
            return come_again("a tenant is served that was not");
        }
        for (index, now) in (0..).map(TenantIndex).zip(&allowed.tenants) {
            if let Err(declined) = now {
                self.withdraw(open, index, declined);
            }
        }
        let limits = limits(&open.hello, &allowed);
        if limits != open.limits {
            debug!(gateway = %open.hello.gateway, ?limits, "other quotas");
            if raised(&open.limits, &limits) && std::mem::take(&mut open.refused_devices) {
                return come_again("there may be room for devices that were refused");
            }
            self.receiver.landing.limit(open.hello.gateway.clone(), limits.clone()).await;
            open.limits = limits;
        }
        None
    }

    /// A batch of a tenant has come to the landing after it had moved.
    pub(super) fn fenced(&mut self, open: &mut Open, index: TenantIndex) {
        let place = usize::from(index.0);
        if open.tenants.iter().enumerate().any(|(other, tenant)| other != place && tenant.is_some()) {
            let declined = Declined { reason: RefusalReason::Moved, text: MOVED.to_owned() };
            self.withdraw(open, index, &declined);
        } else if !self.session.is_closed() {
            self.session.close(CloseReason::RosterChanged, MOVED, COME_AGAIN);
        }
    }

    fn withdraw(&mut self, open: &mut Open, index: TenantIndex, declined: &Declined) {
        let Some(tenant) = open.tenants.get_mut(usize::from(index.0)).and_then(Option::take) else { return };
        let Declined { reason, text } = declined;
        info!(gateway = %open.hello.gateway, tenant = %tenant.name, %reason, text, "tenant withdrawn");
        self.session.withdraw(index, *reason, text);
    }
}

impl Open {
    /// A batch has devices too many.
    pub(super) fn refuse_devices(&mut self, index: TenantIndex, seq: Sequence, text: &str) {
        self.refused_devices = true;
        let Some(Some(tenant)) = self.tenants.get_mut(usize::from(index.0)) else { return };
        // Remembered as landed by mistake, all of them: ask the landing again.
        tenant.devices.clear();
        if self.said_refused.is_none_or(|said| said.elapsed() > REFUSED_SAID_EVERY) {
            self.said_refused = Some(Instant::now());
            warn!(gateway = %self.hello.gateway, tenant = %tenant.name, %seq, text, "devices refused; their data waits at the gateway");
        }
    }
}

/// Whether there is more room by one of the quotas.
fn raised(before: &Limits, now: &Limits) -> bool {
    let more = |before: Option<u32>, now: Option<u32>| {
        before.is_some_and(|before| now.is_none_or(|now| now > before))
    };
    let of_tenant = |(tenant, now): &(TenantId, Option<u32>)| {
        before.tenants.iter().any(|(known, before)| known == tenant && more(*before, *now))
    };
    more(before.gateway, now.gateway) || now.tenants.iter().any(of_tenant)
}

/// The quotas of a gateway and of its tenants that are served.
pub(super) fn limits(hello: &Hello, allowed: &Allowed) -> Limits {
    let tenants = allowed.streams(hello);
    let tenants: Vec<(TenantId, Option<u32>)> =
        tenants.map(|(stream, quota)| (stream.tenant.clone(), quota)).collect();
    Limits { gateway: allowed.entry.device_quota, tenants }
}
