//! Rounds that fail: what they spend, and what ends their waits.

use std::cell::Cell;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tokio::task::yield_now;

use super::*;
use crate::config::{Identity, Provisioning};
use crate::provisioning::{Client, outcome};
use wire::provisioning::answer::Failure;

struct Failed(Outcome);

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.cause().fmt(f)
    }
}

impl From<&Failed> for Outcome {
    fn from(failed: &Failed) -> Self {
        failed.0.clone()
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self(outcome(&failure))
    }
}

/// A client of a service that nobody runs.
fn client(folder: &Path) -> Client {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let certificate = write("own.crt", certificate.pem());
    let identity =
        Identity { key: write("own.key", key.serialize_pem()), trust: certificate.clone(), certificate };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let provisioning =
        Provisioning { endpoint: format!("https://{closed}"), trust: identity.certificate.clone() };
    Client::new(&"eu-1".parse().unwrap(), &identity, &provisioning).unwrap()
}

#[tokio::test]
async fn all_that_is_asked_of_provisioning_spends_from_one_ledger_of_retries() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path());
    // Tokens for three retries; of each matter, two are due within a second.
    *client.ledger().lock().unwrap() = Ledger::with_capacity(15);
    let (_operator, said) = watch::channel(0);
    let (asked, other) = (Cell::new(0), client.clone());
    let roster = client.rounds(said.clone()).make("roster", async |_| {
        asked.set(asked.get() + 1);
        Err(Failed::from(client.roster(0, Duration::ZERO).await.map(drop).unwrap_err()))
    });
    let desired = other.rounds(said).make("desired states", async |_| {
        asked.set(asked.get() + 1);
        Err(Failed::from(other.desired(("r", 0), Duration::ZERO).await.map(drop).unwrap_err()))
    });
    let both_parked = async {
        while client.ledger().lock().unwrap().denied() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = roster => {}
        () = desired => {}
        () = both_parked => {}
    }
    assert_eq!(client.ledger().lock().unwrap().granted(), 3);
    assert_eq!(asked.get(), 2 + 3, "a first question each, and three retries of both together");
}

/// Rounds that always fail so: how many there were after the renewal of a certificate, and then after an operator's word.
async fn counted(outcome: Outcome) -> (u32, u32) {
    let (operator, said) = watch::channel(0);
    let (renewal, renewed) = watch::channel(());
    let rounds = Rounds::new(Arc::default(), said, renewed);
    let count = Cell::new(0);
    let failing = rounds.make("roster", async |_| {
        count.set(count.get() + 1);
        Err(Failed(outcome.clone()))
    });
    let settled = async || {
        for _ in 0..100 {
            yield_now().await;
        }
    };
    let events = async {
        settled().await;
        assert_eq!(count.get(), 1);
        renewal.send_replace(());
        settled().await;
        let by_renewal = count.get();
        operator.send_replace(1);
        settled().await;
        (by_renewal, count.get())
    };
    tokio::select! {
        () = failing => unreachable!(),
        counts = events => counts,
    }
}

#[tokio::test]
async fn a_renewed_certificate_and_an_operators_word_end_a_parking() {
    assert_eq!(counted(Outcome::misdirected("another authority")).await, (2, 3));
}

#[tokio::test]
async fn only_an_operators_word_ends_a_wait_whose_end_was_named() {
    assert_eq!(counted(Outcome::throttled("busy", Duration::from_secs(3_600))).await, (1, 2));
}
