//! The load generator: hundreds of MQTT devices on one thread, which remember what was acknowledged.
//!
//! A device publishes at a fixed rate or as fast as its window allows, reconnects by itself with a back-off when its
//! connection breaks, and sends again with DUP what was not acknowledged, as MQTT wants it. It must cost little, since
//! it runs on the same cores as what it measures: one thread, no channel, no allocation per message.

pub mod ledger;
pub mod mqtt;
pub mod reading;

mod device;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
pub use ledger::{DeviceLedger, Entry, Ledger};

/// What to publish, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The MQTT listener.
    pub address: SocketAddr,
    /// Groups of devices.
    pub fleets: Vec<Fleet>,
    /// Messages per second of all devices together; `None`: as fast as they are taken.
    pub rate: Option<f64>,
    /// Messages of each device, after which it stops; `None`: until told to.
    pub each: Option<u32>,
    /// Unacknowledged messages per device.
    pub window: usize,
    /// Each device breaks its own connection after that many messages, with acknowledgements on their way; `None`:
    /// never.
    pub cut_after: Option<u32>,
    /// Everything random follows from it.
    pub seed: u64,
}

/// Devices of one tenant, named `<tenant>-000` and so on.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The tenant, as in the topic.
    pub tenant: String,
    /// How many.
    pub devices: usize,
    /// 0, 1 or 2.
    pub qos: u8,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl Fleet {
    /// Devices without a password.
    #[must_use]
    pub fn new(tenant: &str, devices: usize, qos: u8) -> Self {
        Self { tenant: tenant.to_owned(), devices, qos, login: None }
    }
}

/// Where the load stands, readable while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages sent, each counted once.
    pub sent: AtomicU64,
    /// Messages acknowledged.
    pub accepted: AtomicU64,
    /// Messages sent again.
    pub repeated: AtomicU64,
    /// Devices connected now.
    pub connected: AtomicU64,
    /// Connections that broke or could not be made.
    pub broken: AtomicU64,
}

/// Orders to the devices.
#[derive(Debug, Default)]
struct Orders {
    /// Send nothing new; end when all is acknowledged.
    finish: AtomicBool,
    /// End at once.
    abandon: AtomicBool,
}

/// A load that runs.
pub struct Load {
    progress: Arc<Progress>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<Result<Ledger>>>,
}

impl Load {
    /// Starts the devices.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(plan: Plan) -> Result<Self> {
        let progress = Arc::new(Progress::default());
        let orders = Arc::new(Orders::default());
        let (seen, told) = (Arc::clone(&progress), Arc::clone(&orders));
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || run(plan, seen, told))
            .context("cannot start the load's thread")?;
        Ok(Self { progress, orders, thread: Some(thread) })
    }

    /// Where it stands.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Messages acknowledged so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.progress.accepted.load(Relaxed)
    }

    /// Whether every device is done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells the devices to send nothing new, and waits until everything sent is acknowledged.
    ///
    /// # Errors
    /// When the load's thread failed.
    pub fn finish(mut self) -> Result<Ledger> {
        self.orders.finish.store(true, Relaxed);
        self.join()
    }

    /// Waits until each device has sent what the plan says and all of it is acknowledged.
    ///
    /// # Errors
    /// When the load's thread failed.
    pub fn wait(mut self) -> Result<Ledger> {
        self.join()
    }

    /// Ends the devices as they are.
    ///
    /// # Errors
    /// When the load's thread failed.
    pub fn abandon(mut self) -> Result<Ledger> {
        self.orders.abandon.store(true, Relaxed);
        self.join()
    }

    fn join(&mut self) -> Result<Ledger> {
        let thread = self.thread.take().context("the load has ended")?;
        thread.join().map_err(|_| anyhow!("the load's thread panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.orders.abandon.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(plan: Plan, progress: Arc<Progress>, orders: Arc<Orders>) -> Result<Ledger> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let plan = std::rc::Rc::new(plan);
        let count: usize = plan.fleets.iter().map(|fleet| fleet.devices).sum();
        let mut tasks = Vec::with_capacity(count);
        for (group, fleet) in plan.fleets.iter().enumerate() {
            for index in 0..fleet.devices {
                let device = device::Device::new(&plan, group, index, tasks.len(), count);
                tasks.push(tokio::task::spawn_local(device.run(Arc::clone(&progress), Arc::clone(&orders))));
            }
        }
        let mut ledger = Ledger::default();
        for task in tasks {
            ledger.devices.push(task.await.context("a device panicked")?);
        }
        Ok(ledger)
    })
}
