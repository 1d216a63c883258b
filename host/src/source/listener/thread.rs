//! The listener's thread: accepts, sends batches to the lanes, deals with what became of them, and stops in order.
//!
//! Tasks: one per connection, one sender per tenant, one for what is told about intakes, one that looks for silent
//! connections and expired sessions. All are owned here and end here. Stopping: no new connection, no reading, all that
//! was gathered is sent, its commits are waited for and acknowledged (as long as allowed), then connections close.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::acks::Told;
use super::connection::serve;
use super::shared::Shared;
use crate::intake::LaneSender;
use crate::source::rows::TenantIndex;

/// Sockets beyond `max_connections` that may be on their way in or out; any more are closed at once.
const IN_PASSING: usize = 64;
/// How often silent connections are looked for: they live longer by at most this.
const SWEEP: Duration = Duration::from_secs(1);
/// Sweeps between looks for expired sessions.
const SESSION_SWEEPS: u32 = 30;
/// How long connections may take to close at the end.
const CLOSING: Duration = Duration::from_secs(2);
/// Pause after an error of `accept`, e.g. too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything the thread begins with.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) told: UnboundedReceiver<Told>,
    /// Says to stop, and how long commits may take; dropped: at once.
    pub(crate) stop: oneshot::Receiver<Duration>,
}

/// Runs until stopped.
pub(crate) async fn run(start: Start) {
    let Start { shared, listener, tls, told, stop } = start;
    let progress = Arc::new(Notify::new());
    let mut workers = JoinSet::new();
    workers.spawn(settle(Arc::clone(&shared), told, Arc::clone(&progress)));
    workers.spawn(sweep(Arc::clone(&shared)));
    let tenants = shared.state().gatherer.tenants();
    for tenant in 0..tenants {
        let lane = shared.state().gatherer.sender(tenant);
        if let Some(lane) = lane {
            workers.spawn(send(Arc::clone(&shared), tenant, lane, Arc::clone(&progress)));
        }
    }
    let mut connections = JoinSet::new();
    let patience = accept(&shared, listener, tls, stop, &mut connections).await;

    shared.state().stopping = true;
    let deadline = Instant::now() + patience;
    for tenant in 0..tenants {
        shared.send_now(tenant);
    }
    loop {
        let waiting = shared.state().gatherer.due().is_some();
        if !waiting && shared.desk.outstanding() == 0 {
            break;
        }
        tokio::select! {
            () = progress.notified() => {}
            () = sleep_until(deadline) => {
                let intakes = shared.desk.outstanding();
                let source = &*shared.settings.name;
                tracing::warn!(source, intakes, "stopping before all commits were told; clients will send again");
                break;
            }
        }
    }
    shared.state().close_all();
    let closed = timeout(CLOSING, async { while connections.join_next().await.is_some() {} }).await;
    if closed.is_err() {
        connections.shutdown().await;
    }
    workers.shutdown().await;
}

/// Accepts connections until told to stop; returns how long commits may take.
async fn accept(
    shared: &Arc<Shared>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut stop: oneshot::Receiver<Duration>,
    connections: &mut JoinSet<()>,
) -> Duration {
    let most = shared.settings.max_connections + IN_PASSING;
    loop {
        tokio::select! {
            patience = &mut stop => return patience.unwrap_or_default(),
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(source = &*shared.settings.name, %error, "a connection's task failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= most => shared.counters.refused.add(1),
                Ok((socket, _)) => {
                    // Acknowledgements are small and due at once.
                    let _ = socket.set_nodelay(true);
                    let place = shared.state().open();
                    let (shared, tls) = (Arc::clone(shared), tls.clone());
                    connections.spawn(async move { serve(&shared, place, socket, tls).await });
                }
                Err(error) => {
                    tracing::warn!(source = &*shared.settings.name, %error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Sends a tenant's batches when they are due, or full and waited for.
async fn send(shared: Arc<Shared>, tenant: TenantIndex, lane: LaneSender, progress: Arc<Notify>) {
    let Some(bell) = shared.bell(tenant) else { return };
    loop {
        bell.opened.notified().await;
        loop {
            let opened = shared.state().gatherer.opened(tenant);
            let Some(opened) = opened else { break };
            let due = Instant::from_std(opened + shared.pace.linger());
            tokio::select! {
                biased;
                () = bell.full.notified() => {}
                // A timer would end only after the next rest.
                () = std::future::ready(()), if due <= Instant::now() => {}
                () = sleep_until(due) => {
                    // It may have been sent meanwhile because it was full: the next one has its own time.
                    if shared.state().gatherer.opened(tenant) != Some(opened) {
                        continue;
                    }
                }
            }
            let permit = lane.reserve().await;
            let mut state = shared.state();
            match permit {
                Ok(permit) => {
                    if let Some(intake) = state.gatherer.take(tenant) {
                        permit.send(intake);
                    }
                }
                // The lane is gone: this refuses the batch.
                Err(_) => {
                    state.gatherer.flush_tenant(tenant);
                }
            }
            state.made_room(tenant);
            progress.notify_one();
        }
    }
}

/// Acknowledges what was committed.
async fn settle(shared: Arc<Shared>, mut told: UnboundedReceiver<Told>, progress: Arc<Notify>) {
    const AT_ONCE: usize = 64;
    let mut many = Vec::with_capacity(AT_ONCE);
    while told.recv_many(&mut many, AT_ONCE).await > 0 {
        let mut state = shared.state();
        for told in many.drain(..) {
            state.settle(told, &shared.counters);
            shared.desk.settled();
        }
        state.write_out(&shared.counters);
        progress.notify_one();
    }
}

/// Closes silent connections and ends expired sessions.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweeps = 0_u32;
    loop {
        ticks.tick().await;
        let mut state = shared.state();
        let (now, wall) = state.clock.now();
        state.close_silent(now);
        if sweeps.is_multiple_of(SESSION_SWEEPS) {
            state.end_expired_sessions(wall);
        }
        sweeps = sweeps.wrapping_add(1);
    }
}
