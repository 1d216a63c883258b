//! Dictionaries: device names and the different texts of a column, packed into one block.

use crate::Dictionary;

impl Dictionary {
    /// No entries yet.
    #[must_use]
    pub fn new() -> Self {
        Dictionary { text: String::new(), ends: Vec::new() }
    }

    /// The text of an entry; `None` past the end.
    #[must_use]
    pub fn get(&self, entry: u32) -> Option<&str> {
        let entry = entry as usize;
        let from = match entry.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.text.get(from as usize..*self.ends.get(entry)? as usize)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut from = 0;
        self.ends.iter().map(move |&end| {
            let entry = self.text.get(from as usize..end as usize).unwrap_or_default();
            from = end;
            entry
        })
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends an entry, known or not, and says where it is.
    pub fn push(&mut self, text: &str) -> u32 {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        self.ends.len() as u32 - 1
    }
}

impl Default for Dictionary {
    fn default() -> Self {
        Self::new()
    }
}
