//! The main job on the screen: two tenants' devices, their plugins, an outage of the stamp, two killed gateways, and the
//! account of what was promised and what landed.
//!
//! ```text
//!   0 %    devices publish                       40 MQTT clients, QoS 1 and 2
//!  25 %    stamp killed                          the backlog grows on the gateway's disk
//!  35 %    gateway killed and restarted          with the backlog
//!  50 %    stamp restarted                       the backlog drains while new data arrives
//!  75 %    gateway killed and restarted          under full load
//! 100 %    devices stop, everything drains, the account is drawn up
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::say;
use crate::gateway::{Gateway, Setup};
use crate::load::{Fleet, Load, Plan};
use crate::oracle::{self, Account, Rules};
use crate::stamp::Stamp;
use crate::world::{self, World};

/// Messages per second of all devices together.
const RATE: f64 = 15_000.0;
/// Devices of each tenant.
const DEVICES: usize = 20;
/// From one line of progress to the next.
const PROGRESS: Duration = Duration::from_millis(1_000);
/// How long the gateway stays dead before it is restarted.
const GATEWAY_DEAD: Duration = Duration::from_millis(1_000);
/// Longest wait for the backlog to drain at the end.
const DRAIN: Duration = Duration::from_secs(60);

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the devices publish.
    pub publish: Duration,
    /// Everything random follows from it.
    pub seed: u64,
}

/// What the demo ends with. The names are those of its JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The account of the promises.
    #[serde(flatten)]
    pub account: Account,
    /// Seconds that the stamp was down.
    pub outage_seconds: f64,
    /// SIGKILLs of the gateway.
    pub gateway_kills: u32,
    /// SIGKILLs of the stamp.
    pub stamp_kills: u32,
    /// Most rows that waited on the gateway.
    pub backlog_peak: u64,
    /// Messages that devices sent again and the gateway had already.
    pub repetitions_dropped: u64,
    /// User and system time of all lives of the gateway for a million accepted messages, start-ups included.
    pub gateway_cpu_s_per_million_messages: f64,
    /// Most memory of the gateway.
    pub gateway_peak_mib: f64,
    /// Seconds from the first message to the last row.
    pub seconds: f64,
    /// What everything random followed from.
    pub seed: u64,
}

/// The demo while it runs.
struct Stage {
    world: World,
    stamp: Stamp,
    gateway: Gateway,
    load: Load,
    start: Instant,
    shown: Instant,
    shown_accepted: u64,
    landed: u64,
    backlog: u64,
    backlog_peak: u64,
    repetitions: u64,
}

/// Runs it, with progress on standard output.
///
/// # Errors
/// When a process does not start, or dies by itself, or the backlog does not drain.
pub fn run(options: &Options) -> Result<Outcome> {
    let Options { publish, seed } = *options;
    let mut stage = Stage::open(seed)?;
    say(&format!(
        "{} devices of 2 tenants publish {RATE:.0} messages/s over MQTT (QoS 1 and 2) for {} s.\n\
         acme: °C → °F, drop outside −40..125 °C, alarm above 80 °C.  globex: drop outside −40..125 °C, deadband, tag.",
        2 * DEVICES,
        publish.as_secs()
    ));
    stage.play(publish.mul_f64(0.25))?;

    say("✗ the stamp is killed (SIGKILL); the gateway keeps what it accepts");
    stage.stamp.kill()?;
    let outage = Instant::now();
    stage.play(publish.mul_f64(0.35))?;
    stage.kill_gateway()?;
    stage.play(publish.mul_f64(0.50))?;
    say("✓ the stamp is started again");
    stage.stamp.start()?;
    let outage_seconds = outage.elapsed().as_secs_f64();
    stage.play(publish.mul_f64(0.75))?;
    stage.kill_gateway()?;
    stage.play(publish)?;

    say("• the devices stop; what waits drains");
    stage.close(outage_seconds, seed)
}

impl Stage {
    fn open(seed: u64) -> Result<Self> {
        let world = World::create()?;
        let tenants = vec![
            ("acme".into(), world::alarm_chain("acme")),
            ("globex".into(), world::deadband_chain("globex")),
        ];
        let mut stamp = world.stamp("demo-stamp", &[("demo-gateway", &["acme", "globex"])])?;
        let mut gateway = world.gateway("demo-gateway", &Setup { tenants, ..Setup::default() }, &stamp)?;
        stamp.start()?;
        gateway.start()?;
        let load = Load::start(Plan {
            address: gateway.mqtt,
            fleets: vec![Fleet::new("acme", DEVICES, 1), Fleet::new("globex", DEVICES, 2)],
            rate: Some(RATE),
            each: None,
            window: 32,
            cut_after: None,
            seed,
        })?;
        let now = Instant::now();
        Ok(Self {
            world,
            stamp,
            gateway,
            load,
            start: now,
            shown: now,
            shown_accepted: 0,
            landed: 0,
            backlog: 0,
            backlog_peak: 0,
            repetitions: 0,
        })
    }

    /// Lets it run until that time after the start.
    fn play(&mut self, until: Duration) -> Result<()> {
        while self.start.elapsed() < until {
            std::thread::sleep(Duration::from_millis(50).min(until.saturating_sub(self.start.elapsed())));
            self.look()?;
        }
        Ok(())
    }

    fn kill_gateway(&mut self) -> Result<()> {
        say("✗ the gateway is killed (SIGKILL); the devices keep what was not acknowledged");
        self.gateway.kill()?;
        std::thread::sleep(GATEWAY_DEAD);
        self.gateway.start()?;
        say("✓ the gateway is started again");
        Ok(())
    }

    /// Takes the figures and shows them when it is time.
    fn look(&mut self) -> Result<()> {
        let status = self.gateway.status()?;
        let sum =
            |of: fn(&host::admin::status::TenantStatus) -> u64| status.tenants.iter().map(of).sum::<u64>();
        self.landed = sum(|tenant| tenant.landed_rows);
        self.backlog = sum(|tenant| tenant.outbox.rows);
        self.repetitions = sum(|tenant| tenant.duplicates);
        self.backlog_peak = self.backlog_peak.max(self.backlog);
        let since = self.shown.elapsed();
        if since >= PROGRESS {
            let accepted = self.load.accepted();
            let rate = (accepted - self.shown_accepted) as f64 / since.as_secs_f64();
            say(&format!(
                "{:5.1} s  {rate:6.0} messages/s  accepted {accepted:>8}  landed {:>8}  backlog {:>7}  uplink {}",
                self.start.elapsed().as_secs_f64(),
                self.landed,
                self.backlog,
                status.uplink.state,
            ));
            (self.shown, self.shown_accepted) = (Instant::now(), accepted);
        }
        Ok(())
    }

    fn close(mut self, outage_seconds: f64, seed: u64) -> Result<Outcome> {
        let ledger = self.load.finish()?;
        self.gateway.drain(DRAIN)?;
        let seconds = self.start.elapsed().as_secs_f64();
        let repetitions = self.gateway.status()?.tenants.iter().map(|tenant| tenant.duplicates).sum();
        let (_, peak) = self.gateway.memory()?;
        let cpu = self.gateway.cpu()?;
        self.gateway.terminate()?;
        let account = oracle::settle(&ledger, rules, self.stamp.landed()?)?;
        self.stamp.terminate()?;
        drop(self.world);
        Ok(Outcome {
            gateway_cpu_s_per_million_messages: cpu.as_secs_f64() / account.accepted as f64 * 1e6,
            account,
            outage_seconds,
            gateway_kills: 2,
            stamp_kills: 1,
            backlog_peak: self.backlog_peak,
            repetitions_dropped: repetitions,
            gateway_peak_mib: peak as f64 / f64::from(1 << 20),
            seconds,
            seed,
        })
    }
}

/// What the oracle has to know of each tenant's chain.
fn rules(tenant: &str) -> Rules {
    if tenant == "acme" { world::ALARM_RULES } else { world::DEADBAND_RULES }
}

impl Outcome {
    /// The account for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { account, .. } = self;
        let mut lines = vec![
            ("accepted (acknowledged to devices)", account.accepted.to_string()),
            ("filtered (out of range, within the deadband)", account.filtered.to_string()),
            ("landed (rows at the stamp)", account.landed.to_string()),
            ("alarms raised and cleared", account.alarms.to_string()),
            ("lost", account.lost.to_string()),
            ("landed twice", account.duplicated.to_string()),
            ("wrong", account.wrong.to_string()),
            ("sent again after a kill", account.repeated.to_string()),
            ("backlog at its peak", format!("{} rows", self.backlog_peak)),
            ("outage of the stamp", format!("{:.1} s", self.outage_seconds)),
            ("gateway killed", format!("{} times", self.gateway_kills)),
            ("gateway CPU", format!("{:.1} s per million messages", self.gateway_cpu_s_per_million_messages)),
            ("gateway memory at its peak", format!("{:.0} MiB", self.gateway_peak_mib)),
        ];
        lines.extend(account.examples.iter().map(|example| ("e.g.", example.clone())));
        lines.iter().map(|(name, value)| format!("  {name:<46}{value}\n")).collect()
    }
}
