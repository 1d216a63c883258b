//! Intruders that a gateway meets where it asks: a false provisioning service, a false stamp, assignments that are not its own.
//! It says nothing to them, keeps its data, and tells its operator why.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use e2e::cloud::Cloud;
use e2e::gateway::{Gateway, Provisioned, Setup};
use e2e::pki::{Identity, Pki};
use e2e::process::wait_until;
use e2e::world::workload_chain;

use super::{
    ANOTHER_AUTHORITY, ANOTHER_NAME, ANOTHER_TENANT, BLOCKED, Door, EXPIRED, FORGED_ROSTER, INTRUDERS,
    NO_CERTIFICATE, REPLAYED, expired,
};
use crate::site::PATIENCE;

/// What a gateway says of provisioning, waiting until it says this.
fn told(gateway: &Gateway, expected: &str) -> String {
    let mut said = String::new();
    let heard = wait_until("it says what is wrong", PATIENCE, || {
        let known = gateway.status()?.provisioning.expect("it asks provisioning");
        said = format!("{:?} {} {:?}", known.state, known.code.unwrap_or_default(), known.cause);
        Ok(said.contains(expected))
    });
    assert!(heard.is_ok(), "{heard:?} {said}\n{}", gateway.log());
    said
}

/// What a gateway says of its links.
fn told_of_links(gateway: &Gateway, expected: &str) -> String {
    let mut said = String::new();
    let heard = wait_until("it says what is wrong", PATIENCE, || {
        let links = gateway.status()?.uplink.links;
        said = links.iter().map(|link| format!("{} {:?} ", link.stamp, link.cause)).collect();
        Ok(said.contains(expected))
    });
    assert!(heard.is_ok(), "{heard:?} {said}\n{}", gateway.log());
    said
}

fn door(gateway: &Gateway) -> Door {
    let log = gateway.config.with_extension("log");
    Door { seen: 0, ..Door::new("a gateway", move || fs::read_to_string(&log).unwrap_or_default()) }
}

/// A gateway that asks there and trusts that; it runs. Its key is none that anybody handed out: it does not come to that.
fn gateway_asking(cloud: &Cloud, id: &str, endpoint: &str, trust: &Path) -> Gateway {
    let key = cloud.world.path().join(format!("{id}.key"));
    fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let setup = Setup { tenants: vec![("acme".into(), workload_chain("acme"))], ..Setup::default() };
    let provisioned = Provisioned {
        endpoint: endpoint.to_owned(),
        trust: trust.to_owned(),
        attest: format!("{{ symmetric_key_file = {key:?}, group = \"lines\" }}"),
    };
    let mut gateway = Gateway::provisioned(cloud.world.path(), id, &setup, &provisioned).unwrap();
    gateway.start().unwrap();
    gateway
}

/// Restarts provisioning with another certificate of its own.
fn with_certificate(cloud: &mut Cloud, identity: &Identity) {
    let own = cloud.world.pki.server("provision").unwrap();
    fs::copy(&identity.certificate, &own.certificate).unwrap();
    fs::copy(&identity.key, &own.key).unwrap();
    cloud.provision.kill().unwrap();
    cloud.provision.start().unwrap();
}

#[test]
fn every_intruder_is_refused_and_logged_by_a_gateway() {
    let mut cloud = Cloud::start().unwrap();
    cloud.add_stamp("a", "production", 100, &[]).unwrap();
    cloud.add_stamp("b", "production", 100, &[]).unwrap();
    cloud.add_tenant("acme", &["--pin", "a"]).unwrap();
    cloud.add_tenant("globex", &[]).unwrap();
    cloud.enrol("lines", "production", &["acme=5"]).unwrap();
    let mut tried = Vec::new();

    // Something answers that speaks no TLS.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", plain.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten().take(2) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let gateway = gateway_asking(&cloud, "none", &endpoint, &cloud.provision.trust);
    let mut at = door(&gateway);
    at.refused(
        NO_CERTIFICATE,
        "answers for provisioning",
        (told(&gateway, "Some"), ""),
        &["WARN", "provisioning"],
    );
    assert!(!gateway.status().unwrap().provisioning.unwrap().registered);
    tried.extend(at.tried);
    drop((gateway, answering));

    let strange = Pki::create(&cloud.world.path().join("strange")).unwrap();
    let gateway = gateway_asking(&cloud, "other", &cloud.provision.endpoint(), &strange.trust());
    let mut at = door(&gateway);
    let said = told(&gateway, "not to be trusted");
    at.refused(
        ANOTHER_AUTHORITY,
        "answers for provisioning",
        (said, "Parked"),
        &["WARN", "not to be trusted"],
    );
    tried.extend(at.tried);

    for (intruder, identity) in [
        (EXPIRED, cloud.world.pki.identity("old", "provision", &["localhost", "127.0.0.1"], expired)),
        (ANOTHER_NAME, cloud.world.pki.identity("elsewhere", "provision", &["elsewhere.example"], |_| {})),
    ] {
        with_certificate(&mut cloud, &identity.unwrap());
        let id = intruder.split(' ').next().unwrap();
        let gateway = gateway_asking(&cloud, id, &cloud.provision.endpoint(), &cloud.provision.trust);
        let mut at = door(&gateway);
        let said = told(&gateway, "not to be trusted");
        at.refused(intruder, "answers for provisioning", (said, "Parked"), &["WARN", "not to be trusted"]);
        tried.extend(at.tried);
    }
    let own = cloud.world.pki.server("again").unwrap();
    with_certificate(&mut cloud, &own);
    // Stamps do not trust it either, and would look again after some minutes.
    for stamp in &mut cloud.stamps {
        stamp.process().unwrap().signal("HUP").unwrap();
    }

    // A gateway that is well, until it is blocked.
    cloud.add_gateway("edge-1", "lines", &["acme"]).unwrap();
    cloud.wait_at("edge-1", "acme", "a").unwrap();
    let kept = cloud.gateways[0].data_dir.join("provisioned");
    let before = fs::read(kept.join("registration.json")).unwrap();
    let operation = cloud.operate(&["move", "gateway", "edge-1", "--to", "b"]).unwrap();
    cloud.wait_operation(operation).unwrap();
    cloud.wait_at("edge-1", "acme", "b").unwrap();
    // What it was told before is put back, as from an older copy of its disk: the stamp of then sends it away.
    cloud.gateway("edge-1").unwrap().kill().unwrap();
    fs::write(kept.join("registration.json"), before).unwrap();
    let log = cloud.gateways[0].log().len();
    cloud.gateway("edge-1").unwrap().start().unwrap();
    cloud.wait_at("edge-1", "acme", "b").unwrap();
    let mut at = Door { seen: log, ..door(&cloud.gateways[0]) };
    at.refused(REPLAYED, "an assignment that was", ("sent on", ""), &["moved"]);

    cloud.operator.run(&["gateway", "block", "edge-1"]).unwrap();
    let said = told(&cloud.gateways[0], "blocked");
    at.refused(BLOCKED, "by an operator", (said, "blocked"), &["WARN", "blocked"]);
    tried.extend(at.tried);

    // It is assigned a tenant that its own operator does not know of.
    cloud.enrol("more", "production", &["acme=5", "globex=5"]).unwrap();
    cloud.add_gateway("edge-2", "more", &["acme"]).unwrap();
    cloud.wait_at("edge-2", "acme", "a").unwrap();
    let gateway = cloud.gateway("edge-2").unwrap();
    let mut at = door(gateway);
    let assignments = gateway.status().unwrap().provisioning.unwrap().assignments;
    let foreign = assignments.iter().find(|it| it.tenant == "globex").unwrap();
    at.refused(
        ANOTHER_TENANT,
        "is assigned",
        (format!("configured: {}", foreign.configured), "false"),
        &["WARN", "globex"],
    );
    tried.extend(at.tried);

    // The assignment leads to another stamp than it says, and then to a stamp that another authority has signed.
    let of_b = format!("quic://localhost:{}", cloud.stamp("b").unwrap().address.port());
    cloud.operator.run(&["stamp", "set", "a", "--endpoint", &of_b]).unwrap();
    cloud.add_gateway("edge-3", "lines", &["acme"]).unwrap();
    let mut at = door(&cloud.gateways[2]);
    let said = told_of_links(&cloud.gateways[2], "not known here yet");
    at.refused(ANOTHER_NAME, "another stamp answers", (said, ""), &["WARN", "stamp=a"]);
    tried.extend(at.tried);
    let mut false_stamp = cloud.world.stamp("false", &[]).unwrap();
    let Identity { certificate, key } = strange.stamp("a").unwrap();
    let trust = cloud.provision.folder.join("trust.crt");
    let identity = format!("{{ certificate = {certificate:?}, key = {key:?}, trust = {trust:?} }}");
    false_stamp.configure("identity", &identity).unwrap();
    false_stamp.start().unwrap();
    let of_false = format!("quic://localhost:{}", false_stamp.address.port());
    cloud.operator.run(&["stamp", "set", "a", "--endpoint", &of_false]).unwrap();
    cloud.add_gateway("edge-4", "lines", &["acme"]).unwrap();
    let mut at = door(&cloud.gateways[3]);
    let said = told_of_links(&cloud.gateways[3], "ertificate");
    at.refused(
        FORGED_ROSTER,
        "leads to a false stamp",
        (said, "ertificate"),
        &["WARN", "stamp=a", "ertificate"],
    );
    tried.extend(at.tried);
    assert!(!false_stamp.log().contains("gateway connected"), "{}", false_stamp.log());

    let missing: Vec<_> = INTRUDERS.iter().filter(|intruder| !tried.contains(intruder)).collect();
    assert!(missing.is_empty(), "not tried at a gateway: {missing:?}");
}
