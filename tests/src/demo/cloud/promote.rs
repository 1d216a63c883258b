//! From test to production: the five steps, with a backlog of test data that stays behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{Stage, followed, say};

const GATEWAYS: [(&str, &str); 3] = [("edge-1", "acme"), ("edge-2", "globex"), ("edge-3", "initech")];

pub(super) fn play(stage: &mut Stage) -> Result<()> {
    say("Three gateways that know one address and a key each; a stamp for testing, a stamp for production.");
    stage.step("both environments are linked to provisioning", |stage| {
        stage.cloud.add_stamp("test-1", "test", 100, &[])?;
        stage.cloud.add_stamp("prod-1", "production", 100, &[])?;
        for (_, tenant) in GATEWAYS {
            stage.cloud.add_tenant(tenant, &[])?;
        }
        followed(&stage.cloud)
    })?;
    stage.step("gateways that are not provisioned ask, and are sent to test", |stage| {
        for (id, tenant) in GATEWAYS {
            let group = format!("line-of-{tenant}");
            stage.cloud.enrol(&group, "test", &[&format!("{tenant}=10")])?;
            stage.gateway(id, &group, tenant)?;
            stage.cloud.wait_at(id, tenant, "test-1")?;
        }
        Ok(())
    })?;
    stage.step("they connect there, and testing happens", |stage| {
        for (id, tenant) in GATEWAYS {
            stage.lands(id, tenant, 500)?;
        }
        ensure!(stage.cloud.stamp("prod-1")?.landed()?.next().is_none(), "something is in production");
        Ok(())
    })?;
    say("✗ the test stamp is killed (SIGKILL): test data waits at the gateways");
    stage.cloud.stamp("test-1")?.kill()?;
    stage.play(Duration::from_secs(2))?;
    let before = stage.cloud.stamp("test-1")?.log().len();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_nanos();
    stage.step("the operator re-provisions them to production, and test rejects them", |stage| {
        let ids = GATEWAYS.map(|(id, _)| id);
        let operation = stage.cloud.operate(&[&["promote"], &ids[..], &["--to", "production"]].concat())?;
        stage.cloud.stamp("test-1")?.start()?;
        stage.until("the operation has ended", |cloud| {
            Ok(cloud.operation(operation)?["state"] == "finished")
        })?;
        stage.until("test rejects them", |cloud| {
            let log = cloud.stamp("test-1")?.log();
            let rejected = |id: &str| {
                let new = log.get(before..).unwrap_or_default();
                new.lines()
                    .any(|line| line.contains("refused") && line.contains(id) && line.contains("moved"))
            };
            Ok(GATEWAYS.iter().all(|(id, _)| rejected(id)))
        })
    })?;
    stage.step("they renegotiate, are directed to production, and authenticate there", |stage| {
        for (id, tenant) in GATEWAYS {
            let place = stage.cloud.wait_at(id, tenant, "prod-1")?;
            ensure!(place.epoch == 2, "{place:?}");
            stage.lands(id, tenant, 500)?;
        }
        Ok(())
    })?;
    stage.step("no test data is in production", |stage| {
        let rows = stage.cloud.stamp("prod-1")?.landed()?;
        let oldest = rows.map(|row| Ok(row?.time)).collect::<Result<Vec<_>>>()?.into_iter().min();
        let oldest = oldest.context("nothing is in production")?;
        // Devices write milliseconds.
        ensure!(i128::from(oldest) >= since as i128 - 1_000_000, "a row of before the promotion: {oldest}");
        Ok(())
    })
}
