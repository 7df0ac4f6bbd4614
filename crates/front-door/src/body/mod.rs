//! The bodies that cross the front door, and everything that reads them.
//!
//! A request's body is a [`source::Source`] until its caller is proven: it has a size limit and deadlines. From there it
//! becomes either a [`spool`]ed body (whole, hashed, in memory or in an unlinked file) or a [`checked::Checked`] one
//! (streamed, its declared digest compared before its last bytes are let go).
//!
//! Invariant: no body is ever collected without a bound. Invariant: bytes that do not match their signature never
//! reach their end: the stream breaks off with an error instead.

pub(crate) mod checked;
pub(crate) mod file;
pub(crate) mod source;
pub(crate) mod spool;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// A request's body on its way to a service. Its data may come from the socket, from memory or from a spool file.
pub type Incoming = UnsyncBoxBody<Bytes, BodyError>;

/// A response's body on its way to the client; sent as it comes, never collected.
pub type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent bytes that are not HTTP.
    #[error("the client's body ended early: {0}")]
    Client(String),
    /// The client's bytes do not have the digest that it signed.
    #[error("the body does not match its signed x-amz-content-sha256")]
    Digest,
    /// The body is larger than the operation allows.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The agent's answer broke off.
    #[error("the agent's answer ended early: {0}")]
    Agent(String),
    /// A spool file could not be read or written.
    #[error("spool file: {0}")]
    Spool(#[from] std::io::Error),
}

/// A body that is already complete.
pub fn full(bytes: impl Into<Bytes>) -> Outgoing {
    UnsyncBoxBody::new(Full::new(bytes.into()).map_err(|never| match never {}))
}
