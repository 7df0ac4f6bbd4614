//! The bytes of an agent's answer, and the connection that they come over.

use super::fault::Fault;
use super::framing::Framing;
use super::link::Link;
use super::pool::Upstream;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// An answer's body. Read to its end it gives the connection back; dropped before, it closes the connection.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    /// Nothing once the body has ended, well or badly.
    link: Option<Box<Link>>,
    home: Arc<Upstream>,
}

impl Body {
    pub(super) fn new(framing: Framing, link: Box<Link>, home: Arc<Upstream>) -> Self {
        let mut body = Self {
            framing,
            link: Some(link),
            home,
        };
        body.release_if_complete();
        body
    }

    fn release_if_complete(&mut self) {
        if self.framing.is_end()
            && let Some(link) = self.link.take()
        {
            self.home.give_back(link);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Some(link) = &mut this.link else {
            return Poll::Ready(None);
        };
        let polled = ready!(link.poll_piece(&mut this.framing, cx));
        match &polled {
            Ok(_) => this.release_if_complete(),
            Err(_) => this.link = None,
        }
        Poll::Ready(polled.transpose().map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.link.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.framing.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
