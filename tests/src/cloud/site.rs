//! A cloud with sites: provisioning and its operator, stamps that follow it, gateways that know nothing but where
//! provisioning is and how they prove who they are. Everything is set up over the operator's command line.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::operator::Operator;
use crate::gateway::{Gateway, Provisioned, Setup};
use crate::load::Ledger;
use crate::oracle::{self, Account, Landed, Rules};
use crate::process::wait_until;
use crate::provision::Provision;
use crate::stamp::Stamp;
use crate::world::{World, workload_chain};

/// Longest wait for any state.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most rows by which receipts may say too much. A gateway that was killed does not know which of its batches had landed; its
/// receipt is cut to those that had not, but its rows stay, as an upper bound.
const UNANSWERED: u64 = 64;

/// The cloud and its sites.
pub struct Cloud {
    /// The service.
    pub provision: Provision,
    /// Who operates it.
    pub operator: Operator,
    /// In the order in which they were added.
    pub stamps: Vec<Stamp>,
    /// In the order in which they were added.
    pub gateways: Vec<Gateway>,
    /// Stamps that were lost for good: nothing of them counts but what nobody else has.
    pub lost: HashSet<String>,
    /// Lines for `[uplink]` of gateways that are added from now on.
    pub uplink: String,
    /// The folder of it all.
    pub world: World,
}

/// Where a tenant of a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// At this stamp.
    pub stamp: String,
    /// By this epoch.
    pub epoch: u64,
    /// Whether it is on its way to another.
    pub moving: bool,
}

impl Cloud {
    /// Provisioning runs; there is nothing else.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self> {
        let world = World::create()?;
        let mut provision = Provision::create(&world)?;
        provision.start()?;
        let operator = Operator::create(&world, &provision)?;
        Ok(Self {
            provision,
            operator,
            stamps: vec![],
            gateways: vec![],
            lost: HashSet::new(),
            uplink: String::new(),
            world,
        })
    }

    /// Starts a stamp and registers it.
    ///
    /// # Errors
    /// When one of both fails.
    pub fn add_stamp(&mut self, id: &str, environment: &str, max_devices: u32, more: &[&str]) -> Result<()> {
        let stamp = self.provision.stamp(&self.world, id)?;
        let endpoint = format!("quic://localhost:{}", stamp.address.port());
        let devices = max_devices.to_string();
        let what = ["stamp", "add", id, "--region", "eu", "--environment", environment];
        let how = ["--max-devices", &devices, "--endpoint", &endpoint];
        self.operator.run(&[&what[..], &how[..], more].concat())?;
        self.stamps.push(stamp);
        self.stamp(id)?.start()
    }

    /// Adds a tenant, with further arguments of `tenant add`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_tenant(&self, id: &str, more: &[&str]) -> Result<()> {
        self.operator.run(&[&["tenant", "add", id][..], more].concat()).map(drop)
    }

    /// Enrols a group of gateways that prove themselves by derived keys; tenants as in `acme=10`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn enrol(&self, group: &str, environment: &str, tenants: &[&str]) -> Result<()> {
        let mut arguments =
            vec!["enrolment", "add", group, "--environment", environment, "--by-new-group-key"];
        arguments.extend(tenants.iter().flat_map(|tenant| ["--tenant", *tenant]));
        self.operator.run(&arguments).map(drop)
    }

    /// A gateway of a group, each of its tenants with the workload's chain; it starts, and finds its way by itself.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_gateway(&mut self, id: &str, group: &str, tenants: &[&str]) -> Result<()> {
        let key = self.operator.key(group, id, self.world.path())?;
        self.add_gateway_by(id, group, tenants, key)
    }

    /// The same by a key that was handed out before, as it is done while provisioning is away.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_gateway_by(&mut self, id: &str, group: &str, tenants: &[&str], key: PathBuf) -> Result<()> {
        let tenants = tenants.iter().map(|tenant| ((*tenant).to_owned(), workload_chain(tenant))).collect();
        let setup = Setup { tenants, uplink: self.uplink.clone(), ..Setup::default() };
        let provisioned = Provisioned {
            endpoint: self.provision.endpoint(),
            trust: self.provision.trust.clone(),
            attest: format!("{{ symmetric_key_file = {key:?}, group = {group:?} }}"),
        };
        let mut gateway = Gateway::provisioned(self.world.path(), id, &setup, &provisioned)?;
        gateway.start()?;
        self.gateways.push(gateway);
        Ok(())
    }

    /// A stamp.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn stamp(&mut self, id: &str) -> Result<&mut Stamp> {
        self.stamps.iter_mut().find(|stamp| stamp.id == id).with_context(|| format!("no stamp {id}"))
    }

    /// A gateway.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn gateway(&mut self, id: &str) -> Result<&mut Gateway> {
        self.gateways.iter_mut().find(|gateway| gateway.id == id).with_context(|| format!("no gateway {id}"))
    }

    /// Where a tenant of a gateway is, as provisioning has it; `None` before it has registered.
    ///
    /// # Errors
    /// When the service answers something else.
    pub fn place(&self, gateway: &str, tenant: &str) -> Result<Option<Place>> {
        let output = self.operator.output(&["gateway", "show", gateway, "--json"])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(said.contains("\"unknown\""), "gateway show {gateway}: {said}");
            return Ok(None);
        }
        let shown: Value = serde_json::from_slice(&output.stdout)?;
        let assignments = shown["assignments"].as_array().context("assignments")?;
        let of_tenant = assignments.iter().find(|assignment| assignment["tenant"] == tenant);
        Ok(of_tenant.map(|it| Place {
            stamp: it["stamp"].as_str().unwrap_or_default().to_owned(),
            epoch: it["epoch"].as_u64().unwrap_or_default(),
            moving: it.get("moving").is_some_and(|moving| !moving.is_null()),
        }))
    }

    /// Waits until a tenant of a gateway is at that stamp, and the gateway connected to it.
    ///
    /// # Errors
    /// When it takes longer.
    pub fn wait_at(&mut self, gateway: &str, tenant: &str, stamp: &str) -> Result<Place> {
        let mut seen = None;
        let at = wait_until(&format!("tenant {tenant} of {gateway} is at {stamp}"), PATIENCE, || {
            seen = self.place(gateway, tenant)?;
            Ok(seen.as_ref().is_some_and(|place| place.stamp == stamp && !place.moving))
        });
        let at = at.and_then(|()| {
            let gateway = self.gateway(gateway)?;
            wait_until(&format!("it is connected to {stamp}"), PATIENCE, || {
                let links = gateway.status()?.uplink.links;
                Ok(links.iter().any(|link| link.stamp == stamp && link.state.as_str() == "connected"))
            })
        });
        let log = self.gateway(gateway)?.log();
        at.with_context(|| format!("{seen:?}\n{log}"))?;
        seen.context("it was there a moment ago")
    }

    /// Starts an operation by a command, and says its number.
    ///
    /// # Errors
    /// When it is refused.
    pub fn operate(&self, arguments: &[&str]) -> Result<i64> {
        let begun = self.operator.ask(arguments)?;
        begun["operation"]["id"].as_i64().with_context(|| format!("{}: {begun}", arguments.join(" ")))
    }

    /// How an operation stands.
    ///
    /// # Errors
    /// When there is none.
    pub fn operation(&self, id: i64) -> Result<Value> {
        Ok(self.operator.ask(&["operation", "show", &id.to_string()])?["operation"].take())
    }

    /// Waits until an operation has ended, and checks that it was finished.
    ///
    /// # Errors
    /// When it takes longer, or was aborted.
    pub fn wait_operation(&self, id: i64) -> Result<Value> {
        let mut seen = Value::Null;
        let ended = wait_until(&format!("operation {id} has ended"), PATIENCE, || {
            seen = self.operation(id)?;
            Ok(seen["state"] != "running")
        });
        ended.with_context(|| format!("{seen:#}"))?;
        ensure!(seen["state"] == "finished", "{seen:#}");
        Ok(seen)
    }

    /// Waits until all gateways have sent all they hold.
    ///
    /// # Errors
    /// When it takes longer.
    pub fn drain(&mut self, within: Duration) -> Result<()> {
        self.gateways
            .iter_mut()
            .try_for_each(|gateway| gateway.drain(within).with_context(|| format!("gateway {}", gateway.id)))
    }

    /// Every row over all stamps: of those that were lost only what no other has.
    ///
    /// # Errors
    /// When an export cannot be started, or fails.
    pub fn landed(&self) -> Result<Vec<Landed>> {
        let mut rows = Vec::new();
        for stamp in self.stamps.iter().filter(|stamp| !self.lost.contains(&stamp.id)) {
            for row in stamp.landed()? {
                rows.push(row?);
            }
        }
        let number = |row: &Landed| (row.device.clone(), row.seq.map(f64::to_bits), row.route.clone());
        let mut known: HashSet<_> =
            if self.lost.is_empty() { HashSet::new() } else { rows.iter().map(number).collect() };
        for stamp in self.stamps.iter().filter(|stamp| self.lost.contains(&stamp.id)) {
            for row in stamp.landed()? {
                let row = row?;
                if known.insert(number(&row)) {
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    /// Rows that gateways gave up, as their receipts at all stamps say: of those that were lost only what no other has.
    ///
    /// # Errors
    /// When a stamp does not say.
    pub fn given_up(&self) -> Result<u64> {
        let (lost, left): (Vec<_>, Vec<_>) =
            self.stamps.iter().partition(|stamp| self.lost.contains(&stamp.id));
        let of = |stamps: Vec<&Stamp>| -> Result<Vec<Receipt>> {
            let each = stamps.into_iter().map(receipts).collect::<Result<Vec<_>>>()?;
            Ok(each.into_iter().flatten().collect())
        };
        let known = of(left)?;
        // A gateway that did not hear a lost stamp's answer has sent the same receipt to another.
        let only_there = of(lost)?.into_iter().filter(|it| !known.iter().any(|other| other.overlaps(it)));
        let rows = only_there.map(|receipt| receipt.rows).sum::<u64>();
        Ok(rows + known.iter().map(|receipt| receipt.rows).sum::<u64>())
    }

    /// Holds what was acknowledged to devices against all stamps together: each row once, or named in a receipt. Returns the
    /// account, in which rows of receipts are not lost, and how many those are.
    ///
    /// # Errors
    /// When a stamp does not say.
    pub fn settle(&self, ledgers: Vec<Ledger>) -> Result<(Account, u64)> {
        let ledger = Ledger { devices: ledgers.into_iter().flat_map(|ledger| ledger.devices).collect() };
        let mut account = oracle::settle(&ledger, |_| Rules::default(), self.landed()?.into_iter().map(Ok))?;
        let given_up = self.given_up()?;
        // A receipt for what has landed as well, or for what nobody sent, would be wrong.
        account.wrong += given_up.saturating_sub(account.lost + UNANSWERED);
        account.lost = account.lost.saturating_sub(given_up);
        if account.lost == 0 {
            account.examples.retain(|example| !example.starts_with("lost"));
        }
        Ok((account, given_up))
    }
}

/// A loss receipt, of one tenant's store at a gateway.
#[derive(Debug)]
struct Receipt {
    stream: String,
    first: u64,
    last: u64,
    rows: u64,
}

impl Receipt {
    fn overlaps(&self, other: &Self) -> bool {
        self.stream == other.stream && self.first <= other.last && other.first <= self.last
    }
}

fn receipts(stamp: &Stamp) -> Result<Vec<Receipt>> {
    let output = stamp.cli("status", &["--json"])?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let all = |value: &Value, name: &str| -> Result<Vec<Value>> {
        value[name].as_array().cloned().with_context(|| format!("no {name} in {value}"))
    };
    let mut found = Vec::new();
    for gateway in all(&status, "gateways")? {
        for stream in all(&gateway, "streams")? {
            for loss in all(&stream, "losses")? {
                let number = |name: &str| loss[name].as_u64().with_context(|| format!("no {name} in {loss}"));
                found.push(Receipt {
                    stream: format!("{}/{}/{}", gateway["gateway"], stream["tenant"], stream["stream"]),
                    first: number("first")?,
                    last: number("last")?,
                    rows: number("rows")?,
                });
            }
        }
    }
    Ok(found)
}
