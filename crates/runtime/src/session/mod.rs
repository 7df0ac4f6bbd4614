//! Sessions: one sandbox each, from the first call of a session id to the end of its life.
//!
//! Read in this order: `router` (which session does a call belong to), `live` (what a call sees of a session), `gate` and
//! `calls` (counting calls in and out), `machine` (what a session does next, pure), `owner` (the one task that does it),
//! `start`, `environment`, `wording` and `excerpt` (making the sandbox, and saying why there is none), `ping` (asking the
//! agent how it is), `pool` (sandboxes that are ready before a session asks), `room` (whether the host can hold one more),
//! `adopt` (taking over what an earlier server process left), `chores` (what is done from time to time), `storage`, `inside` (what a
//! sandbox reaches of this server), `trial`
//! (a sandbox that tries a version), `facts` and `report` (what an operator sees), `config`.
//!
//! A call comes here from `invoke`, gets a pass into its session and the session's `upstream`, and goes on from there.
//!
//! Invariant: one session id of one endpoint reaches one sandbox at any time, and two never share one. Invariant: only
//! a session's owner changes its phase. Invariant: a session that ends is forgotten only when nothing of its sandbox
//! is left, so that the next sandbox under the same id never runs beside it.

mod adopt;
mod calls;
mod chores;
pub mod config;
mod environment;
mod excerpt;
mod facts;
mod gate;
mod inside;
mod live;
mod machine;
mod owner;
mod ping;
mod pool;
pub mod report;
mod room;
mod router;
mod start;
mod storage;
mod trial;
pub(crate) mod wording;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use adopt::Recovered;
pub(crate) use calls::InFlight;
pub use config::Config;
pub(crate) use excerpt::excerpt;
pub use live::Summary;
pub(crate) use live::{Ended, Session};
pub use machine::{Phase, Reason};
pub use router::{Key, LogReader, Node, Parts, Router};
