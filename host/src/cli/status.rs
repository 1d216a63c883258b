//! `sluice-gateway status`: asks the running gateway, or looks into the stores when there is none.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::desired;
use super::lanes;
use super::provisioned;
use super::table::{Set, bytes, count, duration, table};
use crate::admin::status::{OutageStatus, SourceStatus, Status, TenantStatus, UplinkStatus};
use crate::admin::{AdminError, ask};
use crate::uplink::{LinkState, LinkStatus};

/// The exit code for "it does not run", as service managers have it.
pub(super) const NOT_RUNNING: u8 = 3;

pub(super) fn status(json: bool, config: Option<&Path>, data_dir: Option<&Path>) -> ExitCode {
    let Some(data_dir) = data_dir.map(Path::to_owned).or_else(|| configured(config)) else {
        return ExitCode::FAILURE;
    };
    let (status, code) = match ask(&data_dir) {
        Ok(status) => (status, ExitCode::SUCCESS),
        Err(AdminError::NotRunning { .. }) => {
            (crate::gateway::look_into(&data_dir), ExitCode::from(NOT_RUNNING))
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if json {
        match serde_json::to_string(&status) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("cannot write the status as JSON: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        print!("{}", describe(&status, &data_dir));
    }
    code
}

/// The data folder of a configuration; its mistakes are told if they keep us from knowing it.
pub(super) fn configured(config: Option<&Path>) -> Option<PathBuf> {
    if let Some(data_dir) = gateway_config::data_dir(config?) {
        return Some(data_dir);
    }
    match gateway_config::load(config?) {
        Ok(loaded) => Some(loaded.config.gateway.data_dir),
        Err(problems) => {
            eprintln!(
                "{problems}\nthe data folder is not known from this configuration; give it with --data-dir"
            );
            None
        }
    }
}

/// The status in words.
fn describe(status: &Status, data_dir: &Path) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = head(&mut text, status, data_dir);
    let parts = [
        ("sources", sources(&status.sources)),
        ("tenants", tenants(&status.tenants)),
        ("plugins", lanes::shares(&status.tenants) + &lanes::unusual(status)),
        ("releases", releases(&status.tenants)),
        ("waiting for the stamp", outboxes(&status.tenants)),
        ("uplink", uplink(&status.uplink, status.at)),
        (
            "provisioning",
            status.provisioning.as_ref().map_or(String::new(), |it| provisioned::describe(it, status.at)),
        ),
        ("configuration read again", lanes::reloaded(status)),
    ];
    for (title, part) in parts {
        if !part.is_empty() {
            let _ = write!(text, "\n{title}\n{part}");
        }
    }
    if status.unrouted.kept + status.unrouted.evicted > 0 {
        let _ = writeln!(
            text,
            "\n{} messages of no configured topic or tenant are kept ({}), {} older ones were dropped",
            count(status.unrouted.kept),
            bytes(status.unrouted.bytes),
            count(status.unrouted.evicted)
        );
    }
    text
}

/// Nothing where no stamp has said what should run.
fn releases(tenants: &[TenantStatus]) -> String {
    let told = tenants.iter().any(|tenant| tenant.desired.is_some());
    if told { desired::describe(tenants) } else { String::new() }
}

fn head(text: &mut String, status: &Status, data_dir: &Path) -> std::fmt::Result {
    if !status.running {
        return writeln!(
            text,
            "no gateway runs with the data folder {}; this is what its stores hold",
            data_dir.display()
        );
    }
    let process = &status.process;
    let since = status.started.map_or(0.0, |started| seconds(status.at - started));
    writeln!(
        text,
        "gateway {} ({}) runs for {} as process {}",
        status.gateway,
        status.version,
        duration(since),
        status.pid.unwrap_or_default()
    )?;
    writeln!(
        text,
        "  {:.2} CPU seconds, {} resident (highest {}), {} threads",
        process.cpu_seconds,
        bytes(process.rss_bytes),
        bytes(process.rss_peak_bytes),
        process.threads
    )
}

fn sources(sources: &[SourceStatus]) -> String {
    let heads = [
        ("NAME", Set::Left),
        ("KIND", Set::Left),
        ("ADDRESS", Set::Left),
        ("CONNECTED", Set::Right),
        ("MESSAGES", Set::Right),
        ("PER SECOND", Set::Right),
        ("REFUSED", Set::Right),
        ("UNDECODABLE", Set::Right),
        ("UNROUTED", Set::Right),
    ];
    let row = |source: &SourceStatus| {
        vec![
            source.name.clone(),
            source.kind.clone(),
            source.listen.as_ref().or(source.broker.as_ref()).cloned().unwrap_or_default(),
            count(source.connections),
            count(source.messages),
            format!("{:.0}", source.messages_per_second),
            count(source.refused),
            count(source.undecodable),
            count(source.unrouted),
        ]
    };
    let mut text = table(&heads, &sources.iter().map(row).collect::<Vec<_>>());
    for source in sources.iter().filter(|source| source.broker.is_some()) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}: {}", source.name, source.state);
    }
    text
}

fn tenants(tenants: &[TenantStatus]) -> String {
    let heads = [
        ("NAME", Set::Left),
        ("ACCEPTED", Set::Right),
        ("FILTERED", Set::Right),
        ("ADDED", Set::Right),
        ("DUPLICATES", Set::Right),
        ("DEAD", Set::Right),
        ("LANDED", Set::Right),
        ("LOST", Set::Right),
        ("LANE", Set::Left),
        ("STORE", Set::Left),
    ];
    let row = |tenant: &TenantStatus| {
        vec![
            tenant.name.clone(),
            count(tenant.accepted_rows),
            count(tenant.filtered_rows),
            count(tenant.derived_rows),
            count(tenant.duplicates),
            count(tenant.dead_letters),
            count(tenant.landed_rows),
            count(tenant.lost_rows),
            tenant.lane.clone(),
            tenant.store.clone(),
        ]
    };
    let mut text = table(&heads, &tenants.iter().map(row).collect::<Vec<_>>());
    for tenant in tenants.iter().filter(|tenant| tenant.dead_letters_kept + tenant.dead_letters_evicted > 0) {
        let TenantStatus { name, dead_letters_kept, dead_letters_bytes, dead_letters_evicted, .. } = tenant;
        // Writing to a string cannot fail.
        let _ = write!(text, "  {name}: {} dead letters are kept", count(*dead_letters_kept));
        let _ = write!(text, " ({}, see `dead-letters list`)", bytes(*dead_letters_bytes));
        if *dead_letters_evicted > 0 {
            let _ = write!(text, ", {} older ones were deleted for them", count(*dead_letters_evicted));
        }
        text.push('\n');
    }
    text
}

fn outboxes(tenants: &[TenantStatus]) -> String {
    let heads = [
        ("NAME", Set::Left),
        ("BATCHES", Set::Right),
        ("ROWS", Set::Right),
        ("BYTES", Set::Right),
        ("OLDEST", Set::Right),
        ("RECEIPTS", Set::Right),
        ("ON DISK", Set::Right),
        ("QUOTA", Set::Right),
        ("FILLS", Set::Right),
        ("COVERS", Set::Left),
    ];
    let row = |tenant: &TenantStatus| {
        let outbox = &tenant.outbox;
        vec![
            tenant.name.clone(),
            count(outbox.batches),
            count(outbox.rows),
            bytes(outbox.bytes),
            if outbox.batches == 0 { String::from("-") } else { duration(outbox.oldest_s) },
            count(outbox.receipts),
            bytes(tenant.disk_bytes),
            if tenant.quota_bytes == 0 { String::from("-") } else { bytes(tenant.quota_bytes) },
            match tenant.outage.fill_bytes_per_second {
                Some(rate) => format!("{}/s", bytes(rate.round() as u64)),
                None => String::from("-"),
            },
            covers(&tenant.outage),
        ]
    };
    table(&heads, &tenants.iter().map(row).collect::<Vec<_>>())
}

/// How long an outage is covered, and by what.
fn covers(outage: &OutageStatus) -> String {
    match (outage.covered_hours, &outage.bound) {
        (Some(hours), Some(bound)) => format!("{} ({bound})", duration(hours * 3_600.0)),
        _ => String::from("-"),
    }
}

fn uplink(uplink: &UplinkStatus, now: i64) -> String {
    let mut text = String::new();
    for link in &uplink.links {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", sentence(link, now));
        for tenant in &link.tenants {
            if let Some(reason) = &tenant.refused {
                let (tenant, stamp) = (&tenant.tenant, &link.stamp);
                let _ = writeln!(text, "    tenant {tenant} is not taken by stamp {stamp}: {reason}");
            }
        }
    }
    if let Some(budget) = uplink.budget.filter(|budget| budget.exhausted) {
        let _ = writeln!(
            text,
            "  the daily budget of {} is used up: only high priority passes for another {}",
            bytes(budget.limit),
            duration(seconds(budget.renewed - now))
        );
    }
    text
}

/// Where a link stands, until when and why.
pub(super) fn sentence(link: &LinkStatus, now: i64) -> String {
    let LinkStatus { stamp, endpoint, since, .. } = link;
    let since = duration(seconds(now - since));
    let until =
        link.until.map_or(String::new(), |until| format!(", next try in {}", duration(seconds(until - now))));
    let cause = link.cause.as_ref().map_or(String::new(), |cause| format!(": {cause}"));
    let left = link.attempts_left.map_or(String::new(), |left| format!(" ({left} retries left)"));
    let given_up = match link.given_up {
        0 => String::new(),
        given_up => format!("; {} refused for good", count(given_up)),
    };
    let held = match link.held {
        0 => String::new(),
        held => format!("; {} refused for now", count(held)),
    };
    match link.state {
        LinkState::Connected => format!(
            "{stamp}: connected to {endpoint} for {since}; {} batches ({}) on their way, {} acknowledged{given_up}{held}",
            count(link.in_flight_batches),
            bytes(link.in_flight_bytes),
            count(link.acked)
        ),
        LinkState::Connecting => format!("{stamp}: connecting to {endpoint} for {since}{cause}"),
        LinkState::Waiting => format!("{stamp}: waiting for {since}{until}{left}{cause}"),
        LinkState::Parked => format!("{stamp}: parked for {since}{until}{cause}"),
        LinkState::GivenUp => format!("{stamp}: given up until someone acts{cause}"),
        LinkState::Stopped => format!("{stamp}: stopped"),
    }
}

pub(super) fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(state: LinkState) -> LinkStatus {
        LinkStatus {
            stamp: "eu-1".to_owned(),
            endpoint: "quic://stamp:7443".to_owned(),
            state,
            since: 0,
            until: None,
            cause: None,
            attempts_left: None,
            episode_left_s: None,
            next: None,
            then: None,
            parked_because: None,
            quic_again: None,
            attempts: 1,
            parked: 0,
            connections: 1,
            in_flight_batches: 12,
            in_flight_bytes: 1_258_291,
            acked: 4_711,
            given_up: 0,
            held: 0,
            tenants: Vec::new(),
        }
    }

    #[test]
    fn a_link_says_how_it_stands_until_when_and_why() {
        let second = 1_000_000_000;
        assert_eq!(
            sentence(&link(LinkState::Connected), 90 * second),
            "eu-1: connected to quic://stamp:7443 for 1 min 30 s; 12 batches (1.2 MiB) on their way, 4,711 acknowledged"
        );
        let waiting = LinkStatus {
            until: Some(12 * second),
            cause: Some("connection refused".to_owned()),
            attempts_left: Some(7),
            ..link(LinkState::Waiting)
        };
        assert_eq!(
            sentence(&waiting, 3 * second),
            "eu-1: waiting for 3 s, next try in 9 s (7 retries left): connection refused"
        );
    }
}
