//! `sluice-provision release`: what a tenant's gateways are to run, published once and then rolled out.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use wire::ids::{Release, TenantId};
use wire::message::MAX_CONTENT_BYTES;
use wire::table::{Set, bytes, count, table};

use super::reply::{Failure, Reply, answer, print, removed};
use super::show::{NOTHING, age, cut, facts, list, moment, names, now, some, word};
use super::{Part, With};
use crate::api::releases::dto::{ConditionView, DesiredView, NewRelease, ReleaseView, RingView};
use crate::operator::Client;
use crate::operator::bundle::{self, BundleError};

#[derive(Debug, Args)]
pub(super) struct ReleaseArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: ReleaseCommand,
}

#[derive(Debug, Subcommand)]
enum ReleaseCommand {
    /// Publishes a release: uploads the plugins that its document names, and keeps both. It runs nowhere before `rollout
    /// start`.
    ///
    /// The document is the tenant's part of a gateway's file, [tenant.TENANT] with steps, decoders and routes; sources, quotas
    /// and CPU shares stay each site's own. `use = "a.wasm"` names a file beside it, which is uploaded and named by its
    /// SHA-256 from then on.
    #[command(after_help = "Examples:\n  \
        sluice-provision release add acme acme.toml --note 'bearings: smoother windows'\n  \
        sluice-provision rollout start acme 12 --watch")]
    Add {
        /// The tenant.
        tenant: TenantId,
        /// The document.
        file: PathBuf,
        /// What is new, for people.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Shows releases, the newest first.
    List {
        /// Only this tenant's.
        #[arg(long)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows one release.
    Show {
        /// Its number.
        id: u64,
        /// Only its document, as it was published.
        #[arg(long, conflicts_with = "json")]
        document: bool,
    },
    /// Removes a release that no ring has or would go back to. Plugins that no release names any more go a day after they were
    /// uploaded.
    Remove {
        /// Its number.
        id: u64,
    },
    /// Shows what a tenant's gateways should run, ring by ring, and how they do.
    Desired {
        /// The tenant.
        tenant: TenantId,
    },
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let remedy = match &error {
            BundleError::Unreadable { .. } => "files are looked for beside the document",
            BundleError::Size { .. } => "see that it is the right file",
            BundleError::Toml { .. } => "write the tenant's section as in a gateway's file",
            BundleError::Unusual { .. } => "write it as use = \"FILE\", without escapes",
        };
        Self::new("bad_release", error.to_string(), remedy)
    }
}

pub(super) async fn execute(ReleaseArguments { with, command }: ReleaseArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        ReleaseCommand::Add { tenant, file, note } => {
            let bundle = bundle::gather(&file)?;
            for (sha256, path) in bundle.files {
                upload(&client, json, sha256, &path).await?;
            }
            let release = NewRelease { tenant, document: bundle.document, note };
            answer(json, &client.publish(&release).await?, one)
        }
        ReleaseCommand::List { tenant, part } => {
            let page = client.releases(tenant.as_ref(), part.wanted()).await?;
            answer(json, &page, |page| {
                list(page, "there is no release: `sluice-provision release add`", releases)
            })
        }
        ReleaseCommand::Show { id, document } => {
            let detail = client.release(Release(id)).await?;
            answer(
                json,
                &detail,
                |detail| {
                    if document { detail.document.clone() } else { one(&detail.release) }
                },
            )
        }
        ReleaseCommand::Remove { id } => {
            client.remove_release(Release(id)).await?;
            removed(json, "release", &id.to_string())
        }
        ReleaseCommand::Desired { tenant } => answer(json, &client.desired(&tenant).await?, desired),
    }
}

/// Sends a file, unless the service has it. It is read again, so it may have changed since it was looked at.
async fn upload(
    client: &Client,
    json: bool,
    sha256: wire::ids::Digest,
    path: &std::path::Path,
) -> Result<(), Failure> {
    let has = client.has_content(sha256).await?;
    let content = bundle::read(path, MAX_CONTENT_BYTES)?;
    let size = bytes(content.len() as u64);
    if !has {
        client.put_content(sha256, content).await?;
    }
    if json {
        return Ok(());
    }
    print(&format!("{}: {size}, {}\n", path.display(), if has { "there already" } else { "uploaded" }))
}

fn releases(releases: &[ReleaseView]) -> String {
    const HEADS: [(&str, Set); 6] = [
        ("RELEASE", Set::Right),
        ("TENANT", Set::Left),
        ("PUBLISHED", Set::Left),
        ("BY", Set::Left),
        ("CONTENTS", Set::Right),
        ("NOTE", Set::Left),
    ];
    let now = now();
    let rows: Vec<Vec<String>> = releases
        .iter()
        .map(|release| {
            let size = release.contents.iter().map(|content| content.size).sum();
            let withdrawn = release.withdrawn.map(|id| format!("taken back by rollout {id}; "));
            vec![
                release.id.to_string(),
                release.tenant.to_string(),
                format!("{} ago", age(release.created, now)),
                release.operator.clone(),
                bytes(size),
                cut(&(withdrawn.unwrap_or_default() + &release.note), 45),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

fn one(release: &ReleaseView) -> String {
    let mut lines = vec![
        ("published", format!("{} by {}", moment(release.created), release.operator)),
        ("note", if release.note.is_empty() { NOTHING.to_owned() } else { release.note.clone() }),
        ("document", bytes(release.document.size)),
    ];
    for content in &release.contents {
        lines.push(("content", format!("{}  {}", content.sha256, bytes(content.size))));
    }
    if let Some(rollout) = release.withdrawn {
        lines.push(("taken back", format!("by rollout {rollout}: publish it anew to roll it out again")));
    }
    format!("release {} of tenant {}\n{}", release.id, release.tenant, facts(&lines))
}

fn desired(desired: &DesiredView) -> String {
    if desired.rings.is_empty() {
        return format!(
            "nothing was rolled out for tenant {}: its gateways run their own files\n",
            desired.tenant
        );
    }
    desired.rings.iter().map(of_ring).collect()
}

fn of_ring(ring: &RingView) -> String {
    const HEADS: [(&str, Set); 8] = [
        ("RELEASE", Set::Left),
        ("GETTING", Set::Right),
        ("RUN IT", Set::Right),
        ("REFUSE", Set::Right),
        ("WENT BACK", Set::Right),
        ("ROWS", Set::Right),
        ("FAULTS", Set::Right),
        ("REJECTED", Set::Right),
    ];
    let back = if ring.rollback { ", taken back to" } else { "" };
    let mut text = format!(
        "{} ring: {}{back} since {}\n  {} connected, {}{}\n",
        word(&ring.ring),
        name(ring.release),
        moment(ring.since),
        some(u64::from(ring.connected), "gateway"),
        some(u64::from(ring.stamps), "stamp"),
        if ring.behind.is_empty() { String::new() } else { format!("; behind: {}", names(&ring.behind)) },
    );
    let row = |it: &ConditionView| {
        let gateways = [it.fetching, it.applied, it.refused, it.rolled_back].map(u64::from);
        let numbers = gateways.into_iter().chain([it.rows, it.faults, it.rejected]).map(count);
        std::iter::once(name(it.release)).chain(numbers).collect()
    };
    text.push_str(&table(&HEADS, &ring.conditions.iter().map(row).collect::<Vec<_>>()));
    for reason in ring.conditions.iter().flat_map(|condition| &condition.reasons) {
        text.push_str(&format!("  {reason}\n"));
    }
    text
}

/// A release, or none.
pub(super) fn name(release: Release) -> String {
    if release == Release::NONE { "own files".to_owned() } else { format!("release {release}") }
}
