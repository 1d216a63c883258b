//! `shadow` of a step.

use std::time::Duration;

use super::plugin::{self, Plugins};
use crate::model::{Budget, Promote, Shadow};
use crate::reader::{Table, Value};

const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// `with` is the step's, for a shadow without its own.
pub(super) fn read(table: &Table<'_>, plugins: Plugins<'_>, with: Option<&str>) -> Option<Shadow> {
    let used = plugin::used(table, plugins);
    let with = match table.get("with") {
        None => with.map(str::to_owned),
        Some(value) => plugin::with(&value),
    };
    let tolerance = table.get("tolerance").and_then(|value| value.number(0.0..=1.0));
    let promote = table.get("promote").and_then(|value| promote(&value));
    let watch = table.get("watch").and_then(|value| value.duration(SECOND..=MONTH));
    table.finish();
    let (name, plugin) = used?;
    Some(Shadow {
        name,
        plugin,
        with: with?,
        tolerance: tolerance.unwrap_or(1e-9),
        promote: promote.unwrap_or(Promote::ByHand),
        watch: watch.unwrap_or(Duration::from_secs(600)),
    })
}

fn promote(value: &Value<'_>) -> Option<Promote> {
    if value.raw().is_str() {
        return value.choice(&[("by hand", Promote::ByHand)]);
    }
    let table = value.table()?;
    let after = table.required("after", "after = \"1 h\"").and_then(|value| value.duration(SECOND..=MONTH));
    let differing = table.get("differing").and_then(|value| value.part(0.0..=1.0));
    let faults = table.get("faults").and_then(|value| value.integer(0..=1_000_000_000));
    let time = table.get("time").and_then(|value| value.number(0.01..=1_000.0));
    table.finish();
    Some(Promote::When(Budget {
        after: after?,
        differing: differing.unwrap_or(0.0),
        faults: faults.unwrap_or(0),
        time: time.unwrap_or(2.0),
    }))
}
