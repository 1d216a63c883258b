//! A gateway: quinn and `wire`'s session, and nothing else.

use std::io;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use wire::codec::Encoder;
use wire::frame::{Column, Frame, Texts, Values};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StreamId, TenantId};
use wire::message::{TenantIndex, TenantStream};
use wire::session::gateway::{Closed, Config, Event, Outgoing, Session};

use crate::site::{Identity, PATIENCE, Site};

pub(crate) const ACME: TenantIndex = TenantIndex(0);
pub(crate) const UMBRA: TenantIndex = TenantIndex(1);

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Quic,
    Tcp,
}

/// One stream in each direction to a stamp.
pub(crate) struct Stream {
    pub(crate) send: Box<dyn AsyncWrite + Unpin + Send>,
    pub(crate) receive: Box<dyn AsyncRead + Unpin + Send>,
    /// What must live as long.
    _connection: Option<(quinn::Connection, quinn::Endpoint)>,
}

impl Stream {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send.write_all(bytes).await?;
        self.send.flush().await
    }

    /// All that comes until the other end closes.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        timeout(PATIENCE, self.receive.read_to_end(&mut bytes)).await.expect("an end in time")?;
        Ok(bytes)
    }
}

/// The client's side of TLS, with a certificate or without one.
pub(crate) fn tls(site: &Site, identity: Option<&Identity>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity.map(Identity::parts) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![wire::message::ALPN.to_vec()];
    tls
}

/// Connects by QUIC, with a certificate or without one.
pub(crate) async fn connect(site: &Site, identity: Option<&Identity>) -> io::Result<Stream> {
    connect_by(Transport::Quic, site, tls(site, identity)).await
}

pub(crate) async fn connect_by(
    transport: Transport,
    site: &Site,
    tls: rustls::ClientConfig,
) -> io::Result<Stream> {
    if transport == Transport::Tcp {
        let stream = tokio::net::TcpStream::connect(site.address).await?;
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let (receive, send) = tokio::io::split(stream);
        return Ok(Stream { send: Box::new(send), receive: Box::new(receive), _connection: None });
    }
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, site.address, "localhost").unwrap().await?;
    let (send, receive) = connection.open_bi().await?;
    let _connection = Some((connection, endpoint));
    Ok(Stream { send: Box::new(send), receive: Box::new(receive), _connection })
}

/// A gateway in a session.
pub(crate) struct Gateway {
    pub(crate) stream: Stream,
    pub(crate) session: Session,
    /// Per tenant, what the stamp said is durable.
    pub(crate) landed: Vec<wire::ranges::RangeSet>,
}

/// As a gateway has it after it was made: certificate's name, installation, tenants with their streams.
pub(crate) struct Making<'a> {
    pub(crate) name: &'a str,
    pub(crate) installation: u64,
    pub(crate) tenants: &'a [(&'a str, u64)],
    /// Of the assignment of all of them.
    pub(crate) epoch: u64,
}

pub(crate) const PLANT7: Making<'_> =
    Making { name: "plant7", installation: 1, tenants: &[("acme", 11), ("umbra", 12)], epoch: 0 };

impl Making<'_> {
    pub(crate) fn session(&self) -> Session {
        let tenants = self.tenants.iter().map(|(tenant, stream)| TenantStream {
            tenant: TenantId::new(tenant).unwrap(),
            stream: StreamId(*stream),
            next: Sequence(1),
            epoch: self.epoch,
        });
        Session::new(Config {
            gateway: GatewayId::new(self.name).unwrap(),
            installation: InstallationId(self.installation),
            software: "test".into(),
            tenants: tenants.collect(),
        })
        .unwrap()
    }

    /// Connects and says hello.
    pub(crate) async fn connect(&self, site: &Site) -> Gateway {
        self.connect_as(site, &site.authority.issue(self.name)).await
    }

    pub(crate) async fn connect_as(&self, site: &Site, identity: &Identity) -> Gateway {
        self.begin(Transport::Quic, site, identity).await
    }

    async fn begin(&self, transport: Transport, site: &Site, identity: &Identity) -> Gateway {
        let tls = tls(site, Some(identity));
        let stream = timeout(PATIENCE, connect_by(transport, site, tls)).await.unwrap().unwrap();
        let landed = vec![wire::ranges::RangeSet::new(); self.tenants.len()];
        Gateway { stream, session: self.session(), landed }
    }

    /// Connects, and is welcomed with all its tenants.
    pub(crate) async fn welcomed(&self, site: &Site) -> Gateway {
        self.welcomed_by(Transport::Quic, site).await
    }

    /// The same, by this transport.
    pub(crate) async fn welcomed_by(&self, transport: Transport, site: &Site) -> Gateway {
        let mut gateway = self.begin(transport, site, &site.authority.issue(self.name)).await;
        assert!(matches!(gateway.next().await, Event::Welcomed { .. }));
        for _ in self.tenants {
            let event = gateway.next().await;
            assert!(matches!(event, Event::Admitted { .. }), "{event:?}");
        }
        gateway
    }
}

impl Gateway {
    /// The next event; panics if none comes.
    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.event()).await.expect("an event in time").expect("an open connection")
    }

    /// The next event; `None` if the connection is lost before.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.session.poll_event() {
                if let Event::Landed { tenant, ranges } | Event::Admitted { tenant, landed: ranges, .. } =
                    &event
                {
                    self.landed[usize::from(tenant.0)].extend(ranges);
                }
                return Some(event);
            }
            while let Some(bytes) = self.session.poll_transmit() {
                self.stream.write(&bytes).await.ok()?;
            }
            let mut chunk = vec![0; 64 << 10];
            let count = self.stream.receive.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
            self.session.receive(&chunk[..count]);
        }
    }

    /// Sends a batch as soon as there is room.
    pub(crate) async fn send(&mut self, tenant: TenantIndex, seq: u64, frames: &[Frame]) {
        let batch = batch(seq, frames);
        while !self.session.may_send(tenant, batch.payload.len()) {
            self.next().await;
        }
        self.session.send_batch(tenant, batch).unwrap();
    }

    /// Waits until the stamp has said that all numbers up to this one are durable.
    pub(crate) async fn landed_up_to(&mut self, tenant: TenantIndex, last: u64) {
        while self.landed[usize::from(tenant.0)].missing(Sequence(1), Sequence(last)).next().is_some() {
            let event = self.next().await;
            assert!(matches!(event, Event::Landed { .. }), "{event:?}");
        }
    }

    /// Waits for the end of the session.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Event::Closed(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// Goes in good order.
    pub(crate) async fn bye(mut self) {
        self.session.bye("test is over");
        while let Some(bytes) = self.session.poll_transmit() {
            self.stream.write(&bytes).await.unwrap();
        }
        self.stream.send.shutdown().await.unwrap();
        let _ = self.stream.rest().await;
    }
}

pub(crate) fn batch(seq: u64, frames: &[Frame]) -> Outgoing {
    let mut payload = Vec::new();
    Encoder::new().encode(frames, &mut payload).unwrap();
    Outgoing {
        seq: Sequence(seq),
        route: RouteName::new("telemetry").unwrap(),
        created: 1_760_000_000_000_000_000,
        rows: frames.iter().map(|frame| frame.rows() as u32).sum(),
        payload: payload.into(),
    }
}

/// One row for each device; its column `id` starts at `first`.
pub(crate) fn frame(devices: &[&str], first: u64) -> Frame {
    let rows = devices.len();
    let column =
        |name: &str, values| Column { name: name.into(), unit: String::new(), values, status: vec![] };
    Frame {
        profile: "machine".into(),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
        device: (0..rows as u32).collect(),
        time: (0..rows as i64).map(|row| 1_760_000_000_123_000_000 + row * 1_000_000).collect(),
        columns: vec![
            column("id", Values::F64((0..rows as u64).map(|row| (first + row) as f64).collect())),
            column("temperature_c", Values::F64((0..rows).map(|row| 21.5 + row as f64 / 100.0).collect())),
            column("state", Values::Text(Texts { dictionary: vec!["RUN".into()], index: vec![0; rows] })),
        ],
    }
}

/// A frame of that many rows, of ten devices.
pub(crate) fn rows(count: usize, first: u64) -> Frame {
    let names: Vec<String> = (0..10).map(|device| format!("press-{device}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut frame = frame(&vec!["x"; count], first);
    frame.devices = devices.iter().map(|device| (*device).to_owned()).collect();
    frame.device = (0..count as u32).map(|row| row % 10).collect();
    frame
}
