//! A gateway's session with a stamp without a gateway: `wire`'s session over TLS, in which each number sent and acknowledged
//! is known, and whose hello may say anything.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::codec::Encoder;
use wire::frame::{Column, Frame, Values};
use wire::ids::{Digest, InstallationId, RouteName, Sequence, StreamId};
use wire::message::{ALPN, CloseReason, Condition, Content, RefusalReason, TenantIndex, TenantStream};
use wire::ranges::RangeSet;
use wire::session::gateway::{Closed, Config, Event, Outgoing, Session};

use crate::pki::Credentials;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches on their way at once under load.
const IN_FLIGHT: u64 = 100;
/// The stream of every tenant.
const STREAM: u64 = 77;

/// What a hello says.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// The gateway it claims to be.
    pub gateway: &'a str,
    /// Its installation.
    pub installation: u64,
    /// Tenants with their epochs.
    pub tenants: &'a [(&'a str, u64)],
}

/// How a stamp takes a hello.
#[derive(Debug, Clone, PartialEq)]
pub enum Greeting {
    /// The first tenant is served; this has landed of it.
    Admitted(RangeSet),
    /// The session, or its first tenant, is refused; with when to come again.
    Refused(RefusalReason, Option<Duration>),
    /// There was no session: the handshake failed.
    Lost,
}

/// A session.
pub struct Edge {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    session: Session,
}

impl Edge {
    /// Connects over TCP and says hello. A certificate that the stamp does not take shows in the greeting only.
    ///
    /// # Errors
    /// When there is no connection, or the stamp's certificate does not come from `trust`.
    pub async fn connect(
        stamp: SocketAddr,
        trust: &Path,
        credentials: Option<&Credentials>,
        hello: &Hello<'_>,
    ) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(trust)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut tls = match credentials {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let stream = TcpStream::connect(stamp).await.context("no connection to the stamp")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = connector.connect("localhost".try_into()?, stream).await.context("no TLS")?;
        let tenants = hello.tenants.iter().map(|(tenant, epoch)| {
            let (tenant, stream, next) = (tenant.parse()?, StreamId(STREAM), Sequence(1));
            Ok(TenantStream { tenant, stream, next, epoch: *epoch })
        });
        let session = Session::new(Config {
            gateway: hello.gateway.parse()?,
            installation: InstallationId(hello.installation),
            software: "test".into(),
            tenants: tenants.collect::<Result<_>>()?,
        })?;
        Ok(Self { stream, session })
    }

    /// The next event; `None` if the connection is lost.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.session.poll_event() {
                return Some(event);
            }
            while let Some(bytes) = self.session.poll_transmit() {
                self.stream.write_all(&bytes).await.ok()?;
            }
            self.stream.flush().await.ok()?;
            let mut chunk = vec![0; 64 << 10];
            let count = self.stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
            self.session.receive(&chunk[..count]);
        }
    }

    /// The next event.
    ///
    /// # Panics
    /// When none comes for long, or the connection is lost.
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.event()).await.expect("an event in time").expect("a connection")
    }

    /// How the stamp takes the hello.
    ///
    /// # Panics
    /// When it does not say so for long.
    pub async fn greeted(&mut self) -> Greeting {
        loop {
            match tokio::time::timeout(PATIENCE, self.event()).await.expect("an answer in time") {
                Some(Event::Welcomed { .. }) => {}
                Some(Event::Admitted { landed, .. }) => return Greeting::Admitted(landed),
                Some(Event::TenantRefused { reason, .. }) => return Greeting::Refused(reason, None),
                Some(Event::Closed(Closed::Refused(refused))) => {
                    return Greeting::Refused(refused.reason, refused.retry_after);
                }
                Some(other) => panic!("instead of a welcome {other:?}"),
                None => return Greeting::Lost,
            }
        }
    }

    /// Sends a batch of the first tenant: one row of that device, whose column `id` is the number.
    ///
    /// # Panics
    /// When the session does not take it.
    pub fn send(&mut self, seq: u64, device: &str) {
        let frame = Frame {
            profile: "machine".into(),
            devices: vec![device.to_owned()],
            device: vec![0],
            time: vec![1_760_000_000_000_000_000 + seq as i64],
            columns: vec![Column {
                name: "id".into(),
                unit: String::new(),
                values: Values::F64(vec![seq as f64]),
                status: vec![],
            }],
        };
        let mut payload = Vec::new();
        Encoder::new().encode(&[frame], &mut payload).unwrap();
        let route = RouteName::new("telemetry").unwrap();
        let batch = Outgoing { seq: Sequence(seq), route, created: 1, rows: 1, payload: payload.into() };
        self.session.send_batch(TenantIndex(0), batch).unwrap();
    }

    /// Asks for a piece of a content, and waits for it; other events meanwhile are passed over.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn fetch(&mut self, digest: Digest, offset: u64) -> Content {
        self.session.fetch(digest, offset).unwrap();
        loop {
            match self.next().await {
                Event::Content(content) => return content,
                Event::Closed(closed) => panic!("instead of a content {closed:?}"),
                _ => {}
            }
        }
    }

    /// Says how it is with a release.
    ///
    /// # Panics
    /// When the session or its connection does not take it.
    pub async fn say(&mut self, condition: Condition) {
        self.session.condition(condition).unwrap();
        while let Some(bytes) = self.session.poll_transmit() {
            self.stream.write_all(&bytes).await.unwrap();
        }
        self.stream.flush().await.unwrap();
    }

    /// Sends a batch and waits until it has landed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn land(&mut self, seq: u64, device: &str) {
        self.send(seq, device);
        let event = self.next().await;
        let landed = matches!(&event, Event::Landed { ranges, .. } if ranges.contains(Sequence(seq)));
        assert!(landed, "{event:?}");
    }

    /// Sends what is missing, and then one number after the other, until the session ends. Returns what was acknowledged
    /// and the last number sent.
    ///
    /// # Panics
    /// When it ends for another reason than that its stamp is gone or its roster has changed.
    pub async fn load(mut self, landed: RangeSet) -> (RangeSet, u64) {
        let mut acknowledged = landed.clone();
        let (mut seq, mut on_the_way, mut last) = (0, 0, landed.last().map_or(0, |last| last.0));
        loop {
            while on_the_way < IN_FLIGHT {
                seq += 1;
                if !landed.contains(Sequence(seq)) {
                    self.send(seq, if seq % 2 == 0 { "x" } else { "y" });
                    on_the_way += 1;
                    last = last.max(seq);
                }
            }
            match self.event().await {
                Some(Event::Landed { ranges, .. }) => {
                    on_the_way -= ranges.count();
                    acknowledged.extend(&ranges);
                }
                Some(Event::Closed(closed)) => {
                    let by_roster = matches!(&closed, Closed::ByStamp(close) if close.reason == CloseReason::RosterChanged);
                    assert!(by_roster, "{closed:?}");
                    return (acknowledged, last);
                }
                Some(other) => panic!("{other:?}"),
                None => return (acknowledged, last),
            }
        }
    }
}

/// Comes again, as a gateway does, while the stamp has not been told of it yet.
///
/// # Errors
/// When it is refused, or not told for long.
pub async fn admitted(
    stamp: SocketAddr,
    trust: &Path,
    credentials: &Credentials,
    hello: &Hello<'_>,
) -> Result<(Edge, RangeSet)> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mut edge = Edge::connect(stamp, trust, Some(credentials), hello).await?;
        match edge.greeted().await {
            Greeting::Admitted(landed) => return Ok((edge, landed)),
            Greeting::Refused(RefusalReason::NotYet, Some(_)) if Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
}
