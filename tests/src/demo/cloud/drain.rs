//! A stamp is emptied under load, one gateway after the other, while provisioning and the stamp itself are killed.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Stage, followed, say, stamps, within_caps};
use crate::cloud::Cloud;

const STAMPS: [&str; 3] = ["prod-1", "prod-2", "prod-3"];
const TENANTS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "hooli", "soylent"];
/// The stamp that is emptied.
const EMPTIED: &str = "prod-1";

pub(super) fn play(stage: &mut Stage) -> Result<()> {
    say("Six gateways under load at one of three stamps, which is to be emptied while data flows.");
    stage.step("three stamps follow provisioning, six gateways are at one of them", |stage| {
        for id in STAMPS {
            stage.cloud.add_stamp(id, "production", 100, &[])?;
        }
        followed(&stage.cloud)?;
        for (number, tenant) in TENANTS.iter().enumerate() {
            // It begins where it is to be moved away from, and may go anywhere then.
            stage.cloud.add_tenant(tenant, &["--pin", EMPTIED])?;
            let (group, id) = (format!("line-of-{tenant}"), format!("edge-{}", number + 1));
            stage.cloud.enrol(&group, "production", &[&format!("{tenant}=10")])?;
            stage.gateway(&id, &group, tenant)?;
            stage.cloud.wait_at(&id, tenant, EMPTIED)?;
            stage.cloud.operator.run(&["tenant", "set", tenant, "--unpin"])?;
        }
        Ok(())
    })?;
    stage.step("a dry run says where everything would go, and moves nothing", |stage| {
        let plan = stage.cloud.operator.ask(&["drain", EMPTIED, "--dry-run"])?;
        ensure!(plan["moves"] == TENANTS.len() && plan["without_room"] == 0, "{plan}");
        ensure!(left(&stage.cloud)? == TENANTS.len() as u64, "something has moved");
        Ok(())
    })?;
    stage.play(Duration::from_secs(2))?;
    let operation = stage.cloud.operate(&["drain", EMPTIED, "--window", "1"])?;
    stage.step("the drain begins, and a killed provisioning goes on with it", |stage| {
        stage.until("the first has gone", |cloud| Ok(left(cloud)? < TENANTS.len() as u64))?;
        say("✗ provisioning is killed (SIGKILL)");
        stage.cloud.provision.kill()?;
        stage.play(Duration::from_secs(1))?;
        stage.cloud.provision.start()?;
        let left_then = left(&stage.cloud)?;
        stage.until("more have gone", |cloud| Ok(left(cloud)? < left_then.max(1)))
    })?;
    stage.step("the stamp is killed while it is being emptied, and comes back", |stage| {
        say("✗ the stamp is killed (SIGKILL)");
        stage.cloud.stamp(EMPTIED)?.kill()?;
        stage.play(Duration::from_secs(1))?;
        stage.cloud.stamp(EMPTIED)?.start()
    })?;
    stage.step(
        "the drain is finished: nothing is left there, each gateway is at another stamp",
        |stage| {
            stage.until("the operation has ended", |cloud| {
                Ok(cloud.operation(operation)?["state"] == "finished")
            })?;
            ensure!(left(&stage.cloud)? == 0, "something is left");
            for (number, tenant) in TENANTS.iter().enumerate() {
                let id = format!("edge-{}", number + 1);
                let place = stage.cloud.place(&id, tenant)?;
                let place = place.filter(|place| place.stamp != EMPTIED && place.epoch == 2);
                ensure!(place.is_some(), "{id} has not moved");
                stage.lands(&id, tenant, 200)?;
            }
            within_caps(&stage.cloud)
        },
    )?;
    stage.step("the empty stamp is removed", |stage| {
        // What it has landed is still on its disk, and part of the account.
        stage.cloud.operator.run(&["stamp", "remove", EMPTIED]).map(drop)?;
        ensure!(stamps(&stage.cloud)?.iter().all(|stamp| stamp["id"] != EMPTIED), "it is still there");
        Ok(())
    })
}

/// Assignments that are left at the stamp.
fn left(cloud: &Cloud) -> Result<u64> {
    let all = stamps(cloud)?;
    let emptied = all.iter().find(|stamp| stamp["id"] == EMPTIED);
    Ok(emptied.and_then(|stamp| stamp["assignments"].as_u64()).unwrap_or(0))
}
