//! What receiving a message costs: CPU time per message of the listener (with everything up to the intake) and of the
//! bare listener, from 200 connections of another process that sends one message per write:
//! `cargo run --release -p host --example listener_speed [qos] [messages per second] [seconds]`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use gateway_config::{Gather, TimeField, TimeMissing, TimeUnit, TopicFilter};
use host::intake::{Custody, Intake, Undecodable};
use host::source::listener::bare::Bare;
use host::source::listener::{Listener, Sessions, Setup, Unrouted};
use host::source::rules::{Format, Rule};
use host::source::template::Template;
use host::source::time::TimeRule;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::ids::TenantId;

const CONNECTIONS: u32 = 200;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u32| arguments.get(at).map_or(Ok(default), |text| text.parse());
    if let Some(address) = arguments.get(4) {
        return load(address.parse()?, number(1, 0)?, number(2, 0)?, number(3, 0)?);
    }
    let (qos, rate, seconds) = (number(1, 1)?, number(2, 50_000)?, number(3, 5)?);
    let bare = Bare::start()?;
    let before = cpu();
    run(bare.address(), qos, rate, seconds)?;
    let messages = bare.messages();
    println!("bare: {:.2} us of CPU per message ({messages} messages)", micros(cpu() - before, messages));
    drop(bare);

    let (sender, mut lane) = tokio::sync::mpsc::channel::<Intake>(16);
    let committer = std::thread::spawn(move || {
        let mut intakes = 0_u64;
        while let Some(intake) = lane.blocking_recv() {
            intakes += 1;
            intake.custody.committed();
        }
        intakes
    });
    let listener = Listener::start(setup(sender)?)?;
    let before = cpu();
    run(listener.address(), qos, rate, seconds)?;
    let spent = cpu() - before;
    let seen = listener.counters();
    let messages = seen.qos0 + seen.qos1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(listener.shutdown(Duration::from_secs(5)));
    let intakes = committer.join().map_err(|_| anyhow::anyhow!("the committer failed"))?;
    println!(
        "listener: {:.2} us of CPU per message ({messages} messages in {intakes} intakes, {} acknowledged, {} undecodable)",
        micros(spent, messages),
        seen.acknowledged,
        seen.undecodable,
    );
    Ok(())
}

struct Nothing;
impl Sessions for Nothing {
    fn kept(&mut self, _client: &str, _expires: Option<i64>) {}
    fn ended(&mut self, _client: &str) {}
}
impl Unrouted for Nothing {
    fn keep(&mut self, _message: Undecodable, custody: Box<dyn Custody>) {
        custody.committed();
    }
}

fn setup(lane: host::intake::LaneSender) -> anyhow::Result<Setup> {
    let time = TimeField {
        field: "ts".into(),
        unit: TimeUnit::Millis,
        max_ahead: Duration::from_secs(86_400),
        max_behind: None,
        missing: TimeMissing::Reject,
    };
    let rule = Rule {
        template: Template::new(&TopicFilter::parse("site/{tenant}/{device}/telemetry")?, None, None),
        profile: "machine".into(),
        format: Format::Json { time: TimeRule::new(Some(&time)), units: [].into() },
    };
    Ok(Setup {
        name: "floor".into(),
        listener: gateway_config::Listener {
            listen: "127.0.0.1:0".parse()?,
            tls: None,
            allow_anonymous: true,
            users: [].into(),
            max_connections: 1_000,
            max_payload: 256 << 10,
            max_in_flight: 1_024,
            max_keep_alive: Duration::from_secs(1_200),
            connect_timeout: Duration::from_secs(10),
            max_session_expiry: Duration::from_secs(86_400),
        },
        rules: Arc::from([rule]),
        gather: Gather { linger: Duration::from_millis(20), max_rows: 4_096 },
        lanes: vec![(TenantId::new("acme")?, lane)],
        held: Vec::new(),
        known: Vec::new(),
        sessions: Box::new(Nothing),
        unrouted: Box::new(Nothing),
    })
}

/// Runs the load in a process of its own and waits for it.
fn run(address: SocketAddr, qos: u32, rate: u32, seconds: u32) -> anyhow::Result<()> {
    let arguments = [qos.to_string(), rate.to_string(), seconds.to_string(), address.to_string()];
    let status = std::process::Command::new(std::env::current_exe()?).args(arguments).status()?;
    anyhow::ensure!(status.success(), "the load failed");
    Ok(())
}

fn cpu() -> Duration {
    // User and system time of this process, all threads (proc(5), fields 14 and 15, in ticks of 10 ms).
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

fn micros(spent: Duration, messages: u64) -> f64 {
    spent.as_secs_f64() * 1e6 / messages.max(1) as f64
}

fn load(address: SocketAddr, qos: u32, rate: u32, seconds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for n in 0..CONNECTIONS {
            clients.spawn(client(address, n, qos, rate, seconds));
        }
        let (mut slowest, mut acks) = (Duration::ZERO, 0);
        while let Some(done) = clients.join_next().await {
            let (lag, acked) = done??;
            slowest = slowest.max(lag);
            acks += acked;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "load: {acks} acknowledged, behind its plan by at most {} ms", slowest.as_millis())?;
        anyhow::Ok(())
    })
}

async fn client(
    address: SocketAddr,
    n: u32,
    qos: u32,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<(Duration, u64)> {
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let id = format!("device-{n:03}");
    let mut connect =
        vec![0x10, 12 + id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, id.len() as u8];
    connect.extend_from_slice(id.as_bytes());
    socket.write_all(&connect).await?;
    socket.read_exact(&mut [0; 4]).await?;
    let (mut reader, mut writer) = socket.into_split();
    let acks = tokio::spawn(async move {
        let (mut buffer, mut bytes) = ([0; 4_096], 0);
        while let Ok(read) = reader.read(&mut buffer).await {
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
        bytes / 4
    });
    let topic = format!("site/acme/{id}/telemetry");
    let per_client = rate / CONNECTIONS;
    let period = Duration::from_secs_f64(f64::from(CONNECTIONS) / f64::from(rate));
    let started = Instant::now() + period * n / CONNECTIONS;
    let mut slowest = Duration::ZERO;
    for k in 0..per_client * seconds {
        let due = started + period * k;
        let now = Instant::now();
        if due > now {
            tokio::time::sleep_until(due.into()).await;
        } else {
            slowest = slowest.max(now - due);
        }
        let ts = 1_760_000_000_000_u64 + u64::from(k);
        let (celsius, rpm) = (20.0 + f64::from(k % 977) / 100.0, 1_400 + k % 200);
        let payload = format!(
            r#"{{"ts":{ts},"temperature_c":{celsius:.2},"pressure_kpa":101.3,"rpm":{rpm},"state":"RUN"}}"#
        );
        let id = if qos == 1 { 2 } else { 0 };
        let length = 2 + topic.len() + id + payload.len();
        let mut packet = vec![0x30 | (qos as u8) << 1];
        if length >= 128 {
            packet.extend_from_slice(&[(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        } else {
            packet.push(length as u8);
        }
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        if qos == 1 {
            packet.extend_from_slice(&((k % 65_535) as u16 + 1).to_be_bytes());
        }
        packet.extend_from_slice(payload.as_bytes());
        writer.write_all(&packet).await.context("the listener closed the connection")?;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    writer.write_all(&[0xe0, 0]).await?;
    drop(writer);
    Ok((slowest, acks.await?))
}
