//! The physical limits that stages are held against, measured in the same run on the same machine: copying memory, a
//! native loop, `fdatasync` of a plain file, a bare QUIC stream.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::measure::{Rate, repeat};
use crate::pki::{Identity, Pki};
use crate::proxy::{Faults, Proxy};

/// Copying a block of that many bytes.
#[must_use]
pub fn memcpy(bytes: usize, time: Duration) -> Rate {
    let from = vec![7u8; bytes];
    let mut to = vec![0u8; bytes];
    repeat(time, || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    })
}

/// `v * 1.8 + 32` over a column of that many rows into another.
#[must_use]
pub fn native_linear(rows: usize, time: Duration) -> Rate {
    let from: Vec<f64> = (0..rows).map(|row| row as f64).collect();
    let mut to = vec![0.0; rows];
    repeat(time, || {
        for (to, from) in to.iter_mut().zip(black_box(&from)) {
            *to = from * 1.8 + 32.0;
        }
        black_box(&mut to);
    })
}

/// Appending `group` blocks of `bytes` to a plain file and one `fdatasync`; counted in groups.
///
/// # Errors
/// When the file cannot be written.
pub fn fdatasync(dir: &Path, bytes: usize, group: usize, time: Duration) -> Result<Rate> {
    let path = dir.join("plain");
    let mut file = File::create(&path)?;
    let block = vec![0x5Au8; bytes];
    let mut failed = None;
    let rate = repeat(time, || {
        let written = (0..group).try_for_each(|_| file.write_all(&block)).and_then(|()| file.sync_data());
        failed = failed.take().or(written.err());
    });
    std::fs::remove_file(path)?;
    failed.map_or(Ok(rate), |error| Err(error).context("the plain file"))
}

/// Blocks of `bytes` through one stream of a QUIC connection with mutual TLS on the loopback, both ends in this
/// process; counted in blocks. The CPU time is that of both ends.
///
/// # Errors
/// When the connection cannot be made.
pub fn quic_stream(dir: &Path, bytes: usize, time: Duration) -> Result<Rate> {
    let pki = Pki::create(&dir.join("limit-pki"))?;
    let (server, client) = (pki.server("stamp")?, pki.gateway("limit")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener =
            quinn::Endpoint::server(server_config(&server, &pki)?, (Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let receiver = tokio::spawn(receive(listener));
        let sent = send(address, client_config(&client, &pki)?, bytes, time).await;
        let received = receiver.await??;
        let (rate, total) = sent?;
        anyhow::ensure!(received == total, "{received} of {total} bytes arrived");
        Ok(rate)
    })
}

/// Blocks through one stream of a QUIC connection as above, over a line with faults; bytes per second that had arrived, from
/// the first one on.
///
/// # Errors
/// When the connection cannot be made.
pub fn quic_stream_over(dir: &Path, seed: u64, line: Faults, time: Duration) -> Result<f64> {
    const BLOCK: usize = 16 << 10;
    let pki = Pki::create(dir)?;
    let (server, client) = (pki.server("stamp")?, pki.gateway("limit")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        quinn::Endpoint::server(server_config(&server, &pki)?, (Ipv4Addr::LOCALHOST, 0).into())?
    };
    // It has a runtime of its own.
    let proxy = Proxy::start(listener.local_addr()?, seed)?;
    proxy.set(line);
    runtime.block_on(async {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(client_config(&client, &pki)?, proxy.address, "localhost")?;
        let (connection, accepted) =
            tokio::try_join!(async { Ok::<_, anyhow::Error>(connecting.await?) }, async {
                Ok(listener.accept().await.context("no connection")?.await?)
            },)?;
        let mut send = connection.open_uni().await?;
        let sending = tokio::spawn(async move {
            let block = bytes::Bytes::from(vec![0xA5u8; BLOCK]);
            // Ends with the connection.
            while send.write_chunk(block.clone()).await.is_ok() {}
        });
        let mut receive = accepted.accept_uni().await?;
        receive.read_chunk(usize::MAX, true).await?;
        let (start, mut received) = (std::time::Instant::now(), 0);
        while start.elapsed() < time {
            let chunk = receive.read_chunk(usize::MAX, true).await?.context("the stream ended")?;
            received += chunk.bytes.len();
        }
        let rate = received as f64 / start.elapsed().as_secs_f64();
        connection.close(0u32.into(), b"");
        sending.await?;
        Ok(rate)
    })
}

async fn receive(listener: quinn::Endpoint) -> Result<u64> {
    let connection = listener.accept().await.context("no connection")?.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut received = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        received += chunk.bytes.len() as u64;
    }
    send.write_all(b"k").await?;
    send.finish()?;
    connection.closed().await;
    Ok(received)
}

async fn send(
    address: SocketAddr,
    config: quinn::ClientConfig,
    bytes: usize,
    time: Duration,
) -> Result<(Rate, u64)> {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    let connection = endpoint.connect_with(config, address, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let block = bytes::Bytes::from(vec![0xA5u8; bytes]);
    let clock = super::measure::Clock::of_process()?;
    let mut blocks = 0u64;
    while clock.wall() < time {
        send.write_chunk(block.clone()).await?;
        blocks += 1;
    }
    send.finish()?;
    receive.read_to_end(1).await?;
    let rate = clock.stop(blocks)?;
    connection.close(0u32.into(), b"");
    endpoint.wait_idle().await;
    Ok((rate, blocks * bytes as u64))
}

fn server_config(identity: &Identity, pki: &Pki) -> Result<quinn::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(pki)?),
        Arc::clone(&provider),
    )
    .build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain(identity)?, PrivateKeyDer::from_pem_file(&identity.key)?)?;
    tls.alpn_protocols = vec![b"limit".to_vec()];
    Ok(quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

fn client_config(identity: &Identity, pki: &Pki) -> Result<quinn::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(pki)?)
        .with_client_auth_cert(chain(identity)?, PrivateKeyDer::from_pem_file(&identity.key)?)?;
    tls.alpn_protocols = vec![b"limit".to_vec()];
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

fn roots(pki: &Pki) -> Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.trust())?)?;
    Ok(roots)
}

fn chain(identity: &Identity) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_file_iter(&identity.certificate)?.collect::<Result<_, _>>()?)
}
