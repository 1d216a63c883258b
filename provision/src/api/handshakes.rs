//! TLS handshakes, a few at a time: when thousands of gateways come at once, each that is served is served soon, and the
//! others wait their turn, instead of all of them being too late together.
//!
//! ```text
//! connected ─ hello within `hello` ─► waits for a place within `turn` ─► handshake within `handshake` ─► served
//!                                                                        └ holds the place for `place` at most
//! ```
//! Invariants: who has not said hello holds no place, and no time of another's counts against a handshake. A client that
//! says hello and then nothing holds its place for a moment only: the handshake goes on beside the next one. Nothing is
//! computed for who has gone while it waited.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at once per core: as many as keep it at work while clients answer, and few enough that each is done soon.
const PER_CORE: usize = 32;

/// How many, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Handshakes that are begun at once.
    pub(super) places: usize,
    /// The client says hello within this time.
    pub(super) hello: Duration,
    /// A client that has said hello waits for its turn for so long at most. No client in the field has as much patience.
    pub(super) turn: Duration,
    /// A place is held for so long at most: a round trip over the worst of lines.
    pub(super) place: Duration,
    /// A handshake is done within this time, from when its turn has come.
    pub(super) handshake: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: PER_CORE * cores,
            hello: Duration::from_secs(10),
            turn: Duration::from_secs(60),
            place: Duration::from_millis(500),
            handshake: Duration::from_secs(10),
        }
    }
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missed {
    /// It said nothing, or not enough.
    #[error("no TLS in time: no hello within {0:?}")]
    Silent(Duration),
    /// Too many others came at the same time.
    #[error("too many handshakes at once: its turn did not come within {0:?}")]
    NoTurn(Duration),
    /// It did not wait for its turn.
    #[error("gone before its turn")]
    Gone,
    /// It did not answer.
    #[error("no TLS in time: not done within {0:?}")]
    Slow(Duration),
    /// It does not speak TLS as we do, or has gone.
    #[error("no TLS: {0}")]
    Tls(#[from] io::Error),
}

/// The door.
pub(super) struct Handshakes {
    tls: Arc<ServerConfig>,
    bounds: Bounds,
    places: Arc<Semaphore>,
}

impl Handshakes {
    pub(super) fn new(tls: Arc<ServerConfig>, bounds: Bounds) -> Self {
        Self { tls, bounds, places: Arc::new(Semaphore::new(bounds.places)) }
    }

    /// Waits for the client's turn, and does its handshake.
    pub(super) async fn shake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Missed> {
        let Bounds { hello, turn, place: held, handshake, .. } = self.bounds;
        let said = timeout(hello, LazyConfigAcceptor::new(Acceptor::default(), stream)).await;
        let begun = said.map_err(|_| Missed::Silent(hello))??;
        // First come, first served. Never closed.
        let place = timeout(turn, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Missed::NoTurn(turn)) };
        if has_gone(&begun.io).await {
            return Err(Missed::Gone);
        }
        let shaking = timeout(handshake, begun.into_stream(Arc::clone(&self.tls)));
        tokio::pin!(shaking);
        let done = tokio::select! {
            done = &mut shaking => done,
            () = sleep(held) => {
                drop(place);
                shaking.await
            }
        };
        Ok(done.map_err(|_| Missed::Slow(handshake))??)
    }
}

/// Whether the client has closed its side: nobody does so before the handshake who still wants something.
async fn has_gone(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let look = poll_fn(|context| match stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
        Poll::Ready(read) => Poll::Ready(!matches!(read, Ok(1..))),
        // Nothing has come since the hello, as should be.
        Poll::Pending => Poll::Ready(false),
    });
    look.await
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_rustls::TlsConnector;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const PATIENT: Bounds = Bounds { places: 1, hello: LONG, turn: LONG, place: LONG, handshake: LONG };

    /// A server's side, and that of a client that trusts it.
    pub(in crate::api) fn trusting() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), private)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(chain.into_iter().next().unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    struct Door {
        address: SocketAddr,
        client: Arc<ClientConfig>,
        /// What became of each connection.
        became: mpsc::UnboundedReceiver<Result<(), Missed>>,
        _serving: tokio::task::JoinSet<()>,
    }

    impl Door {
        async fn with(bounds: Bounds) -> Self {
            let (server, client) = trusting();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let handshakes = Arc::new(Handshakes::new(server, bounds));
            let (tell, became) = mpsc::unbounded_channel();
            let mut serving = tokio::task::JoinSet::new();
            serving.spawn(async move {
                let mut all = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (handshakes, tell) = (Arc::clone(&handshakes), tell.clone());
                    all.spawn(async move {
                        let shaken = handshakes.shake(stream).await;
                        let _ = tell.send(shaken.map(drop));
                    });
                }
            });
            Self { address, client, became, _serving: serving }
        }

        async fn tcp(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// A client that does everything as it should.
        fn shakes(&self, stream: TcpStream) -> tokio::task::JoinHandle<io::Result<()>> {
            let connector = TlsConnector::from(Arc::clone(&self.client));
            tokio::spawn(
                async move { connector.connect("localhost".try_into().unwrap(), stream).await.map(drop) },
            )
        }

        /// A client that says hello and then nothing, and holds the place once it is given an answer.
        async fn stalls(&self) -> TcpStream {
            let mut stream = self.tcp().await;
            self.says_hello(&mut stream).await;
            assert!(stream.read(&mut [0; 16]).await.unwrap() > 0, "its turn has come");
            stream
        }

        async fn says_hello(&self, stream: &mut TcpStream) {
            let name = "localhost".try_into().unwrap();
            let mut hello = Vec::new();
            ClientConnection::new(Arc::clone(&self.client), name).unwrap().write_tls(&mut hello).unwrap();
            stream.write_all(&hello).await.unwrap();
        }
    }

    #[tokio::test]
    async fn many_more_clients_than_places_all_get_in() {
        let door = Door::with(Bounds { places: 4, ..PATIENT }).await;
        let mut coming = Vec::new();
        for _ in 0..300 {
            coming.push(door.shakes(door.tcp().await));
        }
        for client in coming {
            client.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn who_opens_and_says_nothing_holds_no_place_and_is_cut_in_time() {
        let hello = Duration::from_secs(2);
        let mut door = Door::with(Bounds { hello, ..PATIENT }).await;
        let begun = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(door.tcp().await);
        }
        // Half a hello is none.
        silent[0].write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
        door.shakes(door.tcp().await).await.unwrap().unwrap();
        assert!(matches!(door.became.recv().await, Some(Ok(()))), "in before any of the silent ones is cut");
        for _ in &silent {
            assert!(matches!(door.became.recv().await, Some(Err(Missed::Silent(_)))));
        }
        assert!(begun.elapsed() >= hello);
        for stream in &mut silent {
            assert!(matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_)), "it is told so");
        }
    }

    #[tokio::test]
    async fn a_client_that_stalls_holds_its_place_for_a_moment_only() {
        let place = Duration::from_millis(300);
        let mut door = Door::with(Bounds { place, ..PATIENT }).await;
        let begun = Instant::now();
        let stalled = door.stalls().await;
        door.shakes(door.tcp().await).await.unwrap().unwrap();
        assert!(begun.elapsed() >= place, "there is one place");
        assert!(matches!(door.became.recv().await, Some(Ok(()))));
        drop(stalled);
        assert!(matches!(door.became.recv().await, Some(Err(Missed::Tls(_)))), "it was not cut");
    }

    #[tokio::test]
    async fn waiting_for_a_turn_has_an_end_and_is_no_part_of_the_handshake() {
        let (turn, handshake) = (Duration::from_secs(1), Duration::from_secs(2));
        let mut door = Door::with(Bounds { turn, handshake, ..PATIENT }).await;
        let _stalled = door.stalls().await;
        let mut waits = door.tcp().await;
        door.says_hello(&mut waits).await;
        assert!(matches!(door.became.recv().await, Some(Err(Missed::NoTurn(_)))));
        assert!(matches!(door.became.recv().await, Some(Err(Missed::Slow(_)))), "the one that stalled");
        door.shakes(door.tcp().await).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_has_gone_while_it_waited_costs_nothing() {
        let mut door = Door::with(Bounds { handshake: Duration::from_secs(1), ..PATIENT }).await;
        let _stalled = door.stalls().await;
        let mut leaves = door.tcp().await;
        door.says_hello(&mut leaves).await;
        leaves.shutdown().await.unwrap();
        assert!(matches!(door.became.recv().await, Some(Err(Missed::Slow(_)))));
        assert!(matches!(door.became.recv().await, Some(Err(Missed::Gone))));
        assert_eq!(leaves.read(&mut [0; 16]).await.unwrap_or(0), 0, "no answer was computed");
    }
}
