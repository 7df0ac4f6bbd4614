//! What an operation and an exception of the published models are.
//!
//! The values are generated ([`crate::OPERATIONS`]). Two operations are equal when plane and name are; the statics of
//! [`crate::operations`] are references into the table, so that pointers may be compared as well.

use crate::generated::{self, operations::OPERATIONS};
use crate::shape::{Member, Shape};

/// Which of the two planes an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plane {
    /// `bedrock-agentcore-control`, 2023-06-05.
    Control,
    /// `bedrock-agentcore`, 2024-02-28.
    Data,
}

/// One operation of the published model.
#[derive(Clone, Copy)]
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
    /// The input structure; `None` for an operation that is not switched on.
    pub input: Option<&'static Shape>,
    /// The output structure; `None` for an operation that is not switched on.
    pub output: Option<&'static Shape>,
    /// Names of the exceptions that the model lists, for [`exception`].
    pub errors: &'static [&'static str],
    /// The input member that is the raw request body, which [`crate::decode`] leaves alone.
    pub payload: Option<Payload>,
}

impl Operation {
    /// Whether this operation's shapes and types are generated. Any other one is known by its route only.
    #[must_use]
    pub fn is_switched_on(&self) -> bool {
        self.input.is_some()
    }
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.plane == other.plane && self.name == other.name
    }
}

impl Eq for Operation {}

impl std::hash::Hash for Operation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.plane.hash(state);
        self.name.hash(state);
    }
}

impl std::fmt::Debug for Operation {
    // Without the shapes: they are long, and may be recursive.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}:{} {} {}", self.plane, self.name, self.method, self.uri)
    }
}

/// A raw request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The input member that stands for the body.
    pub member: &'static str,
    /// The most bytes that the model allows; `None` when it sets no limit.
    pub max_bytes: Option<u64>,
}

/// One exception of the published model.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// `ResourceNotFoundException`; the value of `x-amzn-ErrorType`.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whether the model tells clients to try again.
    pub retryable: bool,
    /// The members of its body.
    pub members: &'static [Member],
}

/// Finds an operation by its name.
#[must_use]
pub fn operation(plane: Plane, name: &str) -> Option<&'static Operation> {
    OPERATIONS
        .iter()
        .find(|operation| operation.plane == plane && operation.name == name)
}

/// Finds an exception by its name.
#[must_use]
pub fn exception(plane: Plane, name: &str) -> Option<&'static Exception> {
    exceptions(plane).iter().find(|exception| exception.name == name)
}

/// All exceptions of a plane.
#[must_use]
pub fn exceptions(plane: Plane) -> &'static [Exception] {
    match plane {
        Plane::Control => generated::control_shapes::EXCEPTIONS,
        Plane::Data => generated::data_shapes::EXCEPTIONS,
    }
}
