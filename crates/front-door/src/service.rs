//! What a service behind the front door is.
//!
//! AgentCore Runtime is one; Identity, Memory, Gateway and Policy will be others. A service names the modelled
//! operations that it answers and the paths of its own below `/_eyot/`. It receives calls whose caller is proven and
//! whose input keeps every constraint of the model.

use crate::body::{Incoming, Outgoing};
use async_trait::async_trait;
use domain::{Error, Principal};
use http::{HeaderMap, Method, StatusCode};
use std::fmt;
use tokio::time::Instant;
use uuid::Uuid;

/// One service of the API.
#[async_trait]
pub trait Service: Send + Sync + fmt::Debug {
    /// The modelled operations that work. Any other modelled operation is answered with 501 by the front door.
    fn operations(&self) -> &'static [&'static api::Operation];

    /// Answers one of [`Service::operations`]. Dropped when the client goes away; must be cancellation safe.
    async fn call(&self, call: Call) -> Result<Reply, Error>;

    /// First path segments below `/_eyot/` that this service answers, such as `artifacts`.
    fn own_routes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Answers a signed request below one of [`Service::own_routes`].
    async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error>;
}

/// A call of a modelled operation: authenticated, admitted, validated.
#[derive(Debug)]
pub struct Call {
    /// Which operation.
    pub operation: &'static api::Operation,
    /// Every input member except a streamed payload, by its API name, from path, query, headers and body. Keeps every
    /// constraint of the model, so that `api::from_input` into the operation's input type cannot fail.
    pub input: serde_json::Map<String, serde_json::Value>,
    /// The payload of an operation with a raw body (`InvokeAgentRuntime`), else empty. A body whose signed digest is
    /// still to be checked ends in an error instead of its last bytes when it does not match.
    pub body: Incoming,
    /// The request's headers as they came.
    pub headers: HeaderMap,
    /// Who calls.
    pub caller: Principal,
    /// Given back to the client as `x-amzn-RequestId`.
    pub request_id: Uuid,
    /// When its head had been read.
    pub received: Instant,
}

/// A successful answer to a [`Call`].
pub enum Reply {
    /// The output structure; the front door places its members in headers and body as the model says.
    Document(serde_json::Map<String, serde_json::Value>),
    /// Output members bound to headers, and a payload that is streamed as it comes.
    Stream {
        /// Exactly the headers to send, `Content-Type` included; the front door adds `x-amzn-RequestId`.
        headers: HeaderMap,
        /// The payload.
        body: Outgoing,
    },
}

/// A signed request to one of our own paths.
#[derive(Debug)]
pub struct OwnCall {
    /// Method.
    pub method: Method,
    /// The decoded path segments after `/_eyot/`; the first is one of [`Service::own_routes`].
    pub path: Vec<String>,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Incoming,
    /// Who calls.
    pub caller: Principal,
    /// Request id.
    pub request_id: Uuid,
}

/// An answer to an [`OwnCall`].
pub struct OwnReply {
    /// Status; errors are returned as [`Error`], not as a status here.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Outgoing,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(_) => f.write_str("Reply::Document"),
            Self::Stream { headers, .. } => f
                .debug_struct("Reply::Stream")
                .field("headers", headers)
                .finish_non_exhaustive(),
        }
    }
}

impl fmt::Debug for OwnReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnReply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
