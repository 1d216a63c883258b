//! The pool with real threads: order and shares, not wall times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Burns a slice of CPU time, again and again.
async fn burn(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        yield_now().await;
    }
}

struct Tell(Sender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn tasks_that_always_want_more_get_cpu_time_by_weight() {
    let pool = Pool::start(1).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let share = |weight| Share { weight, burst: Duration::ZERO, limit: None };
    let (light, heavy) = (pool.seat(share(100)), pool.seat(share(300)));
    light.run(burn(Arc::clone(&stop)));
    heavy.run(burn(Arc::clone(&stop)));
    until("they have burnt enough", || heavy.usage().cpu > Duration::from_millis(300));
    let ratio = heavy.usage().cpu.as_secs_f64() / light.usage().cpu.as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    assert!((2.5..3.5).contains(&ratio), "{ratio}");
    assert!(light.usage().waited > light.usage().cpu, "{:?}", light.usage());
    assert_eq!((light.usage().share, heavy.usage().share), (0.25, 0.75));
}

#[test]
fn a_task_that_needs_little_goes_before_those_that_burn() {
    let pool = Pool::start(1).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let burning: Vec<_> = (0..3).map(|_| pool.seat(Share::default())).collect();
    burning.iter().for_each(|seat| seat.run(burn(Arc::clone(&stop))));
    let light = pool.seat(Share::default());
    let of_task = light.clone();
    let (tell, told) = channel();
    light.run(async move {
        for _ in 0..50 {
            of_task.sleep_until(Some(Instant::now() + Duration::from_millis(3))).await;
        }
        let _ = tell.send(of_task.usage());
    });
    let usage = told.recv_timeout(PATIENCE).unwrap();
    stop.store(true, Ordering::Relaxed);
    // At most the slice that runs is in its way; a fair turn would be three. CPU time of a shared machine is not wall
    // time, so this is generous.
    assert!(usage.waited < Duration::from_millis(50 * 5), "{usage:?}");
}

#[test]
fn a_panic_ends_its_task_and_no_other_and_no_worker() {
    let pool = Pool::start(1).unwrap();
    let (tell, told) = channel();
    let ends = Tell(tell.clone());
    pool.seat(Share::default()).run(async move {
        let _ends = ends;
        panic!("a defect");
    });
    told.recv_timeout(PATIENCE).unwrap();
    pool.seat(Share::default()).run(async move {
        let _ = tell.send(());
    });
    told.recv_timeout(PATIENCE).unwrap();
    until("both seats are gone", || pool.shared.lock().tasks.is_empty());
}

#[test]
fn no_wake_is_lost_however_it_races_with_the_poll() {
    let pool = Pool::start(2).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u64>(1);
    let sum = Arc::new(AtomicU64::new(0));
    let of_task = Arc::clone(&sum);
    let (tell, told) = channel();
    pool.seat(Share::default()).run(async move {
        let _tell = Tell(tell);
        while let Some(number) = receiver.recv().await {
            of_task.fetch_add(number, Ordering::Relaxed);
        }
    });
    for number in 0..20_000 {
        sender.blocking_send(number).unwrap();
    }
    drop(sender);
    told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), 19_999 * 20_000 / 2);
}

#[test]
fn sleeps_end_in_their_order_and_workers_then_rest_without_a_time_out() {
    let pool = Pool::start(2).unwrap();
    let began = Instant::now();
    let (tell, told) = channel();
    for (number, after) in [(3, 30), (1, 10), (2, 20)] {
        let (tell, seat) = (tell.clone(), pool.seat(Share::default()));
        let of_task = seat.clone();
        seat.run(async move {
            of_task.sleep_until(Some(began + Duration::from_millis(after))).await;
            let _ = tell.send(number);
        });
    }
    let order: Vec<i32> = (0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(order, [1, 2, 3]);
    until("all workers rest and none watches the time", || {
        let core = pool.shared.lock();
        core.resting == 2 && core.watched.is_none() && core.timers.is_empty()
    });
}

#[test]
fn a_limited_task_waits_although_workers_idle_and_is_let_go_when_the_limit_is_lifted() {
    let pool = Pool::start(2).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let share = Share { limit: Some(0.001), burst: Duration::from_millis(1), ..Share::default() };
    let seat = pool.seat(share);
    seat.run(burn(Arc::clone(&stop)));
    until("it is throttled", || seat.usage().throttled > Duration::from_millis(5));
    let used = seat.usage().cpu;
    assert!(used < Duration::from_millis(100), "{used:?}");
    seat.set_share(Share::default());
    until("it runs", || seat.usage().cpu > used + Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn dropping_the_pool_drops_what_still_waits() {
    let pool = Pool::start(1).unwrap();
    let (tell, told) = channel();
    let waiting = Tell(tell);
    let seat = pool.seat(Share::default());
    let of_task = seat.clone();
    seat.run(async move {
        let _waiting = waiting;
        of_task.sleep_until(None).await;
    });
    drop(pool);
    told.recv_timeout(PATIENCE).unwrap();
    // A task that comes too late is dropped, too.
    let (tell, told) = channel();
    let late = Tell(tell);
    seat.run(async move {
        let _late = late;
    });
    told.recv_timeout(PATIENCE).unwrap();
}
