//! Registration with provisioning, in words: for `status` and `why`.

use std::fmt::Write;

use super::table::{count, duration};
use crate::provisioning::{Asking, ProvisioningStatus};

/// Where it stands, until when and why.
pub(super) fn sentence(status: &ProvisioningStatus, now: i64) -> String {
    let ProvisioningStatus { endpoint, registered, since, .. } = status;
    let who = match (registered, &status.environment) {
        (true, Some(environment)) => format!("registered at {endpoint} for {environment}"),
        (true, None) => format!("registered at {endpoint}"),
        (false, _) => format!("not registered at {endpoint}"),
    };
    let since = duration(seconds(now - since));
    let until = status
        .until
        .map_or(String::new(), |until| format!(", next try in {}", duration(seconds(until - now))));
    let need = status.need.as_ref().map_or(String::new(), |need| format!(", because {need}"));
    let cause = status.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
    match status.state {
        Asking::Settled => match status.renewal {
            Some(at) => format!("{who}; the certificate is renewed in {}", duration(seconds(at - now))),
            None => who,
        },
        Asking::Asking => format!("{who}; asking for {since}{need}{cause}"),
        Asking::Waiting => {
            let left = status.attempts_left.map_or(String::new(), |left| format!(" ({left} retries left)"));
            format!("{who}; waiting for {since}{until}{left}{need}{cause}")
        }
        Asking::Parked => format!("{who}; parked for {since}{until}{need}{cause}"),
        Asking::GivenUp => format!("{who}; given up until someone acts here{need}{cause}"),
    }
}

/// What `status` says of it.
pub(super) fn describe(status: &ProvisioningStatus, now: i64) -> String {
    let mut text = format!("  {}\n", sentence(status, now));
    // Writing to a string cannot fail.
    let _ = doubts(&mut text, status);
    text
}

/// What `why` says of it.
pub(super) fn details(status: &ProvisioningStatus, now: i64) -> String {
    let mut text = format!("{}\n", sentence(status, now));
    // Writing to a string cannot fail.
    let _ = doubts(&mut text, status);
    if let (Some(ends), true) = (status.certificate_ends, status.registered) {
        let left = seconds(ends - now);
        let _ = if left > 0.0 {
            writeln!(text, "  the certificate is good for {}", duration(left))
        } else {
            writeln!(text, "  the certificate has ended {} ago", duration(-left))
        };
    }
    for it in &status.assignments {
        let _ = writeln!(
            text,
            "  tenant {} goes to stamp {} (epoch {}, {} devices)",
            it.tenant,
            it.stamp,
            it.epoch,
            count(it.devices.into())
        );
    }
    let _ = writeln!(text, "  since the start: {} questions", count(status.questions));
    text
}

fn doubts(text: &mut String, status: &ProvisioningStatus) -> std::fmt::Result {
    if !status.unassigned.is_empty() {
        let tenants = status.unassigned.join(", ");
        writeln!(
            text,
            "  no stamp is assigned to {tenants}: that data stays stored; an operator adds the tenant to this gateway's enrolment"
        )?;
    }
    for it in status.assignments.iter().filter(|it| !it.configured) {
        writeln!(
            text,
            "  tenant {} is assigned to stamp {}, but the configuration does not have it: nothing is sent",
            it.tenant, it.stamp
        )?;
    }
    match (status.clock_uncertain, status.clock_behind_s) {
        (true, _) => writeln!(
            text,
            "  this machine's clock is wrong, and what time it is is not known: readings without a time are marked uncertain; set the clock"
        ),
        (false, Some(behind)) if behind > 0.0 => writeln!(
            text,
            "  this machine's clock is {} behind: what provisioning says counts; set the clock",
            duration(behind)
        ),
        (false, Some(behind)) => writeln!(
            text,
            "  this machine's clock is {} ahead: what provisioning says counts; set the clock",
            duration(-behind)
        ),
        (false, None) => Ok(()),
    }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provisioning::AssignmentStatus;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn it_says_how_registration_stands_until_when_and_why() {
        let refused = ProvisioningStatus {
            endpoint: "https://p:8443".to_owned(),
            state: Asking::Parked,
            until: Some(300 * SECOND),
            need: Some("this gateway is not registered".to_owned()),
            cause: Some("provisioning refuses (not_enrolled): no; enrol it".to_owned()),
            ..ProvisioningStatus::default()
        };
        assert_eq!(
            sentence(&refused, 60 * SECOND),
            "not registered at https://p:8443; parked for 1 min 0 s, next try in 4 min 0 s, because this gateway is not registered: \
             provisioning refuses (not_enrolled): no; enrol it"
        );
        let settled = ProvisioningStatus {
            endpoint: "https://p:8443".to_owned(),
            registered: true,
            environment: Some("test".to_owned()),
            renewal: Some(3_600 * SECOND),
            ..ProvisioningStatus::default()
        };
        assert_eq!(
            sentence(&settled, 0),
            "registered at https://p:8443 for test; the certificate is renewed in 1 h 0 min"
        );
    }

    #[test]
    fn doubts_are_said_with_what_to_do() {
        let status = ProvisioningStatus {
            unassigned: vec!["acme".to_owned()],
            assignments: vec![AssignmentStatus {
                tenant: "globex".to_owned(),
                stamp: "eu-1".to_owned(),
                ..AssignmentStatus::default()
            }],
            clock_behind_s: Some(3_600.0),
            ..ProvisioningStatus::default()
        };
        let said = describe(&status, 0);
        for part in [
            "no stamp is assigned to acme",
            "tenant globex is assigned to stamp eu-1, but",
            "clock is 1 h 0 min behind",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
