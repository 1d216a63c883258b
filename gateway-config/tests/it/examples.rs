//! Each file in examples/ is a whole configuration without a doubt in it.

use std::time::Duration;

use gateway_config::{
    Config, Format, OnFault, Priority, QualityOfService, SourceKind, TimeUnit, WhenFull, diff, load,
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
    assert_eq!(names, ["broker.toml", "small.toml", "tls.toml"]);
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
fn a_difference_is_named_by_the_part_that_must_begin_anew() {
    let (_site, old) = example("small.toml");
    assert!(diff(&old, &old.clone()).is_empty());
    let mut new = old.clone();
    new.sources[0].gather.max_rows = 1;
    new.tenants.clear();
    let changes = diff(&old, &new);
    assert!(!changes.gateway && !changes.uplink);
    assert_eq!(changes.sources.iter().map(|name| &**name).collect::<Vec<_>>(), ["floor"]);
    assert_eq!(changes.tenants.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["acme"]);
}
