//! Ten thousand gateways connected to one stamp and idle: how fast they come in, what memory and CPU they cost it.
//!
//! The stamp is the real one. The gateways are a process of their own (this binary, [`ARGUMENT`]): a QUIC connection and
//! a session each, with a certificate in its own name, kept open as the gateway keeps its own. Their certificates share one
//! key, and their connections a few sockets, so that their side leaves the machine to the stamp; neither changes what the
//! stamp has to do. Sends no data.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, IdleTimeout, TransportConfig, VarInt};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wire::ids::{GatewayId, InstallationId, Sequence, StreamId, TenantId};
use wire::message::TenantStream;
use wire::session::gateway::{Closed, Config, Event, Session};

use super::measure::Rate;
use super::report::{Bench, Line};
use crate::process::{Process, Usage, wait_until};
use crate::world::World;

/// Argument that makes the bench binary the gateways; a file that says which follows it.
pub const ARGUMENT: &str = "--crowd-member";
const TENANT: &str = "acme";
/// Handshakes under way at once: more than the stamp can have in work, few enough that none times out.
const AT_ONCE: usize = 256;
/// Sockets the connections share.
const SOCKETS: usize = 8;
/// As the gateway's uplink has it (`host/src/uplink/quic.rs`).
const KEEP_ALIVE: Duration = Duration::from_secs(8);
const IDLE_MS: u32 = 25_000;
const RECEIVE_WINDOW: u32 = 256 * 1024;
/// Until what the arrivals left behind is written and freed.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Idleness is measured over two keep-alives of each.
const IDLE_FOR: Duration = Duration::from_secs(16);
/// The gateways say how many are connected this often.
const SAID_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(180);

/// What the process of the gateways is told.
#[derive(Serialize, Deserialize)]
struct Members {
    stamp: SocketAddr,
    gateways: u32,
    trust: PathBuf,
    certificates: PathBuf,
    key: PathBuf,
}

/// What it says, a line each time.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Standing {
    /// Connected now.
    connected: u64,
    /// From the first handshake until now.
    seconds: f64,
    /// Sessions that ended, or did not begin.
    lost: u64,
    /// Sent away until a moment of their own.
    sent_away: u64,
}

/// Measures with so many gateways.
///
/// # Errors
/// When they do not all get in, or one is lost while idle.
pub fn run(bench: &mut Bench, gateways: u32) -> Result<()> {
    let world = World::create()?;
    let names: Vec<String> = (0..gateways).map(name).collect();
    let roster: Vec<(&str, &[&str])> =
        names.iter().map(|name| (name.as_str(), [TENANT].as_slice())).collect();
    let mut stamp = world.stamp("crowd", &roster)?;
    stamp.configure("admit_per_second", "10_000")?;
    let members = certificates(&world, &names, stamp.address)?;
    stamp.start()?;
    let usage = |stamp: &mut crate::stamp::Stamp| stamp.process().context("the stamp runs")?.usage();
    let empty = usage(&mut stamp)?;
    let mut crowd = start(world.path(), &members)?;
    let mut now = Standing::default();
    wait_until("all gateways are connected", PATIENCE, || {
        crowd.check_running()?;
        now = standing(&crowd)?;
        Ok(now.connected == u64::from(gateways))
    })
    .with_context(|| format!("{now:?}"))?;
    let arrived = usage(&mut stamp)?;
    std::thread::sleep(SETTLED_AFTER);
    let (settled, start) = (usage(&mut stamp)?, Instant::now());
    std::thread::sleep(IDLE_FOR);
    let (idle, idle_for) = (usage(&mut stamp)?, start.elapsed());
    let last = standing(&crowd)?;
    ensure!(last.connected == u64::from(gateways), "gateways were lost while idle: {now:?}, then {last:?}");
    drop(crowd);
    stamp.terminate()?;
    report(bench, gateways, now, [empty, arrived, settled, idle], idle_for);
    Ok(())
}

fn report(bench: &mut Bench, gateways: u32, standing: Standing, usage: [Usage; 4], idle_for: Duration) {
    const MIB: f64 = 1_048_576.0;
    let [empty, arrived, settled, idle] = usage;
    let count = f64::from(gateways);
    let wall = Duration::from_secs_f64(standing.seconds);
    let rate = Rate { times: count, wall, cpu: arrived.cpu.saturating_sub(empty.cpu) };
    let each = (idle.resident.saturating_sub(empty.resident)) as f64 / count / 1_024.0;
    let share = (idle.cpu.saturating_sub(settled.cpu)).as_secs_f64() / idle_for.as_secs_f64() * 100.0;
    bench.line(Line::new("crowd: handshake, session, admitted", "gateways", rate).note(format!(
        "{gateways} gateways over QUIC, {} tries lost, {} sent away; idle they cost {each:.0} KiB each, and {share:.1} % of a core together; most memory {:.0} MiB",
        standing.lost,
        standing.sent_away,
        idle.peak as f64 / MIB,
    )));
    bench.figure("crowd_gateways", count);
    bench.target("crowd_admitted_per_second", rate.per_second(), 500.0, "gateways/s", true);
    bench.target("crowd_resident_mib", idle.resident as f64 / MIB, 1_024.0, "MiB", false);
    bench.figure("crowd_peak_mib", idle.peak as f64 / MIB);
    bench.figure("crowd_empty_mib", empty.resident as f64 / MIB);
    bench.figure("crowd_kib_per_gateway", each);
    bench.figure("crowd_cpu_ms_per_admission", rate.cpu_per_million() / 1_000.0);
    bench.figure("crowd_idle_cpu_percent_of_a_core", share);
    bench.figure("crowd_tries_lost", standing.lost as f64);
}

fn name(number: u32) -> String {
    format!("crowd-{number:05}")
}

/// One certificate a gateway, all for one key, in one file.
fn certificates(world: &World, names: &[String], stamp: SocketAddr) -> Result<Members> {
    let folder = world.path();
    let trust = world.pki.trust();
    let authority = KeyPair::from_pem(&std::fs::read_to_string(trust.with_extension("key"))?)?;
    let authority = Issuer::from_ca_cert_pem(&std::fs::read_to_string(&trust)?, authority)?;
    let key = KeyPair::generate()?;
    let mut pem = String::new();
    for name in names {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        pem += &params.signed_by(&key, &authority)?.pem();
    }
    let members = Members {
        stamp,
        gateways: names.len() as u32,
        trust,
        certificates: folder.join("members.crt"),
        key: folder.join("members.key"),
    };
    std::fs::write(&members.certificates, pem)?;
    std::fs::write(&members.key, key.serialize_pem())?;
    Ok(members)
}

fn start(folder: &Path, members: &Members) -> Result<Process> {
    let told = folder.join("members.json");
    std::fs::write(&told, serde_json::to_vec(members)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    Process::start("the gateways", command.arg(ARGUMENT).arg(told), &folder.join("members.log"))
}

fn standing(crowd: &Process) -> Result<Standing> {
    let log = crowd.log();
    // The last line may be written in part.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    match whole.lines().next_back() {
        None => Ok(Standing::default()),
        Some(line) => serde_json::from_str(line).with_context(|| line.to_owned()),
    }
}

/// Is the gateways, until it is killed.
///
/// # Errors
/// When it cannot read what it is told, or open its sockets.
pub fn serve(told: &Path) -> Result<()> {
    let members: Members = serde_json::from_slice(&std::fs::read(told)?)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(connect_all(&members))
}

/// What all gateways share.
struct Shared {
    stamp: SocketAddr,
    trust: Arc<rustls::RootCertStore>,
    key: PrivateKeyDer<'static>,
    sockets: Vec<Endpoint>,
    transport: Arc<TransportConfig>,
    door: Semaphore,
    connected: AtomicU64,
    lost: AtomicU64,
    sent_away: AtomicU64,
}

async fn connect_all(members: &Members) -> Result<()> {
    let mut trust = rustls::RootCertStore::empty();
    trust.add(CertificateDer::from_pem_file(&members.trust)?)?;
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))));
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    let sockets = (0..SOCKETS).map(|_| Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()));
    let shared = Arc::new(Shared {
        stamp: members.stamp,
        trust: Arc::new(trust),
        key: PrivateKeyDer::from_pem_file(&members.key)?,
        sockets: sockets.collect::<std::io::Result<_>>()?,
        transport: Arc::new(transport),
        door: Semaphore::new(AT_ONCE),
        connected: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        sent_away: AtomicU64::new(0),
    });
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(&members.certificates)?.collect::<Result<_, _>>()?;
    ensure!(certificates.len() == members.gateways as usize, "there is a certificate for each gateway");
    let start = Instant::now();
    let mut gateways = tokio::task::JoinSet::new();
    for (number, certificate) in (0..).zip(certificates) {
        gateways.spawn(stay(Arc::clone(&shared), number, certificate));
    }
    // Said first: the moment of the last arrival counts, not the moment it is looked at.
    let mut said = Standing::default();
    loop {
        let connected = shared.connected.load(Ordering::Relaxed);
        if connected != said.connected {
            said.seconds = start.elapsed().as_secs_f64();
        }
        said.connected = connected;
        said.lost = shared.lost.load(Ordering::Relaxed);
        said.sent_away = shared.sent_away.load(Ordering::Relaxed);
        println!("{}", serde_json::to_string(&said)?);
        tokio::select! {
            () = tokio::time::sleep(SAID_EVERY) => {}
            Some(ended) = gateways.join_next() => ended??,
        }
    }
}

/// Connects again and again, as its turn comes and the stamp says.
async fn stay(shared: Arc<Shared>, number: u32, certificate: CertificateDer<'static>) -> Result<()> {
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&shared.trust))
            .with_client_auth_cert(vec![certificate], shared.key.clone_key())?;
    tls.alpn_protocols = vec![wire::message::ALPN.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::clone(&shared.transport));
    loop {
        let refused = once(&shared, number, config.clone()).await;
        if let Ok(Some(after)) = refused {
            shared.sent_away.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(after).await;
        } else {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One session, until it ends; after how long to come again, if it was refused.
async fn once(shared: &Shared, number: u32, config: quinn::ClientConfig) -> Result<Option<Duration>> {
    let turn = shared.door.acquire().await?;
    let socket = shared.sockets.get(number as usize % SOCKETS).context("a socket")?;
    let connection = socket.connect_with(config, shared.stamp, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut session = Session::new(Config {
        gateway: GatewayId::new(&name(number))?,
        installation: InstallationId(u64::from(number)),
        software: "crowd".into(),
        tenants: vec![TenantStream {
            tenant: TenantId::new(TENANT)?,
            stream: StreamId(u64::from(number)),
            next: Sequence(1),
            epoch: 0,
        }],
    })?;
    let (mut turn, mut inside) = (Some(turn), None);
    loop {
        while let Some(bytes) = session.poll_transmit() {
            send.write_chunk(bytes).await?;
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::Admitted { .. } => {
                    inside = Some(Inside::new(&shared.connected));
                    turn = None;
                }
                Event::Closed(Closed::Refused(refused)) => return Ok(refused.retry_after),
                Event::Closed(closed) => bail!("{closed:?}"),
                _ => {}
            }
        }
        let chunk = receive.read_chunk(usize::MAX, true).await?.context("the stream ended")?;
        session.receive(&chunk.bytes);
        let _ = (&turn, &inside);
    }
}

/// Counts as connected until it is dropped.
struct Inside<'a>(&'a AtomicU64);

impl<'a> Inside<'a> {
    fn new(connected: &'a AtomicU64) -> Self {
        connected.fetch_add(1, Ordering::Relaxed);
        Self(connected)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
