//! From a socket to an authenticated, admitted, typed call; and the one place that writes an error to a client.
//!
//! Read in this order: `server` (sockets), `context`, `forwarded`, `route`, `cors`, `auth`, `admit`, `body`, `authorize`,
//! `audit`, `call` (the order of all stages), `error`.
//!
//! Invariant: an unverified caller costs no sandbox and no unbounded memory. Invariant: this crate starts nothing.

mod admit;
pub mod audit;
pub mod auth;
mod authorize;
pub mod body;
mod call;
mod config;
mod context;
mod cors;
mod error;
pub mod forwarded;
mod headers;
pub mod join;
mod metrics;
mod resource_metadata;
mod route;
pub mod server;
pub mod service;

pub use config::Config;
pub use error::exception;
pub use metrics::Metrics;
pub use route::RouteError;
pub use server::{BindError, Drained, Inlet, Readiness, Server, Wiring};
