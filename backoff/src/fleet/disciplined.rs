//! Gateways that run this crate's own code, each for itself.

use std::time::Duration;

use super::calendar::Calendar;
use super::{Behaviour, Fleet, HANDSHAKE, NOTICED, ROUND_TRIP, Report};
use crate::circuit::{Circuit, Step, Ways};
use crate::episode::Moment;
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::random::Random;
use crate::slots::{Admission, Slots};

/// The other ways of a gateway with a usual configuration: one endpoint, QUIC and TCP. They all lead to the same stamp.
const WAYS: Ways = Ways { transport: true, endpoints: 0, provisioning: false };

struct Gateway {
    circuit: Circuit,
    ledger: Ledger,
    promised: Option<Moment>,
}

pub(super) fn run(fleet: &Fleet, behaviour: Behaviour) -> Report {
    let policy = Policy::upstream();
    let mut random = Random::from_seed(fleet.seed);
    let mut report = Report::new(behaviour, fleet);
    let mut calendar = Calendar::until(fleet.horizon());
    let mut slots = Slots::per_second(fleet.rate);
    let mut gateways: Vec<Gateway> = (0..fleet.gateways)
        .map(|_| Gateway { circuit: Circuit::new(WAYS), ledger: Ledger::default(), promised: None })
        .collect();
    // They were connected for long when the stamp went at that moment. Each has a time origin of its own, so all is later.
    let gone = Moment::default();
    for (gateway, who) in gateways.iter_mut().zip(0..) {
        gateway.circuit.on_connected(gone);
        gateway.ledger.on_success();
        let (outcome, lost) = if behaviour == Behaviour::Default {
            let slot = slots.hand_out(gone, gone.after(fleet.announced), random.next());
            gateway.promised = Some(gone.after(slot));
            (Outcome::throttled("the stamp closes", slot), gone)
        } else {
            (Outcome::transient("connection lost"), gone.after(NOTICED.mul_f64(random.fraction())))
        };
        next(gateway, who, &policy, outcome, lost, &mut random, &mut calendar);
    }
    let back = Moment(fleet.outage);
    let mut slots = Slots::per_second(fleet.rate).behind(slots.end());
    while let Some((now, who)) = calendar.next() {
        let Some(gateway) = gateways.get_mut(who as usize) else { continue };
        if now < back {
            report.count(now, 1, 0);
            let failed = now.after(HANDSHAKE);
            next(gateway, who, &policy, Outcome::transient("no answer"), failed, &mut random, &mut calendar);
            continue;
        }
        let promised = gateway.promised;
        match slots.arrive(now, promised, random.next()) {
            Admission::Admitted => report.count(now, 1, 1),
            Admission::Return(after) => {
                report.count(now, 1, 0);
                let (outcome, promised) = refusal(behaviour, now, after);
                gateway.promised = promised;
                next(gateway, who, &policy, outcome, now.after(ROUND_TRIP), &mut random, &mut calendar);
            }
        }
        if report.back == fleet.gateways {
            break;
        }
    }
    report
}

/// What a refused gateway is told; the slot counts from when it hears of it.
fn refusal(behaviour: Behaviour, now: Moment, after: Duration) -> (Outcome, Option<Moment>) {
    if behaviour == Behaviour::NoSlots {
        return (Outcome::transient("refused"), None);
    }
    (Outcome::throttled("the stamp is busy", after.saturating_sub(ROUND_TRIP)), Some(now.after(after)))
}

/// Does what the rules say after a failure.
fn next(
    gateway: &mut Gateway,
    who: u32,
    policy: &Policy,
    outcome: Outcome,
    now: Moment,
    random: &mut Random,
    calendar: &mut Calendar,
) {
    match gateway.circuit.on_failure(policy, &mut gateway.ledger, outcome, now, random.next()) {
        Step::Retry { at } | Step::Parked { until: at, .. } => calendar.add(at, who),
        Step::Fallback { .. } => calendar.add(now, who),
        // Nobody here answers with something permanent.
        Step::GiveUp { .. } => {}
    }
}
