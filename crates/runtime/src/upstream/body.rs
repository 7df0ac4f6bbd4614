//! The bytes of an agent's answer, and the connection that they come over.

use super::link::Link;
use super::pool::Upstream;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// An answer's body. Read to its end it gives the connection back; dropped before, it closes the connection.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    link: Option<Box<Link>>,
    home: Arc<Upstream>,
}

impl Body {
    pub(super) fn new(incoming: Incoming, link: Box<Link>, home: Arc<Upstream>) -> Self {
        let mut body = Self {
            incoming,
            link: Some(link),
            home,
        };
        body.release_if_complete();
        body
    }

    fn release_if_complete(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(link) = self.link.take() {
            self.home.give_back(link);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(link) = &mut this.link {
            link.drive(cx);
        }
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.release(),
            Poll::Ready(Some(Ok(_))) => this.release_if_complete(),
            Poll::Ready(Some(Err(_))) => this.link = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
