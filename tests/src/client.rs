//! One MQTT device driven by hand, message by message, over TCP or TLS: for tests of single messages and refusals.
//!
//! Blocking and simple; load comes from [`crate::load`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::load::mqtt::{self, Answer, Connect};
use crate::pki::Identity;

/// Longest wait for any answer.
const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connected device.
pub struct Client {
    stream: Box<dyn Stream>,
    version: u8,
    have: Vec<u8>,
    next_packet: u16,
    /// Whether the server had kept the session.
    pub session_present: bool,
}

/// TLS of a device.
pub struct Tls<'a> {
    /// The CA that signed the server's certificate.
    pub trust: &'a Path,
    /// The device's own certificate.
    pub identity: Option<&'a Identity>,
}

impl Client {
    /// Connects over TCP.
    ///
    /// # Errors
    /// When it cannot connect or is refused: then the text holds the return code.
    pub fn connect(address: SocketAddr, options: &Connect<'_>) -> Result<Self> {
        Self::open(Box::new(tcp(address)?), options)
    }

    /// Connects over TLS.
    ///
    /// # Errors
    /// As [`Client::connect`], or when a certificate is refused.
    pub fn connect_tls(address: SocketAddr, options: &Connect<'_>, tls: &Tls<'_>) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(tls.trust)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match tls.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain =
                    CertificateDer::pem_file_iter(&identity.certificate)?.collect::<Result<_, _>>()?;
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.key)?)?
            }
        };
        let connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        Self::open(Box::new(rustls::StreamOwned::new(connection, tcp(address)?)), options)
    }

    fn open(stream: Box<dyn Stream>, options: &Connect<'_>) -> Result<Self> {
        let mut client =
            Self { stream, version: options.version, have: vec![], next_packet: 1, session_present: false };
        let mut out = vec![];
        mqtt::connect(&mut out, options);
        client.write(&out)?;
        match client.answer()? {
            Answer::Connected { session_present, code: 0 } => {
                client.session_present = session_present;
                Ok(client)
            }
            Answer::Connected { code, .. } => bail!("CONNACK {code:#04x}"),
            other => bail!("instead of CONNACK: {other:?}"),
        }
    }

    /// Publishes and waits until it is accepted (QoS 1, 2: acknowledged). Returns the MQTT 5 reason code, else 0.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn publish(&mut self, topic: &str, qos: u8, payload: &[u8]) -> Result<u8> {
        let packet = self.send(topic, qos, false, payload)?;
        match qos {
            0 => Ok(0),
            1 => match self.answer()? {
                Answer::Puback { packet: acked, code } if acked == packet => Ok(code),
                other => bail!("instead of PUBACK {packet}: {other:?}"),
            },
            _ => match self.answer()? {
                Answer::Pubrec { packet: acked, code } if acked == packet && code >= 0x80 => Ok(code),
                Answer::Pubrec { packet: acked, code } if acked == packet => {
                    let mut out = vec![];
                    mqtt::pubrel(&mut out, packet);
                    self.write(&out)?;
                    let answer = self.answer()?;
                    ensure!(answer == Answer::Pubcomp { packet }, "instead of PUBCOMP {packet}: {answer:?}");
                    Ok(code)
                }
                other => bail!("instead of PUBREC {packet}: {other:?}"),
            },
        }
    }

    /// Publishes and does not wait. Returns the packet identifier.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, topic: &str, qos: u8, dup: bool, payload: &[u8]) -> Result<u16> {
        let packet = self.next_packet;
        self.next_packet += 1;
        self.send_as(packet, topic, qos, dup, payload)?;
        Ok(packet)
    }

    /// Publishes under a packet identifier of the caller's choice and does not wait.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send_as(&mut self, packet: u16, topic: &str, qos: u8, dup: bool, payload: &[u8]) -> Result<()> {
        let mut out = Vec::with_capacity(payload.len() + topic.len() + 16);
        mqtt::publish(&mut out, self.version, topic.as_bytes(), qos, dup, packet, payload);
        self.write(&out)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the connection ended")?;
        self.stream.flush().context("the connection ended")
    }

    /// The next answer.
    ///
    /// # Errors
    /// When the connection ends before, or nothing comes for long.
    pub fn answer(&mut self) -> Result<Answer> {
        let mut read = [0; 4096];
        loop {
            if let Some((answer, length)) = mqtt::answer(&self.have, self.version) {
                self.have.drain(..length);
                return Ok(answer);
            }
            let more = self.stream.read(&mut read).context("no answer")?;
            ensure!(more > 0, "the server closed the connection");
            self.have.extend_from_slice(&read[..more]);
        }
    }
}

fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
