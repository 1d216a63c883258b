//! The oracle: what the devices were promised, held against what landed.
//!
//! Every message a gateway acknowledged is an obligation. In range, its row has landed on the route `telemetry` exactly
//! once, with its time and its temperature; out of range, it has not. Where a tenant's chain does more, [`Rules`] say
//! what follows from it, row by row. Messages that were never acknowledged (QoS 0, or still on their way when the load
//! ended) may have landed, but not twice.

use std::collections::HashMap;

use anyhow::Result;
use serde::Serialize;

use crate::load::reading::IN_RANGE;
use crate::load::{DeviceLedger, Entry, Ledger};

/// Wrong rows named in an account.
const EXAMPLES: usize = 10;
/// The route of everything a chain does not send elsewhere.
pub const TELEMETRY: &str = "telemetry";
/// The route of alarms in the chains of this crate.
pub const ALARMS: &str = "alarms";

/// What a tenant's chain does beyond the range filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// `builtin:threshold` on the temperature: raised above the first, cleared at or below the second. Each change is a
    /// row of its own.
    pub alarm: Option<(f64, f64)>,
    /// `builtin:deadband` on the temperature: a row that moved no more than this from the device's last landed one is
    /// dropped. It may still land after a restart, when the gateway does not know the last one any more.
    pub deadband: Option<f64>,
}

/// A row that landed, as far as the oracle needs it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Landed {
    /// Whose.
    pub tenant: String,
    /// The device.
    pub device: String,
    /// On which route.
    pub route: String,
    /// Device time in nanoseconds since 1970 UTC.
    pub time: i64,
    /// The device's number of the message.
    pub seq: Option<f64>,
    /// As measured.
    pub celsius: Option<f64>,
    /// As converted by the chain, where it converts.
    pub fahrenheit: Option<f64>,
    /// `raised` or `cleared`, on the route of alarms.
    pub event: Option<String>,
    /// When the stamp had it, in nanoseconds since 1970 UTC.
    pub received: i64,
}

/// What was promised and what came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Account {
    /// Messages sent, each counted once.
    pub sent: u64,
    /// Messages acknowledged.
    pub accepted: u64,
    /// Messages sent more than once because their connection broke.
    pub repeated: u64,
    /// Acknowledged messages that the tenant's plugins dropped, as they should.
    pub filtered: u64,
    /// Messages whose row landed.
    pub landed: u64,
    /// Alarms raised and cleared: rows on their own route.
    pub alarms: u64,
    /// Acknowledged messages whose row did not land though it should, and alarms that did not.
    pub lost: u64,
    /// Rows that landed more than once, counted without the first.
    pub duplicated: u64,
    /// Rows nobody sent, rows that should have been filtered, rows with another time or temperature than was sent.
    pub wrong: u64,
    /// Some of what is lost, duplicated or wrong.
    pub examples: Vec<String>,
}

impl Account {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.wrong == 0
    }
}

/// Whether a range filter keeps it.
#[must_use]
pub fn in_range(entry: &Entry) -> bool {
    IN_RANGE.contains(&entry.centi_celsius)
}

/// Holds the rows against the ledger, by each tenant's rules.
///
/// # Errors
/// When a row cannot be read.
pub fn settle(
    ledger: &Ledger,
    rules: impl Fn(&str) -> Rules,
    rows: impl Iterator<Item = Result<Landed>>,
) -> Result<Account> {
    let places: HashMap<(&str, &str), usize> = (ledger.devices.iter().enumerate())
        .map(|(at, device)| ((device.tenant.as_str(), device.device.as_str()), at))
        .collect();
    let mut landed: Vec<Vec<bool>> =
        ledger.devices.iter().map(|device| vec![false; device.entries.len()]).collect();
    let mut alarms: HashMap<(usize, i64, bool), u64> = HashMap::new();
    let mut account = Account {
        sent: ledger.sent(),
        accepted: ledger.accepted(),
        repeated: ledger.repeated(),
        ..Account::default()
    };
    for row in rows {
        let row = row?;
        let place = places.get(&(row.tenant.as_str(), row.device.as_str())).copied();
        match (place, row.route.as_str()) {
            (Some(at), TELEMETRY) => account.take(&row, &ledger.devices[at], &mut landed[at]),
            (Some(at), ALARMS) => {
                account.alarms += 1;
                *alarms.entry((at, row.time, row.event.as_deref() == Some("raised"))).or_default() += 1;
            }
            _ => account.wrong(format!("nobody sent {row:?}")),
        }
    }
    for (at, device) in ledger.devices.iter().enumerate() {
        let rules = rules(&device.tenant);
        account.hold(device, &rules, &landed[at]);
        if let Some((above, clear)) = rules.alarm {
            account.hold_alarms(device, (above, clear), |time, raised| alarms.remove(&(at, time, raised)));
        }
    }
    for ((at, time, _), _) in alarms {
        account.wrong(format!("an alarm of {} at {time} for nothing", ledger.devices[at].device));
    }
    Ok(account)
}

impl Account {
    /// A row of telemetry: counted as landed, twice or wrong.
    fn take(&mut self, row: &Landed, device: &DeviceLedger, landed: &mut [bool]) {
        let Some(index) = index_of(row, device) else {
            return self.wrong(format!("nobody sent {row:?}"));
        };
        if landed[index] {
            self.duplicated += 1;
            return self.example(format!("twice: {row:?}"));
        }
        landed[index] = true;
        self.landed += 1;
        let entry = &device.entries[index];
        let celsius = celsius(entry);
        let as_converted = row.fahrenheit.is_none_or(|value| (value - (celsius * 1.8 + 32.0)).abs() < 1e-9);
        if !in_range(entry) {
            self.wrong(format!("not filtered: {row:?}"));
        } else if row.time != entry.ts * 1_000_000 || row.celsius != Some(celsius) || !as_converted {
            self.wrong(format!("sent as {entry:?}, landed as {row:?}"));
        }
    }

    /// What a device was promised.
    fn hold(&mut self, device: &DeviceLedger, rules: &Rules, landed: &[bool]) {
        let mut last: Option<f64> = None;
        for (index, (entry, &landed)) in device.entries.iter().zip(landed).enumerate() {
            let value = celsius(entry);
            if landed {
                last = Some(value);
            } else if entry.accepted {
                let still = rules.deadband.zip(last).is_some_and(|(band, last)| (value - last).abs() <= band);
                if !in_range(entry) || still {
                    self.filtered += 1;
                } else {
                    self.lost += 1;
                    self.example(format!("lost: {} seq {} of {entry:?}", device.device, index + 1));
                }
            }
        }
    }

    /// The alarms that follow from what a device sent, in its order; all of it was acknowledged.
    fn hold_alarms(
        &mut self,
        device: &DeviceLedger,
        (above, clear): (f64, f64),
        mut take: impl FnMut(i64, bool) -> Option<u64>,
    ) {
        let mut standing = false;
        for entry in device.entries.iter().filter(|entry| in_range(entry)) {
            let value = celsius(entry);
            if (!standing && value > above) || (standing && value <= clear) {
                standing = !standing;
                match take(entry.ts * 1_000_000, standing) {
                    Some(times) => self.duplicated += times - 1,
                    None => {
                        self.lost += 1;
                        self.example(format!("lost: an alarm of {} at {entry:?}", device.device));
                    }
                }
            }
        }
    }

    fn wrong(&mut self, example: String) {
        self.wrong += 1;
        self.example(example);
    }

    fn example(&mut self, example: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }
}

fn celsius(entry: &Entry) -> f64 {
    f64::from(entry.centi_celsius) / 100.0
}

fn index_of(row: &Landed, device: &DeviceLedger) -> Option<usize> {
    let seq = row.seq?;
    (seq >= 1.0 && seq <= device.entries.len() as f64 && seq.fract() == 0.0).then(|| seq as usize - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let entry = |ts, centi_celsius, accepted| Entry { ts, centi_celsius, accepted, repeated: false };
        let entries = vec![
            entry(1, 2_000, true),
            entry(2, 20_000, true),
            entry(3, 3_000, true),
            entry(4, 1_000, false),
        ];
        let device =
            DeviceLedger { tenant: "acme".into(), device: "a".into(), qos: 1, entries, sessions_lost: 0 };
        Ledger { devices: vec![device] }
    }

    fn row(seq: f64, time: i64, celsius: f64) -> Landed {
        Landed {
            tenant: "acme".into(),
            device: "a".into(),
            route: TELEMETRY.into(),
            time: time * 1_000_000,
            seq: Some(seq),
            celsius: Some(celsius),
            fahrenheit: Some(celsius * 1.8 + 32.0),
            event: None,
            received: 0,
        }
    }

    fn alarm(time: i64, event: &str) -> Landed {
        Landed { route: ALARMS.into(), event: Some(event.into()), ..row(0.0, time, 0.0) }
    }

    fn settled(rules: Rules, rows: Vec<Landed>) -> Account {
        settle(&ledger(), |_| rules, rows.into_iter().map(Ok)).unwrap()
    }

    #[test]
    fn what_was_promised_and_came_once_is_kept() {
        let account = settled(Rules::default(), vec![row(1.0, 1, 20.0), row(3.0, 3, 30.0)]);
        assert!(account.is_kept(), "{account:?}");
        assert_eq!((account.accepted, account.filtered, account.landed), (3, 1, 2));
        let more = vec![row(1.0, 1, 20.0), row(3.0, 3, 30.0), row(4.0, 4, 10.0)];
        assert!(settled(Rules::default(), more).is_kept());
    }

    #[test]
    fn each_broken_promise_is_counted() {
        let settled = |rows| settled(Rules::default(), rows);
        assert_eq!(settled(vec![row(1.0, 1, 20.0)]).lost, 1);
        assert_eq!(settled(vec![row(1.0, 1, 20.0), row(1.0, 1, 20.0), row(3.0, 3, 30.0)]).duplicated, 1);
        assert_eq!(settled(vec![row(2.0, 2, 200.0)]).wrong, 1);
        assert_eq!(settled(vec![row(9.0, 2, 20.0)]).wrong, 1);
        assert_eq!(settled(vec![row(1.0, 2, 20.0)]).wrong, 1);
        assert_eq!(settled(vec![row(1.0, 1, 20.5)]).wrong, 1);
        let unconverted = Landed { fahrenheit: Some(20.0), ..row(1.0, 1, 20.0) };
        assert_eq!(settled(vec![unconverted]).wrong, 1);
    }

    #[test]
    fn a_row_within_the_deadband_may_stay_away_and_one_beyond_it_may_not() {
        let rules = |band| Rules { deadband: Some(band), ..Rules::default() };
        assert_eq!(settled(rules(10.0), vec![row(1.0, 1, 20.0)]).filtered, 2);
        assert_eq!(settled(rules(9.9), vec![row(1.0, 1, 20.0)]).lost, 1);
        assert!(settled(rules(10.0), vec![row(1.0, 1, 20.0), row(3.0, 3, 30.0)]).is_kept());
    }

    #[test]
    fn alarms_are_obligations_too() {
        let rules = Rules { alarm: Some((25.0, 15.0)), ..Rules::default() };
        let with = |alarms: Vec<Landed>| {
            settled(rules, [vec![row(1.0, 1, 20.0), row(3.0, 3, 30.0)], alarms].concat())
        };
        assert!(with(vec![alarm(3, "raised"), alarm(4, "cleared")]).is_kept());
        assert_eq!(with(vec![alarm(3, "raised")]).lost, 1);
        assert_eq!(with(vec![alarm(3, "raised"), alarm(3, "raised"), alarm(4, "cleared")]).duplicated, 1);
        assert_eq!(with(vec![alarm(1, "raised"), alarm(3, "raised"), alarm(4, "cleared")]).wrong, 1);
    }
}
