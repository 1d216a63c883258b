//! A plugin's instance under supervision: made when it is needed, called under its limits, and discarded by any fault.
//!
//! Invariants: a guest runs only between setting a deadline and its end; after a fault neither the instance nor any
//! change it made to the state is left; what the step keeps (`HostState`) is always in exactly one place, the live
//! instance's store or `idle`.

use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use crate::bindings::exports::sluice::plugin::{decoding, processing};
use crate::bindings::sluice::plugin::types;
use crate::boundary::take_output;
use crate::call::{CallContext, Level, Processed};
use crate::engine::{Engine, Kind, Plugin, World};
use crate::fault::{ConfigureFault, FaultKind, StepFault};
use crate::host::{HostState, cut};
use crate::state::State;
use crate::step::StepConfig;
use crate::ticker::Ticker;

/// Shortest interval between ticks.
const MIN_TICK: Duration = Duration::from_millis(10);
/// Most functions kept of a back trace.
const MAX_BACKTRACE: usize = 32;

/// The exports of an instance.
pub(crate) enum Guest {
    Processor(processing::Guest),
    Decoder(decoding::Guest),
}

struct Live {
    store: Store<HostState>,
    guest: Guest,
}

/// What a guest call returns.
pub(crate) type Returned = wasmtime::Result<Result<types::Output, types::Fault>>;

/// The supervised instance.
pub(crate) struct Supervised {
    engine: Engine,
    plugin: Plugin,
    config: StepConfig,
    live: Option<Live>,
    idle: Option<HostState>,
    tick_every: Option<Duration>,
}

/// What went wrong, before it is put into words.
enum Failure {
    Refused(String),
    Guest(types::Fault),
    Wasm(wasmtime::Error),
    Violation(FaultKind, String),
}

impl Supervised {
    /// Configures a first instance.
    pub(crate) fn new(
        engine: &Engine,
        plugin: &Plugin,
        wanted: Kind,
        config: StepConfig,
        entries: Vec<(String, Vec<u8>)>,
        context: &CallContext,
    ) -> Result<Self, ConfigureFault> {
        check_kind(plugin, wanted, &config.name)?;
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
        let host = HostState::new(config.limits, state);
        let mut supervised = Supervised {
            engine: engine.clone(),
            plugin: plugin.clone(),
            config,
            live: None,
            idle: Some(host),
            tick_every: None,
        };
        match supervised.revive(context) {
            Ok(live) => supervised.live = Some(live),
            Err(Failure::Refused(reason)) => {
                let step = supervised.config.name.clone();
                return Err(ConfigureFault::Refused {
                    step,
                    plugin: supervised.label(),
                    reason: cut(reason),
                });
            }
            Err(failure) => return Err(supervised.fault_of_idle(failure).into()),
        }
        Ok(supervised)
    }

    /// Calls the guest. `inputs` are the rows of each input frame.
    pub(crate) fn call(
        &mut self,
        context: &CallContext,
        inputs: &[usize],
        call: impl FnOnce(&mut Store<HostState>, &Guest) -> Returned,
    ) -> Result<Processed, Box<StepFault>> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => match self.revive(context) {
                Ok(live) => live,
                Err(failure) => return Err(self.fault_of_idle(failure)),
            },
        };
        let engine = self.engine.clone();
        let running = engine.guest_runs();
        live.store.set_epoch_deadline(Ticker::epochs(self.config.limits.time));
        let host = live.store.data_mut();
        host.context = *context;
        host.memory.refused = false;
        host.state.over_quota = false;
        let output = match call(&mut live.store, &live.guest) {
            Ok(Ok(output)) => output,
            Ok(Err(fault)) => return Err(self.discard(live.store.data_mut(), Failure::Guest(fault))),
            Err(error) => return Err(self.discard(live.store.data_mut(), Failure::Wasm(error))),
        };
        drop(running);
        match take_output(output, inputs, self.config.limits.output_rows) {
            Ok((frames, rejected)) => {
                let host = live.store.data_mut();
                let processed = Processed {
                    frames,
                    rejected,
                    state: host.state.take_changes(),
                    logs: std::mem::take(&mut host.logs),
                    logs_dropped: std::mem::take(&mut host.logs_dropped),
                    metrics: host.take_metrics(),
                };
                self.live = Some(live);
                Ok(processed)
            }
            Err((kind, what)) => Err(self.discard(live.store.data_mut(), Failure::Violation(kind, what))),
        }
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

    pub(crate) fn state_bytes(&self) -> usize {
        let live = self.live.as_ref().map(|live| live.store.data());
        live.or(self.idle.as_ref()).map_or(0, |host| host.state.bytes())
    }

    /// Makes an instance and configures it.
    fn revive(&mut self, context: &CallContext) -> Result<Live, Failure> {
        let mut host = self.idle.take().unwrap_or_else(|| self.blank());
        host.context = *context;
        host.memory.refused = false;
        let mut store = Store::new(self.engine.wasmtime(), host);
        store.limiter(|host| &mut host.memory);
        store.set_hostcall_fuel(self.config.limits.output_bytes);
        let engine = self.engine.clone();
        let _running = engine.guest_runs();
        store.set_epoch_deadline(Ticker::epochs(self.config.limits.time));
        match self.instantiate(&mut store) {
            Ok((guest, setup)) => {
                let every = Duration::from_millis(setup.tick_ms.into());
                self.tick_every = (setup.tick_ms > 0).then(|| every.max(MIN_TICK));
                Ok(Live { store, guest })
            }
            Err(failure) => {
                self.idle = Some(store.into_data());
                Err(failure)
            }
        }
    }

    fn instantiate(&self, store: &mut Store<HostState>) -> Result<(Guest, types::Setup), Failure> {
        let no_instance = |error: wasmtime::Error| match error.downcast_ref::<Trap>() {
            Some(_) => Failure::Wasm(error),
            None => Failure::Violation(FaultKind::Instance, format!("{error:#}")),
        };
        let json = self.config.config_json.as_str();
        let (guest, configured) = match &self.plugin.shared.world {
            World::Processor(pre, exports) => {
                let instance = pre.instantiate(&mut *store).map_err(no_instance)?;
                let guest = exports.load(&mut *store, &instance).map_err(no_instance)?;
                let configured = guest.call_configure(&mut *store, json);
                (Guest::Processor(guest), configured)
            }
            World::Decoder(pre, exports) => {
                let instance = pre.instantiate(&mut *store).map_err(no_instance)?;
                let guest = exports.load(&mut *store, &instance).map_err(no_instance)?;
                let configured = guest.call_configure(&mut *store, json);
                (Guest::Decoder(guest), configured)
            }
        };
        let setup = configured.map_err(Failure::Wasm)?.map_err(Failure::Refused)?;
        Ok((guest, setup))
    }

    /// The instance is dropped by the caller; what the step keeps is saved.
    fn discard(&mut self, host: &mut HostState, failure: Failure) -> Box<StepFault> {
        let fault = self.fault(host, failure);
        self.idle = Some(std::mem::replace(host, self.blank()));
        fault
    }

    /// An instance could not be made.
    fn fault_of_idle(&mut self, failure: Failure) -> Box<StepFault> {
        let mut host = self.idle.take().unwrap_or_else(|| self.blank());
        self.discard(&mut host, failure)
    }

    fn blank(&self) -> HostState {
        HostState::new(self.config.limits, State::new(self.config.limits.state_bytes, []))
    }

    /// Puts a failure into words and undoes what the call changed.
    fn fault(&self, host: &mut HostState, failure: Failure) -> Box<StepFault> {
        let logs = std::mem::take(&mut host.logs);
        host.logs_dropped = 0;
        host.take_metrics();
        let (kind, message, backtrace) = match failure {
            Failure::Refused(reason) => (FaultKind::Configure, reason, Vec::new()),
            Failure::Violation(kind, what) => (kind, what, Vec::new()),
            Failure::Guest(fault) if host.state.over_quota => {
                (FaultKind::StateQuota, fault.reason, Vec::new())
            }
            Failure::Guest(fault) => (FaultKind::Guest, fault.reason, Vec::new()),
            Failure::Wasm(error) => {
                let (kind, mut message) = self.classify(host, &error);
                // The SDK logs a panic's text before it traps: more telling than "unreachable executed".
                if let (FaultKind::Trap, Some(line)) =
                    (kind, logs.last().filter(|line| line.level == Level::Error))
                {
                    message = format!("{} ({message})", line.message);
                }
                (kind, message, backtrace(&error))
            }
        };
        host.state.roll_back();
        Box::new(StepFault {
            kind,
            step: self.config.name.clone(),
            plugin: self.label(),
            digest: self.plugin.digest(),
            message: cut(message),
            backtrace,
            logs,
        })
    }

    fn classify(&self, host: &HostState, error: &wasmtime::Error) -> (FaultKind, String) {
        let limits = self.config.limits;
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
                    (FaultKind::Trap, text)
                }
            }
        }
    }

    fn label(&self) -> String {
        match self.plugin.version() {
            "" => self.plugin.name().to_owned(),
            version => format!("{} {version}", self.plugin.name()),
        }
    }
}

fn check_kind(plugin: &Plugin, wanted: Kind, step: &str) -> Result<(), ConfigureFault> {
    let word = |kind| match kind {
        Kind::Processor => "processor",
        Kind::Decoder => "decoder",
    };
    if plugin.kind() == wanted {
        return Ok(());
    }
    Err(ConfigureFault::Kind {
        step: step.to_owned(),
        plugin: plugin.name().to_owned(),
        is: word(plugin.kind()),
        wanted: word(wanted),
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
