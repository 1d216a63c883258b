//! Who is not who he says, or wants what is not his: each kind of intruder at each door. Every cell of the matrix is tried
//! with real processes, refused, and found in the log of who refused it.
//!
//! ```text
//!                            provisioning's API      a stamp's session       a gateway, as who asks
//! no certificate             service                 stamp                   gateway
//! another authority
//! expired
//! blocked
//! another gateway's name
//! another tenant's data
//! a replayed registration
//! a forged roster
//! ```

mod gateway;
mod service;
mod stamp;

use std::collections::BTreeSet;

use e2e::pki::{Credentials, Pki};
use e2e::process::wait_until;
use e2e::provision::{Provision, enrolment, shared_stamp, tenant};
use e2e::world::World;
use provision::attestation::derive;
use provision::authority::UNIT;
use provision::model::{Proof, Tenant};
use provision::registry::{Books, RegistryError};
use rcgen::{CertificateParams, DnType, date_time_ymd};

use crate::site::PATIENCE;

const NO_CERTIFICATE: &str = "no certificate";
const ANOTHER_AUTHORITY: &str = "another authority";
const EXPIRED: &str = "expired";
const BLOCKED: &str = "blocked";
const ANOTHER_NAME: &str = "another gateway's name";
const ANOTHER_TENANT: &str = "another tenant's data";
const REPLAYED: &str = "a replayed registration";
const FORGED_ROSTER: &str = "a forged roster";
/// Every kind of intruder.
const INTRUDERS: [&str; 8] = [
    NO_CERTIFICATE,
    ANOTHER_AUTHORITY,
    EXPIRED,
    BLOCKED,
    ANOTHER_NAME,
    ANOTHER_TENANT,
    REPLAYED,
    FORGED_ROSTER,
];

/// One door of the matrix: what was tried there.
struct Door {
    name: &'static str,
    log: Box<dyn Fn() -> String>,
    /// Everything before has been looked at.
    seen: usize,
    tried: BTreeSet<&'static str>,
}

impl Door {
    /// A door whose keeper writes that log.
    fn new(name: &'static str, log: impl Fn() -> String + 'static) -> Self {
        let seen = log().len();
        Self { name, log: Box::new(log), seen, tried: BTreeSet::new() }
    }

    /// An intruder was refused as it should be, and a line of the log that was not there before has all of these.
    fn refused(
        &mut self,
        intruder: &'static str,
        what: &str,
        (answer, expected): (impl AsRef<str>, &str),
        line: &[&str],
    ) {
        let (name, answer) = (self.name, answer.as_ref());
        assert!(answer.contains(expected), "{name}, {intruder}: {what}: {answer}, not {expected}");
        let mut found = None;
        let logged = wait_until("it is logged", PATIENCE, || {
            let log = (self.log)();
            let new = log.get(self.seen..).unwrap_or_default();
            let has_all = |candidate: &&str| line.iter().all(|part| candidate.contains(part));
            found = new.lines().find(has_all).map(|line| (line.to_owned(), self.seen + end_of(new, line)));
            Ok(found.is_some())
        });
        let Some((found, end)) = found else {
            panic!("{name}, {intruder}: {what}: {logged:?} {line:?}\n{}", (self.log)());
        };
        println!("{name} | {intruder} | {what} | {answer} | {}", found.trim());
        self.seen = end;
        self.tried.insert(intruder);
    }

    /// Every kind of intruder was here.
    fn complete(self) {
        let missing: Vec<_> = INTRUDERS.iter().filter(|intruder| !self.tried.contains(**intruder)).collect();
        assert!(missing.is_empty(), "not tried at {}: {missing:?}", self.name);
    }
}

/// Where a line of a text ends.
fn end_of(text: &str, line: &str) -> usize {
    line.as_ptr() as usize - text.as_ptr() as usize + line.len()
}

const GROUP: &str = "plants";
const GROUP_KEY: [u8; 32] = [3; 32];

fn key_of(gateway: &str) -> Vec<u8> {
    derive(&GROUP_KEY, &gateway.parse().unwrap())
}

/// A certificate that ended long ago.
fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 2);
}

/// A certificate that says it is a gateway's.
fn of_gateway(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::OrganizationalUnitName, UNIT);
}

/// Provisioning with two stamps; groups that prove themselves by key and by certificate, and gateways of each; another
/// tenant, whose gateways are elsewhere. Runs.
struct Cloud {
    world: World,
    /// Signs what a group of gateways shows at first.
    plants: Pki,
    /// Nobody knows it.
    strange: Pki,
    service: Provision,
}

impl Cloud {
    async fn start() -> Self {
        let world = World::create().unwrap();
        let plants = Pki::create(&world.path().join("plants")).unwrap();
        let strange = Pki::create(&world.path().join("strange")).unwrap();
        let mut service = Provision::create(&world).unwrap();
        let authority = plants.authority_der().unwrap();
        service.change(|books| set_up(books, authority)).await.unwrap();
        service.start().unwrap();
        Self { world, plants, strange, service }
    }

    /// Registers a gateway of the group by its key; what it got.
    async fn register(&self, gateway: &str) -> Credentials {
        let asking = e2e::cloud::client::Asking::new(gateway).unwrap();
        let client = self.service.client(None).unwrap();
        let registration = client.register_by_key(&asking, Some(GROUP), &key_of(gateway)).await.unwrap();
        asking.credentials(&registration).unwrap()
    }
}

fn set_up(books: &mut Books<'_>, authority: Vec<u8>) -> Result<(), RegistryError> {
    for id in ["a", "b"] {
        books
            .put_stamp(shared_stamp(id, "eu", "production", 1_000), &[format!("tls://{id}.example:7443")])?;
    }
    for (id, stamp) in [("acme", "a"), ("globex", "b")] {
        books.put_tenant(&Tenant { pinned: Some(stamp.parse().unwrap()), ..tenant(id, None) })?;
    }
    for (id, proof, tenants) in [
        (GROUP, Proof::GroupKey(GROUP_KEY.to_vec()), "acme"),
        ("certified", Proof::Authority(authority), "acme"),
        ("others", Proof::GroupKey(b"others".to_vec()), "globex"),
    ] {
        books.add_enrolment(&enrolment(id, proof, "production", &[(tenants, 10)]))?;
    }
    books.block_enrolment(&"others".parse().unwrap(), true)
}
