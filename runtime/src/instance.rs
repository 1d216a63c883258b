//! A plugin's instance under supervision: made when it is needed, called under its limits, and discarded by any fault.
//!
//! Invariants: after a fault neither the instance nor any change it made to the state is left, nor after a call whose
//! future was dropped before its end; what the step keeps (`HostState`) is always in exactly one place, the live
//! instance's store or `idle`.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use crate::bindings::exports::sluice::plugin::{decoding, processing};
use crate::bindings::sluice::plugin::types;
use crate::boundary::{LentFrames, LentMessages, take_output};
use crate::call::{CallContext, Level, Messages, Processed};
use crate::engine::Engine;
use crate::fault::{ConfigureFault, FaultKind, StepFault};
use crate::host::{Authority, Denied, HostState, cut};
use crate::plugin::{Exports, Kind, Plugin};
use crate::slices::SLICE;
use crate::state::{State, StateChange};
use crate::step::StepConfig;
use wire::frame::Frame;

/// Shortest interval between ticks.
const MIN_TICK: Duration = Duration::from_millis(10);
/// Most functions kept of a back trace.
const MAX_BACKTRACE: usize = 32;

/// The exports of an instance.
enum Guest {
    /// It is being made.
    Unborn,
    Processor(processing::Guest),
    Decoder(decoding::Guest),
}

struct Live {
    store: Store<HostState>,
    guest: Guest,
    /// A call has begun and not ended. If it is still so when the next one begins, its future was dropped.
    in_call: bool,
}

/// What a call hands to the guest.
pub(crate) enum Input<'a> {
    Frames(&'a [Frame]),
    Messages(&'a Messages<'a>),
    Tick,
}

/// The supervised instance.
pub(crate) struct Supervised {
    engine: Engine,
    plugin: Plugin,
    config: StepConfig,
    live: Option<Live>,
    idle: Option<HostState>,
    tick_every: Option<Duration>,
    authority: Authority,
    /// The version whose state is to be taken over, until it is.
    migrate_from: Option<String>,
    migrated: Vec<StateChange>,
}

/// What went wrong, before it is put into words.
enum Failure {
    Refused(String),
    Migration { from: String, reason: String },
    Guest(types::Fault),
    Wasm(wasmtime::Error),
    NoInstance(wasmtime::Error),
    Violation(FaultKind, String),
}

impl Supervised {
    /// Configures a first instance.
    pub(crate) async fn new(
        engine: &Engine,
        plugin: &Plugin,
        wanted: Kind,
        mut config: StepConfig,
        entries: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        check_kind(plugin, wanted, &config.name)?;
        let asks = &plugin.manifest().asks;
        let authority = Authority { asked: asks.imports(), granted: config.imports };
        config.limits = asks.limits(config.limits);
        config.imports = authority.asked.and(authority.granted);
        let step = || config.name.clone();
        let (asked, allowed) = (config.limits.memory, engine.max_memory());
        if asked > allowed {
            return Err(ConfigureFault::Memory { step: step(), asked, allowed });
        }
        let state = State::new(config.limits.state_bytes, entries);
        let (bytes, limit) = (state.bytes(), state.limit());
        if bytes > limit {
            return Err(ConfigureFault::State { step: step(), bytes, limit });
        }
        let host = HostState::new(config.limits, authority, state);
        let other = config.state_version.clone().filter(|version| version != plugin.version());
        let mut supervised = Supervised {
            engine: engine.clone(),
            plugin: plugin.clone(),
            config,
            live: None,
            idle: Some(host),
            tick_every: None,
            authority,
            migrate_from: other.filter(|_| plugin.migrates()),
            migrated: Vec::new(),
        };
        match supervised.revive(context).await {
            Ok(_) => Ok(supervised),
            Err(Failure::Refused(reason)) => Err(ConfigureFault::Refused {
                step: supervised.config.name.clone(),
                plugin: plugin.label(),
                reason: cut(reason),
            }),
            Err(Failure::Migration { from, reason }) => Err(ConfigureFault::Migration {
                step: supervised.config.name.clone(),
                plugin: plugin.label(),
                from,
                reason: cut(reason),
            }),
            Err(failure) => Err(supervised.fault(failure).into()),
        }
    }

    /// Calls the guest. The future may be dropped at any time: then nothing of the call is left.
    pub(crate) async fn call(
        &mut self,
        context: &CallContext,
        input: Input<'_>,
    ) -> Result<Processed, Box<StepFault>> {
        match self.attempt(context, input).await {
            Ok(processed) => Ok(processed),
            Err(failure) => Err(self.fault(failure)),
        }
    }

    async fn attempt(&mut self, context: &CallContext, input: Input<'_>) -> Result<Processed, Failure> {
        let engine = self.engine.clone();
        let live = match self.live.take_if(|live| !live.in_call) {
            Some(live) => self.live.insert(live),
            None => self.revive(context).await?,
        };
        live.in_call = true;
        live.store.set_epoch_deadline(SLICE);
        live.store.data_mut().begin(context);
        let output = {
            let mut call = pin!(call_guest(&mut live.store, &live.guest, &input));
            poll_fn(|cx| {
                let _running = engine.guest_runs();
                call.as_mut().poll(cx)
            })
            .await
        };
        let output = output.map_err(Failure::Wasm)?.map_err(Failure::Guest)?;
        let host = live.store.data_mut();
        let (frames, rejected) = take_output(output, &input, &host.limits)
            .map_err(|(kind, what)| Failure::Violation(kind, what))?;
        live.in_call = false;
        Ok(Processed {
            frames,
            rejected,
            state: host.state.take_changes(),
            logs: std::mem::take(&mut host.logs),
            logs_dropped: std::mem::take(&mut host.logs_dropped),
            metrics: host.take_metrics(),
        })
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(crate) fn config(&self) -> &StepConfig {
        &self.config
    }

    pub(crate) fn tick_every(&self) -> Option<Duration> {
        self.tick_every
    }

    /// The kept state, as of the last call that succeeded.
    pub(crate) fn state(&self) -> Vec<(String, Vec<u8>)> {
        let kept = self.host().map(|host| host.state.kept().iter());
        kept.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn take_migration(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.migrated)
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.host().map_or(0, |host| host.state.bytes())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().memory.used())
    }

    fn host(&self) -> Option<&HostState> {
        self.live.as_ref().map(|live| live.store.data()).or(self.idle.as_ref())
    }

    /// Makes an instance and configures it.
    async fn revive(&mut self, context: &CallContext) -> Result<&mut Live, Failure> {
        let engine = self.engine.clone();
        let mut host = self.retire();
        host.abandon();
        host.memory.released();
        host.begin(context);
        let mut store = Store::new(engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        store.set_hostcall_fuel(self.config.limits.output_bytes);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().time.slice_ended()));
        store.set_epoch_deadline(SLICE);
        let live = self.live.insert(Live { store, guest: Guest::Unborn, in_call: true });
        let setup = {
            let from = self.migrate_from.as_deref();
            let mut birth = pin!(instantiate(&self.plugin, &self.config.config_json, from, live));
            poll_fn(|cx| {
                let _running = engine.guest_runs();
                birth.as_mut().poll(cx)
            })
            .await?
        };
        if self.migrate_from.take().is_some() {
            self.migrated = live.store.data_mut().state.take_changes();
        }
        let every = Duration::from_millis(setup.tick_ms.into());
        self.tick_every = (setup.tick_ms > 0).then(|| every.max(MIN_TICK));
        live.in_call = false;
        Ok(live)
    }

    /// Discards the instance; what the step keeps is left.
    fn retire(&mut self) -> HostState {
        let of_live = self.live.take().map(|live| live.store.into_data());
        of_live.or_else(|| self.idle.take()).unwrap_or_else(|| {
            HostState::new(self.config.limits, self.authority, State::new(self.config.limits.state_bytes, []))
        })
    }

    /// Puts a failure into words, undoes what the call changed, and discards the instance.
    fn fault(&mut self, failure: Failure) -> Box<StepFault> {
        let mut host = self.retire();
        let described = match failure {
            Failure::Refused(reason) => (FaultKind::Configure, reason, Vec::new()),
            Failure::Violation(kind, what) => (kind, what, Vec::new()),
            Failure::Migration { reason, .. } => (FaultKind::Configure, reason, Vec::new()),
            Failure::NoInstance(error) if host.memory.refused => {
                let limit = self.config.limits.memory;
                (FaultKind::Memory, format!("of {limit} bytes (limits.memory): {error:#}"), Vec::new())
            }
            Failure::NoInstance(error) if error.downcast_ref::<Trap>().is_none() => {
                (FaultKind::Instance, format!("{error:#}"), Vec::new())
            }
            Failure::Guest(fault) if host.state.over_quota => {
                (FaultKind::StateQuota, fault.reason, Vec::new())
            }
            Failure::Guest(fault) => (FaultKind::Guest, fault.reason, Vec::new()),
            Failure::Wasm(error) | Failure::NoInstance(error) => {
                let (kind, mut message) = self.classify(&host, &error);
                // The SDK logs a panic's text before it traps: more telling than "unreachable executed".
                if let (FaultKind::Trap, Some(line)) =
                    (kind, host.logs.last().filter(|line| line.level == Level::Error))
                {
                    message = format!("{} ({message})", line.message);
                }
                (kind, message, backtrace(&error))
            }
        };
        let (kind, message, backtrace) = described;
        let logs = host.abandon();
        self.idle = Some(host);
        Box::new(StepFault {
            kind,
            step: self.config.name.clone(),
            plugin: self.plugin.label(),
            digest: self.plugin.digest(),
            message: cut(message),
            backtrace,
            logs,
        })
    }

    fn classify(&self, host: &HostState, error: &wasmtime::Error) -> (FaultKind, String) {
        let limits = self.config.limits;
        if let Some(denied) = error.downcast_ref::<Denied>() {
            return (FaultKind::Authority, denied.to_string());
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => (FaultKind::Timeout, format!("after {:?} (limits.time)", limits.time)),
            _ if host.memory.refused => {
                (FaultKind::Memory, format!("of {} bytes (limits.memory)", limits.memory))
            }
            Some(trap) => (FaultKind::Trap, trap.to_string()),
            None => {
                let text = error.root_cause().to_string();
                // wasmtime's type of this error is private.
                if text.contains("fuel allocated for hostcalls") {
                    (
                        FaultKind::Output,
                        format!("more than {} bytes at once (limits.output)", limits.output_bytes),
                    )
                } else {
                    // No trap: what the guest handed over is not what the interface says, e.g. text that is not UTF-8.
                    (FaultKind::InvalidOutput, text)
                }
            }
        }
    }
}

impl Input<'_> {
    /// The rows of each input frame.
    pub(crate) fn rows(&self) -> Vec<usize> {
        match self {
            Input::Frames(frames) => frames.iter().map(Frame::rows).collect(),
            Input::Messages(messages) => vec![messages.arrived.len()],
            Input::Tick => Vec::new(),
        }
    }
}

async fn call_guest(
    store: &mut Store<HostState>,
    guest: &Guest,
    input: &Input<'_>,
) -> wasmtime::Result<Result<types::Output, types::Fault>> {
    match (guest, input) {
        (Guest::Processor(guest), Input::Frames(frames)) => {
            let lent = LentFrames::of(frames);
            let columns = lent.columns();
            guest.call_process(store, &lent.lend(&columns)).await
        }
        (Guest::Processor(guest), Input::Tick) => guest.call_tick(store).await,
        (Guest::Decoder(guest), Input::Messages(messages)) => {
            let lent = LentMessages::of(messages);
            guest.call_decode(store, lent.lend()).await
        }
        _ => Err(wasmtime::format_err!("the plugin has no such call")),
    }
}

async fn instantiate(
    plugin: &Plugin,
    config_json: &str,
    migrate_from: Option<&str>,
    live: &mut Live,
) -> Result<types::Setup, Failure> {
    let store = &mut live.store;
    let loaded = &plugin.shared;
    let instance = loaded.pre.instantiate_async(&mut *store).await.map_err(Failure::NoInstance)?;
    if let (Some(from), Some(migration)) = (migrate_from, &loaded.migration) {
        let guest = migration.load(&mut *store, &instance).map_err(Failure::NoInstance)?;
        let migrated = guest.call_migrate(&mut *store, from).await.map_err(Failure::Wasm)?;
        migrated.map_err(|reason| Failure::Migration { from: from.to_owned(), reason })?;
    }
    let configured = match &loaded.exports {
        Exports::Processor(exports) => {
            let guest = exports.load(&mut *store, &instance).map_err(Failure::NoInstance)?;
            let configured = guest.call_configure(&mut *store, config_json).await;
            live.guest = Guest::Processor(guest);
            configured
        }
        Exports::Decoder(exports) => {
            let guest = exports.load(&mut *store, &instance).map_err(Failure::NoInstance)?;
            let configured = guest.call_configure(&mut *store, config_json).await;
            live.guest = Guest::Decoder(guest);
            configured
        }
    };
    configured.map_err(Failure::Wasm)?.map_err(Failure::Refused)
}

fn check_kind(plugin: &Plugin, wanted: Kind, step: &str) -> Result<(), ConfigureFault> {
    if plugin.kind() == wanted {
        return Ok(());
    }
    Err(ConfigureFault::Kind {
        step: step.to_owned(),
        plugin: plugin.name().to_owned(),
        is: plugin.kind(),
        wanted,
    })
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    trace.frames().iter().take(MAX_BACKTRACE).map(name).collect()
}
