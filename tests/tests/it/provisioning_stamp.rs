//! Stamps that follow provisioning: who is let in, tenants that move under load with SIGKILLs at the fence, seeds, quotas,
//! provisioning that is down, intruders. Real services; the gateway is `wire`'s session over TLS, so that each number sent
//! and acknowledged is known.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use e2e::pki::{Identity, Pki};
use e2e::process::{Process, binary, wait_until};
use e2e::stamp::Stamp;
use e2e::world::World;
use provision::allocation::{Policy, Ring, StampState, Tenancy};
use provision::model::{Enrolment, Proof, Share, Tenant};
use provision::registry::{Books, Registering, Registry, RegistryError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::codec::Encoder;
use wire::frame::{Column, Frame, Values};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StreamId, TenantId};
use wire::message::{ALPN, BatchRefusal, CloseReason, RefusalReason, TenantIndex, TenantStream};
use wire::provisioning::Backlog;
use wire::ranges::RangeSet;
use wire::session::gateway::{Closed, Config, Event, Outgoing, Session};

use crate::site::{PATIENCE, seed};

const ACME: TenantIndex = TenantIndex(0);
const STREAM: u64 = 77;
/// Batches on their way at once.
const IN_FLIGHT: u64 = 100;

/// Provisioning with stamps `a` and `b`, and gateway `edge-1` with tenant `acme` of two devices at `a`.
struct Service {
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
}

impl Service {
    async fn start(world: &World) -> Self {
        let folder = world.path().join("provision");
        fs::create_dir_all(&folder).unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let made = Command::new(binary("sluice-provision").unwrap())
            .args(["authority", "--folder"])
            .arg(folder.join("gateways"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let Identity { certificate, key } = world.pki.server("provision").unwrap();
        let (trust, authority) = (world.pki.trust(), folder.join("gateways"));
        let text = format!(
            "[provision]\ndata_dir = \"data\"\nlisten = \"{address}\"\ntrust = {trust:?}\n\
             identity = {{ certificate = {certificate:?}, key = {key:?} }}\n\
             authority = {{ certificate = {:?}, key = {:?} }}\n",
            authority.join("ca.crt"),
            authority.join("ca.key"),
        );
        fs::write(folder.join("provision.toml"), text).unwrap();
        let mut service = Self { folder, address, process: None };
        service.change(set_up).await;
        service.up();
        service
    }

    fn up(&mut self) {
        let mut command = Command::new(binary("sluice-provision").unwrap());
        command.args(["run", "--config"]).arg(self.folder.join("provision.toml"));
        let process = Process::start("provision", &mut command, &self.folder.join("log")).unwrap();
        let process = self.process.insert(process);
        let address = self.address;
        wait_until("provisioning listens", PATIENCE, || {
            process.check_running()?;
            Ok(std::net::TcpStream::connect(address).is_ok())
        })
        .unwrap();
    }

    fn down(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// As an operator does, while the service is down.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> T {
        let (registry, writer) = Registry::open(&self.folder.join("data")).unwrap();
        let result = registry.change(change).await.unwrap();
        drop(registry);
        tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
        result
    }

    async fn change_while_down<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> T {
        self.down();
        let result = self.change(change).await;
        self.up();
        result
    }

    /// A stamp that follows it.
    fn stamp(&self, world: &World, id: &str) -> Stamp {
        let stamp = world.stamp(id, &[]).unwrap();
        stamp.follow(&format!("https://{}", self.address), &world.pki.trust()).unwrap();
        stamp
    }
}

fn set_up(books: &mut Books<'_>) -> Result<(), RegistryError> {
    for id in ["a", "b"] {
        let stamp = provision::allocation::Stamp {
            id: id.parse().unwrap(),
            region: "eu".parse().unwrap(),
            environment: "production".parse().unwrap(),
            tenancy: Tenancy::Shared,
            ring: Ring::Slow,
            weight: 100,
            max_devices: 1_000,
            state: StampState::Active,
        };
        books.put_stamp(stamp, &[format!("tls://{id}.example:7443")])?;
    }
    books.put_tenant(&Tenant {
        id: acme(),
        regions: vec![],
        ring: None,
        dedicated: false,
        pinned: Some("a".parse().unwrap()),
        policy: Policy::Hashed,
    })?;
    books.add_enrolment(&Enrolment {
        id: "edge-1".parse().unwrap(),
        proof: Proof::Key(b"its own".to_vec()),
        environment: "production".parse().unwrap(),
        shares: vec![Share { tenant: acme(), devices: 2 }],
        blocked: false,
    })?;
    let (gateway, enrolment) = (edge_1(), "edge-1".parse().unwrap());
    books.register(&Registering { gateway, enrolment, latencies: vec![] })?;
    Ok(())
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn edge_1() -> GatewayId {
    "edge-1".parse().unwrap()
}

/// A session of gateway `edge-1` with a stamp.
struct Edge {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    session: Session,
}

impl Edge {
    async fn connect(stamp: &Stamp, pki: &Pki, gateway: &str, epoch: u64) -> Self {
        let identity = pki.gateway(gateway).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.trust()).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_file(&identity.certificate).unwrap()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.key).unwrap())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let stream = TcpStream::connect(stamp.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (stream_id, next) = (StreamId(STREAM), Sequence(1));
        let session = Session::new(Config {
            gateway: gateway.parse().unwrap(),
            installation: InstallationId(1),
            software: "test".into(),
            tenants: vec![TenantStream { tenant: acme(), stream: stream_id, next, epoch }],
        })
        .unwrap();
        Self { stream, session }
    }

    /// The next event; `None` if the connection is lost.
    async fn event(&mut self) -> Option<Event> {
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

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.event()).await.unwrap().unwrap()
    }

    /// What has landed, as it is told with the welcome; or why the tenant or the session is refused.
    async fn greeted(&mut self) -> Result<RangeSet, (RefusalReason, Option<Duration>)> {
        loop {
            match self.next().await {
                Event::Welcomed { .. } => {}
                Event::Admitted { landed, .. } => return Ok(landed),
                Event::TenantRefused { reason, .. } => return Err((reason, None)),
                Event::Closed(Closed::Refused(refused)) => return Err((refused.reason, refused.retry_after)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, seq: u64, device: &str) {
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
        self.session.send_batch(ACME, batch).unwrap();
    }

    async fn land(&mut self, seq: u64, device: &str) {
        self.send(seq, device);
        let event = self.next().await;
        assert!(
            matches!(&event, Event::Landed { ranges, .. } if ranges.contains(Sequence(seq))),
            "{event:?}"
        );
    }

    /// Sends what is missing, and then one number after the other, until the session ends. Returns what was acknowledged
    /// and the last number sent.
    async fn load(mut self, landed: RangeSet) -> (RangeSet, u64) {
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

async fn answer(stamp: &Stamp, world: &World, gateway: &str, epoch: u64) -> Result<RangeSet, RefusalReason> {
    Edge::connect(stamp, &world.pki, gateway, epoch).await.greeted().await.map_err(|(reason, _)| reason)
}

/// Comes again, as a gateway does, while the stamp has not been told yet.
async fn admitted(stamp: &Stamp, world: &World, epoch: u64) -> (Edge, RangeSet) {
    let give_up = std::time::Instant::now() + PATIENCE;
    loop {
        let mut edge = Edge::connect(stamp, &world.pki, "edge-1", epoch).await;
        match edge.greeted().await {
            Ok(landed) => return (edge, landed),
            Err((RefusalReason::NotYet, Some(_))) if std::time::Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(refused) => panic!("{refused:?}\n{}", stamp.log()),
        }
    }
}

/// An operator does not wait until the stamp asks by itself.
fn ask_now(stamp: &mut Stamp) {
    stamp.process().unwrap().signal("HUP").unwrap();
}

fn wait_log(stamp: &Stamp, text: &str, times: usize) {
    let said = wait_until(&format!("{} says {text:?}", stamp.id), PATIENCE, || {
        Ok(stamp.log().matches(text).count() >= times)
    });
    assert!(said.is_ok(), "{said:?}\n{}", stamp.log());
}

fn status(stamp: &Stamp) -> serde_json::Value {
    let output = stamp.cli("status", &["--json"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn landed_in(status: &serde_json::Value, of: &str) -> RangeSet {
    let ranges = status["gateways"][0]["streams"][0][of].clone();
    let pairs: Vec<(u64, u64)> = serde_json::from_value(ranges).unwrap();
    let mut set = RangeSet::new();
    for (from, to) in pairs {
        set.insert_range(Sequence(from), Sequence(to));
    }
    set
}

/// How often each number is in the rows of a stamp.
fn count_rows(stamp: &Stamp, times: &mut BTreeMap<u64, u32>) {
    for row in stamp.rows().unwrap() {
        *times.entry(row["id"].as_f64().unwrap() as u64).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_follows_its_roster_and_works_on_while_provisioning_is_down() {
    let world = World::create().unwrap();
    let mut service = Service::start(&world).await;
    let mut stamp = service.stamp(&world, "a");
    stamp.start().unwrap();
    let (mut edge, _) = admitted(&stamp, &world, 1).await;
    edge.land(1, "x").await;
    edge.land(2, "y").await;
    edge.send(3, "z");
    let Event::BatchRefused { reason, text, .. } = edge.next().await else { panic!("beyond its quota") };
    assert_eq!(reason, BatchRefusal::Capacity);
    assert!(text.contains("\"z\"") && text.contains("quota of 2"), "{text}");
    assert_eq!(answer(&stamp, &world, "edge-1", 2).await, Err(RefusalReason::NotYet));
    assert_eq!(answer(&stamp, &world, "edge-2", 0).await, Err(RefusalReason::UnknownGateway));
    // It is down, and the stamp is killed: it works on by what it has kept.
    service.down();
    stamp.kill().unwrap();
    stamp.start().unwrap();
    let (mut edge, landed) = admitted(&stamp, &world, 1).await;
    assert_eq!(landed.count(), 2);
    edge.land(3, "x").await;
    let shown = status(&stamp);
    assert!(shown["roster"]["revision"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!(shown["roster"]["source"], format!("https://{}", service.address));
    assert!(shown["provisioning_heard_ns"].as_i64().unwrap() > 0, "{shown}");
    service.change(|books| books.block_gateway(&edge_1(), true)).await;
    service.up();
    ask_now(&mut stamp);
    let closed = loop {
        if let Event::Closed(closed) = edge.next().await {
            break closed;
        }
    };
    assert!(
        matches!(&closed, Closed::ByStamp(close) if close.reason == CloseReason::RosterChanged),
        "{closed:?}"
    );
    assert_eq!(answer(&stamp, &world, "edge-1", 1).await, Err(RefusalReason::NotAssigned));
    wait_log(&stamp, "an operator has blocked", 1);
    stamp.terminate().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_under_load_with_a_sigkill_at_the_fence_and_comes_back_and_lands_once() {
    let world = World::create().unwrap();
    let mut service = Service::start(&world).await;
    let mut stamps = [service.stamp(&world, "a"), service.stamp(&world, "b")];
    for stamp in &mut stamps {
        stamp.start().unwrap();
    }
    let mut random = seed();
    let (mut last, mut fenced) = (0, [0, 0]);
    for round in 0..4_usize {
        let (from, to, epoch) = (round % 2, 1 - round % 2, round as u64 + 1);
        let (edge, landed) = admitted(&stamps[from], &world, epoch).await;
        let load = tokio::spawn(edge.load(landed));
        let destination = stamps[to].id.parse().unwrap();
        service
            .change_while_down(move |books| {
                let production = "production".parse().unwrap();
                books.begin_move(&edge_1(), &acme(), Some(&destination), &production, (Backlog::Carry, None))
            })
            .await;
        stamps.iter_mut().for_each(ask_now);
        fenced[from] += 1;
        wait_log(&stamps[from], "nothing more of it lands here", fenced[from]);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(random >> 50));
        stamps[from].kill().unwrap();
        let (acknowledged, sent) = load.await.unwrap();
        last = last.max(sent);
        stamps[from].start().unwrap();
        // It may have been killed before the fence was durable, and is told again then.
        fenced[from] = stamps[from].log().matches("nothing more of it lands here").count();
        let (_, seeded) = admitted(&stamps[to], &world, epoch + 1).await;
        fenced[from] = fenced[from].max(stamps[from].log().matches("nothing more of it lands here").count());
        assert!(acknowledged.iter().all(|(from, to)| seeded.missing(from, to).next().is_none()));
        assert_eq!(
            landed_in(&status(&stamps[from]), "landed"),
            seeded,
            "round {round}: the watermark is what landed"
        );
        assert_eq!(answer(&stamps[from], &world, "edge-1", epoch).await, Err(RefusalReason::Moved));
        let fence = &status(&stamps[from])["fences"][0];
        assert_eq!(fence["epoch"], epoch + 1);
    }
    // What is left is sent to the last one, and then each number is there once.
    let (mut edge, landed) = admitted(&stamps[0], &world, 5).await;
    for (from, to) in landed.missing(Sequence(1), Sequence(last)) {
        for seq in from.0..=to.0 {
            edge.land(seq, "x").await;
        }
    }
    let mut times = BTreeMap::new();
    for stamp in &stamps {
        count_rows(stamp, &mut times);
    }
    let wrong: Vec<_> = (1..=last).filter(|seq| times.get(seq) != Some(&1)).collect();
    assert!(last > 100 && wrong.is_empty() && times.len() as u64 == last, "{wrong:?} of {last}");
    let shown = status(&stamps[0]);
    assert!(landed_in(&shown, "landed_elsewhere").count() > 0, "{shown}");
    assert!(shown["rows"].as_u64().unwrap() < last, "rows of the other stamp are not counted here");
    for stamp in &mut stamps {
        stamp.terminate().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_service_and_another_stamps_certificate_are_refused_and_logged() {
    let world = World::create().unwrap();
    let service = Service::start(&world).await;
    // The service at the address is not of the authority that this stamp trusts.
    let strange = Pki::create(&world.path().join("strange")).unwrap();
    let mut deceived = world.stamp("a", &[]).unwrap();
    deceived.follow(&format!("https://{}", service.address), &strange.trust()).unwrap();
    deceived.start().unwrap();
    wait_log(&deceived, "not to be trusted", 1);
    assert_eq!(answer(&deceived, &world, "edge-1", 1).await, Err(RefusalReason::NotYet));
    assert!(status(&deceived)["roster"]["revision"].is_null());
    deceived.terminate().unwrap();
    // Stamp b asks for a's roster.
    let other = world.pki.stamp("b").unwrap();
    let mut intruder = service.stamp(&world, "a");
    let trust = world.pki.trust();
    let Identity { certificate, key } = other;
    let identity = format!("{{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}");
    intruder.configure("identity", &identity).unwrap();
    intruder.start().unwrap();
    wait_log(&intruder, "provisioning refuses (403", 1);
    assert!(
        service.log().contains("the certificate is \\\"b\\\"'s") || service.log().contains("is \"b\"'s"),
        "{}",
        service.log()
    );
    assert_eq!(answer(&intruder, &world, "edge-1", 1).await, Err(RefusalReason::NotYet));
    intruder.terminate().unwrap();
}
