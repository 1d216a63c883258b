//! A disk that fills up, and batches that are deleted by age.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use wire::message::{CloseReason, RefusalReason};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, PLANT7, UMBRA, frame, rows};
use crate::site::{PATIENCE, Site};

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_says_so_and_recovers_by_itself() {
    let site = Site::new();
    let stamp = site.spawn_on_small_disk(16);
    stamp.wait_for_log("receiving");
    let data = stamp.sees(&site.path("data"));
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[rows(100, 100)]).await;
    gateway.landed_up_to(ACME, 1).await;
    // Somebody else fills the disk to the last byte.
    let filler = data.join("filler");
    let _ = std::fs::write(&filler, vec![1; 32 << 20]);
    let mut seq = 1;
    let closed = loop {
        seq += 1;
        gateway.send(ACME, seq, &[rows(1_000, seq * 1_000)]).await;
        let next = Duration::from_millis(20);
        match tokio::time::timeout(next, gateway.next()).await {
            Ok(Event::Closed(closed)) => break closed,
            Ok(Event::Landed { .. }) | Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
    };
    let Closed::ByStamp(close) = closed else { panic!("{closed:?}") };
    assert_eq!(close.reason, CloseReason::Storage);
    assert!(close.return_after.is_some_and(|after| after >= Duration::from_secs(30)));
    let acknowledged: BTreeSet<u64> = gateway.landed[0].iter().flat_map(|(from, to)| from.0..=to.0).collect();
    assert!(acknowledged.len() < seq as usize, "the disk is not full");
    stamp.wait_for_log("could not be written");
    // It is still there, and says the same at the door.
    let mut refused = PLANT7.connect(&site).await;
    let Closed::Refused(refused) = refused.closed().await else { panic!("there is no room") };
    assert_eq!(refused.reason, RefusalReason::Storage);
    // There is room again: nobody has to do anything at the stamp.
    std::fs::remove_file(filler).unwrap();
    let mut gateway = PLANT7.welcomed(&site).await;
    let known: BTreeSet<u64> = gateway.landed[0].iter().flat_map(|(from, to)| from.0..=to.0).collect();
    assert!(known.is_superset(&acknowledged), "what was acknowledged is there");
    for seq in (2..=seq).filter(|seq| !known.contains(seq)) {
        gateway.send(ACME, seq, &[rows(1_000, seq * 1_000)]).await;
    }
    gateway.landed_up_to(ACME, seq).await;
    gateway.bye().await;
    stamp.wait_for_log("the landing can be written again");
    let output = stamp.beside(&["query", "--count", "--data-dir"]).arg(site.path("data")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let count = String::from_utf8(output.stdout).unwrap();
    assert_eq!(count.trim(), (100 + (seq - 1) * 1_000).to_string(), "each once");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_said() {
    let site = Site::new();
    let stamp = site.spawn_on_small_disk(2);
    stamp.wait_for_log("receiving");
    // 2 MiB, of which the log of the database alone takes a part: what is left is not below a tenth yet.
    let room = |stamp: &crate::site::Stamp| stamp.log().contains("the landing's disk is nearly full");
    assert!(!room(&stamp), "{}", stamp.log());
    drop(stamp);
    let site = Site::with("max_devices = 10\nkeep = \"1 s\"\n");
    let stamp = site.spawn_on_small_disk(2);
    stamp.wait_for_log("receiving");
    let _ = std::fs::write(stamp.sees(&site.path("data/filler")), vec![1; 4 << 20]);
    stamp.wait_for_log("the landing's disk is nearly full");
    assert!(stamp.log().contains("shorten stamp.keep"));
    std::fs::remove_file(stamp.sees(&site.path("data/filler"))).unwrap();
    stamp.wait_for_log("has room again");
}

fn status(site: &Site) -> serde_json::Value {
    serde_json::from_str(&site.output(&["status", "--json"])).unwrap()
}

#[tokio::test]
async fn what_is_older_than_keep_is_deleted_and_stays_landed() {
    let site = Site::with("max_devices = 10_000\nkeep = \"2 s\"\n");
    let mut stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    let landed_at = Instant::now();
    // More than one group of deletions.
    for seq in 1..=600 {
        gateway.send(ACME, seq, &[frame(&["a"], seq)]).await;
    }
    gateway.send(UMBRA, 1, &[rows(50, 0)]).await;
    gateway.landed_up_to(ACME, 600).await;
    gateway.landed_up_to(UMBRA, 1).await;
    let told = status(&site);
    assert_eq!((told["keep_ns"].as_u64(), told["rows"].as_u64()), (Some(2_000_000_000), Some(650)));
    while status(&site)["expired_rows"] != 650 {
        assert!(landed_at.elapsed() < PATIENCE, "{}", status(&site));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(landed_at.elapsed() >= Duration::from_secs(2), "not before its time");
    assert!(site.rows().is_empty());
    let told = status(&site);
    assert_eq!((told["rows"].as_u64(), told["expired_batches"].as_u64()), (Some(650), Some(601)));
    assert!(told["oldest_received_ns"].is_null() && told["free_bytes"].as_u64().unwrap() > 0, "{told}");
    let text = site.output(&["status"]);
    assert!(text.contains("kept for 2 s: 650 rows in 601 batches were deleted by age"), "{text}");
    gateway.bye().await;
    // Also after a restart: what comes again is known, and what is new lands behind.
    assert!(stamp.terminate().success());
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    assert_eq!(gateway.landed[0].count(), 600);
    let mut follow = Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
        .args(["tail", "--follow", "--from", "end", "--config"])
        .arg(site.config())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(follow.stdout.take().unwrap());
    let shown = std::thread::spawn(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).map(|_| line)
    });
    // When it has begun to look cannot be seen from outside.
    let mut seq = 600;
    while !shown.is_finished() {
        seq += 1;
        assert!(landed_at.elapsed() < 2 * PATIENCE, "nothing is shown");
        gateway.send(ACME, seq, &[frame(&["a"], seq)]).await;
        gateway.landed_up_to(ACME, seq).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let line = shown.join().unwrap().unwrap();
    let row: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(row["id"].as_u64().unwrap() > 600, "{line}");
    follow.kill().unwrap();
    follow.wait().unwrap();
}
