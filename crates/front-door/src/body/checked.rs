//! A body that streams straight through, its digest, if one was signed, checked at its end.
//!
//! The signature already covers the declared digest, so the caller is proven. The last piece is held back until the
//! bytes are known to match; if they do not, the service sees an error in its place and never a complete body.
//! The first fault is also left in a [`Verdict`], so that the front door answers with it whatever the service makes of
//! its broken body.

use super::BodyError;
use super::source::{Fault, Source};
use super::spool::to_array;
use aws_lc_rs::digest;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Where a [`Checked`] body leaves its fault.
pub(crate) type Verdict = Arc<OnceLock<Fault>>;

/// A streamed body.
pub(crate) struct Checked {
    source: Source,
    timer: Pin<Box<Sleep>>,
    declared: Option<Declared>,
    is_over: bool,
    verdict: Verdict,
}

/// A digest that the body must turn out to have.
struct Declared {
    hash: digest::Context,
    expected: [u8; 32],
    held_back: Option<Bytes>,
}

impl Checked {
    /// Streams `source`, whose digest was signed as `expected`, if it was.
    pub(crate) fn new(source: Source, expected: Option<[u8; 32]>) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let timer = Box::pin(tokio::time::sleep_until(source.deadline()));
        let declared = expected.map(|expected| Declared {
            hash: digest::Context::new(&digest::SHA256),
            expected,
            held_back: None,
        });
        let body = Self {
            source,
            timer,
            declared,
            is_over: false,
            verdict: Arc::clone(&verdict),
        };
        (body, verdict)
    }

    fn fail(&mut self, fault: Fault) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.is_over = true;
        let error = BodyError::from(&fault);
        // Only the first fault counts.
        let _ = self.verdict.set(fault);
        Some(Err(error))
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            match ready!(this.source.poll_piece(this.timer.as_mut(), cx)) {
                Some(Err(fault)) => return Poll::Ready(this.fail(fault)),
                Some(Ok(piece)) => {
                    let Some(declared) = &mut this.declared else {
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    };
                    declared.hash.update(&piece);
                    if let Some(earlier) = declared.held_back.replace(piece) {
                        return Poll::Ready(Some(Ok(Frame::data(earlier))));
                    }
                }
                None => {
                    let Some(declared) = this.declared.take() else {
                        this.is_over = true;
                        return Poll::Ready(None);
                    };
                    if to_array(&declared.hash.finish()) != declared.expected {
                        return Poll::Ready(this.fail(Fault::Digest));
                    }
                    this.is_over = true;
                    return Poll::Ready(declared.held_back.map(|last| Ok(Frame::data(last))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        self.source
            .promised()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl From<&Fault> for BodyError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Broken { cause, .. } => Self::Client(cause.clone()),
            Fault::TooLarge { limit, .. } => Self::TooLarge(*limit),
            Fault::Stalled(pause) => Self::Client(format!("no bytes for {pause:?}")),
            Fault::TooSlow(total) => Self::Client(format!("not complete after {total:?}")),
            Fault::Digest => Self::Digest,
        }
    }
}
