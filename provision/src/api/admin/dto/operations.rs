//! Operations: asked for, thought through, under way.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::ids::StampId;
use wire::provisioning::CopyPolicy;

use crate::model::{OperationState, Task};

/// An operation to be started, or to be thought through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOperation {
    /// What is to be done.
    pub task: Task,
    /// Most moves under way at once; 50 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub window: Option<u32>,
    /// Do nothing, say what would be done: a [`Plan`].
    #[serde(default)]
    pub dry_run: bool,
}

/// What an operation would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Tenants of gateways that would move.
    pub moves: u64,
    /// Where to.
    pub destinations: Vec<Destination>,
    /// Those for which there is no stamp now: they would wait.
    pub without_room: u64,
    /// Why, for some of them.
    pub reasons: Vec<String>,
    /// Those that are there already, or are on their way.
    pub unchanged: u64,
    /// What would become of what the stamps that are left have landed.
    #[serde(default)]
    #[schema(value_type = crate::api::openapi::shapes::CopyPolicy)]
    pub copy: CopyPolicy,
    /// How long it would take by what moves took of late.
    pub estimate_seconds: u64,
}

/// What a stamp would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Destination {
    /// The stamp.
    #[schema(value_type = String)]
    pub stamp: StampId,
    /// Tenants of gateways.
    pub moves: u64,
    /// Their devices.
    pub devices: u64,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    /// Its number.
    pub id: i64,
    /// How it stands.
    pub state: OperationState,
    /// What it does just now, for a person.
    pub step: String,
    /// What is to be done.
    pub task: Task,
    /// Most moves at once.
    pub window: u32,
    /// Moves there are to make, as counted so far.
    pub total: u64,
    /// Moves made.
    pub done: u64,
    /// Moves under way.
    pub under_way: u64,
    /// Pairs that stay where they are, for a reason that the journal says.
    pub skipped: u64,
    /// Who started it.
    pub operator: String,
    /// When.
    pub created: i64,
    /// When it last did something.
    pub updated: i64,
    /// How long it will take from now on; absent: it has ended, waits, or nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_seconds: Option<u64>,
}

/// An operation with its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationDetail {
    /// It.
    pub operation: OperationView,
    /// Receipts that come of its moves: of copies deleted and exported. `GET /v1/admin/receipts` names them.
    #[serde(default)]
    pub receipts: u64,
    /// The latest lines, the oldest first.
    pub journal: Vec<JournalLine>,
}

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalLine {
    /// When.
    pub at: i64,
    /// What was done.
    pub text: String,
}

/// The answer to [`NewOperation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Started {
    /// It has begun.
    Operation(OperationDetail),
    /// It was a dry run.
    Plan(Plan),
}
