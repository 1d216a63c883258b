//! What an operator sees of a running gateway: the [`status`], told over the [`socket`] in the data folder, and what the
//! [`process`] costs.
//!
//! Shows, and passes on what an operator orders ([`question`]); does nothing itself. The parts tell their own figures;
//! `gateway` gathers them and has orders carried out.

pub mod desired;
pub mod process;
pub mod question;
pub mod reload;
pub mod socket;
pub mod status;

pub use process::Process;
pub use question::{Answer, Question, RetriedLink, RetryReply};
pub use socket::{AdminError, AdminSocket, ask, order, order_within, retry_now};
pub use status::Status;
