//! Copies of tenants that have gone, on the command line.

use std::time::Duration;

use serde_json::Value;
use stamp::landing::{Arrival, Capacity, Handover, Landed, Landing, Outcome, Turn};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StreamId, TenantId};
use wire::message::{TenantIndex, TenantStream};

use crate::gateway::{batch, frame};
use crate::site::Site;

/// A stamp that has run: acme of plant7 has gone with one batch of two rows, umbra has stayed with one of one.
async fn site() -> Site {
    let site = Site::new();
    let capacity = Capacity { max_devices: 10, queue_mib: 1 };
    let (landing, writer) = Landing::open(&site.path("data"), capacity).unwrap();
    let gateway = GatewayId::new("plant7").unwrap();
    let streams = ["acme", "umbra"].map(|tenant| TenantStream {
        tenant: TenantId::new(tenant).unwrap(),
        stream: StreamId(7),
        next: Sequence(1),
        epoch: 1,
    });
    let arrival = Arrival {
        gateway: gateway.clone(),
        installation: InstallationId(1),
        hold: Duration::ZERO,
        device_quota: None,
        tenant_quotas: vec![],
        streams: streams.to_vec(),
        now: 0,
    };
    let known = landing.arrive(arrival).await.unwrap();
    let (lane, mut answers) = landing.lane(1, gateway.clone());
    for (known, devices) in known.iter().zip([&["a", "b"][..], &["c"]]) {
        let out = batch(1, &[frame(devices, 1)]);
        let landed = Landed {
            stream: known.key,
            seq: out.seq,
            route: RouteName::new("telemetry").unwrap(),
            created: 1,
            received: 2,
            rows: out.rows,
            payload: out.payload,
            devices: vec![],
        };
        lane.land(TenantIndex(0), landed).await.unwrap();
        assert_eq!(answers.recv().await.unwrap()[0].outcome, Outcome::Durable);
    }
    let goes = Handover {
        gateway,
        tenant: TenantId::new("acme").unwrap(),
        epoch: 2,
        turn: Turn::Goes { watermark_wanted: false },
        now: 1_760_000_000_000_000_000,
    };
    landing.hand_over(vec![goes]).await.unwrap();
    drop((lane, landing));
    writer.join();
    site
}

#[tokio::test]
async fn who_has_gone_is_listed_exported_and_deleted_with_a_receipt() {
    let site = site().await;
    let run = |command: &str, more: &[&str]| {
        let config = site.config();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
            .args(["departed", command, "--config"])
            .arg(config)
            .args(more)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let json = |command, more: &[&str]| -> Value {
        let (good, out, error) = run(command, more);
        assert!(good, "{error}");
        serde_json::from_str(&out).unwrap()
    };
    const ACME: [&str; 4] = ["--gateway", "plant7", "--tenant", "acme"];
    const UMBRA: [&str; 4] = ["--gateway", "plant7", "--tenant", "umbra"];
    let listed = json("list", &["--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["tenant"], &listed[0]["rows"]), (&Value::from("acme"), &Value::from(2)));
    let (_, text, _) = run("list", &[]);
    assert!(text.contains("gone since 2025-10-09") && text.contains("2 rows in 1 batches"), "{text}");
    let (good, rows, _) = run("export", &[&ACME[..], &["--format", "json"]].concat());
    assert!(good && rows.lines().count() == 2, "{rows}");
    // Neither by mistake, nor of somebody who is here.
    let (good, _, error) = run("delete", &ACME);
    assert!(!good && error.contains("add --yes"), "{error}");
    for command in ["export", "delete"] {
        let (good, _, error) = run(command, &UMBRA);
        assert!(!good && error.contains("has not gone"), "{error}");
    }
    assert_eq!(json("receipts", &["--json"]), Value::Array(vec![]));
    let receipt = json("delete", &[&ACME[..], &["--yes", "--json"]].concat());
    assert_eq!((&receipt["rows"], &receipt["batches"]), (&Value::from(2), &Value::from(1)));
    assert_eq!(receipt["streams"], serde_json::json!([["0000000000000007", [[1, 1]]]]));
    assert_eq!(json("receipts", &["--json"]), Value::Array(vec![receipt.clone()]));
    let (_, text, _) = run("receipts", &[]);
    assert!(text.contains(receipt["sha256"].as_str().unwrap()) && text.contains("batches 1 to 1"), "{text}");
    assert_eq!(json("list", &["--json"])[0]["rows"], Value::from(0));
    // The other tenant's rows are there.
    assert_eq!(site.rows().len(), 1);
    let status: Value = serde_json::from_str(&site.output(&["status", "--json"])).unwrap();
    assert_eq!(status["deletions"][0]["sha256"], receipt["sha256"]);
}

#[tokio::test]
async fn a_running_stamp_deletes_copies_by_itself_when_it_is_told_to() {
    let site = site().await;
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text + "delete_departed_after = \"1 s\"\n").unwrap();
    let stamp = site.start();
    stamp.wait_for_log("the copy of a tenant that has gone is deleted");
    assert_eq!(site.rows().len(), 1);
}
