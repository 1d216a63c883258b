//! Two test and three production stamps, four gateways of six tenants under load; moves, drains, a promotion, a stamp that is
//! lost for good; and at random moments a SIGKILL of any of them all, provisioning included. In the end every row that was
//! acknowledged to a device is there once, over all stamps together, or named in a receipt.

use std::time::{Duration, Instant};

use e2e::cloud::Cloud;
use e2e::load::reading::Random;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;

use crate::site::{PATIENCE, plan, seed};

/// How long it goes on.
const STORM: Duration = Duration::from_secs(40);
/// Messages a second of each tenant.
const RATE: f64 = 60.0;
const PRODUCTION: [&str; 3] = ["prod-1", "prod-2", "prod-3"];
const TEST: [&str; 2] = ["test-1", "test-2"];
/// Gateways, their environment at first, and their tenants, each of which is at one gateway alone.
const GATEWAYS: [(&str, &str, &[&str]); 4] = [
    ("edge-1", "production", &["acme", "globex"]),
    ("edge-2", "production", &["initech", "umbrella"]),
    ("edge-3", "test", &["hooli"]),
    ("edge-4", "test", &["soylent"]),
];
/// Promoted in the midst of it.
const PROMOTED: &str = "edge-3";
/// Gateways and stamps find each other again soon.
const SOON: &str = "retry = { first = \"immediate\", then = { kind = \"exponential\", base = \"100 ms\", \
                    factor = 2.0, cap = \"500 ms\", jitter = \"full\" }, episode = { attempts = 500, elapsed = \"15 min\" } }\n";

struct Storm {
    cloud: Cloud,
    random: Random,
    begun: Instant,
    kills: u32,
    orders: u32,
    promoted: bool,
}

impl Storm {
    fn say(&self, what: &str) {
        println!("{:6.2} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.below(of.len() as u32) as usize]
    }

    /// Production stamps that are not lost.
    fn production(&self) -> Vec<&'static str> {
        PRODUCTION.into_iter().filter(|id| !self.cloud.lost.contains(*id)).collect()
    }

    fn environment(&self, gateway: &str) -> Vec<&'static str> {
        let of_test = gateway == "edge-4" || (gateway == PROMOTED && !self.promoted);
        if of_test { TEST.to_vec() } else { self.production() }
    }

    fn pause(&mut self, most_ms: u32) {
        std::thread::sleep(Duration::from_millis(self.random.below(most_ms) as u64));
    }

    fn kill_gateway(&mut self) {
        let id = self.one_of(&GATEWAYS.map(|(id, ..)| id));
        self.say(&format!("{id} is killed"));
        self.cloud.gateway(id).unwrap().kill().unwrap();
        self.pause(300);
        self.cloud.gateway(id).unwrap().start().unwrap();
    }

    fn kill_stamp(&mut self) {
        let all = [&self.production()[..], &TEST].concat();
        let id = self.one_of(&all);
        self.say(&format!("{id} is killed"));
        self.cloud.stamp(id).unwrap().kill().unwrap();
        self.pause(500);
        self.cloud.stamp(id).unwrap().start().unwrap();
    }

    fn kill_provisioning(&mut self) {
        self.say("provisioning is killed");
        self.cloud.provision.kill().unwrap();
        self.pause(500);
        self.cloud.provision.start().unwrap();
    }

    /// An order to the operator; that it is refused, e.g. because the tenant is on its way already, is no fault.
    fn order(&mut self, arguments: &[&str]) {
        let output = self.cloud.operator.output(arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        self.say(&format!("{}: {}{}", arguments.join(" "), output.status, said.trim()));
        self.orders += u32::from(output.status.success());
    }

    fn moves(&mut self) {
        let gateway = self.one_of(&GATEWAYS.map(|(id, ..)| id));
        let to = self.environment(gateway);
        let to = self.one_of(&to);
        let tenants = GATEWAYS.iter().find(|(id, ..)| *id == gateway).unwrap().2;
        let tenant = self.one_of(tenants);
        self.order(&["move", "gateway", gateway, "--tenant", tenant, "--to", to]);
    }

    fn drains(&mut self) {
        let all = self.production();
        let stamp = self.one_of(&all);
        self.order(&["drain", stamp]);
        self.pause(2_000);
        // A drain that still runs is ended by it.
        self.order(&["undrain", stamp]);
    }

    fn promotes(&mut self) {
        self.order(&["promote", PROMOTED, "--to", "production"]);
        self.promoted = true;
    }

    /// A production stamp is gone for good. Its disk is looked at in the end: what it had acknowledged had landed.
    fn loses(&mut self) {
        let id = self.one_of(&PRODUCTION);
        self.say(&format!("{id} is lost for good"));
        self.cloud.stamp(id).unwrap().kill().unwrap();
        self.cloud.lost.insert(id.to_owned());
        self.order(&["stamp", "lost", id, "--yes"]);
    }

    fn anything(&mut self) {
        match self.random.below(100) {
            0..25 => self.kill_gateway(),
            25..45 => self.kill_stamp(),
            45..60 => self.kill_provisioning(),
            60..90 => self.moves(),
            _ => self.drains(),
        }
        self.pause(400);
    }
}

fn start() -> Cloud {
    let mut cloud = Cloud::start().unwrap();
    for id in TEST {
        cloud.add_stamp(id, "test", 100, &[]).unwrap();
    }
    for id in PRODUCTION {
        cloud.add_stamp(id, "production", 100, &[]).unwrap();
    }
    for (id, environment, tenants) in GATEWAYS {
        for tenant in tenants {
            cloud.add_tenant(tenant, &[]).unwrap();
        }
        let shares: Vec<String> = tenants.iter().map(|tenant| format!("{tenant}=4")).collect();
        let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
        cloud.uplink = SOON.to_owned();
        cloud.enrol(&format!("of-{id}"), environment, &shares).unwrap();
        cloud.add_gateway(id, &format!("of-{id}"), tenants).unwrap();
    }
    cloud
}

#[test]
fn moves_drains_a_lost_stamp_and_random_kills_of_everything_lose_and_repeat_nothing() {
    let random = Random(seed());
    let cloud = start();
    let loads: Vec<Load> = (cloud.gateways.iter().zip(GATEWAYS))
        .map(|(gateway, (_, _, tenants))| {
            let fleets = tenants.iter().map(|tenant| Fleet::new(tenant, 2, 1)).collect();
            Load::start(plan(gateway.mqtt, fleets, RATE * tenants.len() as f64)).unwrap()
        })
        .collect();
    let mut storm = Storm { cloud, random, begun: Instant::now(), kills: 0, orders: 0, promoted: false };
    while storm.begun.elapsed() < STORM {
        if !storm.promoted && storm.begun.elapsed() > STORM / 4 {
            storm.promotes();
        } else if storm.cloud.lost.is_empty() && storm.begun.elapsed() > STORM * 3 / 5 {
            storm.loses();
        } else {
            storm.anything();
            storm.kills += 1;
        }
    }
    storm.say("calm");
    let ledgers = loads.into_iter().map(|load| load.finish().unwrap()).collect();
    calm(&mut storm);
    let (account, given_up) = storm.cloud.settle(ledgers).unwrap();
    println!("{} orders were taken, {given_up} rows given up, {account:?}", storm.orders);
    let logs = || {
        let gateways = storm.cloud.gateways.iter().map(|it| format!("== {}\n{}", it.id, it.log()));
        let stamps = storm.cloud.stamps.iter().map(|it| format!("== {}\n{}", it.id, it.log()));
        gateways.chain(stamps).collect::<String>()
    };
    let kept = account.is_kept();
    // The account comes last: of a long output the end is kept everywhere.
    assert!(kept, "{}\n== provisioning\n{}\n{account:#?}", logs(), storm.cloud.provision.log());
    assert!(storm.orders > 3 && account.landed > 1_000, "{account:#?}");
}

/// Everything is let come to rest: operations end, tenants arrive, outboxes drain.
fn calm(storm: &mut Storm) {
    for id in storm.production() {
        let _ = storm.cloud.operator.output(&["undrain", id]).unwrap();
    }
    let wake = |cloud: &mut Cloud| {
        for stamp in cloud.stamps.iter_mut().filter_map(|stamp| stamp.process()) {
            stamp.signal("HUP").unwrap();
        }
        for gateway in &cloud.gateways {
            let _ = gateway.cli("retry-now", &[]).unwrap();
        }
    };
    wake(&mut storm.cloud);
    let mut seen = String::new();
    let rests = wait_until("operations have ended", PATIENCE, || {
        let running = storm.cloud.operator.ask(&["operation", "list", "--state", "running"])?;
        seen = format!("{running:#}");
        Ok(running["items"].as_array().is_some_and(Vec::is_empty))
    });
    assert!(rests.is_ok(), "{seen}\n{}", storm.cloud.provision.log());
    wake(&mut storm.cloud);
    storm.cloud.drain(PATIENCE).unwrap();
    for (gateway, _, tenants) in GATEWAYS {
        for tenant in tenants {
            let place = storm.cloud.place(gateway, tenant).unwrap().unwrap();
            assert!(!place.moving && !storm.cloud.lost.contains(&place.stamp), "{tenant}: {place:?}");
        }
    }
}
