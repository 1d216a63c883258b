//! The MQTT listener on real sockets: hand-driven clients on one side, the other end of the lanes' channels, which
//! holds custody, on the other.

mod access;
mod backpressure;
mod client;
mod exactly_once;
mod hostile;
mod publishing;
mod sessions;
mod stopping;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway_config::{Gather, TimeField, TimeMissing, TimeUnit, TopicFilter};
use host::intake::{Custody, IdentifierChange, Intake, Undecodable};
use host::source::listener::{
    HeldIdentifier, KnownSession, Listener, ListenerHandle, Sessions, Setup, Snapshot, Unrouted,
};
use host::source::rules::{Format, Rule};
use host::source::template::Template;
use host::source::time::TimeRule;
use tokio::sync::mpsc::Receiver;
use wire::ids::TenantId;

use client::Client;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a wrong packet to arrive, on any machine that runs tests.
const QUIET: Duration = Duration::from_millis(150);

/// What was said to the keepers.
#[derive(Default)]
struct Notes {
    sessions: Vec<(String, Option<bool>)>,
    unrouted: Vec<(Undecodable, Option<Box<dyn Custody>>)>,
    /// Whether messages of no tenant are committed at once.
    commits: bool,
}

#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Notes>>);

impl Sessions for Keeper {
    fn kept(&mut self, client: &str, expires: Option<i64>) {
        self.0.lock().unwrap().sessions.push((client.to_owned(), Some(expires.is_some())));
    }
    fn ended(&mut self, client: &str) {
        self.0.lock().unwrap().sessions.push((client.to_owned(), None));
    }
}

impl Unrouted for Keeper {
    fn keep(&mut self, message: Undecodable, custody: Box<dyn Custody>) {
        let mut notes = self.0.lock().unwrap();
        if notes.commits {
            custody.committed();
            notes.unrouted.push((message, None));
        } else {
            notes.unrouted.push((message, Some(custody)));
        }
    }
}

/// A listener whose lanes end here.
struct Site {
    handle: ListenerHandle,
    lanes: Vec<Receiver<Intake>>,
    keeper: Keeper,
}

/// What a site may be given.
struct Plan {
    listener: gateway_config::Listener,
    gather: Gather,
    depth: usize,
    held: Vec<HeldIdentifier>,
    known: Vec<KnownSession>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listener: gateway_config::Listener {
                listen: "127.0.0.1:0".parse().unwrap(),
                tls: None,
                allow_anonymous: true,
                users: [].into(),
                max_connections: 100,
                max_payload: 1_000,
                max_in_flight: 100,
                max_keep_alive: Duration::from_secs(1_200),
                connect_timeout: Duration::from_secs(10),
                max_session_expiry: Duration::from_secs(86_400),
            },
            gather: Gather { linger: Duration::from_millis(5), max_rows: 4_096 },
            depth: 16,
            held: Vec::new(),
            known: Vec::new(),
        }
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

impl Plan {
    fn start(self) -> Site {
        let time = TimeField {
            field: "ts".into(),
            unit: TimeUnit::Millis,
            max_ahead: Duration::from_secs(10 * 365 * 86_400),
            max_behind: None,
            missing: TimeMissing::Arrival,
        };
        let rule = |filter: &str, format| Rule {
            template: Template::new(&TopicFilter::parse(filter).unwrap(), None, None),
            profile: "machine".into(),
            format,
        };
        let json = Format::Json { time: TimeRule::new(Some(&time)), units: [].into() };
        let rules = [
            rule("site/{tenant}/{device}/telemetry", json),
            rule("raw/{tenant}/{device}", Format::Raw { decoder: "modbus".into() }),
        ];
        let (lanes, receivers): (Vec<_>, Vec<_>) = ["acme", "bolt"]
            .into_iter()
            .map(|name| {
                let (sender, receiver) = tokio::sync::mpsc::channel(self.depth);
                ((tenant(name), sender), receiver)
            })
            .unzip();
        let keeper = Keeper::default();
        let handle = Listener::start(Setup {
            name: "floor".into(),
            listener: self.listener,
            rules: Arc::from(rules),
            gather: self.gather,
            lanes,
            held: self.held,
            known: self.known,
            sessions: Box::new(keeper.clone()),
            unrouted: Box::new(keeper.clone()),
        })
        .unwrap();
        Site { handle, lanes: receivers, keeper }
    }
}

impl Site {
    fn start() -> Self {
        Plan::default().start()
    }

    /// A connection that has said nothing yet.
    async fn client(&self) -> Client {
        Client::new(self.handle.address()).await
    }

    /// A client that was let in.
    async fn connected(&self, version: u8, id: &str) -> Client {
        let mut client = self.client().await;
        client.connect(&client::Connect::new(version, id)).await;
        client
    }

    async fn intake(&mut self, tenant: usize) -> Intake {
        tokio::time::timeout(PATIENCE, self.lanes[tenant].recv()).await.expect("an intake in time").unwrap()
    }

    /// Commits intakes until so many messages of the first tenant have come.
    async fn commit(&mut self, mut messages: usize) -> Vec<Gathered> {
        let mut all = Vec::new();
        while messages > 0 {
            let intake = self.intake(0).await;
            let gathered = Gathered::of(&intake);
            messages = messages.saturating_sub(gathered.messages());
            intake.custody.committed();
            all.push(gathered);
        }
        all
    }

    fn counters(&self) -> Snapshot {
        self.handle.counters()
    }

    /// Waits until the counters are so.
    async fn wait(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        wait_until(what, || is_so(&self.counters())).await;
    }
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What an intake held.
#[derive(Debug, Clone, PartialEq)]
struct Gathered {
    rows: Vec<String>,
    raw: usize,
    undecodable: Vec<String>,
    suspects: usize,
    identifiers: Vec<IdentifierChange>,
}

impl Gathered {
    fn of(intake: &Intake) -> Self {
        let mut rows = Vec::new();
        let mut suspects = 0;
        for decoded in &intake.decoded {
            decoded.frame.check().unwrap();
            suspects += decoded.suspects.len();
            for row in 0..decoded.frame.rows() {
                rows.push(String::from_utf8_lossy(decoded.originals.get(row).unwrap()).into_owned());
            }
        }
        Self {
            rows,
            raw: intake.raw.iter().map(|raw| raw.device.len()).sum(),
            undecodable: intake.undecodable.iter().map(|lost| lost.reason.clone()).collect(),
            suspects,
            identifiers: intake.identifiers.clone(),
        }
    }

    fn messages(&self) -> usize {
        self.rows.len() + self.raw + self.undecodable.len()
    }
}

const TOPIC: &str = "site/acme/pump/telemetry";

fn payload(n: u32) -> String {
    format!(r#"{{"ts":{},"n":{n}}}"#, 1_760_000_000_000_u64 + u64::from(n))
}
