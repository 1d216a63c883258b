//! `sluice-gateway why`: what registration and each uplink wait for, since when, until when, why, and what it may still do; and
//! `sluice-gateway retry-now`.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::provisioned;
use super::status::{NOT_RUNNING, configured, seconds, sentence};
use super::table::{bytes, count, duration};
use crate::admin::status::Status;
use crate::admin::{AdminError, RetriedLink, ask};
use crate::provisioning::ProvisioningStatus;
use crate::uplink::{BudgetStatus, LinkState, LinkStatus, RetryStatus};

/// `why --json`, one line. Field names are an interface.
#[derive(Serialize)]
struct Why<'a> {
    gateway: &'a str,
    at: i64,
    uplinks: Vec<WhyLink<'a>>,
    retries: RetryStatus,
    budget: Option<BudgetStatus>,
    provisioning: Option<WhyProvisioning<'a>>,
}

#[derive(Serialize)]
struct WhyProvisioning<'a> {
    /// For a person.
    sentence: String,
    #[serde(flatten)]
    status: &'a ProvisioningStatus,
}

#[derive(Serialize)]
struct WhyLink<'a> {
    /// For a person.
    sentence: String,
    #[serde(flatten)]
    link: &'a LinkStatus,
}

pub(super) fn why(json: bool, config: Option<&Path>, data_dir: Option<&Path>) -> ExitCode {
    let Some(data_dir) = data_dir.map(Path::to_owned).or_else(|| configured(config)) else {
        return ExitCode::FAILURE;
    };
    let status = match ask(&data_dir) {
        Ok(status) => status,
        Err(error) => return failed(&error),
    };
    if json {
        match serde_json::to_string(&structured(&status)) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("cannot write this as JSON: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        print!("{}", describe(&status));
    }
    ExitCode::SUCCESS
}

pub(super) fn retry_now(stamp: Option<&str>, config: Option<&Path>, data_dir: Option<&Path>) -> ExitCode {
    let Some(data_dir) = data_dir.map(Path::to_owned).or_else(|| configured(config)) else {
        return ExitCode::FAILURE;
    };
    let reply = match crate::admin::retry_now(&data_dir, stamp) {
        Ok(reply) => reply,
        Err(error) => return failed(&error),
    };
    for RetriedLink { stamp, was, trying } in &reply.links {
        let was = was.as_str().replace('_', " ");
        println!("{stamp}: {}", if *trying { format!("was {was}, tries now") } else { format!("is {was}") });
    }
    if let Some(was) = reply.provisioning {
        println!("provisioning: was {}, is asked now", was.as_str().replace('_', " "));
        return ExitCode::SUCCESS;
    }
    match (reply.links.is_empty(), stamp) {
        (true, Some(stamp)) => {
            eprintln!("there is no stamp {stamp:?}: see `sluice-gateway why` for those there are");
            ExitCode::FAILURE
        }
        (true, None) => {
            eprintln!("there is no [uplink]: nothing to try");
            ExitCode::FAILURE
        }
        (false, _) => ExitCode::SUCCESS,
    }
}

fn failed(error: &AdminError) -> ExitCode {
    eprintln!("{error}");
    match error {
        AdminError::NotRunning { .. } => ExitCode::from(NOT_RUNNING),
        _ => ExitCode::FAILURE,
    }
}

fn structured(status: &Status) -> Why<'_> {
    let links = status.uplink.links.iter();
    Why {
        gateway: &status.gateway,
        at: status.at,
        uplinks: links.map(|link| WhyLink { sentence: sentence(link, status.at), link }).collect(),
        retries: status.uplink.retries,
        budget: status.uplink.budget,
        provisioning: status
            .provisioning
            .as_ref()
            .map(|it| WhyProvisioning { sentence: provisioned::sentence(it, status.at), status: it }),
    }
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    if let Some(provisioning) = &status.provisioning {
        text.push_str(&provisioned::details(provisioning, status.at));
    } else if status.uplink.links.is_empty() {
        text.push_str("there is no [uplink]: data stays in the stores\n");
        return text;
    }
    // Writing to a string cannot fail.
    for link in &status.uplink.links {
        let _ = writeln!(text, "{}", sentence(link, status.at));
        let _ = details(&mut text, link, status.at);
    }
    let RetryStatus { tokens, capacity, cost, granted, denied } = status.uplink.retries;
    let _ = writeln!(
        text,
        "retry tokens: {tokens} of {capacity}, a retry costs {cost}; {} retries granted and {} denied since the start",
        count(granted),
        count(denied)
    );
    if let Some(budget) = &status.uplink.budget {
        let _ = writeln!(
            text,
            "daily budget: {} of {} sent{}; a new day in {}",
            bytes(budget.used),
            bytes(budget.limit),
            if budget.exhausted { ", only high priority passes" } else { "" },
            duration(seconds(budget.renewed - status.at))
        );
    }
    text
}

fn details(text: &mut String, link: &LinkStatus, now: i64) -> std::fmt::Result {
    if let Some(because) = &link.parked_because {
        writeln!(text, "  parked because {because}")?;
    }
    if let (LinkState::Waiting | LinkState::Connecting, Some(left)) = (link.state, link.episode_left_s) {
        writeln!(
            text,
            "  this episode: {} retries and {} left; then {}",
            link.attempts_left.unwrap_or_default(),
            duration(left),
            match link.then.as_deref() {
                Some("endpoint") => "another endpoint",
                Some("provisioning") => "provisioning is asked",
                Some("tcp") => "the other transport",
                _ => "it parks, and begins anew after the cool-down",
            }
        )?;
    }
    if let Some(next) = &link.next
        && link.state != LinkState::Connected
    {
        writeln!(text, "  next attempt at {next}")?;
    }
    if let Some(again) = link.quic_again {
        writeln!(
            text,
            "  UDP does not come through there: data goes over TCP; QUIC is looked for in {}",
            duration(seconds(again - now))
        )?;
    }
    for tenant in link.tenants.iter().filter(|tenant| tenant.refused.is_some()) {
        writeln!(
            text,
            "  tenant {} is not taken by stamp {}: {}",
            tenant.tenant,
            link.stamp,
            tenant.refused.as_deref().unwrap_or_default()
        )?;
    }
    for tenant in link.tenants.iter().filter(|tenant| tenant.devices_refused > 0) {
        writeln!(
            text,
            "  {} devices of tenant {} are not taken: {}; their data stays stored: {}{}",
            count(tenant.devices_refused),
            tenant.tenant,
            tenant.devices_refused_because.as_deref().unwrap_or_default(),
            tenant.devices_refused_first.join(", "),
            if tenant.devices_refused_first.len() as u64 == tenant.devices_refused { "" } else { ", …" }
        )?;
    }
    writeln!(
        text,
        "  since the start: {} attempts, {} connections, {} times parked",
        count(link.attempts),
        count(link.connections),
        count(link.parked)
    )
}
