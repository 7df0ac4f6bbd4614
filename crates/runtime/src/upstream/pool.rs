//! Which connection a request takes: the one that was used last, else a new one.

use super::body::Body;
use super::fault::Fault;
use super::link::Link;
use crate::metrics::{Metrics, UpstreamError};
use front_door::body::{BodyError, Incoming as RequestBody};
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use sandbox::Sandbox;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Idle connections kept for one sandbox. More may be open at once, one for each call in flight.
const MAX_IDLE: usize = 32;
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// The way to one sandbox's agent.
#[derive(Debug)]
pub(crate) struct Upstream {
    sandbox: Arc<dyn Sandbox>,
    port: u16,
    host: HeaderValue,
    keep_alive: Duration,
    /// Idle connections, the one used last at the end; nothing once the pool is closed.
    idle: Mutex<Option<Idle>>,
    metrics: Arc<Metrics>,
}

/// Boxed, because a connection is large and moves between pool, waiting call and answer.
type Idle = Vec<Box<Link>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing of the request has been sent.
    #[error("{0}")]
    Unsent(Unsent, Box<Request<RequestBody>>),
    /// The request's own body broke off while it was being sent.
    #[error("{0}")]
    Request(BodyError),
    /// The connection ended before an answer came. The agent may have seen the request.
    #[error("the connection was closed before an answer came ({0})")]
    Closed(Fault),
    /// What the agent answered is not HTTP.
    #[error("the answer is not HTTP ({0})")]
    Protocol(&'static str),
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    /// The session is ending.
    #[error("the session is ending")]
    Closed,
    /// The agent could not be reached.
    #[error("{0}")]
    Dial(sandbox::Error),
}

impl Upstream {
    /// A pool without connections.
    pub(crate) fn new(sandbox: Arc<dyn Sandbox>, port: u16, keep_alive: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let host =
            HeaderValue::try_from(format!("127.0.0.1:{port}")).expect("digits, dots and a colon are visible ASCII");
        Arc::new(Self {
            sandbox,
            port,
            host,
            keep_alive,
            idle: Mutex::new(Some(Vec::new())),
            metrics,
        })
    }

    /// The sandbox that it leads into.
    pub(crate) fn sandbox(&self) -> &Arc<dyn Sandbox> {
        &self.sandbox
    }

    /// Sends a request and waits for the head of its answer; no deadline of its own but for the dialling. When the
    /// future is dropped the connection is closed.
    pub(crate) async fn send(self: &Arc<Self>, mut request: Request<RequestBody>) -> Result<Response<Body>, Error> {
        request.headers_mut().insert(HOST, self.host.clone());
        let mut link = match self.take_idle() {
            Some(link) => link,
            None => match self.dial().await {
                Ok(link) => link,
                Err(cause) => return Err(self.unsent(cause, Box::new(request))),
            },
        };
        let head = link.send(request).await.map_err(|fault| self.broken(fault))?;
        let mut response = Response::new(Body::new(head.framing, link, Arc::clone(self)));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// Closes the idle connections and takes none back. What is in flight is cut by whoever holds it.
    pub(crate) fn close(&self) {
        drop(self.lock().take());
    }

    /// Takes a connection back after a complete exchange, if it can be used again.
    pub(super) fn give_back(&self, mut link: Box<Link>) {
        if link.rest()
            && let Some(idle) = self.lock().as_mut()
            && idle.len() < MAX_IDLE
        {
            idle.push(link);
        }
    }

    /// How many idle connections there are.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.lock().as_ref().map_or(0, Vec::len)
    }

    fn take_idle(&self) -> Option<Box<Link>> {
        loop {
            let link = self.lock().as_mut()?.pop()?;
            if link.idle_since.elapsed() >= self.keep_alive {
                // All others have been idle for longer.
                if let Some(idle) = self.lock().as_mut() {
                    idle.retain(|link| link.idle_since.elapsed() < self.keep_alive);
                }
            } else if link.is_silent() {
                return Some(link);
            }
        }
    }

    async fn dial(&self) -> Result<Box<Link>, Unsent> {
        if self.lock().is_none() {
            return Err(Unsent::Closed);
        }
        let stream = match timeout(DIAL_DEADLINE, self.sandbox.dial(self.port)).await {
            Ok(dialled) => dialled.map_err(Unsent::Dial)?,
            Err(_) => {
                let what = format!("connecting to port {} of the sandbox", self.port);
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Unsent::Dial(sandbox::Error::Io { what, source }));
            }
        };
        // Small requests must not wait for an acknowledgement. It fails only on a socket that is already dead.
        let _ = stream.set_nodelay(true);
        Ok(Box::new(Link::new(stream)))
    }

    fn unsent(&self, cause: Unsent, request: Box<Request<RequestBody>>) -> Error {
        self.metrics.upstream_error(UpstreamError::Unsent);
        Error::Unsent(cause, request)
    }

    fn broken(&self, fault: Fault) -> Error {
        let (what, error) = match fault {
            Fault::Request(cause) => (UpstreamError::Request, Error::Request(cause)),
            Fault::NotHttp(how) => (UpstreamError::Protocol, Error::Protocol(how)),
            fault @ (Fault::Ended | Fault::Io(_)) => (UpstreamError::Closed, Error::Closed(fault)),
        };
        self.metrics.upstream_error(what);
        error
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Idle>> {
        // Nothing under this lock can leave the list half-changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
