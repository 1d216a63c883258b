//! Registrations at a real provisioning service that runs on one core, with a million enrolments in its registry; beside them
//! the cryptography alone that each one cannot do without.
//!
//! Every gateway comes over a connection of its own, with a bootstrap certificate that is enrolled by its fingerprint, and a
//! signing request; it goes with an operational certificate and its assignment, both on the service's disk. The clients run
//! on the other cores. Allocation alone is measured in this process, over a thousand stamps.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use provision::allocation::{Policy, Request, Stamps, allocate};
use provision::model::Proof;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tokio::sync::Semaphore;
use wire::ids::{Environment, GatewayId, TenantId};

use super::measure::{Clock, Rate, repeat};
use super::report::{Bench, Line};
use crate::cloud::client::Asking;
use crate::pki::Credentials;
use crate::provision::{Provision, enrolment, shared_stamp, tenant};
use crate::world::World;

/// Enrolments in the registry.
const ENROLMENTS: u32 = 1_000_000;
/// Of these, gateways that come.
const COMING: u32 = 4_000;
/// Enrolments added in one commit.
const PAGE: u32 = 50_000;
/// Gateways that register at the same time.
const AT_ONCE: usize = 48;
/// Stamps there are; allocation looks at each.
const STAMPS: u32 = 1_000;
const ALLOCATING: Duration = Duration::from_secs(1);
const HANDSHAKES: Duration = Duration::from_secs(1);

/// A gateway before it has come.
struct Coming {
    asking: Asking,
    credentials: Credentials,
}

/// Measures both.
///
/// # Errors
/// When the service does not start, or a gateway is refused.
pub fn run(bench: &mut Bench) -> Result<()> {
    let alone = allocation()?;
    bench.line(Line::new("allocation among a thousand stamps", "decisions", alone));
    bench.target("allocations_per_second", alone.per_second(), 50_000.0, "decisions/s", true);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(registrations(bench))
}

async fn registrations(bench: &mut Bench) -> Result<()> {
    let world = World::create()?;
    let mut service = Provision::create(&world)?;
    let bootstrap = world.pki.credentials("bootstrap", |_| {})?;
    let mut coming = Vec::new();
    for number in 0..COMING {
        let credentials = world.pki.credentials(&name(number), |_| {})?;
        coming.push(Coming { asking: Asking::new(&name(number))?, credentials });
    }
    let limit = cryptography(&world, &bootstrap)?;
    let fingerprints: Vec<[u8; 32]> = coming.iter().map(|coming| coming.credentials.fingerprint()).collect();
    let filled = fill(&service, fingerprints).await?;
    service.start()?;
    // One core for all of its threads, those still to come included.
    let id = service.process().context("the service runs")?.id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", "0", &id]).output()?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    let before = service.process().context("the service runs")?.usage()?;
    let start = Instant::now();
    come(&service, coming).await?;
    let wall = start.elapsed();
    let after = service.process().context("the service runs")?.usage()?;
    service.terminate()?;
    let rate = Rate { times: f64::from(COMING), wall, cpu: after.cpu.saturating_sub(before.cpu) };
    bench.line(
        Line::new("registration: attest, allocate, issue, on disk", "gateways", rate)
            .limit("a handshake and two signatures alone", limit)
            .note(format!(
                "one core, {ENROLMENTS} enrolments ({:.0} s to add, {:.0} MiB of memory), {STAMPS} stamps, a connection each",
                filled.as_secs_f64(),
                after.resident as f64 / 1_048_576.0
            )),
    );
    bench.target("registrations_per_second", rate.per_second(), 500.0, "gateways/s", true);
    // What the core would do if the clients of this machine did not take their part of it.
    bench.figure("registrations_per_cpu_second", 1e6 / rate.cpu_per_million());
    Ok(())
}

/// All gateways, so many at a time; each must get in.
async fn come(service: &Provision, coming: Vec<Coming>) -> Result<()> {
    let door = Arc::new(Semaphore::new(AT_ONCE));
    let admitted = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for Coming { asking, credentials } in coming {
        let pass = Arc::clone(&door).acquire_owned().await?;
        let client = service.client(Some(&credentials))?;
        let admitted = Arc::clone(&admitted);
        tasks.spawn(async move {
            let _pass = pass;
            let registration = client.register(&asking.unanswered()).await?;
            ensure!(registration.certificate.is_some() && registration.assignments.len() == 1);
            admitted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    ensure!(admitted.load(Ordering::Relaxed) == u64::from(COMING), "not all gateways came in");
    Ok(())
}

/// Puts the enrolments in, those that will come spread among them. Returns how long that took.
async fn fill(service: &Provision, fingerprints: Vec<[u8; 32]>) -> Result<Duration> {
    let start = Instant::now();
    service
        .change(|books| {
            for number in 0..STAMPS {
                let stamp = shared_stamp(&format!("stamp-{number:04}"), "eu", "production", 100_000);
                books.put_stamp(stamp, &["quic://stamp.example:7443".to_owned()])?;
            }
            books.put_tenant(&tenant("acme", None))
        })
        .await?;
    let fingerprints = Arc::new(fingerprints);
    for from in (0..ENROLMENTS).step_by(PAGE as usize) {
        let fingerprints = Arc::clone(&fingerprints);
        service
            .change(move |books| {
                for number in from..from + PAGE {
                    let others = ENROLMENTS / COMING;
                    let known = (number % others == 0).then(|| fingerprints.get((number / others) as usize));
                    let (id, digest) = match known.flatten() {
                        Some(digest) => (name(number / others), *digest),
                        None => (format!("other-{number}"), digest(number)),
                    };
                    let proof = Proof::Fingerprint(digest);
                    books.add_enrolment(&enrolment(&id, proof, "production", &[("acme", 20)]))?;
                }
                Ok(())
            })
            .await?;
    }
    Ok(start.elapsed())
}

/// What a registration cannot do without on the server: TLS 1.3 with a client's certificate, the signing request's signature
/// checked, a certificate signed.
fn cryptography(world: &World, client: &Credentials) -> Result<Rate> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.pki.trust())?)?;
    let roots = Arc::new(roots);
    let own = world.pki.server("limit")?.credentials()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain.clone(), own.key.clone_key())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain.clone(), client.key.clone_key())?;
    let (server, client) = (Arc::new(server), Arc::new(client));
    let authority = rcgen::CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let (mut times, mut wall, mut cpu) = (0.0, Duration::ZERO, Duration::ZERO);
    let start = Instant::now();
    while start.elapsed() < HANDSHAKES {
        let mut at_client = ClientConnection::new(Arc::clone(&client), "localhost".try_into()?)?;
        let mut at_server = ServerConnection::new(Arc::clone(&server))?;
        while at_client.is_handshaking() || at_server.is_handshaking() {
            let mut bytes = Vec::new();
            at_client.write_tls(&mut bytes)?;
            let clock = Clock::of_thread()?;
            at_server.read_tls(&mut bytes.as_slice())?;
            at_server.process_new_packets()?;
            let mut answer = Vec::new();
            while at_server.wants_write() {
                at_server.write_tls(&mut answer)?;
            }
            let rate = clock.stop(1)?;
            (wall, cpu) = (wall + rate.wall, cpu + rate.cpu);
            let mut answer = answer.as_slice();
            while !answer.is_empty() {
                at_client.read_tls(&mut answer)?;
                at_client.process_new_packets()?;
            }
        }
        let clock = Clock::of_thread()?;
        let checked = rcgen::CertificateSigningRequestParams::from_der(&request.der().as_ref().into())?;
        checked.signed_by(&authority)?;
        let rate = clock.stop(1)?;
        (wall, cpu) = (wall + rate.wall, cpu + rate.cpu);
        times += 1.0;
    }
    Ok(Rate { times, wall, cpu })
}

/// Decisions for gateways that differ, without a promise.
fn allocation() -> Result<Rate> {
    let mut stamps = Stamps::default();
    for number in 0..STAMPS {
        stamps.put(shared_stamp(&format!("stamp-{number:04}"), "eu", "production", 100_000));
    }
    let (tenant, environment): (TenantId, Environment) = ("acme".parse()?, "production".parse()?);
    let gateways: Vec<GatewayId> = (0..1_000).map(|number| name(number).parse()).collect::<Result<_, _>>()?;
    let mut next = gateways.iter().cycle();
    let mut chosen = 0_u64;
    let rate = repeat(ALLOCATING, || {
        let Some(gateway) = next.next() else { return };
        let request = Request {
            gateway,
            tenant: &tenant,
            devices: 20,
            environment: &environment,
            regions: &[],
            ring: None,
            dedicated: false,
            pinned: None,
            except: None,
            policy: Policy::Hashed,
            latencies: &[],
        };
        chosen += u64::from(allocate(&request, &stamps).is_some());
    });
    ensure!(chosen > 0, "no stamp was chosen");
    Ok(rate)
}

fn name(number: u32) -> String {
    format!("coming-{number:06}")
}

/// A fingerprint of nobody.
fn digest(number: u32) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, &number.to_le_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}
