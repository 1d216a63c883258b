//! What is needed from provisioning now, if anything. Pure: time is a parameter.

use std::time::Duration;

use super::kept::Known;

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Who we are must be proved: for a certificate and assignments.
    Register(Because),
    /// Another certificate, by the present one.
    Renew,
    /// The assignments as they are now, by the present certificate.
    Assignments(Because),
    /// Nothing before this time (seconds since 1970 UTC).
    Nothing {
        /// When to look again.
        until: i64,
    },
}

/// Why it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// Nothing was ever given.
    Unknown,
    /// The certificate has ended.
    Expired,
    /// Provisioning does not know the certificate.
    Disowned,
    /// A tenant of the configuration has no stamp.
    Unassigned,
    /// A stamp has refused a tenant for good, or is reached on no way.
    Astray,
    /// What time it is is not known, and provisioning does.
    Clock,
    /// An operator says so.
    Operator,
}

impl Because {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "this gateway is not registered",
            Self::Expired => "its certificate has expired",
            Self::Disowned => "provisioning does not know its certificate",
            Self::Unassigned => "a tenant has no stamp",
            Self::Astray => "a stamp has refused a tenant, or cannot be reached",
            Self::Clock => "what time it is is not known",
            Self::Operator => "an operator said so",
        }
    }
}

/// What has happened that was not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Open {
    /// Provisioning does not know the certificate.
    pub(super) disowned: bool,
    /// A tenant of the configuration has no stamp, and nobody was asked since that was found.
    pub(super) unassigned: bool,
    /// A tenant is refused by the stamp that it is assigned to.
    pub(super) astray: bool,
    /// The machine's clock is known to be wrong, and no other time is known.
    pub(super) clock: bool,
    /// An operator said "now".
    pub(super) operator: bool,
}

/// What to ask for at this time (seconds since 1970 UTC).
pub(super) fn need(known: Option<&Known>, open: Open, renew_at: i64, now: i64) -> Need {
    let Some(known) = known else { return Need::Register(Because::Unknown) };
    if known.not_after <= now {
        return Need::Register(Because::Expired);
    }
    if open.disowned {
        return Need::Register(Because::Disowned);
    }
    if open.unassigned {
        return Need::Assignments(Because::Unassigned);
    }
    if open.astray {
        return Need::Assignments(Because::Astray);
    }
    if open.clock {
        return Need::Assignments(Because::Clock);
    }
    if open.operator {
        return Need::Assignments(Because::Operator);
    }
    if renew_at <= now { Need::Renew } else { Need::Nothing { until: renew_at } }
}

/// When to renew: from half of the certificate's life on, spread over a tenth of it, so that gateways which were registered
/// together do not come together. `random` is from 0 to 1.
pub(super) fn renew_at(known: &Known, random: f64) -> i64 {
    let life = known.not_after.saturating_sub(known.issued).max(0);
    let waits = Duration::from_secs(life.unsigned_abs()).mul_f64(0.5 + 0.1 * random.clamp(0.0, 1.0));
    known.issued.saturating_add(i64::try_from(waits.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::provisioning::Registration;

    fn known() -> Known {
        let registration = Registration {
            gateway: "g".parse().unwrap(),
            environment: "test".parse().unwrap(),
            certificate: None,
            not_after: None,
            trust: String::new(),
            assignments: vec![],
            revision: 0,
            now: 1_000,
        };
        Known { registration, issued: 1_000, not_after: 2_000, told: 1_000 }
    }

    #[test]
    fn there_is_a_reason_for_every_question() {
        let (known, quiet) = (known(), Open::default());
        let at = |open, now| need(Some(&known), open, 1_500, now);
        assert_eq!(need(None, quiet, 0, 0), Need::Register(Because::Unknown));
        assert_eq!(at(quiet, 1_499), Need::Nothing { until: 1_500 });
        assert_eq!(at(quiet, 1_500), Need::Renew);
        assert_eq!(at(quiet, 2_000), Need::Register(Because::Expired));
        let astray = Open { astray: true, ..quiet };
        assert_eq!(at(astray, 1_000), Need::Assignments(Because::Astray));
        assert_eq!(at(astray, 2_000), Need::Register(Because::Expired));
        assert_eq!(at(Open { operator: true, ..quiet }, 1_000), Need::Assignments(Because::Operator));
        assert_eq!(at(Open { clock: true, ..quiet }, 1_000), Need::Assignments(Because::Clock));
        assert_eq!(at(Open { unassigned: true, ..astray }, 1_000), Need::Assignments(Because::Unassigned));
        assert_eq!(at(Open { disowned: true, ..astray }, 1_000), Need::Register(Because::Disowned));
    }

    #[test]
    fn renewal_begins_between_half_and_six_tenths_of_the_life() {
        assert_eq!(renew_at(&known(), 0.0), 1_500);
        assert_eq!(renew_at(&known(), 1.0), 1_600);
        // A certificate that has ended before it began is renewed at once.
        assert_eq!(renew_at(&Known { not_after: 900, ..known() }, 1.0), 1_000);
    }
}
