//! The life of the process, and the one place where its parts know each other.
//!
//! ```text
//! start:  data folder → engine, workers → gateway store → tenant stores → uplink → lanes → sources → admin socket
//! run:    until SIGTERM, SIGINT or the failure of a part; SIGHUP: the configuration is read again, and waiting links try
//!         again at once; what provisioning assigns is handed to stores and uplink
//! stop:   sources (what was taken is stored and acknowledged) → lanes → uplink → stores
//! ```
//! Downstream starts first and stops last, so that whoever hands something on finds somebody to take it. Does no work of
//! its own.
//!
//! Invariants: every thread and task started here is awaited here; stopping is bounded ([`STOP`]), and what could not be
//! stored by then was not acknowledged.

mod applied;
mod compile;
mod desired;
mod keeper;
mod loader;
mod operator;
mod outage;
mod placement;
mod reload;
mod report;
mod shelf;
mod sources;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_config::{Config, Tenant};
use runtime::{Engine, EngineConfig, EngineError};
use tokio::signal::unix::{SignalKind, signal};
use wire::ids::TenantId;

use crate::admin::status::Status;
use crate::admin::{AdminError, AdminSocket, Answer, Question, RetryReply};
use crate::outbox::Outbox;
use crate::store::gateway::GatewayStore;
use crate::store::{DataFolder, OpenError, Store, StoreConfig, WhenFull, wall_clock};
use crate::tenant::{Lane, LaneConfig, LaneError, LaneHandle, LaneState, Pool, UplinkState, Way};
use crate::uplink::{Follower, LinkState, Origin, Uplink, UplinkError, UplinkView};
use applied::Applied;
pub use compile::{Compiler, compile};
use desired::{Desk, Records};
use loader::Loader;
use operator::Operator;
use placement::Provisioning;
use reload::Reloads;
use report::{Reporter, WATCH};
use sources::{SourceError, Sources};

/// Sources and lanes together may take this long to bring what was taken to disk.
const STOP: Duration = Duration::from_secs(15);

/// All plugins together may take this long to be compiled at a start. Tenants whose are not ready by then run once they are.
const COMPILE: Duration = Duration::from_secs(20);

/// Why the gateway does not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The machine refuses something basic.
    #[error("cannot {what}: {cause}")]
    Machine {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The data folder or a store in it.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The WebAssembly engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A key of the ring.
    #[error("{0}")]
    Keys(String),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A lane ended long before the gateway.
    #[error("the lane of tenant {tenant} had ended: {reason}")]
    LaneEnded {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: String,
    },
}

/// Runs a gateway until it is told to stop. Blocks. `file` is where the configuration comes from.
///
/// # Errors
/// [`GatewayError`]: it did not start, or a part failed; it was then stopped in good order all the same.
pub fn run(config: &Config, file: &Path) -> Result<(), GatewayError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For reads of backlogs and for names; a thread that idles ends after ten seconds.
        .max_blocking_threads(4)
        .build()
        .map_err(|cause| GatewayError::Machine { what: "start an asynchronous runtime", cause })?;
    let mut gateway = runtime.block_on(Gateway::start(config, file))?;
    tracing::info!(gateway = %config.gateway.id, version = env!("CARGO_PKG_VERSION"), "the gateway runs");
    let ended = runtime.block_on(gateway.serve());
    let stopped = gateway.stop(&runtime);
    tracing::info!("the gateway has stopped");
    ended.and(stopped)
}

/// What the stores of a gateway that does not run hold.
#[must_use]
pub fn look_into(data_dir: &Path) -> Status {
    report::of_stores(data_dir)
}

/// All parts, in the order in which they stop.
struct Gateway {
    sources: Sources,
    tenants: Vec<TenantParts>,
    uplink: Option<Uplink>,
    provisioning: Option<Provisioning>,
    records: Arc<GatewayStore>,
    admin: AdminSocket,
    reporter: Reporter,
    reloads: Reloads,
}

/// One tenant's lane and store.
struct TenantParts {
    id: TenantId,
    quota: u64,
    store: Arc<Store>,
    lane: LaneHandle,
}

impl Gateway {
    async fn start(config: &Config, file: &Path) -> Result<Self, GatewayError> {
        let folder = Arc::new(DataFolder::lock(&config.gateway.data_dir)?);
        // Only looks and takes no part: whoever asks while we start sees that we start.
        let admin = AdminSocket::open(&config.gateway.data_dir)?;
        let data_dir = &config.gateway.data_dir;
        let mut releases = Records::read(data_dir);
        let settings = engine_config(&releases.over_all(config));
        let engine = Engine::new(settings.clone())?;
        let loader = Loader::new(engine.clone(), &settings, data_dir);
        loader.trust(&config.plugins).map_err(GatewayError::Keys)?;
        let mut applied = Applied::read(data_dir);
        let pool = Pool::start(config.gateway.workers)
            .map_err(|cause| GatewayError::Machine { what: "start the workers", cause })?;
        let pool = Arc::new(pool);
        let clock = wall_clock();
        let records = GatewayStore::open(&folder, &clock)?;
        let mut stores = Vec::new();
        for tenant in config.tenants.values() {
            let opened = Store::open(&folder, &tenant.id, store_config(tenant))?;
            tracing::info!(tenant = %tenant.id, waiting = opened.recovered, "store opened");
            stores.push((tenant, opened.store, opened.kept));
        }
        let desk = Desk::new(config.tenants.keys().cloned());
        let origin = Origin {
            gateway: config.gateway.id.clone(),
            installation: records.store.installation(),
            software: software(),
            budget_file: Some(config.gateway.data_dir.join("uplink-budget")),
            routes_file: Some(config.gateway.data_dir.join("uplink-routes")),
            follower: Some(Arc::clone(&desk) as Arc<dyn Follower>),
        };
        let outboxes: Vec<_> =
            stores.iter().map(|(_, store, _)| Arc::clone(store) as Arc<dyn Outbox>).collect();
        let uplink =
            config.uplink.as_ref().map(|uplink| Uplink::start(uplink, &origin, &outboxes)).transpose()?;
        let provisioning = uplink.as_ref().and_then(|uplink| Provisioning::new(config, uplink, software()));
        let view = uplink.as_ref().map(Uplink::view);
        let mut tenants = Vec::new();
        let mut identifiers = Vec::new();
        let mut changeable = Vec::new();
        let compiled_by = Instant::now() + COMPILE;
        for (tenant, store, mut kept) in stores {
            identifiers.push((tenant.id.clone(), std::mem::take(&mut kept.identifiers)));
            let place = (&*config.gateway.plugins_dir, &loader);
            let (released, unknown) = match releases.at_start(tenant, &kept.versions, place) {
                Ok(released) => (released, None),
                Err(reason) => ((tenant.clone(), Way::On), Some(reason)),
            };
            let (tenant, way) = (&released.0, released.1);
            let files = loader.files(tenant);
            let effective = applied.at_start(tenant, &files, &kept.versions, &loader.shelf);
            let plugins = match unknown {
                None => loader.plugins(&effective, Some(compiled_by)),
                Some(reason) => Err(LaneError::Release { tenant: tenant.id.clone(), reason }),
            };
            let late = plugins.is_err() && Instant::now() > compiled_by;
            let (uplink, shelf) = (uplink_state(tenant, view.as_ref()), Some(loader.as_shelf()));
            let config = LaneConfig { tenant: effective, uplink, clock: wall_clock(), shelf, way };
            let lane = Lane::start(config, plugins, &engine, &pool, &store, kept);
            changeable.push(reload::Lane::new(tenant, files, &lane, late));
            tenants.push(TenantParts { id: tenant.id.clone(), quota: tenant.store.quota, store, lane });
        }
        loader.forget();
        let reloads = Reloads::new(file, config, changeable, (applied, releases), (loader, desk));
        let lanes: Vec<_> = tenants.iter().map(|tenant| (tenant.id.clone(), tenant.lane.sender())).collect();
        let sources = Sources::start(config, &lanes, &records.store, &records.sessions, &identifiers)?;
        let registration = provisioning.as_ref().map(Provisioning::view);
        let reporter = Reporter::new(config.gateway.id.to_string(), &config.gateway.data_dir, registration);
        Ok(Self { sources, tenants, uplink, provisioning, records: records.store, admin, reporter, reloads })
    }

    /// Until it is told to stop, or a part fails.
    async fn serve(&mut self) -> Result<(), GatewayError> {
        let signals = |cause| GatewayError::Machine { what: "listen for signals", cause };
        let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(signals)?;
        let Self { sources, tenants, uplink, provisioning, records, admin, reporter, reloads } = self;
        let view = uplink.as_ref().map(Uplink::view);
        let stores: Vec<_> =
            tenants.iter().map(|tenant| (tenant.id.clone(), Arc::clone(&tenant.store))).collect();
        let agent = provisioning.as_mut().and_then(Provisioning::agent);
        let placing = placement::follow(agent, uplink.as_ref(), &stores);
        tokio::pin!(placing);
        let nudge = |stamp: Option<&str>| nudge(sources, uplink.as_ref(), provisioning.as_ref(), stamp);
        let report = || reporter.report(sources, tenants, records, view.as_ref(), reloads);
        let operator = Operator::default();
        let answer = |question| match question {
            Question::Status => Answer::of(&report()),
            Question::RetryNow { stamp } => Answer::of(&nudge(stamp.as_deref())),
            Question::Reload => {
                let reload = reloads.clone().reload("command");
                Answer::later(async move { Answer::of(&reload.await) })
            }
            Question::Step { tenant, step, order } => reloads.order(&tenant, step, order),
            Question::DropLetters { tenant, ids } => operator.drop_letters(tenants, &tenant, ids),
            Question::ReplayLetters { tenant, ids } => operator.replay_letters(tenants, &tenant, ids),
            Question::ResetState { tenant, step } => operator.reset_state(tenants, &tenant, step),
        };
        let answering = admin.serve(answer);
        tokio::pin!(answering);
        let (mut hung_up, mut settling) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        settling.spawn(reloads.clone().mend());
        // They end when this does.
        let mut releasing = reloads.follow(tenants);
        let mut watch = tokio::time::interval(WATCH);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: stopping");
                    return Ok(());
                }
                _ = interrupt.recv() => {
                    tracing::info!("SIGINT: stopping");
                    return Ok(());
                }
                _ = hang_up.recv() => {
                    tracing::info!("SIGHUP: reading the configuration again, and trying all connections now");
                    nudge(None);
                    // One is under way, another one reads what is in the file then: a third would find nothing new.
                    if hung_up.len() < 2 {
                        hung_up.spawn(reloads.clone().reload("SIGHUP"));
                    }
                }
                Some(_) = hung_up.join_next(), if !hung_up.is_empty() => {}
                _ = watch.tick() => {
                    reporter.watch(tenants);
                    settling.spawn(reloads.clone().settle());
                }
                Some(_) = settling.join_next(), if !settling.is_empty() => {}
                Some(Err(error)) = releasing.join_next() => {
                    tracing::error!(%error, "a tenant's releases are no longer followed; restart the gateway");
                }
                error = failed(uplink.as_ref()) => {
                    tracing::error!(%error, "the uplink failed: stopping");
                    return Err(error.into());
                }
                error = sources.failed() => {
                    tracing::error!(%error, "a source failed: stopping");
                    return Err(error.into());
                }
                () = &mut answering => {}
                () = &mut placing => {}
            }
        }
    }

    /// In the order of the data, each part with what is left of the time.
    fn stop(self, runtime: &tokio::runtime::Runtime) -> Result<(), GatewayError> {
        let Self { sources, tenants, uplink, records, admin, reloads, .. } = self;
        reloads.stop();
        runtime.block_on(reloads.settle());
        let until = Instant::now() + STOP;
        let left = || until.saturating_duration_since(Instant::now());
        let mut result = Ok(());
        runtime.block_on(sources.stop(left() / 2));
        let mut stores = Vec::new();
        for TenantParts { id, store, lane, .. } in tenants {
            if let LaneState::Stopped { reason } = lane.status().state {
                result = result.and(Err(GatewayError::LaneEnded { tenant: id.clone(), reason }));
            }
            lane.drain_and_stop(left());
            stores.push(store);
        }
        if let Some(uplink) = uplink {
            result = result.and(uplink.stop().map_err(GatewayError::from));
        }
        for store in stores {
            store.close();
        }
        records.close();
        drop(admin);
        result
    }
}

/// The operator says "now": to all that waits for somebody, or to the link of one stamp.
fn nudge(
    sources: &Sources,
    uplink: Option<&Uplink>,
    provisioning: Option<&Provisioning>,
    stamp: Option<&str>,
) -> RetryReply {
    let mut asked = None;
    if stamp.is_none() {
        sources.retry_now();
        asked = provisioning.map(Provisioning::ask_now);
    }
    let links = uplink.map(|uplink| uplink.try_now(stamp)).unwrap_or_default();
    RetryReply::new(links, asked)
}

/// For the logs of those it speaks with.
fn software() -> String {
    format!("sluice-gateway {}", env!("CARGO_PKG_VERSION"))
}

async fn failed(uplink: Option<&Uplink>) -> UplinkError {
    match uplink {
        Some(uplink) => uplink.failed().await,
        None => std::future::pending().await,
    }
}

/// What a tenant's plugins are told of its uplink.
fn uplink_state(tenant: &Tenant, view: Option<&UplinkView>) -> UplinkState {
    let link = view.map(|view| view.of_tenant(&tenant.id));
    Arc::new(move || match link.as_ref().and_then(|link| link.state()) {
        Some(LinkState::Connected) => runtime::Uplink::Up,
        Some(LinkState::Connecting | LinkState::Waiting) => runtime::Uplink::Down,
        Some(LinkState::Parked | LinkState::GivenUp | LinkState::Stopped) | None => runtime::Uplink::Parked,
    })
}

/// Slots for twice the plugins there are, twice: a reload may add some, and an instance that replaces another one is made
/// before that one is gone. A slot is address space until it is used.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    let plugins: usize =
        config.tenants.values().map(|tenant| tenant.steps.len() + tenant.decoders.len()).sum();
    let steps = config.tenants.values().flat_map(|tenant| tenant.steps.iter().map(|step| &step.limits));
    let decoders =
        config.tenants.values().flat_map(|tenant| tenant.decoders.values().map(|decoder| &decoder.limits));
    let memory = steps.chain(decoders).map(|limits| limits.memory).max().unwrap_or_default();
    let mut engine = EngineConfig::new(config.gateway.data_dir.join("cache"));
    let instances = u32::try_from(plugins).unwrap_or(u32::MAX).saturating_mul(4);
    engine.max_instances = engine.max_instances.max(instances);
    engine.max_memory = engine.max_memory.max(usize::try_from(memory).unwrap_or(usize::MAX));
    engine
}

fn store_config(tenant: &Tenant) -> StoreConfig {
    let when_full = match tenant.store.when_full {
        gateway_config::WhenFull::RejectNew => WhenFull::RejectNew,
        gateway_config::WhenFull::DropOldest => WhenFull::DropOldest,
    };
    StoreConfig { quota: tenant.store.quota, when_full, ..StoreConfig::default() }
}

/// An error with what caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
