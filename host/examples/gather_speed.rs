//! How long one message takes from its payload to a row of an intake, in nanoseconds, without any socket:
//! `cargo run --release -p host --example gather_speed [messages]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_config::{Gather, TimeField, TimeMissing, TimeUnit, TopicFilter};
use host::intake::{Intake, Nobody};
use host::source::rows::{CustodyOf, Gatherer, Message, Repeats};
use host::source::rules::{Format, Rule};
use host::source::template::{Template, TopicCache};
use host::source::time::TimeRule;
use wire::ids::TenantId;

const DEVICES: usize = 200;
const NOW: i64 = 1_760_000_000_000_000_000;

fn main() -> anyhow::Result<()> {
    let messages: usize = std::env::args().nth(1).map_or(Ok(2_000_000), |text| text.parse())?;
    let rule = Rule {
        template: Template::new(&TopicFilter::parse("site/{tenant}/{device}/telemetry")?, None, None),
        profile: "machine".into(),
        format: Format::Json {
            time: TimeRule::new(Some(&TimeField {
                field: "ts".into(),
                unit: TimeUnit::Millis,
                max_ahead: Duration::from_secs(86_400),
                max_behind: None,
                missing: TimeMissing::Reject,
            })),
            units: [].into(),
        },
    };
    let (sender, mut lane) = tokio::sync::mpsc::channel::<Intake>(64);
    let custody: CustodyOf<u32> = Box::new(|_, _| Box::new(Nobody));
    let gather = Gather { linger: Duration::from_millis(20), max_rows: 4_096 };
    let lanes = vec![(TenantId::new("acme")?, sender)];
    let mut gatherer = Gatherer::new("floor".into(), Arc::from([rule]), lanes, gather, custody);

    let topics: Vec<String> = (0..DEVICES).map(|n| format!("site/acme/device-{n:03}/telemetry")).collect();
    let payloads: Vec<String> = (0..10_007)
        .map(|n| {
            let state = if n % 50 == 0 { "STOP" } else { "RUN" };
            format!(
                r#"{{"ts":{},"temperature_c":{:.2},"pressure_kpa":{:.1},"rpm":{},"state":"{state}"}}"#,
                1_760_000_000_000_u64 + n,
                20.0 + (n % 977) as f64 / 100.0,
                100.0 + (n % 37) as f64 / 10.0,
                1_400 + n % 200,
            )
        })
        .collect();
    let mut caches: Vec<TopicCache<_>> = topics.iter().map(|_| TopicCache::new()).collect();
    for repeats in [Repeats::Never, Repeats::Maybe, Repeats::Never, Repeats::Maybe] {
        let mut rows = 0;
        let started = Instant::now();
        let mut device = 0;
        for (n, payload) in (0_u32..).zip(payloads.iter().cycle()).take(messages) {
            device = (device + 1) % DEVICES;
            let (Some(topic), Some(cache)) = (topics.get(device), caches.get_mut(device)) else { continue };
            let target = match cache.get(topic.as_bytes()) {
                Some((_, target)) => target,
                None => {
                    let target = gatherer.resolve(topic)?;
                    cache.put(topic, target);
                    target
                }
            };
            let message = Message { topic, payload: payload.as_bytes(), arrived: NOW, repeats };
            gatherer.push(target, &message, Some(n)).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            while let Ok(intake) = lane.try_recv() {
                rows += intake.decoded.iter().map(|decoded| decoded.frame.rows()).sum::<usize>();
            }
        }
        let nanos = started.elapsed().as_nanos() as f64 / messages as f64;
        println!("{repeats:?}: {nanos:.0} ns per message ({rows} rows left)");
    }
    Ok(())
}
