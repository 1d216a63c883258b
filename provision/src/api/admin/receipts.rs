//! Receipts, as operators see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use wire::provisioning::{Receipt, Receipted};

use super::dto::{Page, ReceiptFilter, ReceiptKind, ReceiptView};
use super::{Operator, limit, number, page, seconds};
use crate::api::Service;
use crate::api::problem::Refused;
use crate::api::question::Asked;
use crate::registry::receipts::{self, Filter, Kept};

/// What stamps have told of losses, deletions and exports, the newest first; also of stamps that are not there any more.
#[utoipa::path(get, path = "/v1/admin/receipts", tag = "insight", params(ReceiptFilter),
    responses((status = 200, body = Page<ReceiptView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<ReceiptFilter>,
) -> Result<Json<Page<ReceiptView>>, Refused> {
    let (limit, before) = (limit(asked.limit)?, number(asked.after.as_deref())?);
    let ReceiptFilter { gateway, tenant, stamp, kind, .. } = asked;
    let filter = Filter { gateway, tenant, stamp, kind };
    let found = service.registry.read(move |db| receipts::list(db, &filter, before, limit + 1)).await?;
    let views = found.into_iter().map(view).collect();
    Ok(Json(page(views, limit, |receipt: &ReceiptView| receipt.id.to_string())))
}

fn view(kept: Kept) -> ReceiptView {
    let Kept { id, stamp, heard, operation, receipt } = kept;
    let Receipt { number: _, gateway, tenant, at_ns, rows, what } = receipt;
    let view = ReceiptView {
        id,
        kind: ReceiptKind::of(&what),
        stamp,
        gateway,
        tenant,
        at: seconds(at_ns),
        heard: seconds(heard),
        rows,
        stream: None,
        first: None,
        last: None,
        reason: None,
        epoch: None,
        batches: None,
        bytes: None,
        sha256: None,
        file: None,
        operation,
    };
    match what {
        Receipted::Loss { stream, first, last, reason } => ReceiptView {
            stream: Some(format!("{:016x}", stream.0)),
            first: Some(first),
            last: Some(last),
            reason: Some(reason),
            ..view
        },
        Receipted::Deletion { epoch, batches, bytes, sha256 } => ReceiptView {
            epoch: Some(epoch),
            batches: Some(batches),
            bytes: Some(bytes),
            sha256: Some(sha256.to_string()),
            ..view
        },
        Receipted::Export { epoch, batches, bytes, sha256, file } => ReceiptView {
            epoch: Some(epoch),
            batches: Some(batches),
            bytes: Some(bytes),
            sha256: Some(sha256.to_string()),
            file: Some(file),
            ..view
        },
    }
}
