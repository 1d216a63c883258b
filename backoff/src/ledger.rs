//! A budget of retries over all causes: each retry costs tokens, each success earns one back. When many things fail at
//! once, or one fails for long, the tokens run out and only what begins anew after a cool-down is tried.
//!
//! Numbers as in the "standard" retry mode of the AWS SDKs: capacity 500, a retry costs 5, a success without a retry earns 1,
//! a retry that succeeds gives its 5 back (AWS SDKs and Tools Reference Guide, "Retry behavior"; `token_bucket.rs` of
//! aws-smithy-runtime, where a time-out costs 10: not here, since towards one stamp nearly every fault shows as one).
//! gRPC proposal A6 has the same bucket with other words (`maxTokens`, `tokenRatio`, failures cost 1) and stops at half of
//! it. Unlike both, a connection alone is no success: otherwise a peer that accepts and drops would be retried for ever.
//! Acknowledged work earns, and a connection that lasted [`Policy::stable_for`](crate::Policy::stable_for) gives one
//! retry back, so a gateway that has little to say can still retry once after each fault.
//!
//! So over any time: `granted × 5 ≤ 500 + acknowledgements + 5 × stable connections`.

/// Tokens of a full ledger.
pub const CAPACITY: u32 = 500;
/// Tokens that a retry costs.
pub const RETRY_COST: u32 = 5;
/// Tokens that a success earns.
pub const SUCCESS_EARNS: u32 = 1;

/// Tokens that are left, and what became of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    tokens: u32,
    capacity: u32,
    granted: u64,
    denied: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Ledger {
    /// A full ledger of that many tokens, at least one retry's worth.
    #[must_use]
    pub fn with_capacity(capacity: u32) -> Self {
        let capacity = capacity.max(RETRY_COST);
        Self { tokens: capacity, capacity, granted: 0, denied: 0 }
    }

    /// Takes the tokens of one retry; false if there are not enough.
    pub fn spend(&mut self) -> bool {
        match self.tokens.checked_sub(RETRY_COST) {
            Some(left) => {
                self.tokens = left;
                self.granted = self.granted.saturating_add(1);
                true
            }
            None => {
                self.denied = self.denied.saturating_add(1);
                false
            }
        }
    }

    /// Work was acknowledged by the other side (not merely: a connection stands).
    pub fn on_success(&mut self) {
        self.tokens = self.tokens.saturating_add(SUCCESS_EARNS).min(self.capacity);
    }

    /// A connection has lasted: what its retry cost comes back.
    pub fn on_stable(&mut self) {
        self.tokens = self.tokens.saturating_add(RETRY_COST).min(self.capacity);
    }

    /// Tokens left.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Retries granted since the beginning.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// Retries denied since the beginning.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stop_when_the_tokens_are_gone_and_work_earns_them_back() {
        let mut ledger = Ledger::default();
        let granted = std::iter::from_fn(|| ledger.spend().then_some(())).take(1_000).count();
        assert_eq!(granted, 100);
        assert_eq!((ledger.tokens(), ledger.granted(), ledger.denied()), (0, 100, 1));
        for _ in 0..RETRY_COST {
            assert!(!ledger.spend());
            ledger.on_success();
        }
        assert!(ledger.spend());
        for _ in 0..2 * CAPACITY {
            ledger.on_success();
        }
        assert_eq!(ledger.tokens(), CAPACITY);
    }
}
