//! The least an MQTT listener can do: accept, read, find the packets, answer. It decodes nothing and keeps nothing.
//!
//! For benches only: it shows, in the same run, what receiving costs on this machine, and so how much of the gateway's
//! time is its own. Handles CONNECT, PUBLISH with QoS 0 and 1, PINGREQ and DISCONNECT of well-behaved clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::packet::{Answer, PINGRESP, Version, kind, publish, split};

/// Most bytes of a packet.
const MAX_PACKET: usize = 1 << 20;

/// A bare listener on a thread of its own. Dropping it stops it.
pub struct Bare {
    address: SocketAddr,
    messages: Arc<AtomicU64>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bare {
    /// Starts one on a loopback port of the system's choice.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let messages = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&messages);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("mqtt bare".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, counted) => {}
                }
            });
        })?;
        Ok(Self { address, messages, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// PUBLISH packets received.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, messages: Arc<AtomicU64>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let messages = Arc::clone(&messages);
                connections.spawn(async move {
                    // A client that breaks off is of no interest here.
                    let _ = serve(socket, &messages).await;
                });
            }
        }
    }
}

async fn serve(mut socket: TcpStream, messages: &AtomicU64) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut buffer, mut out) = (Vec::with_capacity(64 << 10), Vec::new());
    let mut version = Version::V3;
    loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let (mut used, mut count) = (0, 0);
        while let Ok(Some(packet)) = split(buffer.get(used..).unwrap_or_default(), MAX_PACKET) {
            match packet.first >> 4 {
                kind::CONNECT => {
                    let five = packet.body.get(6) == Some(&5);
                    version = if five { Version::V5 } else { Version::V3 };
                    out.extend_from_slice(if five { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
                }
                kind::PUBLISH => {
                    count += 1;
                    if let Ok(publish) = publish(packet, version)
                        && publish.qos == 1
                    {
                        Answer::Puback.write(publish.packet, &mut out);
                    }
                }
                kind::PINGREQ => out.extend_from_slice(&PINGRESP),
                kind::DISCONNECT => return Ok(()),
                _ => {}
            }
            used += packet.total;
        }
        messages.fetch_add(count, Ordering::Relaxed);
        buffer.drain(..used);
        if !out.is_empty() {
            socket.write_all(&out).await?;
            out.clear();
        }
    }
}
