//! Configurations as people write them: the examples, and mistakes with what is said about them.

mod examples;
mod mistakes;
mod site;
