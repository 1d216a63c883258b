//! `sluice-provision receipt`: what gateways gave up, and what stamps deleted or exported of those that had gone from them.

use clap::{Args, Subcommand, ValueEnum};
use wire::ids::{GatewayId, StampId, TenantId};
use wire::table::{Set, count, table};

use super::reply::{Reply, answer};
use super::show::{cut, list, moment};
use super::{Part, With};
use crate::api::admin::dto::{ReceiptFilter, ReceiptKind, ReceiptView};

#[derive(Debug, Args)]
pub(super) struct ReceiptArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Shows receipts, the newest first: those for which all of it holds.
    ///
    /// Stamps tell them as they come about, and they are kept here whatever becomes of the stamp: the latest 10,000 of each kind
    /// of a stamp, for ten years. Digests are told with --json.
    #[command(after_help = "Examples:\n  \
        sluice-provision receipt list --gateway plant7-line2\n  \
        sluice-provision receipt list --stamp test-1 --kind deletion --json")]
    List {
        /// Of this gateway.
        #[arg(long)]
        gateway: Option<GatewayId>,
        /// Of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Told by this stamp, which need not be there any more.
        #[arg(long)]
        stamp: Option<StampId>,
        /// Of this kind.
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        #[command(flatten)]
        part: Part,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A gateway gave it up before it had landed.
    Loss,
    /// A stamp has deleted its copy of a tenant that had gone.
    Deletion,
    /// A stamp has written its copy of a tenant that had gone to a file.
    Export,
}

impl From<Kind> for ReceiptKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Loss => Self::Loss,
            Kind::Deletion => Self::Deletion,
            Kind::Export => Self::Export,
        }
    }
}

pub(super) async fn execute(ReceiptArguments { with, command }: ReceiptArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    let ReceiptCommand::List { gateway, tenant, stamp, kind, part } = command;
    let filter =
        ReceiptFilter { gateway, tenant, stamp, kind: kind.map(Into::into), ..ReceiptFilter::default() };
    let page = client.receipts(&filter, part.wanted()).await?;
    answer(json, &page, |page| list(page, "there is no such receipt", receipts))
}

fn receipts(receipts: &[ReceiptView]) -> String {
    const HEADS: [(&str, Set); 8] = [
        ("ID", Set::Right),
        ("KIND", Set::Left),
        ("STAMP", Set::Left),
        ("GATEWAY", Set::Left),
        ("TENANT", Set::Left),
        ("ROWS", Set::Right),
        ("AT", Set::Left),
        ("", Set::Left),
    ];
    let rows: Vec<Vec<String>> = receipts
        .iter()
        .map(|receipt| {
            vec![
                receipt.id.to_string(),
                receipt.kind.as_str().to_owned(),
                receipt.stamp.to_string(),
                receipt.gateway.to_string(),
                receipt.tenant.to_string(),
                count(receipt.rows),
                moment(receipt.at),
                what(receipt),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

/// What is particular to its kind.
fn what(receipt: &ReceiptView) -> String {
    let part_of = receipt.operation.map(|id| format!("operation {id}"));
    let said = match receipt.kind {
        ReceiptKind::Loss => receipt.reason.as_deref().map(|reason| cut(reason, 40)),
        ReceiptKind::Deletion => part_of,
        ReceiptKind::Export => receipt.file.clone(),
    };
    said.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_a_line_with_what_matters_of_its_kind() {
        let view = |kind| ReceiptView {
            id: 7,
            kind,
            stamp: "test-1".parse().unwrap(),
            gateway: "g1".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            at: 0,
            heard: 1,
            rows: 1_200,
            stream: None,
            first: None,
            last: None,
            reason: Some("quota".into()),
            epoch: Some(2),
            batches: Some(3),
            bytes: Some(4),
            sha256: None,
            file: Some("departed/g1/acme-2.csv".into()),
            operation: Some(5),
        };
        let all = [ReceiptKind::Loss, ReceiptKind::Deletion, ReceiptKind::Export].map(view);
        assert_eq!(
            receipts(&all),
            "  ID  KIND      STAMP   GATEWAY  TENANT   ROWS  AT\n   \
             7  loss      test-1  g1       acme    1,200  1970-01-01T00:00:00Z  quota\n   \
             7  deletion  test-1  g1       acme    1,200  1970-01-01T00:00:00Z  operation 5\n   \
             7  export    test-1  g1       acme    1,200  1970-01-01T00:00:00Z  departed/g1/acme-2.csv\n"
        );
    }
}
