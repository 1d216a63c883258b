//! A population outgrows its stamp: the next gateway waits, a stamp is added, and nobody who is there is moved.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Stage, followed, say, stamps, within_caps};

/// Devices that a stamp was built for, and those that each gateway is to have.
const ROOM: u32 = 30;
const EACH: u32 = 10;
const FIRST: [(&str, &str); 3] = [("edge-1", "acme"), ("edge-2", "globex"), ("edge-3", "initech")];
const LATER: [(&str, &str); 2] = [("edge-5", "hooli"), ("edge-6", "soylent")];
const WAITING: (&str, &str) = ("edge-4", "umbrella");

pub(super) fn play(stage: &mut Stage) -> Result<()> {
    say("A stamp for 30 devices, and gateways of 10 devices each that come one after the other.");
    stage.step("the first stamp takes gateways until it is full", |stage| {
        stage.cloud.add_stamp("prod-1", "production", ROOM, &[])?;
        followed(&stage.cloud)?;
        for (id, tenant) in FIRST {
            come(stage, id, tenant)?;
            stage.cloud.wait_at(id, tenant, "prod-1")?;
        }
        let all = stamps(&stage.cloud)?;
        ensure!(all[0]["promised"] == ROOM, "{}", all[0]);
        Ok(())
    })?;
    let (id, tenant) = WAITING;
    stage.step("the next gateway is told that there is no room, and keeps its data", |stage| {
        come(stage, id, tenant)?;
        stage.until("it is told", |cloud| {
            let known = cloud.gateway(id)?.status()?.provisioning;
            Ok(known.is_some_and(|known| known.code.as_deref() == Some("no_stamp")))
        })?;
        stage.until("data waits", |cloud| Ok(cloud.gateway(id)?.tenant(tenant)?.outbox.rows > 500))?;
        within_caps(&stage.cloud)
    })?;
    stage.step("provisioning explains, stamp by stamp, why not", |stage| {
        let ask = ["explain", tenant, "--devices", "10", "--environment", "production"];
        let output = stage.cloud.operator.output(&ask)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(!output.status.success() && said.contains("prod-1") && said.contains("room"), "{said}");
        Ok(())
    })?;
    stage.step("a stamp is added, and the waiting gateway goes there with all it holds", |stage| {
        stage.cloud.add_stamp("prod-2", "production", 2 * ROOM, &[])?;
        // It would ask by itself in some minutes, as it was told.
        stage.cloud.gateway(id)?.cli("retry-now", &[])?;
        stage.cloud.wait_at(id, tenant, "prod-2")?;
        stage.lands(id, tenant, 500)
    })?;
    stage.step("whoever comes goes to the new stamp", |stage| {
        for (id, tenant) in LATER {
            come(stage, id, tenant)?;
            stage.cloud.wait_at(id, tenant, "prod-2")?;
            stage.lands(id, tenant, 200)?;
        }
        Ok(())
    })?;
    stage.play(Duration::from_secs(2))?;
    stage.step("nobody was moved, and no stamp is past its cap", |stage| {
        for (id, tenant) in FIRST {
            let place = stage.cloud.place(id, tenant)?.filter(|at| at.stamp == "prod-1" && at.epoch == 1);
            ensure!(place.is_some(), "{id} was moved");
        }
        within_caps(&stage.cloud)
    })
}

/// A gateway with a tenant of its own appears.
fn come(stage: &mut Stage, id: &str, tenant: &str) -> Result<()> {
    let group = format!("line-of-{tenant}");
    stage.cloud.add_tenant(tenant, &[])?;
    stage.cloud.enrol(&group, "production", &[&format!("{tenant}={EACH}")])?;
    stage.gateway(id, &group, tenant)
}
