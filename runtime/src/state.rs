//! A step's kept state: key/value pairs in memory, with the changes of the running call on top.
//!
//! Invariants: keys and values together never pass the limit, nor their number [`MAX_KEYS`]; a call's changes become part of the state by
//! [`State::take_changes`] alone, and vanish by [`State::roll_back`].

use std::collections::BTreeMap;

/// Longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 256;
/// Most keys: an entry costs memory beyond its bytes, and [`State::keys`] hands out all of them in one go.
pub(crate) const MAX_KEYS: usize = 65_536;

/// A change to write to the kept state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The key.
    pub key: String,
    /// Its new value; `None` if it was removed.
    pub value: Option<Vec<u8>>,
}

/// Why a value is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Quota,
    Key,
}

/// The state and the changes on top.
#[derive(Debug)]
pub(crate) struct State {
    limit: usize,
    kept: BTreeMap<String, Vec<u8>>,
    changes: BTreeMap<String, Option<Vec<u8>>>,
    /// Bytes of `kept`, and with `changes`.
    kept_bytes: usize,
    bytes: usize,
    /// Whether this call was refused for the quota.
    pub(crate) over_quota: bool,
}

impl State {
    pub(crate) fn new(limit: usize, entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let kept: BTreeMap<_, _> = entries.into_iter().collect();
        let bytes = kept.iter().map(|(key, value)| key.len() + value.len()).sum();
        State { limit, kept, changes: BTreeMap::new(), kept_bytes: bytes, bytes, over_quota: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is kept, without the changes of the running call.
    pub(crate) fn kept(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.kept
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Vec<u8>> {
        match self.changes.get(key) {
            Some(change) => change.as_ref(),
            None => self.kept.get(key),
        }
    }

    pub(crate) fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), Refused> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Refused::Key);
        }
        let bytes = self.bytes - self.entry_bytes(&key) + key.len() + value.len();
        // Both parts of the state, though a key may be in both: a bound, not a count.
        let keys = self.kept.len() + self.changes.len();
        if bytes > self.limit || (keys >= MAX_KEYS && self.get(&key).is_none()) {
            self.over_quota = true;
            return Err(Refused::Quota);
        }
        self.bytes = bytes;
        self.changes.insert(key, Some(value));
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: String) {
        self.bytes -= self.entry_bytes(&key);
        // A key that was never kept need not be removed from anywhere.
        if self.kept.contains_key(&key) {
            self.changes.insert(key, None);
        } else {
            self.changes.remove(&key);
        }
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = self
            .kept
            .range(prefix.to_owned()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .filter(|key| !self.changes.contains_key(*key))
            .cloned()
            .collect();
        let set = self.changes.iter().filter(|(key, change)| change.is_some() && key.starts_with(prefix));
        keys.extend(set.map(|(key, _)| key.clone()));
        keys.sort();
        keys
    }

    /// The call succeeded: its changes become part of the state and are handed over to be written.
    pub(crate) fn take_changes(&mut self) -> Vec<StateChange> {
        self.kept_bytes = self.bytes;
        let changes = std::mem::take(&mut self.changes);
        for (key, value) in &changes {
            match value {
                Some(value) => self.kept.insert(key.clone(), value.clone()),
                None => self.kept.remove(key),
            };
        }
        changes.into_iter().map(|(key, value)| StateChange { key, value }).collect()
    }

    /// The call failed: nothing was changed.
    pub(crate) fn roll_back(&mut self) {
        self.changes.clear();
        self.bytes = self.kept_bytes;
        self.over_quota = false;
    }

    fn entry_bytes(&self, key: &str) -> usize {
        self.get(key).map_or(0, |value| key.len() + value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_removed_key_is_gone_at_once_and_back_after_a_rollback() {
        let mut state = State::new(100, [("a".to_owned(), vec![1])]);
        state.delete("a".to_owned());
        assert_eq!(state.get("a"), None);
        assert!(state.keys("").is_empty());
        state.roll_back();
        assert_eq!(state.get("a"), Some(&vec![1]));
        assert_eq!(state.bytes(), 2);
    }

    #[test]
    fn the_limit_holds_over_keys_and_values_together() {
        let mut state = State::new(10, []);
        assert_eq!(state.set("key".into(), vec![0; 7]), Ok(()));
        assert_eq!(state.set("k".into(), vec![]), Err(Refused::Quota));
        assert_eq!(state.set("key".into(), vec![0; 6]), Ok(()));
        assert_eq!(state.set("k".into(), vec![]), Ok(()));
        assert_eq!(state.set(String::new(), vec![]), Err(Refused::Key));
    }

    proptest! {
        /// Against a plain map: after any calls, some of which fail, state and byte count are the map's.
        #[test]
        fn it_behaves_like_a_map_with_transactions(
            calls in proptest::collection::vec(
                (proptest::collection::vec((0_u8..6, proptest::option::of(0_usize..8)), 0..8), any::<bool>()),
                0..12,
            )
        ) {
            let mut state = State::new(30, []);
            let mut model = BTreeMap::<String, Vec<u8>>::new();
            for (changes, succeeds) in calls {
                let mut next = model.clone();
                for (key, length) in changes {
                    let key = format!("k{key}");
                    match length {
                        None => { next.remove(&key); state.delete(key); }
                        Some(length) => {
                            let mut wanted = next.clone();
                            wanted.insert(key.clone(), vec![7; length]);
                            let fits = wanted.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= 30;
                            prop_assert_eq!(state.set(key, vec![7; length]).is_ok(), fits);
                            if fits { next = wanted; }
                        }
                    }
                    prop_assert_eq!(state.keys("k"), next.keys().cloned().collect::<Vec<_>>());
                }
                if succeeds { state.take_changes(); model = next; } else { state.roll_back(); }
                prop_assert_eq!(&state.kept, &model);
                prop_assert_eq!(state.bytes(), model.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
            }
        }
    }
}
