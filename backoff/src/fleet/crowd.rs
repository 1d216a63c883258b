//! What a [`Policy`](crate::Policy) cannot say, to show why: retries without jitter. Nothing separates such gateways once
//! they have failed together, so they are simulated by groups: those who noticed the loss in the same hundredth of a
//! second. That is exact, not an approximation, and fast.
//!
//! ```text
//! no jitter   at once, 1 s, 2 s, 4 s … 64 s, 120 s, 120 s … for ever: the waits of the default, all at the same moment
//! regular     10 s, 10 s … for ever
//! ```

use std::time::Duration;

use super::calendar::Calendar;
use super::{Behaviour, Fleet, HANDSHAKE, NOTICED, ROUND_TRIP, Report};
use crate::episode::Moment;
use crate::slots::{Admission, Slots};

const GROUPS: u32 = 100;
const REGULAR: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(120);

struct Group {
    members: u32,
    failures: u32,
}

pub(super) fn run(fleet: &Fleet, behaviour: Behaviour) -> Report {
    let mut report = Report::new(behaviour, fleet);
    let mut calendar = Calendar::until(fleet.horizon());
    let mut door = Slots::per_second(fleet.rate);
    let share = |group| fleet.gateways / GROUPS + u32::from(group < fleet.gateways % GROUPS);
    let mut groups: Vec<Group> =
        (0..GROUPS).map(|group| Group { members: share(group), failures: 0 }).collect();
    for (group, who) in groups.iter_mut().zip(0..) {
        let noticed = Moment(NOTICED * who / GROUPS);
        calendar.add(noticed.after(wait(behaviour, 0)), who);
        group.failures = 1;
    }
    let back = Moment(fleet.outage);
    while let Some((now, who)) = calendar.next() {
        let Some(group) = groups.get_mut(who as usize) else { continue };
        let there = now >= back;
        let admitted =
            (0..group.members).take_while(|_| there && door.arrive(now, None, 0) == Admission::Admitted);
        let admitted = u32::try_from(admitted.count()).unwrap_or(u32::MAX);
        report.count(now, group.members, admitted);
        group.members = group.members.saturating_sub(admitted);
        if group.members > 0 {
            let failed = now.after(if there { ROUND_TRIP } else { HANDSHAKE });
            calendar.add(failed.after(wait(behaviour, group.failures)), who);
            group.failures = group.failures.saturating_add(1);
        }
    }
    report
}

/// The wait after so many failures.
fn wait(behaviour: Behaviour, failures: u32) -> Duration {
    match (behaviour, failures) {
        (Behaviour::Regular, _) => REGULAR,
        (_, 0) => Duration::ZERO,
        (_, failures) => Duration::from_secs(1).saturating_mul(1 << (failures - 1).min(10)).min(LONGEST),
    }
}
