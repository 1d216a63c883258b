//! The store under SIGKILL and under a disk that takes no writes, with a child process of this test binary.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use host::intake::Custody;
use host::outbox::{Outbox, Outgoing, Priority};
use host::store::{Commit, Counts, DataFolder, Recent, StateChange, Store, StoreConfig};
use wire::ids::Sequence;

use crate::store::{batch, numbers, open_in, read, tenant};

const FOLDER: &str = "SLUICE_TEST_STORE";

/// Writes the number of its commit to the standard output once that is on disk.
struct Print(u64);

impl Custody for Print {
    fn committed(self: Box<Self>) {
        // Nobody listens any more: the test that started this child is gone.
        if writeln!(std::io::stderr(), "acked {}", self.0).is_err() {
            std::process::exit(1);
        }
    }
    fn refused(self: Box<Self>, reason: &str) {
        let _ = writeln!(std::io::stderr(), "refused {} {reason}", self.0);
    }
}

/// What the child does: commits 1, 2, 3 …, each with a batch, a state, a fingerprint and a count that say so; every
/// tenth commit lets a batch from long before land. Does nothing in a normal run of the tests.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let opened = open_in(Path::new(&path), StoreConfig::default());
    let mut recent = opened.kept.recent;
    let slot = recent.slot("device");
    for n in opened.store.status().totals.last + 1..1_000_000 {
        recent.remember(slot, n);
        let size = 100 + (n * 7919 % 30_000) as usize;
        let mut payload = n.to_le_bytes().to_vec();
        payload.resize(size, n as u8);
        opened.store.commit(Commit {
            batches: vec![batch(Priority::Normal, 2, payload)],
            state: vec![StateChange {
                step: "count".into(),
                key: "n".into(),
                value: Some(n.to_le_bytes().into()),
            }],
            counts: Counts { accepted: 2, ..Counts::default() },
            fingerprints: recent.take_log(),
            custody: vec![Box::new(Print(n))],
            ..Commit::default()
        });
        // Far enough back to be committed whatever is queued.
        if n % 10 == 0 && n > 600 {
            opened.store.landed(&[(Sequence(n - 600), Sequence(n - 600))]);
        }
    }
}

fn child(folder: &Path, shell_prefix: &str) -> Child {
    let script =
        format!("{shell_prefix} exec \"$0\" store_crash::child_that_commits --test-threads 1 --nocapture");
    Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn acked(line: &str) -> Option<u64> {
    line.strip_prefix("acked ").and_then(|number| number.parse().ok())
}

/// Everything acknowledged is there once, and all parts of a commit agree.
fn check(folder: &Path, acked: u64) -> u64 {
    let mut opened = open_in(folder, StoreConfig::default());
    assert_eq!(opened.set_aside, None);
    let totals = opened.store.status().totals;
    let last = totals.last;
    assert!(last >= acked, "commit {acked} was acknowledged, the store ends at {last}");
    assert_eq!(totals.counts.accepted, 2 * last);
    let count = last.to_le_bytes();
    assert!(opened.kept.state.iter().all(|entry| entry.value == count) && opened.kept.state.len() == 1);
    let slot = opened.kept.recent.slot("device");
    let recent: &Recent = &opened.kept.recent;
    assert!((last.saturating_sub(63).max(1)..=last).all(|n| recent.contains(slot, n)));
    assert!(!recent.contains(slot, last + 1));
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(0, |batch: &Outgoing| batch.seq.0);
        let some = read(&opened.store, Priority::Normal, after);
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    let seqs = numbers(&found);
    assert!(seqs.is_sorted_by(|a, b| a < b));
    assert_eq!(totals.landed, 2 * (last - seqs.len() as u64), "all that is missing has landed");
    assert!((1..=last).all(|seq| seq % 10 == 0 || seqs.binary_search(&seq).is_ok()));
    for batch in found {
        assert_eq!(batch.payload[..8], batch.seq.0.to_le_bytes());
        assert!(batch.payload[8..].iter().all(|&byte| byte == batch.seq.0 as u8));
    }
    last
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment_and_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut before = 0;
    for round in 0..6u64 {
        let mut child = child(folder.path(), "");
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let stop_after = before + 20 + (seed.rotate_left(round as u32 * 7) % 1_500);
        let mut highest = 0;
        for line in lines.map_while(Result::ok) {
            let Some(number) = acked(&line) else { continue };
            assert!(number > highest, "custody is told in order, once");
            highest = number;
            if number == stop_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(highest >= stop_after, "the child ended by itself at {highest}");
        before = check(folder.path(), highest);
    }
}

/// The limit of a file's size stands for a full disk: SQLite's writes fail in the middle, then go through again.
#[test]
fn a_disk_that_takes_no_writes_holds_everything_back_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    // Blocks of 512 bytes: 4 MiB. The signal is ignored, so that writes fail with an error as on a full disk.
    let mut child = child(folder.path(), "trap '' XFSZ; ulimit -S -f 8192;");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || lines.by_ref().for_each(|line| drop(tell.send(line))));
    let mut highest = 0;
    let mut refused = 0;
    let mut note = |line: String, highest: &mut u64| {
        refused += u64::from(line.starts_with("refused"));
        *highest = acked(&line).unwrap_or(*highest);
    };
    // Until nothing has been acknowledged for a while: the "disk" is full.
    while let Ok(line) = told.recv_timeout(Duration::from_millis(700)) {
        note(line, &mut highest);
    }
    assert!(highest > 10, "some commits went through first");
    assert!(child.try_wait().unwrap().is_none(), "it has not crashed");
    let cpu = cpu_ticks(child.id());
    std::thread::sleep(Duration::from_millis(500));
    assert!(cpu_ticks(child.id()) - cpu < 10, "it does not burn time while it waits");
    let full_at = highest;
    let lifted =
        Command::new("prlimit").args(["--pid", &child.id().to_string(), "--fsize=unlimited"]).status();
    assert!(lifted.unwrap().success());
    while highest < full_at + 50 {
        note(told.recv_timeout(Duration::from_secs(30)).expect("goes on"), &mut highest);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    told.try_iter().for_each(|line| note(line, &mut highest));
    assert_eq!(refused, 0);
    check(folder.path(), highest);
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lock = std::sync::Arc::new(DataFolder::lock(folder.path()).unwrap());
    // A folder in the file's place: SQLite cannot open it, as on a disk without room or rights.
    std::fs::create_dir(folder.path().join("tenants/acme.db")).unwrap();
    let Err(error) = Store::open(&lock, &tenant(), StoreConfig::default()) else { panic!("opened") };
    let file: PathBuf = folder.path().join("tenants/acme.db");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
