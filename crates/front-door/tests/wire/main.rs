//! The front door through real sockets: a real server, a fake service, requests signed by the AWS SDK's signer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bodies;
mod calls;
mod clients;
mod drain;
mod harness;
mod inlet;
mod pages;
mod protocols;
mod provider;
mod refusals;
mod tokens;
