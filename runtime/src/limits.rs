//! What a step may use up. Each limit has a default and a configuration key of the same name.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The limits of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of the instance, in bytes (default 64 MiB). The guest's allocation fails, which ends its call.
    pub memory: usize,
    /// Time that one call may work, and making a fresh instance (default 500 ms; kept to about 10 ms). Waiting for a
    /// thread does not count. The guest is stopped.
    pub time: Duration,
    /// Bytes that the guest may hand over at once: the result of a call, or the arguments of a host call (default
    /// 16 MiB). The call fails.
    pub output_bytes: usize,
    /// Rows of all output frames of a call together (default 262,144). The call fails.
    pub output_rows: usize,
    /// Bytes of all state keys and values together (default 1 MiB). The guest's `set` is refused.
    pub state_bytes: usize,
    /// Log lines of one call (default 100). Those beyond are counted, not kept.
    pub log_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 64 << 20,
            time: Duration::from_millis(500),
            output_bytes: 16 << 20,
            output_rows: 1 << 18,
            state_bytes: 1 << 20,
            log_lines: 100,
        }
    }
}

/// Most elements of a guest's function table; no real plugin comes near.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Holds an instance to its memory limit, over all its memories together, and remembers that it hit it.
#[derive(Debug)]
pub(crate) struct MemoryGuard {
    limit: usize,
    /// Bytes of all memories.
    used: usize,
    pub(crate) refused: bool,
}

impl MemoryGuard {
    pub(crate) fn new(limit: usize) -> Self {
        MemoryGuard { limit, used: 0, refused: false }
    }

    /// Bytes of all memories.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The instance is gone, and its memories with it.
    pub(crate) fn released(&mut self) {
        self.used = 0;
    }
}

impl ResourceLimiter for MemoryGuard {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        let allowed = used <= self.limit;
        if allowed {
            self.used = used;
        }
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}
