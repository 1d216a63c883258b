//! The one task that speaks with provisioning: looks what is needed, asks, keeps what is given, hands it on.
//!
//! ```text
//! kept ─► hand on ─► need? ──nothing──► wait for time, a stray, the operator ─► need?
//!                      │ ask ─► keep on disk ─► hand on ─► need?
//!                      └─ failed, or nothing new ─► the circuit: when to ask again, a network that comes up ─► need?
//! ```
//! Invariants: what is handed on is on disk before; a failed question of whatever kind is judged by the one circuit on the
//! uplink's ledger; an answer that changes nothing though a stamp refuses counts as a failed question: it has that stamp tried
//! again, which may not have heard yet, and two who do not agree are asked in turns only as often as the ledger grants.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backoff::{Circuit, Event, Ledger, Moment, Policy, Step, Ways};
use gateway_config::{Attest, Provisioning};
use tokio::sync::watch;
use tokio::time::Instant;
use wire::ids::{StampId, TenantId};
use wire::provisioning::{Assigned, Registration};

use super::ask::{Ask, AskError};
use super::board::{Asking, AssignmentStatus, Board, BoardView};
use super::kept::Known;
use super::need::{Because, Need, Open, need, renew_at};
use crate::clock;
use crate::uplink::{Astray, Comings};

/// The time is looked at this often at least: clocks are set, machines sleep.
const LOOK: Duration = Duration::from_secs(30);
/// How often the configured files are looked at while only a person can mend it.
const LOOK_AT_FILES: Duration = Duration::from_secs(15);

const SECOND: i64 = 1_000_000_000;

/// What the agent needs.
pub struct Setup {
    /// How questions are asked.
    pub ask: Ask,
    /// The tenants of the configuration.
    pub tenants: Vec<TenantId>,
    /// `uplink.retry`.
    pub policy: Policy,
    /// The retry tokens, shared with all links.
    pub ledger: Arc<Mutex<Ledger>>,
    /// What stamps refuse.
    pub astray: watch::Receiver<Vec<Astray>>,
    /// Ways out that appear on this machine.
    pub network: Comings,
}

/// What is handed on.
#[derive(Debug)]
pub struct Given<'a> {
    /// Per tenant its stamp, all that there are.
    pub assignments: &'a [Assigned],
    /// The identity files have changed.
    pub identity: bool,
    /// This stamp serves what it has refused, says provisioning: it may not have heard yet, and is to be tried again.
    pub confirmed: Option<&'a StampId>,
}

/// Speaks with provisioning.
pub struct Agent {
    ask: Ask,
    tenants: Vec<TenantId>,
    policy: Policy,
    ledger: Arc<Mutex<Ledger>>,
    astray: watch::Receiver<Vec<Astray>>,
    network: Comings,
    board: Board,
    known: Option<Known>,
    open: Open,
    renew_at: i64,
    /// What stamps have refused so far led to the assignments that are known.
    heeded: bool,
    circuit: Circuit,
    origin: Instant,
    operator: watch::Receiver<u64>,
}

impl Agent {
    /// Reads what is kept. Asks nothing yet. `operator` changes when an operator says "now".
    #[must_use]
    pub fn new(setup: Setup, operator: watch::Receiver<u64>) -> Self {
        let Setup { ask, tenants, policy, ledger, astray, network } = setup;
        let board = Board::default();
        board.change(|status| status.endpoint.clone_from(&ask.provisioning.endpoint));
        let known = ask.kept.load();
        // A time that has passed is a time that has passed, whatever the machine's clock says.
        clock::not_before(known.as_ref().map_or(0, |known| known.told.saturating_mul(SECOND)));
        let mut agent = Self {
            ask,
            tenants,
            policy,
            ledger,
            astray,
            network,
            board,
            known: None,
            open: Open::default(),
            renew_at: 0,
            heeded: false,
            circuit: Circuit::new(Ways::default()),
            origin: Instant::now(),
            operator,
        };
        if let Some(known) = known {
            agent.knows(known);
            agent.open.unassigned = !agent.unassigned().is_empty();
        }
        agent.show();
        agent
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self) -> BoardView {
        self.board.view()
    }

    /// What is assigned; `None`: nothing was ever given.
    fn assignments(&self) -> Option<&[Assigned]> {
        self.known.as_ref().map(|known| known.registration.assignments.as_slice())
    }

    /// Runs for ever. What is kept is handed on first, and then whatever is given.
    pub async fn run(mut self, mut hand_on: impl AsyncFnMut(Given<'_>)) {
        if let Some(assignments) = self.assignments() {
            hand_on(Given { assignments, identity: false, confirmed: None }).await;
        }
        loop {
            clock::look();
            self.open.astray = self.strays().is_some();
            self.open.clock = clock::is_uncertain();
            let need = need(self.known.as_ref(), self.open, self.renew_at, clock::now() / SECOND);
            if let Need::Nothing { until } = need {
                self.rest(until).await;
                continue;
            }
            self.asking(need);
            self.network.forget();
            match self.ask.ask(need, self.known.as_ref(), self.strays()).await {
                Ok((known, changes)) => {
                    self.answered(need);
                    self.knows(known);
                    self.show();
                    if changes.assignments {
                        self.astray.mark_unchanged();
                        self.heeded = true;
                    }
                    if let Some(known) = self.known.as_ref().filter(|_| changes.any()) {
                        let assignments = known.registration.assignments.as_slice();
                        let identity = changes.identity;
                        hand_on(Given { assignments, identity, confirmed: None }).await;
                    }
                }
                Err(error) => {
                    if let (AskError::NothingNew(stray), Some(assignments)) = (&error, self.assignments()) {
                        let confirmed = Some(&stray.stamp);
                        hand_on(Given { assignments, identity: false, confirmed }).await;
                    }
                    self.failed(need, &error).await;
                }
            }
        }
    }

    /// What is refused by the stamp that it is assigned to, as far as it is known here.
    fn strays(&self) -> Option<Astray> {
        // What was refused before the last assignment is answered by that.
        if self.heeded && !self.astray.has_changed().unwrap_or_default() {
            return None;
        }
        let assigned = &self.known.as_ref()?.registration.assignments;
        let astray = self.astray.borrow();
        let still = |it: &&Astray| {
            assigned
                .iter()
                .any(|assigned| assigned.stamp == it.stamp && it.tenants.contains(&assigned.tenant))
        };
        astray.iter().rev().find(still).cloned()
    }

    /// Tenants of the configuration without a stamp.
    fn unassigned(&self) -> Vec<&TenantId> {
        let assigned = self.assignments().unwrap_or_default();
        let has_none = |tenant: &&TenantId| assigned.iter().all(|assigned| assigned.tenant != **tenant);
        self.tenants.iter().filter(has_none).collect()
    }

    fn knows(&mut self, known: Known) {
        // Renewal times are drawn once per certificate.
        if self.known.as_ref().is_none_or(|before| before.not_after != known.not_after) {
            self.renew_at = renew_at(&known, rand::random());
        }
        self.known = Some(known);
    }

    fn asking(&self, need: Need) {
        let because = because(need, self.strays().as_ref());
        tracing::info!(endpoint = %self.ask.provisioning.endpoint, because, "asking provisioning");
        self.board.change(|status| {
            status.state = Asking::Asking;
            status.since = clock::now();
            status.until = None;
            status.need = Some(because);
            status.questions += 1;
        });
    }

    fn answered(&mut self, need: Need) {
        locked(&self.ledger).on_success();
        self.circuit.on_connected(self.now());
        self.open.operator = false;
        self.open.unassigned = false;
        if matches!(need, Need::Register(_)) {
            self.open.disowned = false;
        }
    }

    /// Waits as the circuit says, or until something happens that lets it begin anew.
    async fn failed(&mut self, need: Need, error: &AskError) {
        if let AskError::Call(call) = error
            && call.disowns()
            && !matches!(need, Need::Register(_))
        {
            self.open.disowned = true;
        }
        let now = self.now();
        let step = {
            let mut ledger = locked(&self.ledger);
            self.circuit.on_failure(&self.policy, &mut ledger, error.outcome(), now, rand::random())
        };
        let (state, until) = match step {
            Step::Retry { at } => (Asking::Waiting, Some(at)),
            Step::Parked { until, .. } => (Asking::Parked, Some(until)),
            Step::GiveUp { .. } => (Asking::GivenUp, None),
            // There is one way only.
            Step::Fallback { .. } => (Asking::Waiting, Some(now)),
        };
        self.tell(state, until, error, now);
        let before = files(&self.ask.provisioning);
        let mended = changed(&self.ask.provisioning, before);
        let waited = sleep_until(self.origin, until);
        tokio::pin!(mended, waited);
        loop {
            tokio::select! {
                () = &mut waited => return,
                () = &mut mended, if until.is_none() => {
                    tracing::info!("the files that prove who this gateway is have changed; asking again");
                    break;
                }
                () = said_now(&mut self.operator) => break,
                () = self.network.come(), if until.is_some() => {
                    if self.circuit.on_event(Event::LinkUp, Moment(self.origin.elapsed())) {
                        self.network.tried();
                        tracing::info!("a network has come up; asking provisioning");
                        return;
                    }
                }
            }
        }
        self.circuit.on_event(Event::Operator, self.now());
    }

    /// Shows and logs where it stands after a failure.
    fn tell(&self, state: Asking, until: Option<Moment>, error: &AskError, now: Moment) {
        let wait = until.map_or(Duration::ZERO, |until| until.since(now));
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let registered = self.known.is_some();
        match state {
            Asking::GivenUp => tracing::error!(
                %error, registered, "provisioning cannot be asked until someone acts; data stays stored"
            ),
            Asking::Parked => tracing::warn!(
                %error, registered, wait_ms, "provisioning has not given what is needed; asking again after a pause"
            ),
            _ => {
                tracing::warn!(%error, registered, wait_ms, "provisioning has not answered as needed; asking again")
            }
        }
        let problem = match error {
            AskError::Call(call) => call.problem(),
            _ => None,
        };
        let left = self.circuit.why(&self.policy, now).attempts_left;
        self.board.change(|status| {
            status.state = state;
            status.since = clock::now();
            status.until = until
                .map(|_| clock::now().saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)));
            status.cause = Some(error.to_string());
            status.code = problem.map(|problem| problem.code.clone());
            status.remedy = problem.map(|problem| problem.remedy.clone()).filter(|remedy| !remedy.is_empty());
            status.attempts_left = Some(left);
        });
    }

    /// Until that time, or until something happens.
    async fn rest(&mut self, until: i64) {
        self.board.change(|status| {
            if status.state != Asking::Settled {
                status.state = Asking::Settled;
                status.since = clock::now();
            }
            status.until = None;
            status.need = None;
            status.cause = None;
            status.code = None;
            status.remedy = None;
            status.attempts_left = None;
        });
        let left = Duration::from_secs(until.saturating_sub(clock::now() / SECOND).max(0).unsigned_abs());
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            () = said_now(&mut self.operator) => self.open.operator = true,
            // Who could say so is gone only with the uplink.
            Ok(()) = self.astray.changed() => self.heeded = false,
        }
    }

    /// Shows what is known.
    fn show(&self) {
        let Some(known) = &self.known else { return };
        let unassigned: Vec<String> = self.unassigned().into_iter().map(ToString::to_string).collect();
        let configured = |tenant: &TenantId| self.tenants.contains(tenant);
        let Registration { environment, assignments, .. } = &known.registration;
        for tenant in &unassigned {
            tracing::warn!(tenant, "provisioning has no stamp for this tenant: its data stays stored");
        }
        for it in assignments.iter().filter(|it| !configured(&it.tenant)) {
            tracing::warn!(tenant = %it.tenant, stamp = %it.stamp, "provisioning has assigned a tenant that the configuration does not have");
        }
        self.board.change(|status| {
            status.registered = true;
            status.answered = Some(known.told.saturating_mul(SECOND));
            status.environment = Some(environment.to_string());
            status.certificate_ends = Some(known.not_after.saturating_mul(SECOND));
            status.renewal = Some(self.renew_at.saturating_mul(SECOND));
            status.unassigned = unassigned;
            status.assignments = assignments
                .iter()
                .map(|it| AssignmentStatus {
                    tenant: it.tenant.to_string(),
                    stamp: it.stamp.to_string(),
                    epoch: it.epoch,
                    devices: it.devices,
                    configured: configured(&it.tenant),
                })
                .collect();
        });
    }

    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }
}

/// Why it is asked, for people; where a stamp is the reason, which and why.
fn because(need: Need, stray: Option<&Astray>) -> String {
    match (need, stray) {
        (Need::Assignments(Because::Astray), Some(Astray { stamp, reason, .. })) => {
            format!("stamp {stamp} has refused a tenant, or cannot be reached: {reason}")
        }
        (Need::Register(because) | Need::Assignments(because), _) => because.as_str().to_owned(),
        (Need::Renew, _) => "its certificate is past half of its life".to_owned(),
        (Need::Nothing { .. }, _) => String::new(),
    }
}

async fn said_now(operator: &mut watch::Receiver<u64>) {
    if operator.changed().await.is_err() {
        // Nobody is there who could say so.
        std::future::pending().await
    }
}

/// When each file that a person could mend was last written.
fn files(provisioning: &Provisioning) -> Vec<Option<SystemTime>> {
    let paths: Vec<&PathBuf> = match &provisioning.attest {
        Attest::Certificate { certificate, key } => vec![&provisioning.trust, certificate, key],
        Attest::Key { file, .. } => vec![&provisioning.trust, file],
    };
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    paths.into_iter().map(written).collect()
}

async fn changed(provisioning: &Provisioning, before: Vec<Option<SystemTime>>) {
    while files(provisioning) == before {
        tokio::time::sleep(LOOK_AT_FILES).await;
    }
}

async fn sleep_until(origin: Instant, until: Option<Moment>) {
    match until {
        Some(until) => tokio::time::sleep_until(origin + until.0).await,
        None => std::future::pending().await,
    }
}

/// What is shared here is whole after each statement, even if a holder panicked.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provisioning::Kept;

    #[test]
    fn the_stamp_that_is_the_reason_is_named() {
        let stray = Astray {
            stamp: "eu-1".parse().unwrap(),
            tenants: vec!["acme".parse().unwrap()],
            reason: "not_assigned: not on this stamp's roster".to_owned(),
        };
        let need = Need::Assignments(Because::Astray);
        assert_eq!(
            because(need, Some(&stray)),
            "stamp eu-1 has refused a tenant, or cannot be reached: not_assigned: not on this stamp's roster"
        );
        assert_eq!(because(need, None), "a stamp has refused a tenant, or cannot be reached");
        assert_eq!(because(Need::Renew, Some(&stray)), "its certificate is past half of its life");
    }

    #[tokio::test]
    async fn a_network_that_comes_up_has_it_asked_again_before_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let trust = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        // Nobody listens there.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = format!("https://localhost:{}/", closed.port());
        let (key, trust) =
            (file("key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), file("ca.crt", &trust.cert.pem()));
        let attest = Attest::Key { group: None, file: key };
        let provisioning = Provisioning { endpoint: endpoint.clone(), trust, attest, measure: false };
        let gateway: wire::ids::GatewayId = "g".parse().unwrap();
        let kept = Kept::new(folder.path(), &endpoint, &gateway);
        let (appear, appeared) = watch::channel(0);
        let (_strays, astray) = watch::channel(Vec::new());
        let setup = Setup {
            ask: Ask { provisioning, gateway, software: String::new(), kept },
            tenants: vec!["acme".parse().unwrap()],
            // Parked at once: for minutes.
            policy: Policy::upstream(),
            ledger: Arc::default(),
            astray,
            network: Comings::new(appeared),
        };
        let (_operator, operated) = watch::channel(0);
        let agent = Agent::new(setup, operated);
        let view = agent.view();
        let running = tokio::spawn(agent.run(async |_| {}));
        let until = async |what: &str, is: &dyn Fn(&super::super::ProvisioningStatus) -> bool| {
            let begun = Instant::now();
            while !is(&view.status()) {
                assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:#?}", view.status());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Waits that are longer than it takes to hear of a network.
        let waits_long = |status: &super::super::ProvisioningStatus| {
            status.until.is_some_and(|until| until - clock::now() > 4 * SECOND)
        };
        until("it waits", &waits_long).await;
        let (asked, was_to) = (view.status().questions, view.status().until.unwrap());
        appear.send_replace(1);
        until("it asks", &|status| status.questions > asked).await;
        assert!(clock::now() < was_to, "before its time");
        running.abort();
    }
}
