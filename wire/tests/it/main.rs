//! The two ends of a session against each other, in virtual time.

mod pair;
