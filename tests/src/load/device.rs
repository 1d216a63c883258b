//! One device: connects, publishes on its schedule, keeps what is not acknowledged, reconnects and sends it again.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ledger::DeviceLedger;
use super::mqtt::{self, Answer};
use super::reading::{Random, Reading, Walk};
use super::{Orders, Plan, Progress};

/// A device stops filling its write buffer here and writes first.
const WRITE_AT: usize = 16 * 1024;
/// Orders are looked at least this often.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for a connection and its CONNACK.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Waits between attempts to connect: doubled from the first up to the last, with full jitter.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_000));

/// A message on its way.
struct Flight {
    packet: u16,
    reading: Reading,
    /// PUBREC came, PUBCOMP is waited for.
    released: bool,
}

pub(super) struct Device {
    plan: Rc<Plan>,
    group: usize,
    topic: Vec<u8>,
    walk: Walk,
    random: Random,
    /// From one message to the next, and when the first is due after the start.
    schedule: Option<(Duration, Duration)>,
    ledger: DeviceLedger,
    flights: VecDeque<Flight>,
    next_packet: u16,
    connected_before: bool,
    out: Vec<u8>,
    payload: Vec<u8>,
}

impl Device {
    pub(super) fn new(plan: &Rc<Plan>, group: usize, index: usize, nth: usize, of: usize) -> Self {
        let fleet = &plan.fleets[group];
        let device = format!("{}-{index:03}", fleet.tenant);
        let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(nth as u64);
        let schedule = plan.rate.map(|rate| {
            let every = Duration::from_secs_f64(of as f64 / rate);
            (every, every.mul_f64(nth as f64 / of as f64))
        });
        Self {
            plan: Rc::clone(plan),
            group,
            topic: format!("site/{}/{device}/telemetry", fleet.tenant).into_bytes(),
            walk: Walk::new(seed),
            random: Random(seed),
            schedule,
            ledger: DeviceLedger {
                tenant: fleet.tenant.clone(),
                device,
                qos: fleet.qos,
                entries: vec![],
                sessions_lost: 0,
            },
            flights: VecDeque::new(),
            next_packet: 1,
            connected_before: false,
            out: Vec::with_capacity(2 * WRITE_AT),
            payload: Vec::with_capacity(256),
        }
    }

    pub(super) async fn run(mut self, progress: Arc<Progress>, orders: Arc<Orders>) -> DeviceLedger {
        let start = Instant::now();
        let mut wait = RECONNECT.0;
        while !orders.abandon.load(Relaxed) && !self.done(&orders) {
            if let Ok(Ok(stream)) = timeout(CONNECT_WITHIN, self.connect()).await {
                wait = RECONNECT.0;
                progress.connected.fetch_add(1, Relaxed);
                let ended = self.publish(stream, start, &progress, &orders).await;
                progress.connected.fetch_sub(1, Relaxed);
                if ended.is_ok() {
                    break;
                }
            }
            progress.broken.fetch_add(1, Relaxed);
            sleep(wait.mul_f64(f64::from(self.random.below(1 << 16)) / 65_536.0)).await;
            wait = (wait * 2).min(RECONNECT.1);
        }
        self.ledger
    }

    /// Nothing more to send and nothing on its way.
    fn done(&self, orders: &Orders) -> bool {
        let sent_all = self.plan.each.is_some_and(|each| self.ledger.entries.len() >= each as usize);
        (sent_all || orders.finish.load(Relaxed)) && self.flights.is_empty()
    }

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.plan.address).await?;
        stream.set_nodelay(true)?;
        let fleet = &self.plan.fleets[self.group];
        self.out.clear();
        let login = fleet.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
        let clean = fleet.qos == 0;
        mqtt::connect(
            &mut self.out,
            &mqtt::Connect { version: 4, client: &self.ledger.device, login, clean },
        );
        while !self.out.is_empty() {
            stream.writable().await?;
            write_some(&stream, &mut self.out)?;
        }
        let mut read = [0; 64];
        let mut have = 0;
        loop {
            stream.readable().await?;
            match stream.try_read(&mut read[have..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            match mqtt::answer(&read[..have], 4) {
                Some((Answer::Connected { session_present, code: 0 }, _)) => {
                    if self.connected_before && !session_present && !clean {
                        self.ledger.sessions_lost += 1;
                    }
                    self.connected_before = true;
                    return Ok(stream);
                }
                Some(_) => return Err(io::ErrorKind::ConnectionRefused.into()),
                None => {}
            }
        }
    }

    /// Publishes until done (`Ok`) or until the connection breaks.
    async fn publish(
        &mut self,
        stream: TcpStream,
        start: Instant,
        progress: &Progress,
        orders: &Orders,
    ) -> io::Result<()> {
        self.out.clear();
        self.send_again(progress);
        let cut_at = self.plan.cut_after.map(|after| self.ledger.entries.len() + after as usize);
        let mut read = vec![0; 4 * 1024];
        let mut have = 0;
        loop {
            let mut due = self.fill(start, progress, orders);
            write_some(&stream, &mut self.out)?;
            if orders.abandon.load(Relaxed) {
                return Ok(());
            }
            if self.out.is_empty() && cut_at.is_some_and(|at| self.ledger.entries.len() >= at) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if self.out.is_empty() && self.done(orders) {
                mqtt::disconnect(&mut self.out);
                return write_some(&stream, &mut self.out);
            }
            if self.out.is_empty() && due == Some(start) {
                // As fast as it is taken: let the others run, then go on.
                tokio::task::yield_now().await;
                if self.ledger.qos == 0 {
                    continue;
                }
                due = None;
            }
            let interest = if self.out.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let look = Instant::now() + LOOK;
            let until = due.map_or(look, |due| due.min(look));
            let Ok(ready) = timeout_at(until, stream.ready(interest)).await else { continue };
            if ready?.is_readable() {
                match stream.try_read(&mut read[have..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(more) => have += more,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                let used = self.take_answers(&read[..have], progress)?;
                read.copy_within(used..have, 0);
                have -= used;
            }
        }
    }

    /// Appends what is due, and says when the next message is (the start itself: at once).
    fn fill(&mut self, start: Instant, progress: &Progress, orders: &Orders) -> Option<Instant> {
        let mut sent = 0;
        let now_ms = unix_ms();
        let qos = self.ledger.qos;
        let next = loop {
            let count = self.ledger.entries.len();
            if orders.finish.load(Relaxed)
                || self.plan.each.is_some_and(|each| count >= each as usize)
                || (qos > 0 && self.flights.len() >= self.plan.window)
            {
                break None;
            }
            if let Some((every, first)) = self.schedule {
                let due = start + first + every * count as u32;
                if due > Instant::now() {
                    break Some(due);
                }
            }
            if self.out.len() >= WRITE_AT {
                break Some(start);
            }
            let reading = self.walk.next(now_ms);
            let packet = if qos == 0 { 0 } else { self.take_packet() };
            self.ledger.sent(&reading);
            self.append(&reading, packet, false);
            if qos > 0 {
                self.flights.push_back(Flight { packet, reading, released: false });
            }
            sent += 1;
        };
        if sent > 0 {
            progress.sent.fetch_add(sent, Relaxed);
        }
        next
    }

    /// Sends again, in order, what was not acknowledged (MQTT 3.1.1, 4.4).
    fn send_again(&mut self, progress: &Progress) {
        let flights = std::mem::take(&mut self.flights);
        for flight in &flights {
            if flight.released {
                mqtt::pubrel(&mut self.out, flight.packet);
            } else {
                self.ledger.repeated(flight.reading.seq);
                progress.repeated.fetch_add(1, Relaxed);
                self.append(&flight.reading, flight.packet, true);
            }
        }
        self.flights = flights;
    }

    fn append(&mut self, reading: &Reading, packet: u16, dup: bool) {
        self.payload.clear();
        reading.render(&mut self.payload);
        mqtt::publish(&mut self.out, 4, &self.topic, self.ledger.qos, dup, packet, &self.payload);
    }

    fn take_packet(&mut self) -> u16 {
        loop {
            let packet = self.next_packet;
            self.next_packet = self.next_packet.checked_add(1).unwrap_or(1);
            if !self.flights.iter().any(|flight| flight.packet == packet) {
                return packet;
            }
        }
    }

    /// Takes whole answers and says how many bytes they used.
    fn take_answers(&mut self, bytes: &[u8], progress: &Progress) -> io::Result<usize> {
        let mut used = 0;
        let mut accepted = 0;
        while let Some((answer, length)) = mqtt::answer(&bytes[used..], 4) {
            used += length;
            match answer {
                Answer::Puback { packet, .. } => {
                    if let Some(at) = self.flights.iter().position(|flight| flight.packet == packet)
                        && let Some(flight) = self.flights.remove(at)
                    {
                        self.ledger.accepted(flight.reading.seq);
                        accepted += 1;
                    }
                }
                Answer::Pubrec { packet, .. } => {
                    if let Some(flight) = self.flights.iter_mut().find(|flight| flight.packet == packet)
                        && !flight.released
                    {
                        flight.released = true;
                        self.ledger.accepted(flight.reading.seq);
                        accepted += 1;
                    }
                    mqtt::pubrel(&mut self.out, packet);
                }
                Answer::Pubcomp { packet } => self.flights.retain(|flight| flight.packet != packet),
                Answer::Connected { .. } | Answer::Disconnected { .. } | Answer::Other(_) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        if accepted > 0 {
            progress.accepted.fetch_add(accepted, Relaxed);
        }
        Ok(used)
    }
}

fn write_some(stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        match stream.try_write(out) {
            Ok(written) => {
                out.drain(..written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
