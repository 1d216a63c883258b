//! The questions of `/v1/admin`: see [`crate::api::admin::dto`].

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::ids::{EnrolmentId, GatewayId, StampId, TenantId};

use super::client::{Client, OperatorError};
use crate::api::admin::dto::{
    AuditEntry, Enrolled, EnrolmentChange, EnrolmentView, Explanation, GatewayDetail, GatewayFilter,
    GatewayView, KeyAnswer, KeyQuestion, MAX_LIMIT, NewEnrolment, NewOperation, NewStamp, NewTenant,
    OperationDetail, OperationFilter, OperationState, OperationView, Page, Plan, Question, ReceiptFilter,
    ReceiptKind, ReceiptView, StampChange, StampView, Status, Task, TenantChange, TenantView,
};

/// Which part of a list, over as many pages as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Go on after this.
    pub after: Option<&'a str>,
    /// At most so many; `None`: all.
    pub limit: Option<u64>,
}

pub(super) type Answer<T> = Result<T, OperatorError>;
pub(super) const NOTHING: Option<&()> = None;

impl Client {
    /// How the service stands.
    ///
    /// # Errors
    /// [`OperatorError`], here and below.
    pub async fn status(&self) -> Answer<Status> {
        self.ask(Method::GET, "status", NOTHING).await
    }

    /// All stamps.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn stamps(&self, wanted: Wanted<'_>) -> Answer<Page<StampView>> {
        self.list("stamps?", wanted).await
    }

    /// One stamp.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn stamp(&self, id: &StampId) -> Answer<StampView> {
        self.ask(Method::GET, &format!("stamps/{id}"), NOTHING).await
    }

    /// Registers a stamp.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn add_stamp(&self, stamp: &NewStamp) -> Answer<StampView> {
        self.ask(Method::POST, "stamps", Some(stamp)).await
    }

    /// Changes a stamp.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn change_stamp(&self, id: &StampId, change: &StampChange) -> Answer<StampView> {
        self.ask(Method::PATCH, &format!("stamps/{id}"), Some(change)).await
    }

    /// Ends the drains of a stamp, and lets it take gateways again.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn undrain(&self, id: &StampId) -> Answer<StampView> {
        self.ask(Method::POST, &format!("stamps/{id}/undrain"), NOTHING).await
    }

    /// Forgets a stamp that serves nobody.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn remove_stamp(&self, id: &StampId) -> Answer<()> {
        self.remove(&format!("stamps/{id}")).await
    }

    /// All tenants.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn tenants(&self, wanted: Wanted<'_>) -> Answer<Page<TenantView>> {
        self.list("tenants?", wanted).await
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn tenant(&self, id: &TenantId) -> Answer<TenantView> {
        self.ask(Method::GET, &format!("tenants/{id}"), NOTHING).await
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn add_tenant(&self, tenant: &NewTenant) -> Answer<TenantView> {
        self.ask(Method::POST, "tenants", Some(tenant)).await
    }

    /// Changes a tenant's rules.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn change_tenant(&self, id: &TenantId, change: &TenantChange) -> Answer<TenantView> {
        self.ask(Method::PATCH, &format!("tenants/{id}"), Some(change)).await
    }

    /// Forgets a tenant that nobody serves.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn remove_tenant(&self, id: &TenantId) -> Answer<()> {
        self.remove(&format!("tenants/{id}")).await
    }

    /// All enrolments.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn enrolments(&self, wanted: Wanted<'_>) -> Answer<Page<EnrolmentView>> {
        self.list("enrolments?", wanted).await
    }

    /// One enrolment.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn enrolment(&self, id: &EnrolmentId) -> Answer<EnrolmentView> {
        self.ask(Method::GET, &format!("enrolments/{id}"), NOTHING).await
    }

    /// Enrols a gateway or a group.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn add_enrolment(&self, enrolment: &NewEnrolment) -> Answer<Enrolled> {
        self.ask(Method::POST, "enrolments", Some(enrolment)).await
    }

    /// Changes an enrolment.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn change_enrolment(
        &self,
        id: &EnrolmentId,
        change: &EnrolmentChange,
    ) -> Answer<EnrolmentView> {
        self.ask(Method::PATCH, &format!("enrolments/{id}"), Some(change)).await
    }

    /// Forgets an enrolment that no gateway came in by.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn remove_enrolment(&self, id: &EnrolmentId) -> Answer<()> {
        self.remove(&format!("enrolments/{id}")).await
    }

    /// The key of a gateway of a group.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn enrolment_key(&self, id: &EnrolmentId, gateway: &GatewayId) -> Answer<KeyAnswer> {
        let question = KeyQuestion { gateway: gateway.clone() };
        self.ask(Method::POST, &format!("enrolments/{id}/key"), Some(&question)).await
    }

    /// Gateways that have registered; paging in the filter is not looked at.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn gateways(&self, filter: &GatewayFilter, wanted: Wanted<'_>) -> Answer<Page<GatewayView>> {
        let mut path = "gateways?".to_owned();
        let filters = [
            ("stamp", filter.stamp.as_ref().map(StampId::as_str)),
            ("tenant", filter.tenant.as_ref().map(TenantId::as_str)),
            ("enrolment", filter.enrolment.as_ref().map(EnrolmentId::as_str)),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push_str(&format!("{name}={value}&"));
            }
        }
        self.list(&path, wanted).await
    }

    /// One gateway, with its stamps.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn gateway(&self, id: &GatewayId) -> Answer<GatewayDetail> {
        self.ask(Method::GET, &format!("gateways/{id}"), NOTHING).await
    }

    /// Has a gateway refused everywhere, or let in again.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn block_gateway(&self, id: &GatewayId, blocked: bool) -> Answer<GatewayDetail> {
        let what = if blocked { "block" } else { "unblock" };
        self.ask(Method::POST, &format!("gateways/{id}/{what}"), NOTHING).await
    }

    /// Forgets a gateway: its stamps are told, what was promised for it is free.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn remove_gateway(&self, id: &GatewayId) -> Answer<()> {
        self.remove(&format!("gateways/{id}")).await
    }

    /// Operations, the newest first; paging in the filter is not looked at.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        wanted: Wanted<'_>,
    ) -> Answer<Page<OperationView>> {
        let path = match filter.state {
            Some(state) => format!("operations?state={}&", word(state)),
            None => "operations?".to_owned(),
        };
        self.list(&path, wanted).await
    }

    /// An operation with its journal.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn operation(&self, id: i64) -> Answer<OperationDetail> {
        self.ask(Method::GET, &format!("operations/{id}"), NOTHING).await
    }

    /// Starts an operation.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn start(&self, task: Task, window: Option<u32>) -> Answer<OperationDetail> {
        let question = NewOperation { task, window, dry_run: false };
        self.ask(Method::POST, "operations", Some(&question)).await
    }

    /// What an operation would do; nothing is changed.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn plan(&self, task: Task, window: Option<u32>) -> Answer<Plan> {
        let question = NewOperation { task, window, dry_run: true };
        self.ask(Method::POST, "operations", Some(&question)).await
    }

    /// Ends an operation; what has moved has moved.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn abort(&self, id: i64) -> Answer<OperationDetail> {
        self.ask(Method::POST, &format!("operations/{id}/abort"), NOTHING).await
    }

    /// Where a tenant of a gateway would go.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn explain(&self, question: &Question) -> Answer<Explanation> {
        self.ask(Method::POST, "explain", Some(question)).await
    }

    /// Receipts that stamps have told, the newest first; paging in the filter is not looked at.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn receipts(&self, filter: &ReceiptFilter, wanted: Wanted<'_>) -> Answer<Page<ReceiptView>> {
        let mut path = "receipts?".to_owned();
        let filters = [
            ("gateway", filter.gateway.as_ref().map(GatewayId::as_str)),
            ("tenant", filter.tenant.as_ref().map(TenantId::as_str)),
            ("stamp", filter.stamp.as_ref().map(StampId::as_str)),
            ("kind", filter.kind.map(ReceiptKind::as_str)),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path.push_str(&format!("{name}={value}&"));
            }
        }
        self.list(&path, wanted).await
    }

    /// What operators did, the newest first.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn audit(&self, wanted: Wanted<'_>) -> Answer<Page<AuditEntry>> {
        self.list("audit?", wanted).await
    }

    async fn remove(&self, path: &str) -> Answer<()> {
        self.bytes(Method::DELETE, path, NOTHING).await.map(drop)
    }

    /// As many pages as it takes; `path` ends with `?` or `&`.
    pub(super) async fn list<T>(&self, path: &str, wanted: Wanted<'_>) -> Answer<Page<T>>
    where
        T: DeserializeOwned + Serialize,
    {
        let mut all = Page { items: Vec::new(), next: wanted.after.map(str::to_owned) };
        loop {
            let left = wanted.limit.map_or(u64::MAX, |limit| limit.saturating_sub(all.items.len() as u64));
            if left == 0 {
                return Ok(all);
            }
            let limit = left.min(u64::from(MAX_LIMIT));
            let after = all.next.as_deref().map(|next| format!("&after={next}")).unwrap_or_default();
            let page: Page<T> =
                self.ask(Method::GET, &format!("{path}limit={limit}{after}"), NOTHING).await?;
            let empty = page.items.is_empty();
            all.items.extend(page.items);
            all.next = page.next;
            if all.next.is_none() || empty {
                return Ok(all);
            }
        }
    }
}

/// As it is written in a query.
fn word(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "running",
        OperationState::Finished => "finished",
        OperationState::Aborted => "aborted",
    }
}
