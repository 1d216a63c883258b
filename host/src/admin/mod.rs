//! What an operator sees of a running gateway: the [`status`], told over the [`socket`] in the data folder, and what the
//! [`process`] costs.
//!
//! Shows, and passes on an operator's "now"; changes nothing else. The parts tell their own figures; `gateway` gathers them.

pub mod process;
pub mod socket;
pub mod status;

pub use process::Process;
pub use socket::{AdminError, AdminSocket, RetriedLink, RetryReply, ask, retry_now};
pub use status::Status;
