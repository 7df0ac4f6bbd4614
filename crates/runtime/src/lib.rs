//! AgentCore Runtime: control operations, the way of an invocation, sessions.
//!
//! Invariant: nothing here knows an HTTP status code or an exception name of the edge; failures are [`domain::Error`].

pub mod deployment;
