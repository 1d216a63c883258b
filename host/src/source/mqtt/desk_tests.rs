use std::sync::Mutex;

use tokio::sync::mpsc::Receiver;

use super::*;
use crate::intake::Intake;
use crate::source::rules::Rule;

struct Kept(Arc<Mutex<Vec<Undecodable>>>);

impl Unrouted for Kept {
    fn keep(&mut self, message: Undecodable, custody: Box<dyn Custody>) {
        self.0.lock().unwrap().push(message);
        custody.refused("full");
    }
}

struct Bench {
    desk: Desk,
    verdicts: Verdicts,
    lanes: Vec<Receiver<Intake>>,
    kept: Arc<Mutex<Vec<Undecodable>>>,
    counters: Arc<Counters>,
}

/// A desk for tenants `acme` and `globex`, with lanes of one place each.
fn bench(max_rows: usize) -> Bench {
    let (sender, verdicts) = mpsc::unbounded_channel();
    let topic = gateway_config::Topic {
        filter: "{tenant}/{device}".parse().unwrap(),
        tenant: None,
        device: None,
        format: gateway_config::Format::Json,
        profile: "p".into(),
        time: None,
        units: Default::default(),
    };
    let (lanes, senders): (Vec<_>, Vec<_>) = ["acme", "globex"]
        .map(|tenant| {
            let (sender, receiver) = mpsc::channel(1);
            (receiver, (tenant.parse().unwrap(), sender))
        })
        .into_iter()
        .unzip();
    let custody_sender = sender.clone();
    let gatherer = Gatherer::new(
        "hall".into(),
        [Rule::from(&topic)].into(),
        senders,
        gateway_config::Gather { linger: Duration::ZERO, max_rows },
        Box::new(move |_, tokens| Box::new(Receipt { tokens, verdicts: custody_sender.clone() })),
    );
    let kept = Arc::new(Mutex::new(Vec::new()));
    let counters = Arc::new(Counters::default());
    let desk = Desk::new(gatherer, Box::new(Kept(Arc::clone(&kept))), Arc::clone(&counters), sender);
    let mut bench = Bench { desk, verdicts, lanes, kept, counters };
    bench.desk.connected(false);
    bench
}

fn delivery(topic: &'static str, packet: u16, again: bool) -> Delivery {
    let payload = Bytes::from(format!("{{\"v\":{packet}}}"));
    Delivery {
        topic: Bytes::from_static(topic.as_bytes()),
        payload,
        packet,
        exactly_once: false,
        again,
        arrived: 1,
    }
}

fn ack(packet: u16) -> Ack {
    Ack { packet, exactly_once: false }
}

impl Bench {
    fn intake(&mut self, tenant: usize) -> Intake {
        self.desk.turn(Instant::now());
        self.lanes[tenant].try_recv().unwrap()
    }

    /// What is acknowledged by the verdicts so far.
    fn settled(&mut self) -> Result<Vec<Ack>, String> {
        let mut acks = Vec::new();
        while let Ok(verdict) = self.verdicts.try_recv() {
            self.desk.settle(verdict, &mut acks)?;
        }
        Ok(acks)
    }
}

fn rows(intake: &Intake) -> usize {
    intake.decoded.iter().map(|decoded| decoded.frame.rows()).sum()
}

#[test]
fn nothing_is_acknowledged_before_its_commit() {
    let mut bench = bench(100);
    assert_eq!(bench.desk.deliver(delivery("acme/a", 1, false)), None);
    assert_eq!(bench.desk.deliver(delivery("acme/a", 2, false)), None);
    assert_eq!(bench.desk.deliver(delivery("acme/a", 0, false)), None);
    let intake = bench.intake(0);
    assert_eq!(rows(&intake), 3);
    assert_eq!((bench.settled(), bench.desk.unsettled()), (Ok(vec![]), 2));
    intake.custody.committed();
    assert_eq!((bench.settled(), bench.desk.unsettled()), (Ok(vec![ack(1), ack(2)]), 0));
}

#[test]
fn what_comes_again_after_a_reconnect_is_taken_once_and_acknowledged_once() {
    for commit_before_it_comes_again in [true, false] {
        let mut bench = bench(100);
        bench.desk.deliver(delivery("acme/a", 1, false));
        let intake = bench.intake(0);
        bench.desk.disconnected();
        bench.desk.connected(true);
        if commit_before_it_comes_again {
            intake.custody.committed();
            assert_eq!(bench.settled(), Ok(vec![]), "not delivered on this connection yet");
            assert_eq!(bench.desk.deliver(delivery("acme/a", 1, true)), Some(ack(1)));
        } else {
            assert_eq!(bench.desk.deliver(delivery("acme/a", 1, true)), None);
            intake.custody.committed();
            assert_eq!(bench.settled(), Ok(vec![ack(1)]));
        }
        bench.desk.turn(Instant::now());
        assert!(bench.lanes[0].try_recv().is_err());
        assert_eq!(bench.counters.repeated.load(Relaxed), 1);
    }
}

#[test]
fn an_identifier_used_again_for_another_message_is_another_message() {
    let mut bench = bench(100);
    bench.desk.deliver(delivery("acme/a", 1, false));
    let first = bench.intake(0);
    bench.desk.disconnected();
    bench.desk.connected(false);
    bench.desk.deliver(Delivery { payload: Bytes::from_static(b"{\"v\":9}"), ..delivery("acme/a", 1, true) });
    let second = bench.intake(0);
    first.custody.committed();
    assert_eq!(bench.settled(), Ok(vec![]));
    second.custody.committed();
    assert_eq!(bench.settled(), Ok(vec![ack(1)]));
}

#[test]
fn a_refusal_makes_the_broker_deliver_again() {
    let mut bench = bench(100);
    bench.desk.deliver(delivery("acme/a", 1, false));
    bench.intake(0).custody.refused("disk full");
    assert_eq!(bench.settled(), Err("disk full".to_owned()));
    bench.desk.disconnected();
    bench.desk.connected(true);
    bench.desk.deliver(delivery("acme/a", 1, true));
    let again = bench.intake(0);
    assert_eq!(again.decoded[0].frame.rows(), 1);
    again.custody.committed();
    assert_eq!(bench.settled(), Ok(vec![ack(1)]));
}

#[test]
fn a_tenant_without_room_waits_in_order_and_the_other_passes() {
    let mut bench = bench(1);
    for packet in 1..=5 {
        bench.desk.deliver(delivery("acme/a", packet, false));
    }
    bench.desk.deliver(delivery("globex/a", 6, false));
    assert_eq!(rows(&bench.intake(1)), 1);
    let mut values = Vec::new();
    while let Ok(intake) = bench.lanes[0].try_recv() {
        let wire::frame::Values::F64(column) = &intake.decoded[0].frame.columns[0].values else { panic!() };
        values.extend_from_slice(column);
        bench.desk.turn(Instant::now());
    }
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(bench.desk.wake(), None);
}

#[test]
fn waiting_messages_are_bounded_by_not_reading_more() {
    let mut bench = bench(1);
    let payload = Bytes::from(format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20)));
    let mut taken = 0;
    while !bench.desk.is_clogged() {
        taken += 1;
        assert!(taken < 100, "never clogged");
        bench.desk.deliver(Delivery { payload: payload.clone(), ..delivery("acme/a", taken, false) });
    }
    while let Ok(intake) = bench.lanes[0].try_recv() {
        intake.custody.committed();
        bench.desk.turn(Instant::now());
    }
    assert!(!bench.desk.is_clogged());
    assert_eq!(bench.settled().unwrap().len(), usize::from(taken));
}

#[test]
fn what_belongs_to_no_tenant_is_kept_apart_and_acknowledged_even_if_there_is_no_place_for_it() {
    let mut bench = bench(100);
    bench.desk.deliver(delivery("nobody/a", 1, false));
    bench.desk.deliver(delivery("no-such-topic", 2, false));
    assert_eq!(bench.settled(), Ok(vec![ack(1), ack(2)]));
    let kept = bench.kept.lock().unwrap();
    let reasons: Vec<&str> = kept.iter().map(|message| message.reason.as_str()).collect();
    assert_eq!(reasons, ["tenant \"nobody\" is not configured", "no topic filter of this source matches"]);
    assert_eq!(bench.counters.unrouted_lost.load(Relaxed), 2);
}

#[test]
fn an_exactly_once_message_is_not_taken_again_until_its_identifier_is_released() {
    let mut bench = bench(100);
    let twice = |again| Delivery { exactly_once: true, ..delivery("acme/a", 1, again) };
    let received = Ack { packet: 1, exactly_once: true };
    bench.desk.deliver(twice(false));
    bench.intake(0).custody.committed();
    assert_eq!(bench.settled(), Ok(vec![received]));
    bench.desk.disconnected();
    bench.desk.connected(true);
    assert_eq!(bench.desk.deliver(twice(true)), Some(received));
    bench.desk.released(1);
    assert_eq!(bench.desk.deliver(twice(true)), None);
    assert_eq!(rows(&bench.intake(0)), 1);
}
