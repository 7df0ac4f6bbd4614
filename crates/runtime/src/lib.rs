//! AgentCore Runtime: control operations, the way of an invocation, sessions.
//!
//! Read in this order: `service` (which operation goes where), then either `control` (runtimes, versions, endpoints)
//! with `artifacts` (what they run), or `catalog` (what an endpoint serves), `invoke`, `session` and `upstream` (the
//! way of an invocation). `deployment` is what the two sides hand to each other; `metadata` and `credentials` are what an agent
//! gets from inside its sandbox; `trace` follows an invocation.
//!
//! Invariant: nothing here knows an HTTP status code or an exception name of the edge; failures are [`domain::Error`].

mod access;
pub mod artifacts;
pub mod catalog;
mod config;
pub mod control;
pub mod credentials;
pub mod deployment;
mod error;
pub mod invoke;
pub mod journal;
#[cfg(test)]
mod memory;
mod metadata;
pub mod metrics;
pub mod observe;
mod outbound;
pub mod service;
pub mod session;
pub mod switches;
pub mod throttle;
pub mod trace;
pub mod upstream;

pub use config::Config;
pub use service::RuntimeService;
