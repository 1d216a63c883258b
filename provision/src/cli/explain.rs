//! `sluice-provision explain`: where a tenant of a gateway would go, and why nowhere else.

use std::process::ExitCode;

use clap::Args;
use wire::ids::{Environment, GatewayId, StampId, TenantId};
use wire::provisioning::Latency;
use wire::table::{Set, count, table};

use super::With;
use super::reply::{Reply, answer};
use super::show::word;
use crate::api::admin::dto::{Explanation, Question};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluice-provision explain acme --gateway plant7-line2\n  \
    sluice-provision explain acme --environment production --devices 500\n  \
    sluice-provision explain lab --environment test --round-trip 'test-1=12 ms' --round-trip 'test-2=40 ms'")]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    pub(super) with: With,
    /// The tenant.
    tenant: TenantId,
    /// The gateway; one that has not registered is good too.
    #[arg(long)]
    gateway: Option<GatewayId>,
    /// Devices; without it as many as it has now, else one.
    #[arg(long, value_name = "N")]
    devices: Option<u32>,
    /// The environment; without it the gateway's.
    #[arg(long)]
    environment: Option<Environment>,
    /// Only this stamp.
    #[arg(long)]
    stamp: Option<StampId>,
    /// A round trip that the gateway would measure; may be repeated.
    #[arg(long = "round-trip", value_name = "STAMP=SPAN", value_parser = latency)]
    latencies: Vec<Latency>,
}

fn latency(text: &str) -> Result<Latency, String> {
    let (stamp, span) =
        text.split_once('=').ok_or_else(|| "write STAMP=SPAN, e.g. 'eu-1=12 ms'".to_owned())?;
    let stamp = stamp.parse().map_err(|error: wire::ids::NameError| error.to_string())?;
    let span = backoff::duration::parse(span).map_err(|error| error.to_string())?;
    Ok(Latency { stamp, micros: u32::try_from(span.as_micros()).unwrap_or(u32::MAX) })
}

pub(super) async fn execute(arguments: ExplainArguments) -> Reply {
    let ExplainArguments { with, tenant, gateway, devices, environment, stamp, latencies } = arguments;
    let question = Question { gateway, tenant, devices, environment, stamp, latencies };
    let explanation = with.client()?.explain(&question).await?;
    answer(with.json, &explanation, |explanation| words(&question, explanation))?;
    Ok(if explanation.stamp.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(question: &Question, explanation: &Explanation) -> String {
    const HEADS: [(&str, Set); 3] = [("STAMP", Set::Left), ("", Set::Left), ("WHY", Set::Left)];
    let of = question.gateway.as_ref().map(|gateway| format!(" of gateway {gateway}")).unwrap_or_default();
    let mut text = format!(
        "tenant {}{of}, {} devices, environment {}: {}\n",
        question.tenant,
        count(u64::from(explanation.devices)),
        explanation.environment,
        match &explanation.stamp {
            Some(stamp) => format!("it would go to {stamp}"),
            None => "no stamp may serve it".to_owned(),
        }
    );
    let chosen_by = word(&explanation.policy).replace('_', " ");
    let fitting = explanation.fitting.iter().zip(1..).map(|(stamp, place)| match place {
        1 => vec![stamp.to_string(), "chosen".to_owned(), format!("the first by the rule \"{chosen_by}\"")],
        _ => vec![stamp.to_string(), "fits".to_owned(), format!("number {place} by that rule")],
    });
    let misfits = explanation.misfits.iter();
    let misfits = misfits.map(|it| vec![it.stamp.to_string(), "does not".to_owned(), it.why.clone()]);
    text.push_str(&table(&HEADS, &fitting.chain(misfits).collect::<Vec<_>>()));
    if let Some(present) = &explanation.present {
        text.push_str(&format!("  it has {} now, and keeps it until it is moved\n", present.stamp));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_a_stamp_and_a_span() {
        let good = latency("eu-1=1.5 ms").unwrap();
        assert_eq!((good.stamp.as_str(), good.micros), ("eu-1", 1_500));
        for wrong in ["eu-1", "eu-1=5", "EU=5 ms"] {
            assert!(latency(wrong).is_err(), "{wrong}");
        }
    }
}
