//! A gateway with a healthy tenant and a hostile one, its stamp, and the healthy tenant's traffic.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use host::admin::status::TenantStatus;

use super::fixtures::{Configuration, Traffic};
use crate::gateway::{Gateway, Setup};
use crate::load::{Fleet, Ledger, Load, Plan};
use crate::oracle::{self, Account, Landed, Rules};
use crate::process::wait_until;
use crate::stamp::Stamp;
use crate::world::{World, workload_chain};

/// The hostile tenant.
pub const EVIL: &str = "evil";
/// The healthy tenant.
pub const GOOD: &str = "good";
/// Devices of the healthy tenant.
pub const GOOD_DEVICES: usize = 50;
/// Devices of the hostile tenant.
pub const EVIL_DEVICES: usize = 10;
/// Messages per second of the hostile tenant's devices, where it is not a flood.
pub const EVIL_RATE: f64 = 500.0;
/// Unacknowledged messages per device.
const WINDOW: usize = 32;
/// … in a flood.
const FLOOD_WINDOW: usize = 512;
/// Longest wait for what the healthy tenant is promised, beyond the time that its devices publish.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a running phase is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The gateway, its stamp, and how often it had to be started again.
pub struct Neighbours {
    /// The gateway.
    pub gateway: Gateway,
    /// Its stamp.
    pub stamp: Stamp,
    /// Times that the gateway ended by itself.
    pub restarts: u32,
}

/// What the healthy tenant got in a phase.
pub struct Healthy {
    /// What its devices did.
    pub ledger: Ledger,
    /// Whether every message was acknowledged in time.
    pub in_time: bool,
    /// When the phase began, in nanoseconds since 1970 UTC.
    pub since: i64,
}

impl Neighbours {
    /// Starts both processes of that name; without a hostile tenant the healthy one is alone.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(world: &World, name: &str, evil: Option<Configuration>) -> Result<Self> {
        let mut tenants = vec![(GOOD.to_owned(), workload_chain(GOOD))];
        let mut more = String::new();
        if let Some(Configuration { chain, tables }) = evil {
            tenants.push((EVIL.to_owned(), chain));
            more = tables;
        }
        let names: Vec<&str> = tenants.iter().map(|(name, _)| name.as_str()).collect();
        let (stamp, id) = (format!("{name}-stamp"), format!("{name}-gateway"));
        let mut stamp = world.stamp(&stamp, &[(&id, &names)])?;
        let setup = Setup { tenants, more, ..Setup::default() };
        let mut gateway = world.gateway(&id, &setup, &stamp)?;
        stamp.start()?;
        gateway.start()?;
        Ok(Self { gateway, stamp, restarts: 0 })
    }

    /// Devices of the hostile tenant publish: so many messages each, or until they are told to stop.
    ///
    /// # Errors
    /// When their thread cannot be started.
    pub fn evil_devices(&self, traffic: Traffic, each: Option<u32>, seed: u64) -> Result<Load> {
        let (rate, window) = match traffic {
            Traffic::Fair => (Some(EVIL_RATE), WINDOW),
            Traffic::Flood => (None, FLOOD_WINDOW),
        };
        Load::start(Plan {
            address: self.gateway.mqtt,
            fleets: vec![Fleet::new(EVIL, EVIL_DEVICES, 1)],
            rate,
            each,
            window,
            cut_after: None,
            seed,
        })
    }

    /// The healthy tenant's devices publish at this rate for a time; ends when all is acknowledged, or far too late.
    /// A gateway that ends meanwhile is started again and counted.
    ///
    /// # Errors
    /// When the gateway does not start again.
    pub fn good_devices(&mut self, rate: f64, time: Duration, seed: u64) -> Result<Healthy> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i64;
        let each = (rate * time.as_secs_f64() / GOOD_DEVICES as f64).round() as u32;
        let load = Load::start(Plan {
            address: self.gateway.mqtt,
            fleets: vec![Fleet::new(GOOD, GOOD_DEVICES, 1)],
            rate: Some(rate),
            each: Some(each),
            window: WINDOW,
            cut_after: None,
            seed,
        })?;
        let start = Instant::now();
        while !load.is_finished() && start.elapsed() < time + PATIENCE {
            std::thread::sleep(LOOK);
            self.keep_running()?;
        }
        let in_time = load.is_finished();
        let ledger = if in_time { load.wait()? } else { load.abandon()? };
        Ok(Healthy { ledger, in_time, since })
    }

    /// Starts the gateway again if it has ended, as a service manager would.
    fn keep_running(&mut self) -> Result<()> {
        let process = self.gateway.process().context("the gateway was started")?;
        if process.check_running().is_err() {
            self.restarts += 1;
            self.gateway.start()?;
        }
        Ok(())
    }

    /// Waits until all that the gateway took from a tenant has landed, or far too long; says which.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn settle(&self, tenant: &str) -> Result<bool> {
        let landed = || Ok(self.gateway.tenant(tenant)?.outbox.rows == 0);
        Ok(wait_until("a tenant's rows have landed", PATIENCE, landed).is_ok())
    }

    /// The hostile tenant as the gateway shows it.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn evil(&self) -> Result<TenantStatus> {
        self.gateway.tenant(EVIL)
    }

    /// A tenant's rows that landed since then, in nanoseconds since 1970 UTC.
    ///
    /// # Errors
    /// When the export fails.
    pub fn rows(&self, tenant: &str, since: i64) -> Result<Vec<Landed>> {
        let rows = self.stamp.landed()?;
        let wanted = |row: &Landed| row.tenant == tenant && row.received >= since;
        rows.filter(|row| row.as_ref().map_or(true, wanted)).collect()
    }
}

impl Healthy {
    /// What the healthy tenant was promised against its rows.
    ///
    /// # Errors
    /// None but those of the oracle.
    pub fn account(&self, rows: &[Landed]) -> Result<Account> {
        oracle::settle(&self.ledger, |_| Rules::default(), rows.iter().cloned().map(Ok))
    }

    /// Rows that must land: all that was sent and is in range, acknowledged or not.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.ledger.entries().filter(|(_, entry)| oracle::in_range(entry)).count() as u64
    }
}
