//! The steps of a lane, in order, and its decoders: calls, accounting, faults.
//!
//! Accounting of a call: `in + derived = dead + filtered + out`, where `filtered` is what is missing on the main route
//! and `derived` what is there beyond it, rows on other routes included. A call that faults costs its rows (to the dead
//! letters, with back trace and digest) and nothing else: the runtime undoes its state and discards the instance.
//!
//! After [`QUARANTINE_AFTER`] faults in a row a step is quarantined until the lane starts anew: with
//! `on_fault = "bypass"` rows skip it, with `"hold"` the lane stops taking any.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_config::{OnFault, Tenant};
use runtime::{CallContext, DecodeStep, Engine, Plugin, Processed, Step, StepConfig, StepFault};
use wire::frame::Frame;
use wire::ids::{RouteName, TenantId};

use super::LaneError;
use super::flow::{Flow, Lines, Messages, Topics};
use super::letters::{Cause, Letters};
use super::routes::Routes;
use super::status::Board;
use crate::intake::Raw;
use crate::store::{Commit, Kept, StateChange};

/// Faults in a row after which a step is quarantined.
pub const QUARANTINE_AFTER: u32 = 5;

/// What a cycle of the lane has come to so far.
#[derive(Default)]
pub(super) struct Work {
    pub(super) commit: Commit,
    pub(super) letters: Letters,
    pub(super) routes: Routes,
    pub(super) messages: Messages,
}

/// The plugins of a tenant, loaded once; a lane that starts again makes new steps of them.
pub(super) struct Plugins {
    steps: Vec<Plugin>,
    decoders: Vec<Plugin>,
}

impl Plugins {
    pub(super) fn load(engine: &Engine, tenant: &Tenant) -> Result<Self, LaneError> {
        let load = |step: &str, path: &std::path::Path| {
            engine.load(path).map_err(|cause| LaneError::load(&tenant.id, step, path, cause))
        };
        Ok(Self {
            steps: tenant
                .steps
                .iter()
                .map(|step| load(&step.name, &step.plugin))
                .collect::<Result<_, _>>()?,
            decoders: tenant
                .decoders
                .values()
                .map(|decoder| load(&decoder.name, &decoder.plugin))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The running steps.
pub(super) struct Chain {
    steps: Vec<Link>,
    decoders: HashMap<String, Decoding>,
}

struct Link {
    call: Called,
    step: Step,
    on_fault: OnFault,
    faults_in_a_row: u32,
    quarantined: bool,
    tick_at: Option<Instant>,
}

struct Decoding {
    call: Called,
    step: DecodeStep,
}

/// What is the same for steps and decoders.
struct Called {
    tenant: TenantId,
    /// Under which its state is kept: the name, and for a name used before its count.
    key: Arc<str>,
    digest: String,
    board: Arc<Board>,
    /// Its place on the board.
    place: usize,
}

impl Chain {
    /// Configures all steps and decoders with the state that was kept of them.
    pub(super) fn start(
        engine: &Engine,
        tenant: &Tenant,
        plugins: &Plugins,
        kept: &Kept,
        context: &CallContext,
        board: &Arc<Board>,
    ) -> Result<Self, LaneError> {
        let mut names = Vec::new();
        let mut called = |name: &str, plugin: &Plugin| {
            let before = names.iter().filter(|known| *known == name).count();
            names.push(name.to_owned());
            let key = if before == 0 { name.to_owned() } else { format!("{name}#{}", before + 1) };
            let digest = plugin.digest().to_string();
            let place = board.add_step(&key, &digest);
            Called { tenant: tenant.id.clone(), key: key.into(), digest, board: Arc::clone(board), place }
        };
        let state_of = |key: &str| {
            let mine = kept.state.iter().filter(|entry| entry.step == key);
            mine.map(|entry| (entry.key.clone(), entry.value.clone())).collect::<Vec<_>>()
        };
        let refused = |cause| LaneError::Configure { tenant: tenant.id.clone(), cause: Box::new(cause) };
        let mut steps = Vec::new();
        for (step, plugin) in tenant.steps.iter().zip(&plugins.steps) {
            let call = called(&step.name, plugin);
            let config = step_config(&call.key, &step.with, &step.limits);
            let running = Step::new(engine, plugin, config, state_of(&call.key), context).map_err(refused)?;
            let tick_at = running.tick_every().map(|every| Instant::now() + every);
            let on_fault = step.on_fault;
            steps.push(Link {
                call,
                step: running,
                on_fault,
                faults_in_a_row: 0,
                quarantined: false,
                tick_at,
            });
        }
        let mut decoders = HashMap::new();
        for (decoder, plugin) in tenant.decoders.values().zip(&plugins.decoders) {
            let call = called(&format!("decoder {}", decoder.name), plugin);
            let config = step_config(&call.key, &decoder.with, &decoder.limits);
            let step =
                DecodeStep::new(engine, plugin, config, state_of(&call.key), context).map_err(refused)?;
            decoders.insert(decoder.name.clone(), Decoding { call, step });
        }
        Ok(Self { steps, decoders })
    }

    /// Takes rows through all steps; what comes out is in `work`.
    pub(super) fn run(&mut self, flow: Flow, work: &mut Work, context: &CallContext) {
        self.run_from(0, flow, work, context);
    }

    fn run_from(&mut self, first: usize, mut flow: Flow, work: &mut Work, context: &CallContext) {
        for link in self.steps.iter_mut().skip(first) {
            if flow.is_empty() {
                return;
            }
            if !link.quarantined {
                flow = link.process(&flow, work, context);
            }
        }
        let Ok(route) = RouteName::new(RouteName::TELEMETRY) else { return };
        for (frame, lines) in flow.frames.into_iter().zip(flow.lines) {
            send(&route, frame, lines, work);
        }
    }

    /// Has messages decoded; gives the rows of the main route.
    pub(super) fn decode(&mut self, raw: Raw, work: &mut Work, context: &CallContext) -> Flow {
        match self.decoders.get_mut(&raw.decoder) {
            Some(decoder) => decoder.decode(raw, work, context),
            None => {
                let reason =
                    format!("there is no decoder {:?} in the configuration of this tenant", raw.decoder);
                let flow = raw_flow(raw, work);
                work.letters.push_flow(&flow, &work.messages, Cause { reason, ..Cause::default() });
                Flow::default()
            }
        }
    }

    /// When the next tick is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.steps.iter().filter(|link| !link.quarantined).filter_map(|link| link.tick_at).min()
    }

    /// Calls the ticks that are due. Returns whether there were any.
    pub(super) fn tick(&mut self, now: Instant, work: &mut Work, context: &CallContext) -> bool {
        let mut any = false;
        for at in 0..self.steps.len() {
            let Some(link) = self.steps.get_mut(at) else { break };
            if !link.quarantined && link.tick_at.is_some_and(|due| due <= now) {
                any = true;
                let flow = link.tick(now, work, context);
                self.run_from(at + 1, flow, work, context);
            }
        }
        any
    }

    /// The step for which the lane must stop, if there is one.
    pub(super) fn holds_for(&self) -> Option<&str> {
        let holding = |link: &&Link| link.quarantined && link.on_fault != OnFault::Bypass;
        self.steps.iter().find(holding).map(|link| &*link.call.key)
    }
}

/// A step's configuration as the runtime takes it.
pub(crate) fn step_config(name: &str, with: &str, limits: &gateway_config::Limits) -> StepConfig {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    StepConfig {
        name: name.to_owned(),
        config_json: with.to_owned(),
        limits: runtime::Limits {
            memory: bytes(limits.memory),
            time: limits.time,
            output_bytes: bytes(limits.output),
            state_bytes: bytes(limits.state),
            log_lines: limits.log_lines as usize,
            ..runtime::Limits::default()
        },
        ..StepConfig::default()
    }
}

impl Link {
    fn process(&mut self, flow: &Flow, work: &mut Work, context: &CallContext) -> Flow {
        let started = Instant::now();
        let result = self.step.process(&flow.frames, context);
        self.after(result, flow, started.elapsed(), work)
    }

    fn tick(&mut self, now: Instant, work: &mut Work, context: &CallContext) -> Flow {
        let started = Instant::now();
        self.tick_at = self.step.tick_every().map(|every| now + every);
        let result = self.step.tick(context);
        self.after(result, &Flow::default(), started.elapsed(), work)
    }

    fn after(
        &mut self,
        result: Result<Processed, Box<StepFault>>,
        flow: &Flow,
        took: Duration,
        work: &mut Work,
    ) -> Flow {
        match result {
            Ok(processed) => {
                self.faults_in_a_row = 0;
                self.call.took(processed, flow, took, work)
            }
            Err(fault) => {
                self.faults_in_a_row += 1;
                self.call.failed(&fault, flow, took, work);
                if self.faults_in_a_row >= QUARANTINE_AFTER {
                    self.quarantined = true;
                    self.call.quarantine(self.on_fault);
                }
                Flow::default()
            }
        }
    }
}

impl Decoding {
    fn decode(&mut self, mut raw: Raw, work: &mut Work, context: &CallContext) -> Flow {
        let started = Instant::now();
        let mut known = HashMap::new();
        let mut topics: Vec<String> = Vec::new();
        let topic: Vec<u32> = raw
            .topics
            .iter()
            .map(|topic| {
                *known.entry(topic.as_str()).or_insert_with(|| {
                    topics.push(topic.clone());
                    u32::try_from(topics.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect();
        let messages = runtime::Messages {
            profile: &raw.profile,
            devices: &raw.devices,
            device: &raw.device,
            arrived: &raw.arrived,
            topics: &topics,
            topic: &topic,
            ends: &raw.payloads.ends,
            payloads: &raw.payloads.bytes,
        };
        let result = self.step.decode(&messages, context);
        let took = started.elapsed();
        raw.profile.clear();
        let flow = raw_flow(raw, work);
        match result {
            Ok(processed) => self.call.took(processed, &flow, took, work),
            Err(fault) => {
                self.call.failed(&fault, &flow, took, work);
                Flow::default()
            }
        }
    }
}

/// Messages as rows without columns, so that they are accounted for like rows.
fn raw_flow(raw: Raw, work: &mut Work) -> Flow {
    let first = work.messages.add(raw.payloads, Topics::Each(raw.topics));
    let frame = Frame {
        profile: raw.profile,
        devices: raw.devices,
        device: raw.device,
        time: raw.arrived,
        columns: Vec::new(),
    };
    let mut flow = Flow::default();
    flow.push(frame, Lines::Run(first));
    flow
}

impl Called {
    /// A call that went well: its rows by route, its rejections, its state, its accounts.
    fn took(&self, processed: Processed, flow: &Flow, took: Duration, work: &mut Work) -> Flow {
        self.board.called(self.place, took, &processed.metrics);
        self.board.log(&self.tenant, &self.key, &processed.logs, processed.logs_dropped);
        let dead_before = work.letters.count;
        for rejected in processed.rejected {
            let Some((frame, lines)) = flow.frames.get(rejected.frame).zip(flow.lines.get(rejected.frame))
            else {
                continue;
            };
            let mut cause = self.cause(rejected.reason, String::new());
            work.letters.push_rows((frame, lines), rejected.rows, &work.messages, &mut cause);
        }
        let mut main = Flow::default();
        let mut elsewhere = 0;
        for routed in processed.frames {
            let lines = match &routed.origin {
                None => Lines::Unknown,
                Some(origin) => match (flow.lines.get(origin.frame), &origin.rows) {
                    (None, _) => Lines::Unknown,
                    (Some(lines), None) => lines.clone(),
                    (Some(lines), Some(rows)) => lines.select(rows),
                },
            };
            if routed.route.as_str() == RouteName::TELEMETRY {
                main.push(routed.frame, lines);
            } else {
                elsewhere += routed.frame.rows() as u64;
                send(&routed.route, routed.frame, lines, work);
            }
        }
        let dead = work.letters.count - dead_before;
        let counts = &mut work.commit.counts;
        let (gone, there) = (flow.rows(), dead + main.rows());
        counts.filtered += gone.saturating_sub(there);
        counts.derived += there.saturating_sub(gone) + elsewhere;
        let step = &self.key;
        work.commit.state.extend(processed.state.into_iter().map(|change| StateChange {
            step: Arc::clone(step),
            key: change.key,
            value: change.value,
        }));
        main
    }

    /// A call that failed: all its rows are dead letters.
    fn failed(&self, fault: &StepFault, flow: &Flow, took: Duration, work: &mut Work) {
        let text = fault.to_string();
        self.board.faulted(&self.tenant, self.place, took, &text, flow.rows());
        self.board.log(&self.tenant, &self.key, &fault.logs, 0);
        work.letters.push_flow(flow, &work.messages, self.cause(text, fault.backtrace.join("\n")));
    }

    fn quarantine(&self, on_fault: OnFault) {
        let what = match on_fault {
            OnFault::Bypass => "bypassed",
            OnFault::Hold | OnFault::Previous => "holds the lane",
        };
        self.board.quarantined(self.place, what);
        tracing::error!(
            tenant = %self.tenant, step = %self.key, on_fault = what,
            "a step failed {QUARANTINE_AFTER} times in a row and is quarantined until the gateway is restarted"
        );
    }

    fn cause(&self, reason: String, trace: String) -> Cause {
        Cause { step: self.key.to_string(), digest: self.digest.clone(), reason, trace }
    }
}

/// Sends a frame out of the lane by a route.
fn send(route: &RouteName, frame: Frame, lines: Lines, work: &mut Work) {
    if let Some((frame, lines)) = work.routes.push(route, frame, lines) {
        let reason = format!("too many routes at once: {route} is one too many");
        let mut flow = Flow::default();
        flow.push(frame, lines);
        work.letters.push_flow(&flow, &work.messages, Cause { reason, ..Cause::default() });
    }
}
