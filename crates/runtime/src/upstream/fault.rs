//! What can go wrong between a request and the end of its answer.

use front_door::body::BodyError;
use std::io;

/// Why an exchange has ended early.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The agent closed the connection where an answer, or more of it, should have come.
    #[error("the connection ended before the answer did")]
    Ended,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What the agent sent is not HTTP, or not in a form that has one reading only.
    #[error("{0}")]
    NotHttp(&'static str),
    /// The request's own body broke off.
    #[error("{0}")]
    Request(BodyError),
}
