//! A release in place of what runs: as a reload of one tenant, noted before and after.

use std::sync::Arc;

use gateway_config::taken_over;
use tokio::task::JoinSet;
use wire::ids::TenantId;

use super::super::TenantParts;
use super::super::loader::Loader;
use super::super::reload::{Reloads, State, tenant_part};
use super::super::shelf::Shelf;
use super::Follow;
use super::kept::Release;
use super::overlay::overlay;
use crate::admin::desired::DesiredStatus;

impl Reloads {
    /// Follows what should run for these tenants; one task each, for whoever awaits them.
    pub(in crate::gateway) fn follow(&self, tenants: &[TenantParts]) -> JoinSet<()> {
        let mut following = JoinSet::new();
        for tenant in tenants {
            let follow = Follow {
                tenant: tenant.id.clone(),
                desk: Arc::clone(&self.desk),
                reloads: self.clone(),
                store: Arc::clone(&tenant.store),
                watch: tenant.lane.watch(),
                folder: self.folder.clone(),
            };
            following.spawn(follow.run());
        }
        following
    }

    /// Which release a stamp wants for a tenant and which one runs; nothing if no stamp has ever said.
    pub(in crate::gateway) fn desired(&self, tenant: &TenantId) -> Option<DesiredStatus> {
        self.desk.status(tenant)
    }

    /// What a tenant runs if a stamp has ever said so, and what was begun in an earlier life and is not done.
    pub(super) async fn released(&self, tenant: &TenantId) -> (Option<Release>, Option<Release>) {
        let state = self.state.lock().await;
        (state.releases.runs(tenant).cloned(), state.releases.pending(tenant))
    }

    /// Whether a tenant's lane runs this release; for one without any, whether it says nothing either.
    pub(super) async fn runs(&self, tenant: &TenantId, release: &Release) -> bool {
        let state = self.state.lock().await;
        let unstarted = state.lanes.get(tenant).is_none_or(|lane| lane.is_unstarted());
        let damaged = state.releases.of(tenant).is_some() && state.releases.runs(tenant).is_none();
        let none = Release::default();
        !unstarted && !damaged && state.releases.runs(tenant).unwrap_or(&none).says(release)
    }

    /// The number of the release that runs, and since when.
    pub(super) async fn running(&self, tenant: &TenantId) -> (u64, i64) {
        let state = self.state.lock().await;
        let number = state.releases.runs(tenant).map_or(0, |release| release.number);
        (number, state.releases.of(tenant).map_or(0, |record| record.since))
    }

    pub(super) fn shelf(&self) -> Shelf {
        self.loader.shelf.clone()
    }

    /// Reads a release whose contents may not be here yet.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub(super) async fn look_at(&self, tenant: &TenantId, release: &Release) -> Result<(), String> {
        let state = self.state.lock().await;
        state.overlay(tenant, release, &self.loader).map(drop)
    }

    /// Lets a tenant run a release whose contents are here.
    ///
    /// # Errors
    /// Why it does not, for a person: what ran before goes on.
    pub(super) async fn run_release(&self, tenant: &TenantId, release: Release) -> Result<(), String> {
        let mut state = self.state.lock().await;
        let done = state.run_release(tenant, release, &self.loader).await;
        self.loader.forget();
        self.seen().configured = state.configured();
        done
    }

    /// Notes that a release was refused.
    pub(super) async fn refused(&self, tenant: &TenantId, number: u64, reason: &str) {
        self.state.lock().await.releases.refused(tenant, number, reason);
    }
}

impl State {
    fn overlay(
        &self,
        id: &TenantId,
        release: &Release,
        loader: &Loader,
    ) -> Result<gateway_config::Tenant, String> {
        let file = self.running.tenants.get(id).ok_or_else(|| format!("this gateway has no tenant {id}"))?;
        overlay(file, release, &self.running.gateway.plugins_dir, &loader.shelf)
    }

    async fn run_release(&mut self, id: &TenantId, release: Release, loader: &Loader) -> Result<(), String> {
        self.settle(loader).await;
        let tenant = self.overlay(id, &release, loader)?;
        let lane = self.lanes.get_mut(id).ok_or_else(|| format!("this gateway has no tenant {id}"))?;
        let (tenant, _) = taken_over(&lane.tenant, &tenant);
        let way = self.releases.begin(id, release)?;
        let became = tenant_part(lane, tenant, &mut self.applied, loader, (true, way)).await;
        if let Some(error) = became.error {
            return Err(error);
        }
        self.releases.swapped(id);
        self.settle(loader).await;
        Ok(())
    }
}
