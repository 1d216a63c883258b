//! The provisioning service as a real process: configured, started, killed, restarted.
//!
//! ```text
//! DIR/provision/provision.toml  log  data/          the service
//! DIR/provision/gateways/ca.crt ca.key              the authority of gateways' certificates
//! DIR/provision/trust.crt                           what its stamps trust: that authority and the world's
//! ```
//! Its port is chosen once, so that stamps and gateways find it again. What an operator does goes over its command line
//! ([`crate::cloud::operator`]); [`Provision::change`] writes the registry itself, while the service is down, for thousands of
//! records at once.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use provision::registry::{Books, Registry, RegistryError};

use crate::cloud::client::Client;
use crate::pki::{Credentials, Identity, Pki};
use crate::process::{Process, binary, wait_until};
use crate::stamp::Stamp;
use crate::world::World;

/// Longest wait for a start or an end in good order.
const PATIENCE: Duration = Duration::from_secs(30);
/// The operator whose certificate the service takes.
pub const OPERATOR: &str = "ops";

/// The service, running or not.
pub struct Provision {
    /// Everything of it.
    pub folder: PathBuf,
    /// Where it listens, the same over restarts.
    pub address: SocketAddr,
    /// Its configuration file.
    pub config: PathBuf,
    /// What signed its own certificate, and those of stamps and operators.
    pub trust: PathBuf,
    process: Option<Process>,
}

impl Provision {
    /// Makes the authority and writes the configuration; does not start.
    ///
    /// # Errors
    /// When the folder cannot be written or no port is free.
    pub fn create(world: &World) -> Result<Self> {
        let folder = world.path().join("provision");
        fs::create_dir_all(&folder)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let authority = folder.join("gateways");
        let mut make = Command::new(binary("sluice-provision")?);
        let made = make.arg("authority").arg("--folder").arg(&authority).output()?;
        ensure!(
            made.status.success(),
            "sluice-provision authority: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let Identity { certificate, key } = world.pki.server("provision")?;
        let trust = world.pki.trust();
        let text = format!(
            "[provision]\ndata_dir = \"data\"\nlisten = \"{address}\"\ntrust = {trust:?}\noperators = [{OPERATOR:?}]\n\
             identity = {{ certificate = {certificate:?}, key = {key:?} }}\n\
             authority = {{ certificate = \"gateways/ca.crt\", key = \"gateways/ca.key\" }}\n",
        );
        let config = folder.join("provision.toml");
        fs::write(&config, text)?;
        let both = fs::read_to_string(&trust)? + &fs::read_to_string(authority.join("ca.crt"))?;
        fs::write(folder.join("trust.crt"), both)?;
        Ok(Self { folder, address, config, trust, process: None })
    }

    /// What stamps and gateways are told.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Adds a line to its configuration; from the next start on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, line: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        fs::write(&self.config, format!("{text}{line}\n")).context("the configuration of provisioning")
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not start: with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(binary("sluice-provision")?);
        command.arg("run").arg("--config").arg(&self.config);
        let process =
            self.process.insert(Process::start("provision", &mut command, &self.folder.join("log"))?);
        let address = self.address;
        wait_until("provisioning listens", PATIENCE, || {
            process.check_running()?;
            Ok(TcpStream::connect(address).is_ok())
        })
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("provisioning does not run")?.kill()?;
        Ok(())
    }

    /// SIGTERM, and checks that it ends well.
    ///
    /// # Errors
    /// When it does not end in time or not with 0.
    pub fn terminate(&mut self) -> Result<()> {
        let mut process = self.process.take().context("provisioning does not run")?;
        let status = process.terminate(PATIENCE)?;
        ensure!(status.success(), "provisioning ended with {status}\n{}", process.log_end());
        Ok(())
    }

    /// Whether it was started and not ended by us.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The running process.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Its log, of all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The authority of gateways' certificates, for certificates that the service would not issue.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn authority(&self) -> Result<Pki> {
        Pki::open(&self.folder.join("gateways"))
    }

    /// A client of its API.
    ///
    /// # Errors
    /// When its authority cannot be read.
    pub fn client(&self, credentials: Option<&Credentials>) -> Result<Client> {
        Client::new(self.address, &self.trust, credentials)
    }

    /// A stamp that follows it, and takes the certificates it gives to gateways; not started.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn stamp(&self, world: &World, id: &str) -> Result<Stamp> {
        let stamp = world.stamp(id, &[])?;
        let Identity { certificate, key } = world.pki.stamp(id)?;
        let trust = self.folder.join("trust.crt");
        let identity = format!("{{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}");
        stamp.configure("identity", &identity)?;
        stamp.follow(&self.endpoint(), &self.trust)?;
        Ok(stamp)
    }

    /// Changes the registry while the service is down.
    ///
    /// # Errors
    /// When the service runs, or the change is refused.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T> {
        let (registry, writer) = Registry::open(&self.data())?;
        let result = registry.change(change).await;
        drop(registry);
        tokio::task::spawn_blocking(move || writer.join()).await?;
        Ok(result?)
    }

    /// Reads the registry while the service is down.
    ///
    /// # Errors
    /// When the service runs, or the registry cannot be read.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (registry, writer) = Registry::open(&self.data())?;
        let result = registry.read(read).await;
        drop(registry);
        tokio::task::spawn_blocking(move || writer.join()).await?;
        Ok(result?)
    }

    /// Kills the service, changes the registry, and starts the service again.
    ///
    /// # Errors
    /// When one of these fails.
    pub async fn change_while_down<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T> {
        self.kill()?;
        let result = self.change(change).await?;
        self.start()?;
        Ok(result)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// A stamp for [`Books::put_stamp`]: shared, of the slow ring, active, with the usual weight.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn shared_stamp(
    id: &str,
    region: &str,
    environment: &str,
    max_devices: u32,
) -> provision::allocation::Stamp {
    provision::allocation::Stamp {
        id: id.parse().unwrap(),
        region: region.parse().unwrap(),
        environment: environment.parse().unwrap(),
        tenancy: provision::allocation::Tenancy::Shared,
        ring: provision::allocation::Ring::Slow,
        weight: 100,
        max_devices,
        state: provision::allocation::StampState::Active,
    }
}

/// A tenant for [`Books::put_tenant`] that goes anywhere, or only to one region.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn tenant(id: &str, region: Option<&str>) -> provision::model::Tenant {
    provision::model::Tenant {
        id: id.parse().unwrap(),
        regions: region.map(|region| region.parse().unwrap()).into_iter().collect(),
        ring: None,
        dedicated: false,
        pinned: None,
        policy: provision::allocation::Policy::Hashed,
    }
}

/// An enrolment for [`Books::add_enrolment`], of these tenants with so many devices each.
///
/// # Panics
/// When a name is none.
#[must_use]
pub fn enrolment(
    id: &str,
    proof: provision::model::Proof,
    environment: &str,
    shares: &[(&str, u32)],
) -> provision::model::Enrolment {
    let share = |(tenant, devices): &(&str, u32)| provision::model::Share {
        tenant: tenant.parse().unwrap(),
        devices: *devices,
    };
    provision::model::Enrolment {
        id: id.parse().unwrap(),
        proof,
        environment: environment.parse().unwrap(),
        shares: shares.iter().map(share).collect(),
        blocked: false,
    }
}
