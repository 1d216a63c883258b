//! The line between a gateway and its stamp, with faults that a test switches on and off: a forwarder of UDP and TCP on
//! one port of the loopback.
//!
//! ```text
//! gateway ──udp──▶ [silent? lost? rate, delay, jitter] ──▶ one socket per flow ──▶ stamp      (and back the same way)
//! gateway ──tcp──▶ [silent? cut?]                      ──▶ one connection each ──▶ stamp
//! ```
//! Of TCP only silence and cuts are played: loss and delay are hidden by the system's own TCP at both ends of the loopback.
//! Does not look into what it forwards. Invariants: a flow is what comes from one source port, so each QUIC attempt of a
//! gateway is one; what is under way is bounded, more is lost, as on a real line.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::load::reading::Random;

/// Most datagrams under way in both directions together; more are lost.
const MAX_UNDER_WAY: usize = 8_192;
/// Most flows in the life of a proxy.
const MAX_FLOWS: usize = 4_096;
/// At a limited rate, a datagram that would wait longer is lost: the buffer of the bottleneck.
const LONGEST_QUEUE: Duration = Duration::from_millis(200);
/// Most bytes of a datagram.
const DATAGRAM: usize = 65_536;

/// What the line does to what goes over it; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Datagrams vanish, both ways.
    pub udp_silent: bool,
    /// TCP connections are accepted, as by a middlebox, but nothing comes through.
    pub tcp_silent: bool,
    /// Part of the datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// How long a datagram takes, one way.
    pub delay: Duration,
    /// Up to so much is added for each datagram by itself: they overtake each other.
    pub jitter: Duration,
    /// Bytes per second of datagrams in each direction.
    pub rate: Option<u32>,
}

/// A running proxy; ends when dropped.
pub struct Proxy {
    /// Where the gateway connects, UDP and TCP.
    pub address: SocketAddr,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

/// What all tasks share.
struct Line {
    stamp: SocketAddr,
    faults: watch::Sender<Faults>,
    /// Counts the orders to send from new ports.
    moves: watch::Sender<u64>,
    /// Counts the orders to cut all TCP connections.
    cuts: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    flows: AtomicU64,
    connections: AtomicU64,
    lost: AtomicU64,
    passed: AtomicU64,
    random: Mutex<Random>,
    under_way: Arc<Semaphore>,
}

impl Proxy {
    /// Starts one before the stamp at this address.
    ///
    /// # Errors
    /// When no port or thread is free.
    pub fn start(stamp: SocketAddr, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (udp, tcp) = runtime.block_on(listen())?;
        let line = Arc::new(Line {
            stamp,
            faults: watch::Sender::new(Faults::default()),
            moves: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            flows: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            random: Mutex::new(Random(seed)),
            under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        });
        let address = tcp.local_addr()?;
        let shared = line.clone();
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut stopped = shared.stop.subscribe();
                tokio::select! {
                    () = forward_udp(Arc::new(udp), shared.clone()) => {}
                    () = forward_tcp(tcp, shared.clone()) => {}
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        })?;
        Ok(Self { address, line, thread: Some(thread) })
    }

    /// From now on the line does this.
    pub fn set(&self, faults: Faults) {
        self.line.faults.send_replace(faults);
    }

    /// The gateway's address changes, as the stamp sees it: all flows go on from new source ports.
    pub fn change_address(&self) {
        self.line.moves.send_modify(|count| *count += 1);
    }

    /// Cuts all TCP connections.
    pub fn cut_tcp(&self) {
        self.line.cuts.send_modify(|count| *count += 1);
    }

    /// Source ports seen by UDP: QUIC attempts.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.line.flows.load(Ordering::Relaxed)
    }

    /// TCP connections seen: attempts over TCP.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.line.connections.load(Ordering::Relaxed)
    }

    /// All attempts of the gateway to connect that were seen.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.flows() + self.connections()
    }

    /// Bytes of datagrams that were not lost, both ways together.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.line.passed.load(Ordering::Relaxed)
    }

    /// Datagrams that were lost on purpose.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.line.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port that is free for both.
async fn listen() -> Result<(UdpSocket, TcpListener)> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr()?).await {
            return Ok((udp, tcp));
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}

/// One direction of the line for datagrams: when the bottleneck is free again.
struct Lane {
    line: Arc<Line>,
    free: Mutex<Instant>,
}

impl Lane {
    fn new(line: Arc<Line>) -> Arc<Self> {
        Arc::new(Self { line, free: Mutex::new(Instant::now()) })
    }

    /// When a datagram arrives; `None` if it does not.
    fn arrival(&self, length: usize) -> Option<Instant> {
        let faults = *self.line.faults.borrow();
        let mut random = self.line.random.lock().unwrap_or_else(PoisonError::into_inner);
        let mut part = || (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        if faults.udp_silent || part() < faults.loss {
            return None;
        }
        let now = Instant::now();
        let mut at = now + faults.delay + faults.jitter.mul_f64(part());
        if let Some(rate) = faults.rate {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = now.max(*free);
            if begins > now + LONGEST_QUEUE {
                return None;
            }
            *free = begins + Duration::from_secs_f64(length as f64 / f64::from(rate));
            at += free.duration_since(now);
        }
        Some(at)
    }

    /// Sends a datagram when it has arrived, if it does. `to`: where the socket is not connected.
    async fn pass(&self, datagram: &[u8], socket: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        let room = self.line.under_way.clone().try_acquire_owned();
        let (Some(at), Ok(room)) = (self.arrival(datagram.len()), room) else {
            self.line.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.line.passed.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        if at <= Instant::now() {
            send(socket, datagram, to).await;
            return;
        }
        let (datagram, socket) = (datagram.to_vec(), socket.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            send(&socket, &datagram, to).await;
            drop(room);
        });
    }
}

/// Nobody listening at the other end, or a full buffer, is a loss like any other.
async fn send(socket: &UdpSocket, datagram: &[u8], to: Option<SocketAddr>) {
    let _ = match to {
        Some(to) => socket.send_to(datagram, to).await,
        None => socket.send(datagram).await,
    };
}

/// A flow's way to the stamp, and the task that brings back the answers.
struct Flow {
    upstream: Arc<UdpSocket>,
    answers: AbortHandle,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

async fn forward_udp(listener: Arc<UdpSocket>, line: Arc<Line>) {
    let (up, down) = (Lane::new(line.clone()), Lane::new(line.clone()));
    let mut moves = line.moves.subscribe();
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = listener.recv_from(&mut datagram) => {
                // An error tells of an earlier datagram that nobody took.
                let Ok((length, gateway)) = received else { continue };
                if !flows.contains_key(&gateway) {
                    if flows.len() >= MAX_FLOWS {
                        continue;
                    }
                    let Ok(flow) = open(&listener, gateway, &down).await else { continue };
                    line.flows.fetch_add(1, Ordering::Relaxed);
                    flows.insert(gateway, flow);
                }
                if let Some(flow) = flows.get(&gateway) {
                    up.pass(&datagram[..length], &flow.upstream, None).await;
                }
            }
            _ = moves.changed() => {
                for (gateway, flow) in &mut flows {
                    // Without a free port the flow stays where it is.
                    if let Ok(moved) = open(&listener, *gateway, &down).await {
                        *flow = moved;
                    }
                }
            }
        }
    }
}

async fn open(listener: &Arc<UdpSocket>, gateway: SocketAddr, down: &Arc<Lane>) -> Result<Flow> {
    let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    upstream.connect(down.line.stamp).await.context("the stamp's address")?;
    let (answering, listener, down) = (upstream.clone(), listener.clone(), down.clone());
    let answers = tokio::spawn(async move {
        let mut datagram = vec![0; DATAGRAM];
        loop {
            if let Ok(length) = answering.recv(&mut datagram).await {
                down.pass(&datagram[..length], &listener, Some(gateway)).await;
            }
        }
    });
    Ok(Flow { upstream, answers: answers.abort_handle() })
}

async fn forward_tcp(listener: TcpListener, line: Arc<Line>) {
    loop {
        if let Ok((gateway, _)) = listener.accept().await {
            line.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(forward_connection(gateway, line.clone()));
        }
    }
}

async fn forward_connection(gateway: TcpStream, line: Arc<Line>) {
    let mut cuts = line.cuts.subscribe();
    let forwarding = async {
        heard(&line).await;
        let stamp = TcpStream::connect(line.stamp).await?;
        gateway.set_nodelay(true)?;
        stamp.set_nodelay(true)?;
        let ((from_gateway, to_gateway), (from_stamp, to_stamp)) = (gateway.into_split(), stamp.into_split());
        tokio::try_join!(copy(from_gateway, to_stamp, &line), copy(from_stamp, to_gateway, &line))
    };
    tokio::select! {
        // When both directions have ended or one has failed, both sockets are closed.
        _ = forwarding => {}
        _ = cuts.changed() => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line) -> std::io::Result<()> {
    let mut piece = vec![0; DATAGRAM];
    loop {
        let length = from.read(&mut piece).await?;
        heard(line).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// Waits while TCP is silent.
async fn heard(line: &Line) {
    // The sender lives as long as the line.
    let _ = line.faults.subscribe().wait_for(|faults| !faults.tcp_silent).await;
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    fn pair() -> (UdpSocket, UdpSocket, Proxy) {
        let (stamp, gateway) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let proxy = Proxy::start(stamp.local_addr().unwrap(), 1).unwrap();
        gateway.connect(proxy.address).unwrap();
        (stamp, gateway, proxy)
    }

    #[test]
    fn after_a_change_of_address_the_stamp_sees_another_port_and_its_answers_still_arrive() {
        let (stamp, gateway, proxy) = pair();
        let mut piece = [0; 8];
        gateway.send(b"one").unwrap();
        let (_, first) = stamp.recv_from(&mut piece).unwrap();
        proxy.change_address();
        let mut second = first;
        while second == first {
            gateway.send(b"two").unwrap();
            second = stamp.recv_from(&mut piece).unwrap().1;
        }
        stamp.send_to(b"back", second).unwrap();
        assert_eq!(gateway.recv(&mut piece).unwrap(), 4);
        assert_eq!(proxy.flows(), 1);
    }

    #[test]
    fn a_silent_line_takes_datagrams_and_delivers_none() {
        let (stamp, gateway, proxy) = pair();
        stamp.set_read_timeout(Some(SHORT)).unwrap();
        proxy.set(Faults { udp_silent: true, ..Faults::default() });
        gateway.send(b"one").unwrap();
        assert!(stamp.recv(&mut [0; 8]).is_err());
        assert_eq!(proxy.lost(), 1);
    }

    #[test]
    fn with_jitter_datagrams_overtake_each_other_and_all_arrive() {
        let (stamp, gateway, proxy) = pair();
        proxy.set(Faults { jitter: Duration::from_millis(50), ..Faults::default() });
        for number in 0..100_u8 {
            gateway.send(&[number]).unwrap();
        }
        let mut piece = [0];
        let mut seen: Vec<u8> = Vec::new();
        while seen.len() < 100 {
            stamp.recv(&mut piece).unwrap();
            seen.push(piece[0]);
        }
        assert!(!seen.is_sorted(), "{seen:?}");
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<u8>>());
    }
}
