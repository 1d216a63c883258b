//! `sluice-provision operation`: what was started and goes on by itself, and waiting for it.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use wire::table::{Set, count, table};

use super::reply::{Reply, answer, line, print};
use super::show::{about, age, broken, cut, facts, journal, list, moment, names, now, some, word};
use super::{Part, With};
use crate::api::admin::dto::{OperationDetail, OperationFilter, OperationState, OperationView, Task};
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
    /// Shows operations, the newest first.
    List {
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows one operation with its journal.
    Show {
        /// Its number.
        id: i64,
    },
    /// Waits until an operation has ended, and shows how it goes. Exit code 1 if it was aborted.
    ///
    /// With --json one line whenever something has changed. A restart of the service is waited out. Ctrl-C ends the waiting,
    /// not the operation.
    Watch {
        /// Its number.
        id: i64,
    },
    /// Ends an operation: moves under way are taken back, what has moved has moved.
    Abort {
        /// Its number.
        id: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// It goes on.
    Running,
    /// All is done.
    Finished,
    /// An operator has ended it.
    Aborted,
}

impl From<State> for OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Finished => Self::Finished,
            State::Aborted => Self::Aborted,
        }
    }
}

pub(super) async fn execute(OperationArguments { with, command }: OperationArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        OperationCommand::List { state, part } => {
            let filter = OperationFilter { state: state.map(Into::into), ..OperationFilter::default() };
            let page = client.operations(&filter, part.wanted()).await?;
            answer(json, &page, |page| list(page, "there is no such operation", operations))
        }
        OperationCommand::Show { id } => answer(json, &client.operation(id).await?, one),
        OperationCommand::Watch { id } => watch(&client, json, id).await,
        OperationCommand::Abort { id } => answer(json, &client.abort(id).await?, one),
    }
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
        Task::Drain { stamp, to: other, lost } => {
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
    const HEADS: [(&str, Set); 6] = [
        ("ID", Set::Right),
        ("STATE", Set::Left),
        ("MOVED", Set::Right),
        ("OF", Set::Right),
        ("BEGUN", Set::Left),
        ("WHAT", Set::Left),
    ];
    let now = now();
    let rows: Vec<Vec<String>> = operations
        .iter()
        .map(|operation| {
            vec![
                operation.id.to_string(),
                word(&operation.state),
                count(operation.done),
                count(operation.total),
                format!("{} ago", age(operation.created, now)),
                cut(&task(&operation.task), 60),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

/// An operation, at length.
fn one(detail: &OperationDetail) -> String {
    let operation = &detail.operation;
    let lines = [
        ("begun", format!("{} by {}", moment(operation.created), operation.operator)),
        ("last did something", moment(operation.updated)),
        ("at once", format!("at most {}", some(u64::from(operation.window), "move"))),
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
            task: Task::Drain { stamp: "eu-1".parse().unwrap(), to: None, lost: false },
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
        let promote = Task::Promote { gateways, enrolment: None, environment, backlog };
        assert_eq!(task(&promote), "promote g0, g1, g2 and 7 more to production");
    }
}
