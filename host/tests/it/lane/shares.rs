//! Tenants beside each other on the same workers: by order and shares, not by wall times.

use gateway_config::CpuShare;
use host::intake::Undecodable;
use std::sync::mpsc::TryRecvError;

use super::*;

fn on(pool: &Arc<Pool>, tenant: Tenant) -> Site {
    Site::start_on(pool, tempfile::tempdir().unwrap(), tenant, (Arc::new(|| runtime::Uplink::Up), Way::On))
}

fn looping(name: &str, within: &str, time: Duration, cpu: CpuShare) -> Tenant {
    let limits = Limits { time, ..Limits::default() };
    let step = Step { limits, ..step("fixtures/loop", &format!(r#"{{"within":"{within}"}}"#)) };
    Tenant { cpu, ..tenant(name, vec![step]) }
}

#[test]
fn looping_tenants_delay_a_healthy_one_by_slices_only_even_on_one_worker() {
    let pool = Arc::new(Pool::start(1).unwrap());
    let healthy = on(&pool, tenant("healthy", vec![step("tag", r#"{"column":"t","value":"v"}"#)]));
    healthy.put(rows_of("c", &[("a", 0, 1.0)], false));
    let long = Duration::from_secs(10);
    let sites: Vec<_> = ["process", "configure", "process"]
        .iter()
        .enumerate()
        .map(|(n, within)| on(&pool, looping(&format!("loops-{n}"), within, long, CpuShare::default())))
        .collect();
    let stuck: Vec<_> = sites.iter().map(|site| site.send(rows_of("c", &[("a", 1, 1.0)], false))).collect();
    let spins = || sites.iter().all(|site| site.lane().status().cpu.cpu > Duration::from_millis(20));
    wait_until("all of them loop", spins);
    let before = healthy.lane().status().cpu;
    for n in 1..=50 {
        healthy.put(rows_of("c", &[("a", n, 1.0)], false));
    }
    let after = healthy.lane().status().cpu;
    assert!(stuck.iter().all(|told| told.try_recv() == Err(TryRecvError::Empty)), "they loop all the while");
    assert_eq!(healthy.rows(NORMAL).len(), 51);
    // Some three turns a batch, each behind at most the slice that runs: not behind three loops of ten seconds.
    let waited = after.waited.saturating_sub(before.waited);
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    drop(sites);
}

#[test]
fn looping_tenants_share_a_worker_by_weight() {
    let pool = Arc::new(Pool::start(1).unwrap());
    let long = Duration::from_secs(30);
    let cpu = |weight| CpuShare { weight, burst: Duration::from_millis(1), limit: None };
    let (light, heavy) = (
        on(&pool, looping("light", "process", long, cpu(100))),
        on(&pool, looping("heavy", "process", long, cpu(400))),
    );
    let _stuck = [&light, &heavy].map(|site| site.send(rows_of("c", &[("a", 1, 1.0)], false)));
    let used = |site: &Site| site.lane().status().cpu.cpu.as_secs_f64();
    wait_until("both loop", || used(&light) > 0.01 && used(&heavy) > 0.01);
    let (l, h) = (used(&light), used(&heavy));
    wait_until("they have used a second", || used(&heavy) > h + 0.8);
    let ratio = (used(&heavy) - h) / (used(&light) - l);
    assert!((3.0..5.3).contains(&ratio), "{ratio}");
    assert!((light.lane().status().cpu.share - 0.2).abs() < 1e-9);
}

#[test]
fn a_throttled_tenant_pushes_back_on_its_own_source_only() {
    let pool = Arc::new(Pool::start(2).unwrap());
    let cpu = CpuShare { limit: Some(0.001), burst: Duration::from_millis(1), ..CpuShare::default() };
    // Each batch costs some 15 ms of CPU time, which takes seconds at this limit.
    let mut limited = looping("limited", "process", Duration::from_millis(15), cpu);
    limited.queue = 2;
    let limited = on(&pool, limited);
    let free = on(&pool, tenant("free", vec![]));
    let (mut queued, mut n) = (Vec::new(), 0);
    wait_until("its queue is full", || {
        n += 1;
        let (custody, told) = told();
        let intake = Intake { custody, ..rows_of("c", &[("a", n, 1.0)], false) };
        match limited.lane().sender().try_send(intake) {
            Ok(()) => queued.push(told),
            Err(_) => return limited.lane().status().cpu.throttled > Duration::ZERO,
        }
        false
    });
    for n in 0..50 {
        free.put(rows_of("c", &[("a", n, 1.0)], false));
    }
    assert_eq!(free.rows(NORMAL).len(), 50);
    assert!(queued.last().unwrap().try_recv() == Err(TryRecvError::Empty), "it waits in its own queue");
    assert_eq!(free.lane().status().cpu.throttled, Duration::ZERO);
}

#[test]
fn a_lane_whose_store_takes_nothing_keeps_no_worker_from_the_others() {
    let pool = Arc::new(Pool::start(1).unwrap());
    let mut small = tenant("small", vec![]);
    small.store.quota = 600;
    let full = on(&pool, small);
    let free = on(&pool, tenant("roomy", vec![]));
    let mut n = 0;
    wait_until("its store is full", || {
        n += 1;
        let _ = full.lane().sender().try_send(rows_of("c", &[("a", n, 0.1 * n as f64)], false));
        full.store.status().health == host::store::Health::Full
    });
    // More than the store's queue takes, so that the lane itself waits.
    let mut sent = 0;
    wait_until("its own queue is full, too", || {
        let mut all = intake();
        let payload = vec![b'x'; 1 << 20];
        let reason = "not JSON".to_owned();
        all.undecodable =
            vec![Undecodable { device: "j".into(), topic: "t".into(), arrived: 1, payload, reason }];
        let taken = full.lane().sender().try_send(all).is_ok();
        sent += usize::from(taken);
        !taken && sent >= 24
    });
    for n in 0..20 {
        free.put(rows_of("c", &[("a", n, 1.0)], false));
    }
    assert_eq!(free.rows(NORMAL).len(), 20);
    full.store.close();
}

#[test]
fn a_plugin_that_loops_in_configure_holds_its_lane_and_nothing_else() {
    let pool = Arc::new(Pool::start(1).unwrap());
    let loops = on(&pool, looping("configure", "configure", Duration::from_millis(30), CpuShare::default()));
    let free = on(&pool, tenant("beside", vec![]));
    free.put(rows_of("c", &[("a", 1, 1.0)], false));
    wait_until("its lane is held", || loops.is_held());
    let LaneState::Held { reason, .. } = loops.lane().status().state else { panic!("not held") };
    assert!(reason.contains("stopped at its time limit"), "{reason}");
}
