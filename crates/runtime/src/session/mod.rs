//! Sessions: one sandbox each, from the first call of a session id to the end of its life.
//!
//! Read in this order: `router` (which session does a call belong to), `live` (what a call sees of a session), `gate`
//! (counting calls in and out), `machine` (what a session does next, pure), `owner` (the one task that does it),
//! `start`, `environment` and `wording` (making the sandbox, and saying why there is none), `ping` (asking the agent how it is), `config`.
//!
//! A call comes here from `invoke`, gets a pass into its session and the session's `upstream`, and goes on from there.
//!
//! Invariant: one session id of one endpoint reaches one sandbox at any time, and two never share one. Invariant: only
//! a session's owner changes its phase. Invariant: a session that ends is forgotten only when nothing of its sandbox
//! is left, so that the next sandbox under the same id never runs beside it.

pub mod config;
mod environment;
mod gate;
mod live;
mod machine;
mod owner;
mod ping;
pub mod report;
mod router;
mod start;
pub(crate) mod wording;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use config::Config;
pub(crate) use gate::Pass;
pub use live::Summary;
pub(crate) use live::{Ended, Session};
pub use machine::{Phase, Reason};
pub use router::{Key, LogReader, Node, Parts, Router};
