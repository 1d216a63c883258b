//! The questions about releases and rollouts: see [`crate::api::releases::dto`].

use reqwest::Method;
use wire::ids::{Digest, Release, TenantId};

use super::client::{Client, OperatorError};
use super::routes::{Answer, NOTHING, Wanted};
use crate::api::releases::dto::{
    ContentView, DesiredView, NewRelease, NewRollout, Page, ReleaseDetail, ReleaseView, RolloutDetail,
    RolloutFilter, RolloutState, RolloutView,
};

impl Client {
    /// Whether a content is there.
    ///
    /// # Errors
    /// [`OperatorError`], here and below.
    pub async fn has_content(&self, sha256: Digest) -> Answer<bool> {
        match self.ask::<ContentView>(Method::GET, &format!("contents/{sha256}"), NOTHING).await {
            Ok(_) => Ok(true),
            Err(OperatorError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a content.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn put_content(&self, sha256: Digest, bytes: Vec<u8>) -> Answer<ContentView> {
        self.upload(&format!("contents/{sha256}"), bytes).await
    }

    /// Publishes a release. It runs nowhere until it is rolled out.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn publish(&self, release: &NewRelease) -> Answer<ReleaseView> {
        self.ask(Method::POST, "releases", Some(release)).await
    }

    /// Releases, the newest first.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn releases(&self, tenant: Option<&TenantId>, wanted: Wanted<'_>) -> Answer<Page<ReleaseView>> {
        self.list(&of("releases", tenant), wanted).await
    }

    /// A release with its document.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn release(&self, id: Release) -> Answer<ReleaseDetail> {
        self.ask(Method::GET, &format!("releases/{id}"), NOTHING).await
    }

    /// Removes a release that no ring has or would go back to.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn remove_release(&self, id: Release) -> Answer<()> {
        self.bytes(Method::DELETE, &format!("releases/{id}"), NOTHING).await.map(drop)
    }

    /// What a tenant's gateways should run, and how they are.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn desired(&self, tenant: &TenantId) -> Answer<DesiredView> {
        self.ask(Method::GET, &format!("tenants/{tenant}/desired"), NOTHING).await
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn start_rollout(&self, rollout: &NewRollout) -> Answer<RolloutDetail> {
        self.ask(Method::POST, "rollouts", Some(rollout)).await
    }

    /// Rollouts, the newest first; paging in the filter is not looked at.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn rollouts(&self, filter: &RolloutFilter, wanted: Wanted<'_>) -> Answer<Page<RolloutView>> {
        let state = filter.state.map(|state| format!("state={}&", word(state))).unwrap_or_default();
        self.list(&(of("rollouts", filter.tenant.as_ref()) + &state), wanted).await
    }

    /// A rollout with its journal.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn rollout(&self, id: i64) -> Answer<RolloutDetail> {
        self.ask(Method::GET, &format!("rollouts/{id}"), NOTHING).await
    }

    /// Ends a rollout: the rings it has reached get back what they had.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn abort_rollout(&self, id: i64) -> Answer<RolloutDetail> {
        self.ask(Method::POST, &format!("rollouts/{id}/abort"), NOTHING).await
    }
}

fn of(what: &str, tenant: Option<&TenantId>) -> String {
    match tenant {
        Some(tenant) => format!("{what}?tenant={tenant}&"),
        None => format!("{what}?"),
    }
}

/// As it is written in a query.
fn word(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Running => "running",
        RolloutState::Finished => "finished",
        RolloutState::RolledBack => "rolled_back",
        RolloutState::Aborted => "aborted",
    }
}
