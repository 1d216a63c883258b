//! A policy in configuration text, by serde; every key may be left out. Errors say what to write instead.
//!
//! ```toml
//! first = "immediate"                                     # at most one retry at once; or "scheduled"
//! then = { kind = "exponential", base = "1 s", factor = 2.0, cap = "2 min", jitter = "full" }
//! # or: then = { kind = "list", waits = ["3 s", "12 s", "30 s"], jitter = "equal" }
//! episode = { attempts = 16, elapsed = "15 min" }
//! stable_for = "1 min"                                    # a shorter connection does not count as success
//! max_retry_after = "4 h"                                 # the most that the other side can make us wait
//! afterwards = ["tcp", "endpoint", "provisioning", "park"] # in this order, as far as there is one
//! cool_down = "5 min"                                     # parked for this to half as long again
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::duration::Written;
use crate::policy::{Bounds, Fallback, First, Jitter, Policy, PolicyError, Schedule, Waits};

/// A policy as written: what is left out is taken from a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    first: Option<Loose>,
    then: Option<ThenText>,
    episode: Option<EpisodeText>,
    stable_for: Option<Written>,
    max_retry_after: Option<Written>,
    afterwards: Option<Loose>,
    cool_down: Option<Written>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThenText {
    kind: Option<String>,
    base: Option<Written>,
    factor: Option<f64>,
    cap: Option<Written>,
    waits: Option<Vec<Written>>,
    jitter: Option<Loose>,
    /// Never valid: here so that whoever writes a regular interval is told why not.
    interval: Option<Loose>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpisodeText {
    attempts: Option<Loose>,
    elapsed: Option<Loose>,
}

/// Whatever someone wrote, to be shown back to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Loose {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Loose>),
    Table(BTreeMap<String, Loose>),
}

impl PolicyText {
    /// The policy, with `default` for what is left out.
    ///
    /// # Errors
    /// [`PolicyError`] with why it would do harm and what to write instead.
    pub fn over(self, default: &Policy) -> Result<Policy, PolicyError> {
        let afterwards =
            self.afterwards.map_or(Ok(default.afterwards.clone()), |written| afterwards(&written))?;
        let first = self.first.map_or(Ok(default.first), first)?;
        let then = self.then.map_or(Ok(default.then.clone()), |then| then.over(&default.then))?;
        let episode = self.episode.map_or(Ok(default.episode), |episode| episode.over(default.episode))?;
        let or = |written: Option<Written>, default| written.map_or(default, |written| written.0);
        Policy::new(first, then, episode)
            .with_cool_down(or(self.cool_down, default.cool_down))?
            .with_stable_for(or(self.stable_for, default.stable_for))?
            .with_max_retry_after(or(self.max_retry_after, default.max_retry_after))?
            .with_afterwards(afterwards)
    }
}

/// Over [`Policy::upstream`].
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PolicyText::deserialize(deserializer)?.over(&Policy::upstream()).map_err(D::Error::custom)
    }
}

impl ThenText {
    fn over(self, default: &Schedule) -> Result<Schedule, PolicyError> {
        if let Some(interval) = self.interval {
            return Err(PolicyError::Regular(format!("interval = {interval}")));
        }
        let jitter = self.jitter.map_or(Ok(Jitter::Full), jitter)?;
        let kind = self.kind.as_deref().unwrap_or(if self.waits.is_some() { "list" } else { "exponential" });
        match kind {
            "exponential" if self.waits.is_some() => Err(PolicyError::Kind(
                "waits belongs to kind = \"list\": remove it, or write then = { kind = \"list\", waits = [\"3 s\", \"12 s\", \"30 s\"] }"
                    .to_owned(),
            )),
            "exponential" if jitter == Jitter::Decorrelated && self.factor.is_some() => {
                Err(PolicyError::Decorrelated("remove factor"))
            }
            "exponential" => {
                let (base, factor, cap) = match &default.0 {
                    Waits::Exponential { base, factor, cap, .. } => (*base, *factor, *cap),
                    Waits::List { .. } => (Duration::from_secs(1), 2.0, Duration::from_secs(120)),
                };
                Schedule::exponential(
                    self.base.map_or(base, |written| written.0),
                    self.factor.unwrap_or(factor),
                    self.cap.map_or(cap, |written| written.0),
                    jitter,
                )
            }
            "list" if self.base.is_some() || self.factor.is_some() || self.cap.is_some() => {
                Err(PolicyError::Kind(
                    "base, factor and cap belong to kind = \"exponential\": a list has only waits and jitter"
                        .to_owned(),
                ))
            }
            "list" => {
                let waits = self.waits.unwrap_or_default().into_iter().map(|written| written.0).collect();
                Schedule::list(waits, jitter)
            }
            "regular" | "fixed" | "constant" | "interval" | "linear" => {
                Err(PolicyError::Regular(format!("kind = {kind:?}")))
            }
            "immediate" => Err(PolicyError::First("\"immediate\", and then = \"immediate\" again".to_owned())),
            _ => Err(PolicyError::Kind(format!(
                "kind = {kind:?} is not known: write kind = \"exponential\" or kind = \"list\""
            ))),
        }
    }
}

impl EpisodeText {
    fn over(self, default: Bounds) -> Result<Bounds, PolicyError> {
        let attempts = match self.attempts {
            None => default.attempts,
            Some(Loose::Int(number)) => {
                u32::try_from(number).map_err(|_| PolicyError::Endless(format!("attempts = {number}")))?
            }
            Some(other) => return Err(PolicyError::Endless(format!("attempts = {other}"))),
        };
        let elapsed = match self.elapsed {
            None => default.elapsed,
            Some(Loose::Text(text)) => crate::duration::parse(&text)
                .map_err(|error| PolicyError::Endless(format!("elapsed = {text:?} ({error})")))?,
            Some(other) => return Err(PolicyError::Endless(format!("elapsed = {other}"))),
        };
        Bounds::new(attempts, elapsed)
    }
}

fn first(written: Loose) -> Result<First, PolicyError> {
    match written {
        Loose::Text(text) if text == "immediate" => Ok(First::Immediate),
        Loose::Text(text) if text == "scheduled" => Ok(First::Scheduled),
        other => Err(PolicyError::First(other.to_string())),
    }
}

fn jitter(written: Loose) -> Result<Jitter, PolicyError> {
    match written {
        Loose::Text(text) if text == "full" => Ok(Jitter::Full),
        Loose::Text(text) if text == "equal" => Ok(Jitter::Equal),
        Loose::Text(text) if text == "decorrelated" => Ok(Jitter::Decorrelated),
        other => Err(PolicyError::Jitter(other.to_string())),
    }
}

fn afterwards(written: &Loose) -> Result<Vec<Fallback>, PolicyError> {
    let wrong = || PolicyError::Afterwards(written.to_string());
    let Loose::List(names) = written else { return Err(wrong()) };
    let fallback = |name: &Loose| match name {
        Loose::Text(name) => Fallback::ALL.into_iter().find(|fallback| fallback.as_str() == name),
        _ => None,
    };
    names.iter().map(|name| fallback(name).ok_or_else(wrong)).collect()
}

impl fmt::Display for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    value.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Table(values) => {
                f.write_str("{ ")?;
                for (at, (key, value)) in values.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{key} = {value}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        toml::from_str::<Policy>(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        assert_eq!(read(""), Ok(Policy::upstream()));
        let written = r#"
            first = "immediate"
            then = { kind = "exponential", base = "1 s", factor = 2.0, cap = "2 min", jitter = "full" }
            episode = { attempts = 16, elapsed = "15 min" }
            stable_for = "1 min"
            max_retry_after = "4 h"
            afterwards = ["tcp", "endpoint", "provisioning", "park"]
            cool_down = "5 min"
        "#;
        assert_eq!(read(written), Ok(Policy::upstream()));
    }

    #[test]
    fn an_increasing_list_is_a_schedule() {
        let policy = read(r#"then = { waits = ["3 s", "12 s", "30 s"], jitter = "equal" }"#).unwrap();
        let waits = [3, 12, 30].map(Duration::from_secs).to_vec();
        assert_eq!(policy.then, Schedule::list(waits, Jitter::Equal).unwrap());
    }

    /// Each bad policy, and what its error must say.
    #[test]
    fn policies_that_do_harm_are_errors_that_teach() {
        for (text, says) in [
            (r#"then = { kind = "regular", interval = "5 s" }"#, "a regular interval"),
            (r#"then = { kind = "fixed" }"#, "write instead then = { kind = \"exponential\""),
            (r#"then = { interval = "5 s" }"#, "hammer at the same pace"),
            (r#"then = { factor = 1.0 }"#, "a regular interval (factor 1)"),
            (r#"then = { base = "5 s", cap = "5 s" }"#, "a regular interval (cap 5 s is not above base 5 s)"),
            (r#"then = { waits = ["5 s"] }"#, "a regular interval (5 s again and again)"),
            (r#"then = { waits = ["5 s", "5 s"] }"#, "a regular interval (5 s twice)"),
            (r#"then = { waits = ["5 s", "3 s"] }"#, "waits must grow, but 3 s follows 5 s"),
            (r#"then = { waits = ["0 s", "3 s"] }"#, "first = \"immediate\""),
            (r#"then = { factor = 0.5 }"#, "write instead factor = 2.0"),
            (r#"then = { jitter = "none" }"#, "without jitter all clients come back at the same moment"),
            (r#"then = { jitter = 0 }"#, "without jitter"),
            (r#"then = { jitter = false }"#, "without jitter"),
            (r#"then = { jitter = "decorrelated", factor = 2.0 }"#, "remove factor"),
            (r#"then = { jitter = "decorrelated", base = "5 s", cap = "6 s" }"#, "a cap of 3 × base or more"),
            (
                r#"then = { waits = ["3 s", "9 s"], jitter = "decorrelated" }"#,
                "write jitter = \"full\" with a list",
            ),
            (r#"then = { base = 1 }"#, "\"1\" has no unit"),
            ("first = 2", "there is no second one"),
            (r#"first = ["immediate", "immediate"]"#, "there is no second one"),
            (r#"episode = { attempts = "forever" }"#, "an episode must end"),
            ("episode = { attempts = 0 }", "an episode must end"),
            ("episode = { attempts = -1 }", "an episode must end"),
            (r#"episode = { elapsed = "400 d" }"#, "an episode must end"),
            (r#"afterwards = ["tcp"]"#, "and at last \"park\""),
            (r#"afterwards = ["park", "tcp"]"#, "and at last \"park\""),
            (r#"afterwards = ["tcp", "tcp", "park"]"#, "can be tried once"),
            (r#"afterwards = ["carrier pigeon", "park"]"#, "write e.g. afterwards = [\"tcp\", \"endpoint\""),
            (r#"afterwards = "retry""#, "write e.g. afterwards"),
            ("afterwards = []", "write e.g. afterwards"),
            (r#"cool_down = "1 ms""#, "cool_down = 1 ms is too short"),
            ("retries = 3", "unknown field `retries`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}\n  says: {error}\n  but should say: {says}");
        }
    }
}
