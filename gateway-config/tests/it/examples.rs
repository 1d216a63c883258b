//! Each file in examples/ is a whole configuration without a doubt in it.

use std::time::Duration;

use gateway_config::{
    Attest, Budget, Config, CpuShare, Format, Import, OnFault, Priority, Promote, QualityOfService,
    Quarantine, SourceKind, TimeUnit, WhenFull, diff, load, taken_over,
};
use wire::ids::TenantId;

use crate::site::Site;

fn example(name: &str) -> (Site, Config) {
    let site = Site::new();
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    site.put("gateway.toml", &std::fs::read_to_string(from).unwrap());
    let loaded = load(&site.path("gateway.toml")).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
    assert_eq!(loaded.warnings, [], "{name}");
    (site, loaded.config)
}

#[test]
fn every_example_is_tested_here() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["broker.toml", "plugins.toml", "provisioned.toml", "small.toml", "tls.toml"]);
}

#[test]
fn the_small_example_has_the_defaults() {
    let (site, config) = example("small.toml");
    let SourceKind::MqttListener(listener) = &config.sources[0].kind else { panic!("a listener") };
    assert!(listener.allow_anonymous, "nobody is named, so anybody may");
    assert_eq!(listener.max_payload, 256 << 10);
    assert_eq!(config.sources[0].gather.linger, Duration::from_millis(40));
    let topic = &config.sources[0].topics[0];
    assert_eq!(topic.filter.as_mqtt(), "site/+/+/telemetry");
    assert_eq!(topic.time.as_ref().unwrap().unit, TimeUnit::Millis);
    assert_eq!(topic.units["pressure_kpa"], "kPa");
    let acme = &config.tenants[&TenantId::new("acme").unwrap()];
    assert_eq!((acme.store.quota, acme.store.when_full), (2 << 30, WhenFull::DropOldest));
    assert_eq!(acme.steps[0].plugin, site.path("plugins/linear.wasm"));
    assert_eq!(
        acme.steps[0].with,
        r#"{"column":"temperature_c","into":"temperature_f","offset":32.0,"scale":1.8}"#
    );
    let alarms = acme.route(&"alarms".parse().unwrap());
    assert_eq!((alarms.priority, alarms.keep), (Priority::High, Some(Duration::from_secs(30 * 86_400))));
    assert_eq!(acme.route(&"telemetry".parse().unwrap()).priority, Priority::Normal);
    assert_eq!(config.uplink.unwrap().retry, backoff::Policy::upstream());
}

#[test]
fn the_provisioned_example_names_one_endpoint_and_a_proof_and_the_rest_is_to_arrive() {
    let (site, config) = example("provisioned.toml");
    let provisioning = config.provisioning.unwrap();
    assert_eq!(provisioning.endpoint, "https://provision.example:8443");
    assert!(provisioning.measure);
    let proof = Attest::Certificate { certificate: site.path("gateway.crt"), key: site.path("gateway.key") };
    assert_eq!(provisioning.attest, proof);
    let uplink = config.uplink.unwrap();
    assert!(uplink.is_provisioned() && uplink.stamps.is_empty());
    let given = "/var/lib/sluice/provisioned";
    assert_eq!(uplink.identity.certificate, std::path::Path::new(given).join("identity.pem"));
    assert_eq!(uplink.identity.key, uplink.identity.certificate);
    assert_eq!(uplink.identity.trust, std::path::Path::new(given).join("trust.pem"));
    // What is not written is as without provisioning.
    let (_, small) = example("small.toml");
    let default = small.uplink.unwrap();
    assert_eq!(
        (uplink.retry, uplink.window, uplink.look_for_quic),
        (default.retry, default.window, default.look_for_quic)
    );
    assert!(small.provisioning.is_none() && !default.stamps.is_empty());
}

#[test]
fn the_tls_example_writes_the_defaults_out() {
    let (site, config) = example("tls.toml");
    let (_, small) = example("small.toml");
    let SourceKind::MqttListener(listener) = &config.sources[0].kind else { panic!("a listener") };
    let SourceKind::MqttListener(default) = &small.sources[0].kind else { panic!("a listener") };
    assert_eq!(listener.max_connections, default.max_connections);
    assert_eq!(listener.max_payload, default.max_payload);
    assert_eq!(listener.max_in_flight, default.max_in_flight);
    assert_eq!(listener.max_keep_alive, default.max_keep_alive);
    assert_eq!(listener.connect_timeout, default.connect_timeout);
    assert_eq!(listener.max_session_expiry, default.max_session_expiry);
    assert_eq!(config.sources[0].gather, small.sources[0].gather);
    assert!(!listener.allow_anonymous);
    assert_eq!(listener.users["press-7"].password.as_ref().unwrap().read().unwrap(), "open sesame");
    let raw = &config.sources[0].topics[1];
    assert_eq!(raw.format, Format::Raw { decoder: "telegram".into() });
    let acme = &config.tenants[&TenantId::new("acme").unwrap()];
    assert_eq!(acme.steps[0].limits, small.tenants[&acme.id].steps[0].limits);
    assert_eq!((acme.steps[0].on_fault, acme.queue), (OnFault::Hold, small.tenants[&acme.id].queue));
    let globex = &config.tenants[&TenantId::new("globex").unwrap()];
    assert_eq!(globex.decoders["telegram"].plugin, site.path("telegram.wasm"));
    let (uplink, default) = (config.uplink.unwrap(), small.uplink.unwrap());
    assert_eq!((uplink.retry, uplink.window), (default.retry, default.window));
    assert_eq!(uplink.stamps[1].endpoints[0].to_string(), "quic://[2001:db8::17]:7443");
}

#[test]
fn the_broker_example_subscribes() {
    let (site, config) = example("broker.toml");
    let SourceKind::Mqtt(broker) = &config.sources[0].kind else { panic!("a broker") };
    assert_eq!((broker.host.as_str(), broker.port, broker.tls), ("broker.plant7.example", 8883, true));
    assert_eq!(broker.trust, Some(site.path("broker-ca.crt")));
    assert_eq!(broker.qos, QualityOfService::AtLeastOnce);
    assert_eq!(broker.retry.cool_down(), Duration::from_secs(30));
    assert_eq!(broker.retry.attempts(), backoff::Policy::local().attempts());
}

#[test]
fn the_plugins_example_is_read() {
    let (site, config) = example("plugins.toml");
    assert_eq!(config.gateway.workers, 2);
    let names: Vec<&str> = config.plugins.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["acme-build", "site"]);
    assert!(config.plugins.keys[1].key.starts_with("ed25519:AAAA"), "{:?}", config.plugins.keys[1]);
    let acme = &config.tenants[&TenantId::new("acme").unwrap()];
    assert_eq!(acme.cpu, CpuShare { limit: Some(0.5), ..CpuShare::default() });
    assert!(acme.must_be_signed("telegram.wasm") && !acme.must_be_signed("builtin:linear"));
    let step = &acme.steps[0];
    assert_eq!(step.imports, [Import::Log, Import::State].into());
    assert_eq!((step.on_fault, step.quarantine), (OnFault::Previous, Quarantine::default()));
    let shadow = step.shadow.as_ref().unwrap();
    assert_eq!(shadow.plugin, site.path("telegram-next.wasm"));
    assert_eq!((shadow.with.as_str(), shadow.tolerance), (r#"{"window":"20 s"}"#, 1e-9));
    assert_eq!(shadow.watch, Duration::from_secs(600));
    let Promote::When(Budget { after, differing, faults, time }) = shadow.promote else { panic!("a budget") };
    assert_eq!((after, faults, time), (Duration::from_secs(3_600), 0, 2.0));
    assert!((differing - 0.001).abs() < 1e-12);
    let decoder = &acme.decoders["telegram"];
    assert_eq!((decoder.used.as_str(), decoder.imports.len()), ("telegram.wasm", 0));
    assert_eq!(decoder.quarantine, Quarantine { faults: 20, within: Duration::from_secs(600), probe: None });
}

#[test]
fn what_is_not_written_has_defaults() {
    let (_site, config) = example("small.toml");
    assert!(
        config.gateway.workers >= 1 && config.plugins.keys.is_empty() && !config.plugins.require_signature
    );
    let acme = &config.tenants[&TenantId::new("acme").unwrap()];
    assert_eq!((acme.cpu, acme.require_signature), (CpuShare::default(), false));
    let step = &acme.steps[0];
    assert_eq!((&step.imports, &step.shadow), (&Import::all(), &None));
    assert_eq!((step.on_fault, step.quarantine), (OnFault::Hold, Quarantine::default()));
}

#[test]
fn a_difference_says_what_a_running_gateway_takes_over_and_what_needs_a_restart() {
    let (_site, old) = example("plugins.toml");
    assert!(diff(&old, &old.clone()).is_empty());
    let changed = |change: &dyn Fn(&mut Config)| {
        let mut new = old.clone();
        change(&mut new);
        let changes = diff(&old, &new);
        let lanes: Vec<String> = changes.lanes.iter().map(ToString::to_string).collect();
        (lanes, changes.plugins, changes.restart)
    };
    let lane = || vec!["acme".to_owned()];
    let of = |new: &mut Config, change: fn(&mut gateway_config::Tenant)| {
        change(new.tenants.get_mut(&TenantId::new("acme").unwrap()).unwrap());
    };
    assert_eq!(changed(&|new| of(new, |acme| acme.steps.clear())), (lane(), false, vec![]));
    assert_eq!(changed(&|new| of(new, |acme| acme.cpu.weight = 1)), (lane(), false, vec![]));
    assert_eq!(changed(&|new| of(new, |acme| acme.steps[0].shadow = None)), (lane(), false, vec![]));
    assert_eq!(changed(&|new| new.plugins.keys.clear()), (vec![], true, vec![]));
    assert_eq!(
        changed(&|new| of(new, |acme| acme.queue = 7)),
        (vec![], false, vec!["tenant.acme.queue".to_owned()])
    );
    assert_eq!(
        changed(&|new| {
            new.sources[0].gather.max_rows = 1;
            new.gateway.workers = 7;
            new.uplink = None;
            of(new, |acme| acme.decoders.clear());
        })
        .2,
        ["gateway.workers", "source floor", "tenant.acme.decoder.telegram (removed)", "uplink"]
    );
    assert_eq!(changed(&|new| new.tenants.clear()).2, ["tenant acme (removed)"]);
}

#[test]
fn what_is_taken_over_keeps_what_only_a_restart_changes() {
    let (_site, config) = example("plugins.toml");
    let old = config.tenants[&TenantId::new("acme").unwrap()].clone();
    let mut new = old.clone();
    new.queue = 7;
    new.steps.clear();
    new.decoders.clear();
    let (taken, left) = taken_over(&old, &new);
    assert_eq!((taken.queue, taken.steps.len(), taken.decoders.len()), (old.queue, 0, 1));
    assert_eq!(left, ["tenant.acme.queue", "tenant.acme.decoder.telegram (removed)"]);
}
