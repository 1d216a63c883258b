//! A minimal MQTT client, driven packet by packet.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, QUIET};

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(super) struct Client {
    stream: Box<dyn Duplex>,
    pub(super) version: u8,
}

/// A CONNECT packet in the making.
#[derive(Clone)]
pub(super) struct Connect {
    pub(super) version: u8,
    pub(super) id: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    pub(super) user: Option<(String, String)>,
    pub(super) will: Option<(String, String)>,
    pub(super) session_expiry: u32,
}

impl Connect {
    pub(super) fn new(version: u8, id: &str) -> Self {
        Self {
            version,
            id: id.to_owned(),
            clean: true,
            keep_alive: 60,
            user: None,
            will: None,
            session_expiry: 0,
        }
    }

    pub(super) fn kept(version: u8, id: &str) -> Self {
        Self { clean: false, session_expiry: 3_600, ..Self::new(version, id) }
    }

    pub(super) fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    pub(super) fn packet(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        flags |= if self.user.is_some() { 0xc0 } else { 0 };
        flags |= if self.will.is_some() { 4 } else { 0 };
        let mut body = text("MQTT");
        body.extend_from_slice(&[self.version, flags]);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.version == 5 {
            body.extend_from_slice(&[5, 0x11]);
            body.extend_from_slice(&self.session_expiry.to_be_bytes());
        }
        body.extend(text(&self.id));
        if let Some((topic, payload)) = &self.will {
            if self.version == 5 {
                body.push(0);
            }
            body.extend(text(topic));
            body.extend(text(payload));
        }
        if let Some((name, password)) = &self.user {
            body.extend(text(name));
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = length > 127;
        bytes.push((length & 127) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A PUBLISH; an identifier of 0 means QoS 0.
pub(super) fn publish(version: u8, qos: u8, id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1, &body)
}

impl Client {
    pub(super) async fn new(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), version: 4 }
    }

    pub(super) fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), version: 4 }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends what the other side may already refuse to read.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Connects and must be let in; returns the CONNACK's body.
    pub(super) async fn connect(&mut self, connect: &Connect) -> Vec<u8> {
        let answer = self.try_connect(connect).await;
        assert_eq!(answer[1], 0, "let in");
        answer
    }

    pub(super) async fn try_connect(&mut self, connect: &Connect) -> Vec<u8> {
        self.version = connect.version;
        self.send(&connect.packet()).await;
        let (first, body) = self.receive().await.expect("a CONNACK");
        assert_eq!(first, 0x20);
        body
    }

    pub(super) async fn publish(&mut self, qos: u8, id: u16, topic: &str, payload: &[u8]) {
        let packet = publish(self.version, qos, id, topic, payload);
        self.send(&packet).await;
    }

    /// The next packet; `None` if the connection ended.
    pub(super) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(PATIENCE, self.read_packet()).await.expect("a packet in time")
    }

    async fn read_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }

    /// Must get this packet next.
    pub(super) async fn expect(&mut self, first: u8, body: &[u8]) {
        let packet = self.receive().await;
        assert_eq!(packet, Some((first, body.to_vec())));
    }

    /// Must get nothing for a while.
    pub(super) async fn expect_silence(&mut self) {
        self.expect_silence_for(QUIET).await;
    }

    pub(super) async fn expect_silence_for(&mut self, time: Duration) {
        if let Ok(packet) = tokio::time::timeout(time, self.read_packet()).await {
            panic!("silence, but there came {packet:?}");
        }
    }

    /// The connection must end without another packet.
    pub(super) async fn expect_end(&mut self) {
        assert_eq!(self.receive().await, None);
    }

    /// The connection must end, for MQTT 5 with this reason.
    pub(super) async fn expect_disconnect(&mut self, reason: u8) {
        if self.version == 5 {
            self.expect(0xe0, &[reason]).await;
        }
        self.expect_end().await;
    }
}
