//! The AgentCore API as data: wire types, operation table, exceptions and the constraints of every member.
//!
//! `generated` is written by `cargo xtask codegen` from the reduced service models in `model/`. The small hand-written
//! part beside it decodes a request's parts into an operation's input, checks every constraint and places output members.

/// Which of the two planes an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// `bedrock-agentcore-control`, 2023-06-05.
    Control,
    /// `bedrock-agentcore`, 2024-02-28.
    Data,
}

/// One operation of the published model.
#[derive(Debug)]
pub struct Operation {
    /// `CreateAgentRuntime`.
    pub name: &'static str,
    /// Plane.
    pub plane: Plane,
    /// HTTP method.
    pub method: &'static str,
    /// Path template, such as `/runtimes/{agentRuntimeId}/runtime-endpoints/`.
    pub uri: &'static str,
    /// Status of a successful answer.
    pub status: u16,
}
