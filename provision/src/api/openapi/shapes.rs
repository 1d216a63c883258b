//! The shapes of what `wire` says, for the OpenAPI document alone: `wire` itself knows nothing of HTTP.
//!
//! Invariant (tested): what `wire` writes has exactly these fields.

use utoipa::ToSchema;

/// What becomes of what a gateway has not sent when a tenant moves.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Backlog {
    /// It goes to the new stamp.
    Carry,
    /// It is given up, with a receipt: test data never reaches production.
    Drop,
}

/// A round trip that a gateway measured.
#[derive(ToSchema)]
pub struct Latency {
    /// To which stamp.
    pub stamp: String,
    /// In microseconds.
    pub micros: u32,
}
