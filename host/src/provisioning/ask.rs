//! One question from its files to what is kept of the answer. Does not decide when, and does not ask twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backoff::Outcome;
use gateway_config::{Endpoint, Provisioning};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wire::ids::{GatewayId, StampId};
use wire::provisioning::answer::Failure;
use wire::provisioning::{Bytes, Candidate, Latency, Register, Registration, Renew};

use super::client::{CallError, Client, ClientError};
use super::kept::{Kept, KeptError, Known};
use super::need::{Because, Need};
use super::proof::Proof;
use crate::clock;
use crate::uplink::Astray;

/// While a tenant is on its way to another stamp, one question waits so long for the end of that.
const WAIT: Duration = Duration::from_secs(30);
/// Most stamps that are measured.
const MAX_MEASURED: usize = 32;
/// A stamp is measured so often; the shortest counts.
const MEASURED_TIMES: usize = 3;
/// A stamp that takes longer is not measured.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);

/// How questions are asked.
pub struct Ask {
    /// `[provisioning]`.
    pub provisioning: Provisioning,
    /// The gateway.
    pub gateway: GatewayId,
    /// Product name and version, for the service's logs.
    pub software: String,
    /// Where it is kept what was given.
    pub kept: Kept,
}

/// Why a question came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error("provisioning has nothing else for what stamp {} refuses: {}", .0.stamp, .0.reason)]
    NothingNew(Astray),
}

impl AskError {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Call(error) => error.outcome(),
            // The disk may take writes again; what was given may be right the next time.
            Self::Kept(_) | Self::NothingNew(_) => Outcome::transient(self.to_string()),
        }
    }
}

impl From<ClientError> for AskError {
    fn from(error: ClientError) -> Self {
        Self::Call(error.into())
    }
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes {
    pub(super) assignments: bool,
    pub(super) identity: bool,
}

impl Changes {
    pub(super) fn any(self) -> bool {
        self.assignments || self.identity
    }
}

impl Ask {
    /// Asks what is needed, and keeps what is given. `strays`: what a stamp refuses, if that is why.
    pub(super) async fn ask(
        &self,
        need: Need,
        before: Option<&Known>,
        strays: Option<Astray>,
    ) -> Result<(Known, Changes), AskError> {
        let request = match need {
            Need::Register(_) | Need::Renew => {
                let kept = self.kept.clone();
                Some(apart(move || kept.request()).await?)
            }
            Need::Assignments(_) | Need::Nothing { .. } => None,
        };
        let given = match (need, &request) {
            (Need::Register(_), Some(request)) => self.register(&request.request).await?,
            (_, Some(request)) => {
                let renew = Renew { request: request.request.clone() };
                self.operational()?.renew(&renew).await?
            }
            (_, None) => {
                let after = before.map_or(0, |known| known.registration.revision);
                self.operational()?.assignments(after, WAIT).await?
            }
        };
        // By a service whose certificate was good.
        clock::told(given.now.saturating_mul(1_000_000_000));
        let changes = Changes {
            assignments: before.is_none_or(|known| known.registration.assignments != given.assignments),
            identity: request.is_some() || before.is_none_or(|known| known.registration.trust != given.trust),
        };
        let (kept, before) = (self.kept.clone(), before.cloned());
        let known = apart(move || match (&request, &before) {
            (Some(request), _) => kept.registered(request, given),
            (None, Some(known)) => kept.assigned(known, given),
            // Assignments are asked for only by who is known.
            (None, None) => Err(KeptError::Given("assignments without a registration".to_owned())),
        })
        .await?;
        match strays {
            Some(strays) if need == Need::Assignments(Because::Astray) && !changes.any() => {
                Err(AskError::NothingNew(strays))
            }
            _ => Ok((known, changes)),
        }
    }

    /// Proves who we are. Where the service wants stamps measured first, that is done in between.
    async fn register(&self, request: &Bytes) -> Result<Registration, AskError> {
        match self.register_with(request, Vec::new()).await {
            Err(AskError::Call(CallError::Failed(Failure::Pending(pending))))
                if !pending.measure.is_empty() =>
            {
                let latencies = measure(pending.measure).await;
                self.register_with(request, latencies).await
            }
            answered => answered,
        }
    }

    async fn register_with(
        &self,
        request: &Bytes,
        latencies: Vec<Latency>,
    ) -> Result<Registration, AskError> {
        let Self { provisioning, gateway, software, .. } = self;
        let proof = Proof::load(&provisioning.attest).map_err(ClientError::from)?;
        // Who could reach none is given one all the same.
        let measures = provisioning.measure && latencies.is_empty();
        let mut register = Register {
            gateway: gateway.clone(),
            request: request.clone(),
            answer: None,
            latencies,
            software: software.clone(),
        };
        let client = match proof {
            Proof::Certificate(pair) => Client::new(provisioning, Some(pair))?,
            key @ Proof::Key { .. } => {
                let client = Client::new(provisioning, None)?;
                let challenge = client.challenge().await?;
                register.answer = key.answer(&challenge.nonce, gateway, &request.0);
                client
            }
        };
        Ok(client.register(&register, measures).await?)
    }

    /// A client that shows the operational certificate.
    fn operational(&self) -> Result<Client, AskError> {
        let own = self.kept.own().map_err(ClientError::from)?;
        Ok(Client::new(&self.provisioning, Some(own))?)
    }
}

/// Round trips to stamps: how long it takes until a TCP connection stands, which they take at the same port as QUIC. Those
/// that cannot be reached are left out; one is said to take the longest there is if none can.
async fn measure(candidates: Vec<Candidate>) -> Vec<Latency> {
    let fallback = candidates.first().map(|candidate| candidate.stamp.clone());
    let mut measuring = JoinSet::new();
    for Candidate { stamp, endpoints } in candidates.into_iter().take(MAX_MEASURED) {
        let endpoint: Option<Endpoint> = endpoints.iter().find_map(|endpoint| endpoint.parse().ok());
        if let Some(Endpoint { host, port, .. }) = endpoint {
            measuring.spawn(async move {
                let measured = tokio::time::timeout(MEASURED_WITHIN, round_trip(&host, port)).await;
                Some((stamp, measured.ok().flatten()?))
            });
        }
    }
    let mut found: BTreeMap<StampId, Duration> = BTreeMap::new();
    while let Some(measured) = measuring.join_next().await {
        found.extend(measured.ok().flatten());
    }
    let latency = |(stamp, time): (StampId, Duration)| Latency {
        stamp,
        micros: u32::try_from(time.as_micros()).unwrap_or(u32::MAX),
    };
    let mut latencies: Vec<Latency> = found.into_iter().map(latency).collect();
    if latencies.is_empty() {
        latencies.extend(fallback.map(|stamp| Latency { stamp, micros: u32::MAX }));
    }
    let measured: Vec<String> =
        latencies.iter().map(|it| format!("{}: {} us", it.stamp, it.micros)).collect();
    tracing::info!(?measured, "round trips to stamps were measured");
    latencies
}

async fn round_trip(host: &str, port: u16) -> Option<Duration> {
    let mut shortest = None;
    for _ in 0..MEASURED_TIMES {
        let begun = Instant::now();
        // What the name takes to be found counts the first time only.
        if TcpStream::connect((host, port)).await.is_ok() {
            let took = begun.elapsed();
            shortest = Some(shortest.map_or(took, |before: Duration| before.min(took)));
        }
    }
    shortest
}

/// The disk is not for this thread.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeptError> + Send + 'static,
) -> Result<T, KeptError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(KeptError::Key(error.to_string())),
    }
}
