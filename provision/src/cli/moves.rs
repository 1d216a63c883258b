//! What moves gateways between stamps: `move`, `drain`, `undrain`, `promote`; and `cordon`, `uncordon`, which only keep new
//! ones away. Each that moves is an operation, which goes on by itself: see [`super::operation`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use wire::ids::{EnrolmentId, Environment, GatewayId, StampId, TenantId};
use wire::provisioning::CopyPolicy;
use wire::table::{Set, count, table};

use super::reply::{Failure, Reply, answer, line, print};
use super::show::{about, some};
use super::{With, operation};
use crate::api::admin::dto::{Plan, StampChange, StampState, Task};
use crate::operator::Client;

/// Most bytes of a file with names of gateways.
const MAX_FILE_BYTES: u64 = 8 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum MovesCommand {
    /// Moves a tenant, or everything of a gateway, to another stamp, without losing or repeating anything.
    Move {
        #[command(flatten)]
        with: With,
        #[command(subcommand)]
        what: Moved,
    },
    /// Sends nobody new to a stamp; those it has stay.
    Cordon {
        #[command(flatten)]
        with: With,
        /// The stamp.
        stamp: StampId,
    },
    /// Sends gateways to a stamp again.
    Uncordon {
        #[command(flatten)]
        with: With,
        /// The stamp.
        stamp: StampId,
    },
    /// Moves everything of a stamp elsewhere, at most so much at once, and sends nobody new there.
    #[command(after_help = "Examples:\n  \
        sluice-provision drain eu-1 --dry-run      where everything would go, and how long it would take\n  \
        sluice-provision drain eu-1 --window 100 --watch")]
    Drain {
        #[command(flatten)]
        with: With,
        /// The stamp.
        stamp: StampId,
        /// To this stamp; without it, where the rules send them.
        #[arg(long, value_name = "STAMP")]
        to: Option<StampId>,
        /// What becomes of what it has landed: it does not go along.
        #[arg(long, value_enum, default_value = "keep")]
        copy: CopyLeft,
        #[command(flatten)]
        course: Course,
    },
    /// Ends a drain: what has moved has moved, the rest stays, and gateways are sent there again.
    Undrain {
        #[command(flatten)]
        with: With,
        /// The stamp.
        stamp: StampId,
    },
    /// Sends gateways to another environment with all their tenants: from test to production.
    ///
    /// What they have not sent by then is given up, with a receipt, since test data does not belong in production: see
    /// --backlog. The stamps they leave refuse them at once, they ask here, and go where they belong by themselves.
    #[command(after_help = "Examples:\n  \
        sluice-provision promote plant7-line2 --to production --watch\n  \
        sluice-provision promote plant7-line2 --to production --copy delete --watch\n  \
        sluice-provision promote --enrolment line-gateways --to production --dry-run\n  \
        sluice-provision promote --gateways-from tested.txt --to production")]
    Promote {
        #[command(flatten)]
        with: With,
        /// The gateways.
        gateways: Vec<GatewayId>,
        /// And all that came in by this enrolment.
        #[arg(long)]
        enrolment: Option<EnrolmentId>,
        /// And those that this file names, one a line; - is standard input.
        #[arg(long, value_name = "FILE")]
        gateways_from: Option<PathBuf>,
        /// Where to.
        #[arg(long, value_name = "ENVIRONMENT")]
        to: Environment,
        /// What becomes of what they have not sent.
        #[arg(long, value_enum, default_value = "drop")]
        backlog: Backlog,
        /// What becomes of what the stamps they leave have landed: it does not go along.
        #[arg(long, value_enum, default_value = "keep")]
        copy: CopyLeft,
        #[command(flatten)]
        course: Course,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Moved {
    /// Moves a tenant: at all its gateways, or at some.
    #[command(after_help = "Examples:\n  \
        sluice-provision move tenant acme --to eu-2 --dry-run\n  \
        sluice-provision move tenant acme --from eu-1 --gateway plant7-line2")]
    Tenant {
        /// The tenant.
        tenant: TenantId,
        /// Only at this gateway; may be repeated.
        #[arg(long = "gateway", value_name = "GATEWAY")]
        gateways: Vec<GatewayId>,
        #[command(flatten)]
        way: Way,
        #[command(flatten)]
        course: Course,
    },
    /// Moves all tenants of a gateway, or some.
    #[command(after_help = "Examples:\n  \
        sluice-provision move gateway plant7-line2 --to eu-2\n  \
        sluice-provision move gateway plant7-line2 --tenant acme --backlog drop")]
    Gateway {
        /// The gateways.
        #[arg(required = true)]
        gateways: Vec<GatewayId>,
        /// Only this tenant; may be repeated.
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<TenantId>,
        #[command(flatten)]
        way: Way,
        #[command(flatten)]
        course: Course,
    },
}

/// From where to where.
#[derive(Debug, Args)]
pub(super) struct Way {
    /// Only what is at this stamp.
    #[arg(long, value_name = "STAMP")]
    from: Option<StampId>,
    /// To this stamp; without it, where the rules send it.
    #[arg(long, value_name = "STAMP")]
    to: Option<StampId>,
    /// What becomes of what was not sent.
    #[arg(long, value_enum, default_value = "carry")]
    backlog: Backlog,
    /// What becomes of what the stamps that are left have landed: it does not go along.
    #[arg(long, value_enum, default_value = "keep")]
    copy: CopyLeft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Backlog {
    /// It goes to the new stamp.
    Carry,
    /// It is given up, with a receipt.
    Drop,
}

/// What becomes of what the stamps that are left have landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CopyLeft {
    /// It stays, for as long as the stamp keeps copies.
    Keep,
    /// It is written to a file there, with a receipt, and stays.
    Export,
    /// It is deleted for good, with a receipt.
    Delete,
}

impl From<CopyLeft> for CopyPolicy {
    fn from(copy: CopyLeft) -> Self {
        match copy {
            CopyLeft::Keep => Self::Keep,
            CopyLeft::Export => Self::Export,
            CopyLeft::Delete => Self::Delete,
        }
    }
}

impl From<Backlog> for wire::provisioning::Backlog {
    fn from(backlog: Backlog) -> Self {
        match backlog {
            Backlog::Carry => Self::Carry,
            Backlog::Drop => Self::Drop,
        }
    }
}

/// How an operation goes.
#[derive(Debug, Args)]
pub(super) struct Course {
    /// Do nothing: say what would be done, where to, and how long it would take.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Most moves under way at once; 50 without it.
    #[arg(long, value_name = "N")]
    pub(super) window: Option<u32>,
    /// Wait until it is done, and show how it goes. Exit code 1 if it is aborted.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) watch: bool,
}

impl MovesCommand {
    pub(super) fn with(&self) -> &With {
        match self {
            Self::Move { with, .. }
            | Self::Cordon { with, .. }
            | Self::Uncordon { with, .. }
            | Self::Drain { with, .. }
            | Self::Undrain { with, .. }
            | Self::Promote { with, .. } => with,
        }
    }
}

pub(super) async fn execute(command: MovesCommand) -> Reply {
    let (client, json) = (command.with().client()?, command.with().json);
    let state = async |stamp: &StampId, state| {
        let change = StampChange { state: Some(state), ..StampChange::default() };
        answer(json, &client.change_stamp(stamp, &change).await?, super::stamp::one)
    };
    match command {
        MovesCommand::Move { what, .. } => {
            let (gateways, tenants, way, course) = match what {
                Moved::Tenant { tenant, gateways, way, course } => (gateways, vec![tenant], way, course),
                Moved::Gateway { gateways, tenants, way, course } => (gateways, tenants, way, course),
            };
            let Way { from, to, backlog, copy } = way;
            let (backlog, copy) = (backlog.into(), copy.into());
            let task = Task::Move { gateways, tenants, from, to, backlog, copy };
            start(&client, json, task, &course).await
        }
        MovesCommand::Cordon { stamp, .. } => state(&stamp, StampState::Cordoned).await,
        MovesCommand::Uncordon { stamp, .. } => state(&stamp, StampState::Active).await,
        MovesCommand::Drain { stamp, to, copy, course, .. } => {
            let task = Task::Drain { stamp, to, lost: false, copy: copy.into() };
            start(&client, json, task, &course).await
        }
        MovesCommand::Undrain { stamp, .. } => {
            answer(json, &client.undrain(&stamp).await?, super::stamp::one)
        }
        MovesCommand::Promote {
            mut gateways, enrolment, gateways_from, to, backlog, copy, course, ..
        } => {
            if let Some(file) = gateways_from {
                gateways.extend(listed(&file)?);
            }
            if gateways.is_empty() && enrolment.is_none() {
                return Err(Failure::usage(
                    "no gateway is named",
                    "name gateways, --enrolment, or --gateways-from",
                ));
            }
            let (backlog, copy) = (backlog.into(), copy.into());
            let task = Task::Promote { gateways, enrolment, environment: to, backlog, copy };
            start(&client, json, task, &course).await
        }
    }
}

/// Starts an operation, or says what it would do.
pub(super) async fn start(client: &Client, json: bool, task: Task, course: &Course) -> Reply {
    if course.dry_run {
        return answer(json, &client.plan(task, course.window).await?, plan);
    }
    let started = client.start(task, course.window).await?;
    if course.watch {
        return operation::watch(client, json, started.operation.id).await;
    }
    if json {
        line(&started)?;
    } else {
        print(&operation::begun(&started.operation))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What would be done.
fn plan(plan: &Plan) -> String {
    const HEADS: [(&str, Set); 3] =
        [("WOULD GO TO", Set::Left), ("TENANTS OF GATEWAYS", Set::Right), ("DEVICES", Set::Right)];
    let rows: Vec<Vec<String>> = plan
        .destinations
        .iter()
        .map(|to| vec![to.stamp.to_string(), count(to.moves), count(to.devices)])
        .collect();
    let mut text = format!("nothing is changed; {} would be made now", some(plan.moves, "move"));
    if plan.moves > 0 {
        text.push_str(&format!(", in {}", about(plan.estimate_seconds)));
    }
    text.push('\n');
    text.push_str(&table(&HEADS, &rows));
    match plan.copy {
        CopyPolicy::Keep => {}
        CopyPolicy::Export => {
            text.push_str("  what the stamps that are left have landed would be exported there\n")
        }
        CopyPolicy::Delete => {
            text.push_str("  what the stamps that are left have landed would be deleted for good\n")
        }
    }
    if plan.unchanged > 0 {
        text.push_str(&format!("  {} there already, or on their way\n", count(plan.unchanged)));
    }
    if plan.without_room > 0 {
        text.push_str(&format!(
            "  {} would wait, for there is no stamp for them:\n",
            count(plan.without_room)
        ));
        for reason in &plan.reasons {
            text.push_str(&format!("    {reason}\n"));
        }
    }
    text
}

/// Names of gateways, one a line; empty lines and those that begin with # are passed over.
fn listed(file: &Path) -> Result<Vec<GatewayId>, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::new("unreadable", format!("cannot read {}: {error}", file.display()), ""))?;
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| {
            line.parse().map_err(|error| {
                Failure::new(
                    "bad_name",
                    format!("{}:{number}: {error}", file.display()),
                    "write one id of a gateway a line",
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admin::dto::Destination;

    #[test]
    fn a_plan_says_where_to_how_long_and_what_would_wait() {
        let text = plan(&Plan {
            moves: 3,
            destinations: vec![Destination { stamp: "eu-2".parse().unwrap(), moves: 3, devices: 1_500 }],
            without_room: 1,
            reasons: vec!["eu-3: it is cordoned".into()],
            unchanged: 2,
            copy: CopyPolicy::Delete,
            estimate_seconds: 95,
        });
        assert_eq!(
            text,
            "nothing is changed; 3 moves would be made now, in about 1 min 35 s\n  \
             WOULD GO TO  TENANTS OF GATEWAYS  DEVICES\n  \
             eu-2                           3    1,500\n  \
             what the stamps that are left have landed would be deleted for good\n  \
             2 there already, or on their way\n  \
             1 would wait, for there is no stamp for them:\n    \
             eu-3: it is cordoned\n"
        );
    }

    #[test]
    fn a_file_names_gateways_and_its_mistakes_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tested.txt");
        std::fs::write(&path, "# tested in May\nplant7-line2\n\n plant7-line3 \n").unwrap();
        let names: Vec<String> = listed(&path).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["plant7-line2", "plant7-line3"]);
        std::fs::write(&path, "plant7-line2\nPlant 8\n").unwrap();
        assert!(format!("{:?}", listed(&path).unwrap_err()).contains("tested.txt:2: "));
    }
}
