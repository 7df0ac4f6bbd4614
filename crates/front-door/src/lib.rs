//! From a socket to an authenticated, admitted, typed call; and the one place that writes an error to a client.
//!
//! Read in this order: `server` (sockets), `context`, `route`, `auth`, `admit`, `call`, `error`.
//!
//! Invariant: an unverified caller costs no sandbox and no unbounded memory. Invariant: this crate starts nothing.

pub mod auth;
pub mod body;
pub mod service;
