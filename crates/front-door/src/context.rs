//! What is known about one request from its first moment to its last, and the line that is logged at its end.
//!
//! A [`Context`] travels through the stages of `call`, then inside of the answer's body; when it is dropped the request
//! is over, whichever way: answered, broken off, or left by its client.
//!
//! Invariant: neither a body nor a secret is ever logged here.

use crate::admit::Ticket;
use crate::cors::Grant;
use crate::error::Dialect;
use crate::forwarded::Origin;
use crate::metrics::CallMetrics;
use crate::server::watch::Busy;
use api::Operation;
use http::{Method, StatusCode};
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// One request.
#[derive(Debug)]
pub(crate) struct Context {
    /// Given to the client as `x-amzn-RequestId`.
    pub(crate) request_id: Uuid,
    /// The operation, once routed.
    pub(crate) operation: Option<&'static Operation>,
    /// Where the request is counted.
    pub(crate) metrics: Arc<CallMetrics>,
    /// Who calls, once proven.
    pub(crate) access_key_id: Option<String>,
    /// Whether the client may still be sending its body.
    pub(crate) unread: bool,
    /// The answer's status, once there is one.
    pub(crate) status: Option<StatusCode>,
    /// Whether the answer went out whole.
    pub(crate) complete: bool,
    /// Leave to work on this call.
    pub(crate) ticket: Option<Ticket>,
    /// Keeps the connection from counting as idle.
    pub(crate) busy: Busy,
    /// Where the request came from.
    pub(crate) origin: Origin,
    /// Whether it came from an agent's sandbox.
    pub(crate) inside: bool,
    /// In which form the client reads an error.
    pub(crate) dialect: Dialect,
    /// Leave for a page of another origin to read the answer.
    pub(crate) cors: Option<Grant>,
    /// When its head had been read.
    pub(crate) started: Instant,
    method: Method,
}

impl Context {
    /// A request that has just been read; `metrics` is used until it is routed.
    pub(crate) fn new(method: Method, origin: Origin, busy: Busy, metrics: Arc<CallMetrics>) -> Self {
        Self {
            request_id: Uuid::new_v4(),
            operation: None,
            metrics,
            access_key_id: None,
            unread: false,
            status: None,
            complete: false,
            ticket: None,
            busy,
            origin,
            inside: false,
            dialect: Dialect::Json,
            cors: None,
            method,
            started: Instant::now(),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.metrics.finished(self.status, took.as_secs_f64());
        let status = self.status.map_or(0, |status| status.as_u16());
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    target: "front_door::access",
                    request_id = %self.request_id,
                    operation = self.metrics.name,
                    method = %self.method,
                    status,
                    complete = self.complete,
                    micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    access_key_id = self.access_key_id.as_deref(),
                    peer = %self.origin.address,
                )
            };
        }
        if status >= 500 { log!(info) } else { log!(debug) }
    }
}
