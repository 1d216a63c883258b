//! `sluice-provision operation`: what was started and goes on by itself, rollouts among it, and waiting for it.
//!
//! Operations and rollouts share one row of numbers. Where a number of an older registry means both, it is the operation here;
//! the rollout is at `sluice-provision rollout`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use wire::provisioning::CopyPolicy;
use wire::table::{Set, count, table};

use super::reply::{Reply, answer, line, print};
use super::show::{NOTHING, about, age, broken, cut, facts, journal, list, moment, names, now, some, word};
use super::{Part, With, rollout};
use crate::api::admin::dto::{OperationDetail, OperationFilter, OperationState, OperationView, Page, Task};
use crate::api::releases::dto::{RolloutDetail, RolloutFilter, RolloutState, RolloutView};
use crate::operator::watch::{Seen, until_ended};
use crate::operator::{Client, OperatorError};

/// Names of gateways or tenants that are shown of a task.
const MAX_NAMED: usize = 3;

#[derive(Debug, Args)]
pub(super) struct OperationArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: OperationCommand,
}

#[derive(Debug, Subcommand)]
enum OperationCommand {
    /// Shows operations and rollouts, the newest first.
    ///
    /// With --json, what has `task` is an operation, and what has `release` is a rollout.
    List {
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows one operation or rollout with its journal.
    Show {
        /// Its number.
        id: i64,
    },
    /// Waits until an operation or a rollout has ended, and shows how it goes. Exit code 1 if it was aborted or taken back.
    ///
    /// With --json one line whenever something has changed. A restart of the service is waited out. Ctrl-C ends the waiting,
    /// not the operation.
    Watch {
        /// Its number.
        id: i64,
    },
    /// Ends an operation: moves under way are taken back, what has moved has moved. Or a rollout: the rings it has reached get
    /// back what they had.
    Abort {
        /// Its number.
        id: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// It goes on.
    Running,
    /// All is done.
    Finished,
    /// An operator has ended it.
    Aborted,
    /// A rollout whose gate has failed.
    RolledBack,
}

impl State {
    /// `None`: no operation stands so.
    fn of_operation(self) -> Option<OperationState> {
        match self {
            Self::Running => Some(OperationState::Running),
            Self::Finished => Some(OperationState::Finished),
            Self::Aborted => Some(OperationState::Aborted),
            Self::RolledBack => None,
        }
    }

    pub(super) fn of_rollout(self) -> RolloutState {
        match self {
            Self::Running => RolloutState::Running,
            Self::Finished => RolloutState::Finished,
            Self::Aborted => RolloutState::Aborted,
            Self::RolledBack => RolloutState::RolledBack,
        }
    }
}

/// What goes on by itself.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Item {
    Operation(OperationView),
    Rollout(RolloutView),
}

impl Item {
    fn id(&self) -> i64 {
        match self {
            Self::Operation(it) => it.id,
            Self::Rollout(it) => it.id,
        }
    }
}

pub(super) async fn execute(OperationArguments { with, command }: OperationArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        OperationCommand::List { state, part } => {
            let page = page(&client, state, &part).await?;
            answer(json, &page, |page| list(page, "there is no such operation", items))
        }
        OperationCommand::Show { id } => match find(&client, id).await? {
            Found::Operation(detail) => answer(json, &detail, one),
            Found::Rollout(detail) => answer(json, &detail, rollout::one),
        },
        OperationCommand::Watch { id } => match found(&client, id).await? {
            Found::Operation(_) => watch(&client, json, id).await,
            Found::Rollout(_) => rollout::watch(&client, json, id).await,
        },
        OperationCommand::Abort { id } => match find(&client, id).await? {
            Found::Operation(_) => answer(json, &client.abort(id).await?, one),
            Found::Rollout(_) => answer(json, &client.abort_rollout(id).await?, rollout::one),
        },
    }
}

/// What a number means.
enum Found {
    Operation(OperationDetail),
    Rollout(RolloutDetail),
}

async fn find(client: &Client, id: i64) -> Result<Found, OperatorError> {
    match client.operation(id).await {
        Ok(detail) => Ok(Found::Operation(detail)),
        Err(error @ OperatorError::Refused { status: 404, .. }) => match client.rollout(id).await {
            Ok(detail) => Ok(Found::Rollout(detail)),
            // It is none of both.
            Err(OperatorError::Refused { status: 404, .. }) => Err(error),
            Err(other) => Err(other),
        },
        Err(error) => Err(error),
    }
}

/// As [`find`], and waits where there is no answer.
async fn found(client: &Client, id: i64) -> Result<Found, OperatorError> {
    let tell = |seen: Seen<'_, Found>| {
        if let Seen::Failed(error, wait) = seen {
            asking_again(error, wait);
        }
    };
    until_ended(async || find(client, id).await, |_| true, tell).await
}

/// The newest of both.
async fn page(client: &Client, state: Option<State>, part: &Part) -> Result<Page<Item>, OperatorError> {
    let of_operation = state.map(State::of_operation);
    let operations = match of_operation {
        Some(None) => Page { items: Vec::new(), next: None },
        _ => {
            let filter = OperationFilter { state: of_operation.flatten(), ..OperationFilter::default() };
            client.operations(&filter, part.wanted()).await?
        }
    };
    let filter = RolloutFilter { state: state.map(State::of_rollout), ..RolloutFilter::default() };
    let rollouts = client.rollouts(&filter, part.wanted()).await?;
    Ok(merged(operations, rollouts, usize::try_from(part.limit).unwrap_or(usize::MAX)))
}

fn merged(operations: Page<OperationView>, rollouts: Page<RolloutView>, limit: usize) -> Page<Item> {
    let mut more = operations.next.is_some() || rollouts.next.is_some();
    let operations = operations.items.into_iter().map(Item::Operation);
    let mut items: Vec<Item> = operations.chain(rollouts.items.into_iter().map(Item::Rollout)).collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.id()));
    more |= items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| item.id().to_string());
    Page { items, next }
}

/// Waits until it has ended, and shows how it goes: a line whenever something has changed.
pub(super) async fn watch(client: &Client, json: bool, id: i64) -> Reply {
    let mut before: Option<OperationView> = None;
    let mut told = Ok(());
    let has_ended = |detail: &OperationDetail| detail.operation.state != OperationState::Running;
    let ended = until_ended(
        async || client.operation(id).await,
        has_ended,
        |seen| {
            let said = match seen {
                Seen::State(detail) if has_changed(before.as_ref(), &detail.operation) => {
                    let first = before.is_none();
                    let view = before.insert(detail.operation.clone());
                    match (json, first) {
                        (true, _) => line(&detail),
                        (false, true) => print(&format!("{}{}", heading(view), progress(view))),
                        (false, false) => print(&progress(view)),
                    }
                }
                Seen::State(_) => Ok(()),
                Seen::Failed(error, wait) => {
                    asking_again(error, wait);
                    Ok(())
                }
            };
            if told.is_ok() {
                told = said;
            }
        },
    )
    .await?;
    told?;
    Ok(match ended.operation.state {
        OperationState::Aborted => ExitCode::FAILURE,
        OperationState::Running | OperationState::Finished => ExitCode::SUCCESS,
    })
}

/// Says that there was no answer; the watching goes on.
pub(super) fn asking_again(error: &OperatorError, wait: Duration) {
    let wait = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    eprintln!("{error}; asking again in {}", backoff::duration::format(wait));
}

/// Whether there is anything new to tell; an estimate alone is none.
fn has_changed(before: Option<&OperationView>, now: &OperationView) -> bool {
    let of = |it: &OperationView| (it.state, it.step.clone(), it.total, it.done, it.under_way, it.skipped);
    before.is_none_or(|before| of(before) != of(now))
}

/// An operation has begun.
pub(super) fn begun(operation: &OperationView) -> String {
    let id = operation.id;
    format!(
        "{}  {} to make; it goes on by itself\n  \
         sluice-provision operation watch {id}   to see it through\n  \
         sluice-provision operation abort {id}   to end it: what has moved has moved\n",
        heading(operation),
        some(operation.total, "move"),
    )
}

fn heading(operation: &OperationView) -> String {
    format!("operation {}: {}\n", operation.id, task(&operation.task))
}

/// `  12 of 400 moved (3%), 50 under way, about 2 min 5 s left: …`
fn progress(operation: &OperationView) -> String {
    let percent = (operation.done * 100).checked_div(operation.total).unwrap_or(100);
    let mut text = format!("{} of {} moved ({percent}%)", count(operation.done), count(operation.total));
    if operation.under_way > 0 {
        text.push_str(&format!(", {} under way", count(operation.under_way)));
    }
    if operation.skipped > 0 {
        text.push_str(&format!(", {} stay where they are", count(operation.skipped)));
    }
    match (operation.state, operation.estimate_seconds) {
        (OperationState::Running, Some(seconds)) => text.push_str(&format!(", {} left", about(seconds))),
        (OperationState::Running, None) => {}
        (state, _) => text.push_str(&format!(", {}", word(&state))),
    }
    broken("  ", 4, &format!("{text}: {}", operation.step))
}

/// What is to be done, in a few words.
fn task(task: &Task) -> String {
    let to =
        |to: Option<String>| to.map_or_else(|| "where the rules send it".to_owned(), |to| format!("to {to}"));
    match task {
        Task::Move { gateways, tenants, from, to: stamp, .. } => {
            let what = if tenants.is_empty() { "everything".to_owned() } else { few(tenants) };
            let at = if gateways.is_empty() { String::new() } else { format!(" of {}", few(gateways)) };
            let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
            format!("move {what}{at}{from} {}", to(stamp.as_ref().map(ToString::to_string)))
        }
        Task::Drain { stamp, to: other, lost, .. } => {
            let what = if *lost { "give up" } else { "drain" };
            format!("{what} {stamp}, {}", to(other.as_ref().map(ToString::to_string)))
        }
        Task::Promote { gateways, enrolment, environment, .. } => {
            let group = enrolment.as_ref().map(|enrolment| format!("all of enrolment {enrolment}"));
            let named = (!gateways.is_empty()).then(|| few(gateways));
            let who: Vec<String> = named.into_iter().chain(group).collect();
            format!("promote {} to {environment}", who.join(" and "))
        }
    }
}

/// The first names, and how many there are beside.
fn few<T: std::fmt::Display>(all: &[T]) -> String {
    let (first, rest) = all.split_at(all.len().min(MAX_NAMED));
    let more =
        if rest.is_empty() { String::new() } else { format!(" and {} more", count(rest.len() as u64)) };
    names(first) + &more
}

/// Operations, a line each.
pub(super) fn operations(operations: &[OperationView]) -> String {
    items(&operations.iter().cloned().map(Item::Operation).collect::<Vec<_>>())
}

/// Operations and rollouts, a line each.
fn items(items: &[Item]) -> String {
    const HEADS: [(&str, Set); 6] = [
        ("ID", Set::Right),
        ("STATE", Set::Left),
        ("MOVED", Set::Right),
        ("OF", Set::Right),
        ("BEGUN", Set::Left),
        ("WHAT", Set::Left),
    ];
    let now = now();
    let row = |item: &Item| match item {
        Item::Operation(operation) => vec![
            operation.id.to_string(),
            word(&operation.state),
            count(operation.done),
            count(operation.total),
            format!("{} ago", age(operation.created, now)),
            cut(&task(&operation.task), 60),
        ],
        // It moves nothing.
        Item::Rollout(rollout) => vec![
            rollout.id.to_string(),
            rollout::state(rollout),
            NOTHING.to_owned(),
            NOTHING.to_owned(),
            format!("{} ago", age(rollout.created, now)),
            cut(&rollout::what(rollout), 60),
        ],
    };
    table(&HEADS, &items.iter().map(row).collect::<Vec<_>>())
}

/// An operation, at length.
fn one(detail: &OperationDetail) -> String {
    let operation = &detail.operation;
    let copies = match operation.task.copy() {
        CopyPolicy::Keep => "kept at the stamps that are left",
        CopyPolicy::Export => "exported at the stamps that are left",
        CopyPolicy::Delete => "deleted at the stamps that are left",
    };
    let lines = [
        ("begun", format!("{} by {}", moment(operation.created), operation.operator)),
        ("last did something", moment(operation.updated)),
        ("at once", format!("at most {}", some(u64::from(operation.window), "move"))),
        ("copies", format!("{copies}; {} of that", some(detail.receipts, "receipt"))),
    ];
    heading(operation) + &progress(operation) + &facts(&lines) + &journal(&detail.journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> OperationView {
        OperationView {
            id: 7,
            state: OperationState::Running,
            step: "50 moves under way".into(),
            task: Task::Drain {
                stamp: "eu-1".parse().unwrap(),
                to: None,
                lost: false,
                copy: CopyPolicy::Keep,
            },
            window: 50,
            total: 400,
            done: 12,
            under_way: 50,
            skipped: 0,
            operator: "ops".into(),
            created: 0,
            updated: 0,
            estimate_seconds: Some(125),
        }
    }

    #[test]
    fn progress_says_how_far_and_how_long() {
        assert_eq!(
            heading(&view()) + &progress(&view()),
            "operation 7: drain eu-1, where the rules send it\n  \
             12 of 400 moved (3%), 50 under way, about 2 min 5 s left: 50 moves under way\n"
        );
        let aborted = OperationView { state: OperationState::Aborted, under_way: 0, ..view() };
        assert!(progress(&aborted).contains(", aborted: "), "{}", progress(&aborted));
        let nothing = OperationView { total: 0, done: 0, ..view() };
        assert!(progress(&nothing).contains("(100%)"));
    }

    #[test]
    fn operations_and_rollouts_are_one_list_by_number() {
        let operation = |id| OperationView { id, ..view() };
        let rollout = |id| RolloutView {
            id,
            state: RolloutState::RolledBack,
            step: String::new(),
            tenant: "acme".parse().unwrap(),
            release: wire::ids::Release(12),
            rings: vec![crate::allocation::Ring::Fast, crate::allocation::Ring::Slow],
            soak_seconds: 0,
            gate: crate::rollout::Gate::default(),
            operator: "ops".into(),
            reached: vec![],
            created: 0,
            updated: 0,
        };
        let page = |limit, next: Option<&str>| {
            let operations = Page { items: vec![operation(5), operation(2)], next: None };
            let rollouts = Page { items: vec![rollout(4), rollout(3)], next: next.map(str::to_owned) };
            let merged = merged(operations, rollouts, limit);
            (merged.items.iter().map(Item::id).collect::<Vec<_>>(), merged.next, items(&merged.items))
        };
        let (ids, next, shown) = page(9, None);
        assert_eq!((ids, next), (vec![5, 4, 3, 2], None));
        assert!(
            shown.contains("drain eu-1") && shown.contains("roll release 12 of tenant acme out"),
            "{shown}"
        );
        assert!(shown.contains("rolled back"), "{shown}");
        let (ids, next, _) = page(3, None);
        assert_eq!((ids, next), (vec![5, 4, 3], Some("3".to_owned())), "the last one did not fit");
        assert_eq!(page(9, Some("3")).1, Some("2".to_owned()), "there are more of one kind");
    }

    #[test]
    fn only_news_are_told() {
        let before = view();
        assert!(has_changed(None, &before));
        let estimated = OperationView { estimate_seconds: Some(1), updated: 9, ..view() };
        assert!(!has_changed(Some(&before), &estimated));
        assert!(has_changed(Some(&before), &OperationView { done: 13, ..view() }));
    }

    #[test]
    fn a_task_of_many_names_a_few() {
        let gateways = (0..10).map(|number| format!("g{number}").parse().unwrap()).collect();
        let environment = "production".parse().unwrap();
        let backlog = wire::provisioning::Backlog::Drop;
        let promote =
            Task::Promote { gateways, enrolment: None, environment, backlog, copy: CopyPolicy::Keep };
        assert_eq!(task(&promote), "promote g0, g1, g2 and 7 more to production");
    }
}
