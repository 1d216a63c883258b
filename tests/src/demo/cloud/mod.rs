//! Provisioning on the screen: gateways that find their stamps by themselves, and are moved without anyone touching them.
//! Real processes, an operator at the command line, devices that publish throughout, and the account at the end.
//!
//! [`promote`]: from test to production. [`drain`]: a stamp is emptied while things are killed. [`grow`]: a population
//! outgrows its stamp. A step that fails ends the show; the account is drawn up all the same.

mod drain;
mod grow;
mod promote;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::say;
use crate::cloud::Cloud;
use crate::load::{Fleet, Load, Plan};
use crate::oracle::Account;
use crate::process::wait_until;

/// Messages a second of each gateway's devices.
const RATE: f64 = 400.0;
/// Devices of a gateway.
const DEVICES: usize = 5;
/// From one line of progress to the next.
const PROGRESS: Duration = Duration::from_secs(1);
/// Longest wait for any state.
const PATIENCE: Duration = Duration::from_secs(60);
/// Gateways and stamps find each other again soon after a kill.
const SOON: &str = "retry = { first = \"immediate\", then = { kind = \"exponential\", base = \"200 ms\", \
                    factor = 2.0, cap = \"2 s\", jitter = \"full\" }, episode = { attempts = 100, elapsed = \"15 min\" } }\n";

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// From test to production, in five steps.
    Promote,
    /// A stamp is emptied.
    Drain,
    /// A stamp is full, and another one added.
    Grow,
}

/// How it runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is shown.
    pub scenario: Scenario,
    /// Everything random follows from it.
    pub seed: u64,
}

/// Something that was to happen.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What.
    pub name: String,
    /// Whether it did.
    pub ok: bool,
}

/// What the demo ends with. The names are those of its JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The account of the promises, over all stamps together; what receipts name is not lost.
    #[serde(flatten)]
    pub account: Account,
    /// Rows that landed more than once: `duplicated` under its short name.
    pub twice: u64,
    /// Rows that were given up as the operator had said, each named in a receipt.
    pub given_up: u64,
    /// What was to happen, in its order.
    pub steps: Vec<Step>,
    /// Seconds from the first gateway to the last row.
    pub seconds: f64,
    /// What everything random followed from.
    pub seed: u64,
}

/// The show while it runs.
struct Stage {
    cloud: Cloud,
    loads: Vec<Load>,
    steps: Vec<Step>,
    begun: Instant,
    shown: Instant,
    seed: u64,
}

/// Runs it, with progress on standard output.
///
/// # Errors
/// When a process does not start, or what is held does not drain.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut cloud = Cloud::start()?;
    cloud.uplink = SOON.to_owned();
    let now = Instant::now();
    let mut stage = Stage { cloud, loads: vec![], steps: vec![], begun: now, shown: now, seed: options.seed };
    let played = match options.scenario {
        Scenario::Promote => promote::play(&mut stage),
        Scenario::Drain => drain::play(&mut stage),
        Scenario::Grow => grow::play(&mut stage),
    };
    if let Err(error) = played {
        say(&format!("  the show ends here: {error:#}"));
        if stage.steps.iter().all(|step| step.ok) {
            stage.steps.push(Step { name: "from one step to the next".to_owned(), ok: false });
        }
    }
    stage.close()
}

impl Stage {
    /// Something that is to happen, on the screen and in the account.
    fn step(&mut self, name: &str, happens: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let result = happens(self);
        let ok = result.is_ok();
        say(&format!("{} {}. {name}", if ok { "✓" } else { "✗" }, self.steps.len() + 1));
        self.steps.push(Step { name: name.to_owned(), ok });
        result.with_context(|| name.to_owned())
    }

    /// A gateway with a tenant of its own, whose devices publish from now on.
    fn gateway(&mut self, id: &str, group: &str, tenant: &str) -> Result<()> {
        self.cloud.add_gateway(id, group, &[tenant])?;
        self.load(id, tenant)
    }

    fn load(&mut self, id: &str, tenant: &str) -> Result<()> {
        let plan = Plan {
            address: self.cloud.gateway(id)?.mqtt,
            fleets: vec![Fleet::new(tenant, DEVICES, 1)],
            rate: Some(RATE),
            each: None,
            window: 32,
            cut_after: None,
            seed: self.seed.wrapping_add(self.loads.len() as u64),
        };
        self.loads.push(Load::start(plan)?);
        Ok(())
    }

    /// Lets it run for a while.
    fn play(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look()?;
            std::thread::sleep(Duration::from_millis(100).min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Waits until something is so, with progress on the screen.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Cloud) -> Result<bool>) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while !is_so(&mut self.cloud)? {
            ensure!(Instant::now() < give_up, "waited {} s in vain until {what}", PATIENCE.as_secs());
            self.look()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until that many more rows of a gateway have landed.
    fn lands(&mut self, gateway: &str, tenant: &str, more: u64) -> Result<()> {
        let landed =
            |cloud: &mut Cloud| -> Result<u64> { Ok(cloud.gateway(gateway)?.tenant(tenant)?.landed_rows) };
        let before = landed(&mut self.cloud)?;
        self.until("rows land", |cloud| Ok(landed(cloud)? >= before + more))
    }

    /// Shows where everything stands when it is time.
    fn look(&mut self) -> Result<()> {
        if self.shown.elapsed() < PROGRESS {
            return Ok(());
        }
        self.shown = Instant::now();
        let (mut backlog, mut places) = (0, Vec::new());
        for gateway in &self.cloud.gateways {
            // One that is just being restarted says nothing.
            let Ok(status) = gateway.status() else { continue };
            backlog += status.tenants.iter().map(|tenant| tenant.outbox.rows).sum::<u64>();
            let at: Vec<String> = (status.uplink.links.iter())
                .filter(|link| link.state.as_str() == "connected")
                .map(|link| link.stamp.to_string())
                .collect();
            places.push(format!(
                "{}→{}",
                gateway.id,
                if at.is_empty() { "…".to_owned() } else { at.join("+") }
            ));
        }
        say(&format!(
            "{:5.1} s  accepted {:>7}  waiting {backlog:>6}  {}",
            self.begun.elapsed().as_secs_f64(),
            self.loads.iter().map(Load::accepted).sum::<u64>(),
            places.join("  ")
        ));
        Ok(())
    }

    fn close(mut self) -> Result<Outcome> {
        say("• the devices stop; what waits drains");
        let ledgers = std::mem::take(&mut self.loads).into_iter().map(Load::finish).collect::<Result<_>>()?;
        for gateway in &self.cloud.gateways {
            gateway.cli("retry-now", &[])?;
        }
        let drained = self.cloud.drain(PATIENCE);
        let seconds = self.begun.elapsed().as_secs_f64();
        let (account, given_up) = self.cloud.settle(ledgers)?;
        if let Err(error) = drained {
            say(&format!("✗ {:#}", error.root_cause()));
            self.steps.push(Step { name: "everything has drained".to_owned(), ok: false });
        }
        let Self { steps, seed, .. } = self;
        Ok(Outcome { twice: account.duplicated, account, given_up, steps, seconds, seed })
    }
}

/// The stamps, as the operator sees them.
fn stamps(cloud: &Cloud) -> Result<Vec<Value>> {
    let listed = cloud.operator.ask(&["stamp", "list"])?;
    listed["items"].as_array().cloned().with_context(|| format!("{listed}"))
}

/// No stamp is promised more than it was built for.
fn within_caps(cloud: &Cloud) -> Result<()> {
    for stamp in stamps(cloud)? {
        let (promised, most) = (stamp["promised"].as_u64(), stamp["max_devices"].as_u64());
        ensure!(promised.is_some() && promised <= most, "past its cap: {stamp}");
    }
    Ok(())
}

/// Waits until stamps follow provisioning.
fn followed(cloud: &Cloud) -> Result<()> {
    for stamp in &cloud.stamps {
        let what = format!("{} follows provisioning", stamp.id);
        wait_until(&what, PATIENCE, || Ok(stamp.log().contains("provisioning answers")))?;
    }
    Ok(())
}

impl Outcome {
    /// Whether everything happened, and nothing is lost, twice or wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.account.is_kept() && self.account.landed > 0 && self.steps.iter().all(|step| step.ok)
    }

    /// The account for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { account, .. } = self;
        let mut lines = vec![
            ("accepted (acknowledged to devices)", account.accepted.to_string()),
            ("filtered (out of range)", account.filtered.to_string()),
            ("landed (rows at all stamps together)", account.landed.to_string()),
            ("given up as told, named in receipts", self.given_up.to_string()),
            ("lost", account.lost.to_string()),
            ("landed twice", account.duplicated.to_string()),
            ("wrong", account.wrong.to_string()),
            (
                "steps",
                format!("{} of {}", self.steps.iter().filter(|step| step.ok).count(), self.steps.len()),
            ),
        ];
        lines.extend(account.examples.iter().map(|example| ("e.g.", example.clone())));
        lines.iter().map(|(name, value)| format!("  {name:<46}{value}\n")).collect()
    }
}
