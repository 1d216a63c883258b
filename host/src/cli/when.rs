//! Times as an operator writes and reads them, with the gateway's clock: see [`wire::when`].

/// For clap: a time, or how long ago.
pub(super) fn argument(text: &str) -> Result<i64, String> {
    wire::when::ago(text, (crate::store::wall_clock())())
}

/// `2026-01-31T08:00:00.000Z`.
pub(super) fn show(nanos: i64) -> String {
    wire::when::show_digits(nanos, 3)
}
