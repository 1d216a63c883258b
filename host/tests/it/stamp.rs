//! A stamp for tests: a server over QUIC, TCP or both that drives `wire::session::stamp` and lands in memory, honestly or not.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, watch};
use wire::codec::{Limits, decode, visit_devices};
use wire::ids::{Sequence, StampId};
use wire::message::{Admission, BatchRefusal, CloseReason, RefusalReason, TenantIndex};
use wire::ranges::RangeSet;
use wire::session::stamp::{Closed, Event, Session};

pub(crate) use crate::pki::Pki;

/// How the stamp behaves.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Lands and acknowledges.
    Honest,
    /// Lands, and closes the connection after so many batches of a connection; the last ten without acknowledgement.
    BreakAfter(usize),
    /// Acknowledges each batch twice.
    AckTwice,
    /// Neither lands nor acknowledges what it got until its manner changes.
    AckWhenTold,
    /// Lands at once and acknowledges later.
    AckAfter(Duration),
    /// Refuses this batch and lands all others.
    RefuseBatch(u64, BatchRefusal),
    /// Takes no rows of these devices, and names so many of them at a time.
    RefuseDevices(&'static [&'static str], usize),
    /// Does not admit this tenant.
    RefuseTenant(&'static str, RefusalReason),
    /// Refuses the session.
    Refuse(RefusalReason, Option<Duration>),
    /// Answers with bytes that are no message.
    Garbage,
    /// Closes the session at the first batch, with a time to come back.
    CloseUntil(Duration),
}

/// What it listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Quic,
    /// TCP; packets to the UDP port of the same number vanish.
    Tcp,
}

/// What a stamp has landed; outlives the server.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    tenants: HashMap<String, Tenant>,
    hellos: Vec<Heard>,
    goodbyes: Vec<Instant>,
}

/// A hello: when it came, and each tenant with its epoch.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) tenants: Vec<(String, u64)>,
}

#[derive(Debug, Default)]
struct Tenant {
    landed: RangeSet,
    batches: BTreeMap<u64, usize>,
    received: Vec<u64>,
    losses: Vec<(u64, u64)>,
    /// Device and time of each row that landed, where the payloads are frames.
    rows: Vec<(String, i64)>,
}

struct Shared {
    name: &'static str,
    manner: Mutex<Manner>,
    changed: watch::Sender<()>,
    landing: Arc<Mutex<Landing>>,
    breaks: broadcast::Sender<()>,
    accepted: AtomicUsize,
}

/// The running server.
pub(crate) struct TestStamp {
    port: u16,
    endpoint: Option<quinn::Endpoint>,
    /// Held, so that what comes over UDP is not even refused.
    hole: Mutex<Option<std::net::UdpSocket>>,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl TestStamp {
    pub(crate) fn start(pki: &Pki, manner: Manner) -> Self {
        Self::start_at(pki, manner, 0, Arc::default())
    }

    pub(crate) fn start_at(pki: &Pki, manner: Manner, port: u16, landing: Arc<Mutex<Landing>>) -> Self {
        Self::start_over(Over::Quic, pki, manner, port, landing)
    }

    pub(crate) fn start_named(name: &'static str, pki: &Pki, manner: Manner) -> Self {
        Self::start_as(name, Over::Quic, pki, manner, 0, Arc::default())
    }

    pub(crate) fn start_over(
        over: Over,
        pki: &Pki,
        manner: Manner,
        port: u16,
        landing: Arc<Mutex<Landing>>,
    ) -> Self {
        Self::start_as("s1", over, pki, manner, port, landing)
    }

    fn start_as(
        name: &'static str,
        over: Over,
        pki: &Pki,
        manner: Manner,
        port: u16,
        landing: Arc<Mutex<Landing>>,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            name,
            manner: Mutex::new(manner),
            changed: watch::channel(()).0,
            landing,
            breaks: broadcast::channel(4).0,
            accepted: AtomicUsize::new(0),
        });
        let _inside = runtime.enter();
        match over {
            Over::Quic => {
                // The socket of one that was killed goes with its thread, a moment later.
                let bound = std::cell::OnceCell::new();
                crate::wait_until("the port is free", || {
                    quinn::Endpoint::server(pki.quic_server(), (Ipv4Addr::LOCALHOST, port).into())
                        .is_ok_and(|endpoint| bound.set(endpoint).is_ok())
                });
                let endpoint = bound.into_inner().unwrap();
                let port = endpoint.local_addr().unwrap().port();
                runtime.spawn(accept_quic(endpoint.clone(), shared.clone()));
                Self {
                    port,
                    endpoint: Some(endpoint),
                    hole: Mutex::default(),
                    shared,
                    runtime: Some(runtime),
                }
            }
            Over::Tcp => {
                // A number that is free for both; who chose it by itself may choose another one.
                let bound = std::cell::OnceCell::new();
                crate::wait_until("a port is free", || {
                    let address = |port| (Ipv4Addr::LOCALHOST, port);
                    let Ok(hole) = std::net::UdpSocket::bind(address(port)) else { return false };
                    let port = hole.local_addr().unwrap().port();
                    std::net::TcpListener::bind(address(port))
                        .is_ok_and(|listener| bound.set((hole, listener)).is_ok())
                });
                let (hole, listener) = bound.into_inner().unwrap();
                let port = hole.local_addr().unwrap().port();
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                runtime.spawn(accept_tcp(listener, pki.tls_server(), shared.clone()));
                Self { port, endpoint: None, hole: Mutex::new(Some(hole)), shared, runtime: Some(runtime) }
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it has landed, for another one to go on with.
    pub(crate) fn landing(&self) -> Arc<Mutex<Landing>> {
        self.shared.landing.clone()
    }

    /// Leaves the UDP port to somebody who answers.
    pub(crate) fn open_udp(&self) {
        *self.hole.lock().unwrap() = None;
    }

    /// Connections that came, whatever became of them.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Changes its manner, for open connections too.
    pub(crate) fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
        self.shared.changed.send_replace(());
    }

    /// Breaks all connections.
    pub(crate) fn break_all(&self) {
        self.shared.breaks.send(()).ok();
    }

    /// Goes away, with all connections.
    pub(crate) fn stop(mut self) -> Arc<Mutex<Landing>> {
        let runtime = self.runtime.take().unwrap();
        if let Some(endpoint) = &self.endpoint {
            endpoint.close(1_u8.into(), b"going away");
            runtime.block_on(endpoint.wait_idle());
        }
        let landing = self.shared.landing.clone();
        drop(self);
        runtime.shutdown_timeout(Duration::from_secs(5));
        landing
    }

    /// Is gone without a word, as after SIGKILL.
    pub(crate) fn kill(mut self) -> Arc<Mutex<Landing>> {
        // Without a runtime nothing is sent any more.
        self.runtime.take().unwrap().shutdown_background();
        self.shared.landing.clone()
    }

    /// Numbers that landed, in order.
    pub(crate) fn landed(&self, tenant: &str) -> Vec<u64> {
        self.look(tenant, |tenant| tenant.batches.keys().copied().collect())
    }

    /// Numbers that were received, in order of arrival, with repetitions.
    pub(crate) fn received(&self, tenant: &str) -> Vec<u64> {
        self.look(tenant, |tenant| tenant.received.clone())
    }

    pub(crate) fn losses(&self, tenant: &str) -> Vec<(u64, u64)> {
        self.look(tenant, |tenant| tenant.losses.clone())
    }

    /// Device and time of each row that landed, in order of both.
    pub(crate) fn rows(&self, tenant: &str) -> Vec<(String, i64)> {
        let mut rows = self.look(tenant, |tenant| tenant.rows.clone());
        rows.sort_unstable();
        rows
    }

    pub(crate) fn hellos(&self) -> usize {
        self.heard().len()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.landing.lock().unwrap().hellos.clone()
    }

    pub(crate) fn goodbyes(&self) -> usize {
        self.goodbyes_at().len()
    }

    pub(crate) fn goodbyes_at(&self) -> Vec<Instant> {
        self.shared.landing.lock().unwrap().goodbyes.clone()
    }

    fn look<T: Default>(&self, tenant: &str, look: impl FnOnce(&Tenant) -> T) -> T {
        self.shared.landing.lock().unwrap().tenants.get(tenant).map(look).unwrap_or_default()
    }
}

async fn accept_quic(endpoint: quinn::Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = shared.clone();
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let Ok((send, receive)) = connection.accept_bi().await else { return };
            serve(&shared, Line::Quic(connection, send, receive)).await;
        });
    }
}

async fn accept_tcp(listener: tokio::net::TcpListener, tls: rustls::ServerConfig, shared: Arc<Shared>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            serve(&shared, Line::Tcp(Box::new(stream))).await;
        });
    }
}

/// An open connection, whatever carries it.
enum Line {
    Quic(quinn::Connection, quinn::SendStream, quinn::RecvStream),
    Tcp(Box<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>),
}

impl Line {
    /// The gateway may have gone; the loop finds out.
    async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Quic(_, send, _) => send.write_all(bytes).await.ok(),
            Self::Tcp(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await.ok(),
                Err(_) => None,
            },
        };
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Quic(_, _, receive) => {
                Some(receive.read_chunk(64 * 1024, true).await.ok()??.bytes.to_vec())
            }
            Self::Tcp(stream) => {
                let mut buffer = Vec::with_capacity(64 * 1024);
                (stream.read_buf(&mut buffer).await.ok()? > 0).then_some(buffer)
            }
        }
    }

    /// Says no more, and waits until the gateway has gone.
    async fn finish(mut self) {
        match &mut self {
            Self::Quic(connection, send, _) => {
                send.finish().ok();
                connection.closed().await;
            }
            Self::Tcp(stream) => {
                stream.shutdown().await.ok();
            }
        }
        while self.read().await.is_some() {}
    }

    fn cut(self) {
        if let Self::Quic(connection, ..) = self {
            connection.close(1_u8.into(), b"broken by the test");
        }
    }
}

/// One connection, served to its end.
async fn serve(shared: &Shared, mut line: Line) {
    let manner = || shared.manner.lock().unwrap().clone();
    let mut session = Session::new(StampId::new(shared.name).unwrap());
    let mut tenants: Vec<String> = Vec::new();
    // Landed or not, but not acknowledged yet.
    let mut pending: Vec<(TenantIndex, Sequence)> = Vec::new();
    let mut batches = 0;
    let mut breaks = shared.breaks.subscribe();
    let mut changed = shared.changed.subscribe();
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Hello(hello) => {
                    tenants = hello.tenants.iter().map(|of| of.tenant.to_string()).collect();
                    let epochs = hello.tenants.iter().map(|of| of.epoch);
                    let heard =
                        Heard { at: Instant::now(), tenants: tenants.iter().cloned().zip(epochs).collect() };
                    shared.landing.lock().unwrap().hellos.push(heard);
                    match manner() {
                        Manner::Refuse(reason, after) => session.refuse(reason, "as the test wants", after),
                        Manner::Garbage => {
                            line.write(b"SLUICE\x01\nand now something else").await;
                        }
                        manner => session.welcome(answers(shared, &tenants, &manner)),
                    }
                }
                Event::Batch(batch) => {
                    batches += 1;
                    let tenant = &tenants[usize::from(batch.tenant.0)];
                    {
                        let mut landing = shared.landing.lock().unwrap();
                        landing.tenants.entry(tenant.clone()).or_default().received.push(batch.seq.0);
                    }
                    match manner() {
                        Manner::CloseUntil(after) => {
                            session.close(CloseReason::ShuttingDown, "as the test wants", Some(after));
                        }
                        Manner::AckWhenTold => pending.push((batch.tenant, batch.seq)),
                        Manner::RefuseBatch(seq, reason) if batch.seq.0 == seq => {
                            session.refuse_batch(batch.tenant, batch.seq, reason, "as the test wants");
                        }
                        Manner::RefuseDevices(refused, most) if has(&batch.payload, refused) => {
                            let named = devices(&batch.payload).into_iter();
                            let named = named.filter(|device| refused.contains(&device.as_str()));
                            let named = named.take(most).collect();
                            session.refuse_devices(batch.tenant, batch.seq, "beyond the quota", named);
                        }
                        manner => {
                            land(shared, tenant, batch.seq, &batch.payload);
                            match manner {
                                Manner::BreakAfter(most) if batches + 10 > most => {}
                                Manner::AckAfter(pause) => {
                                    tokio::time::sleep(pause).await;
                                    session.landed(batch.tenant, batch.seq, batch.seq);
                                }
                                Manner::AckTwice => {
                                    session.landed(batch.tenant, batch.seq, batch.seq);
                                    write(&mut session, &mut line).await;
                                    session.landed(batch.tenant, batch.seq, batch.seq);
                                }
                                _ => session.landed(batch.tenant, batch.seq, batch.seq),
                            }
                            if matches!(manner, Manner::BreakAfter(most) if batches >= most) {
                                line.cut();
                                return;
                            }
                        }
                    }
                }
                Event::Loss(loss) => {
                    let mut landing = shared.landing.lock().unwrap();
                    let tenant =
                        landing.tenants.entry(tenants[usize::from(loss.tenant.0)].clone()).or_default();
                    tenant.landed.insert_range(loss.from, loss.to);
                    tenant.losses.push((loss.from.0, loss.to.0));
                    session.landed(loss.tenant, loss.from, loss.to);
                }
                // Nothing is desired here.
                Event::Fetch(_) => session.content_missing(),
                Event::Condition(_) => {}
                Event::Closed(closed) => {
                    if matches!(closed, Closed::Bye(_)) {
                        shared.landing.lock().unwrap().goodbyes.push(Instant::now());
                    }
                }
            }
        }
        write(&mut session, &mut line).await;
        if session.is_closed() {
            line.finish().await;
            return;
        }
        tokio::select! {
            chunk = line.read() => match chunk {
                Some(bytes) => session.receive(&bytes),
                None => return,
            },
            _ = changed.changed() => {
                for (index, seq) in pending.drain(..) {
                    land(shared, &tenants[usize::from(index.0)], seq, &[]);
                    session.landed(index, seq, seq);
                }
            }
            _ = breaks.recv() => {
                line.cut();
                return;
            }
        }
    }
}

fn answers(shared: &Shared, tenants: &[String], manner: &Manner) -> Vec<Admission> {
    let landing = shared.landing.lock().unwrap();
    let answer = |tenant: &String| match manner {
        Manner::RefuseTenant(refused, reason) if tenant == refused => {
            Admission::Refused { reason: *reason, text: "as the test wants".to_owned() }
        }
        _ => Admission::Admitted {
            landed: landing.tenants.get(tenant).map(|tenant| tenant.landed.clone()).unwrap_or_default(),
            device_quota: None,
            window: 1 << 20,
        },
    };
    tenants.iter().map(answer).collect()
}

fn devices(payload: &[u8]) -> Vec<String> {
    let mut devices = Vec::new();
    visit_devices(payload, &Limits::default(), |device| devices.push(device.to_owned())).unwrap();
    devices
}

fn has(payload: &[u8], refused: &[&str]) -> bool {
    devices(payload).iter().any(|device| refused.contains(&device.as_str()))
}

fn land(shared: &Shared, tenant: &str, seq: Sequence, payload: &[u8]) {
    let mut landing = shared.landing.lock().unwrap();
    let tenant = landing.tenants.entry(tenant.to_owned()).or_default();
    assert!(tenant.landed.insert(seq), "batch {seq} was handed on although it had landed");
    tenant.batches.insert(seq.0, payload.len());
    for frame in decode(payload, &Limits::default()).unwrap_or_default() {
        let device = |row| frame.device_of(row).unwrap().to_owned();
        tenant.rows.extend(frame.time.iter().enumerate().map(|(row, time)| (device(row), *time)));
    }
}

async fn write(session: &mut Session, line: &mut Line) {
    while let Some(chunk) = session.poll_transmit() {
        line.write(&chunk).await;
    }
}
