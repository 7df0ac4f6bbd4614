//! One HTTP/1.1 connection, driven by whoever uses it.

use super::stream::Stream;
use front_door::body::Incoming as RequestBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection and the handle that puts requests on it.
pub(super) struct Link {
    sender: http1::SendRequest<RequestBody>,
    /// Nothing once it has ended.
    connection: Option<http1::Connection<TokioIo<Stream>, RequestBody>>,
    /// When the last exchange ended.
    pub(super) idle_since: Instant,
}

/// What came of a request without an answer.
pub(super) enum Failed {
    /// The connection had ended before it took the request: nothing of it was sent, its body was not touched.
    Untouched(Box<Request<RequestBody>>, hyper::Error),
    /// The request may have been seen.
    Broken(hyper::Error),
}

impl Link {
    /// Takes over a fresh connection.
    pub(super) async fn new(stream: TcpStream) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(Stream(stream))).await?;
        Ok(Self {
            sender,
            connection: Some(connection),
            idle_since: Instant::now(),
        })
    }

    /// Moves bytes as far as they go now and arranges to be woken for more.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // An error of the connection reaches whoever waits for the answer or its body. A finished connection has
            // to be dropped, because only that fails a request still queued on it.
            self.connection = None;
        }
    }

    /// Whether another request can be put on it. Notices what the agent has closed meanwhile.
    pub(super) fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer. The answer's body moves only while `drive` is called.
    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Failed> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            if let Some(running) = connection.as_mut()
                && Pin::new(running).poll(cx).is_ready()
            {
                *connection = None;
            }
            match answer.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut refused)) => Poll::Ready(Err(match refused.take_message() {
                    Some(request) => Failed::Untouched(Box::new(request), refused.into_error()),
                    None => Failed::Broken(refused.into_error()),
                })),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("open", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}
