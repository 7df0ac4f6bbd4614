//! AgentCore Runtime: control operations, the way of an invocation, sessions.
//!
//! Read in this order: `service` (which operation goes where), then either `control` (runtimes, versions, endpoints)
//! with `artifacts` (what they run), or `catalog` (what an endpoint serves), `invoke`, `session` and `upstream` (the
//! way of an invocation). `deployment` is what the two sides hand to each other.
//!
//! Invariant: nothing here knows an HTTP status code or an exception name of the edge; failures are [`domain::Error`].

pub mod artifacts;
pub mod catalog;
mod config;
pub mod control;
pub mod deployment;
mod error;
pub mod invoke;
pub mod journal;
#[cfg(test)]
mod memory;
pub mod metrics;
pub mod observe;
pub mod service;
pub mod session;
pub mod switches;
pub mod throttle;
pub mod upstream;

pub use config::Config;
pub use service::RuntimeService;
