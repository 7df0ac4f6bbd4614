//! A request on its way to the agent.
//!
//! Head and a short body leave in one write: pieces that are small are gathered, large ones go from where they are.

use super::fault::Fault;
use bytes::{Buf, Bytes};
use front_door::body::{BodyError, Incoming as RequestBody};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request};
use http_body::Body as _;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Pieces up to this size are gathered.
const SMALL: usize = 1024;
/// So much is gathered before it is written.
const GATHERED: usize = 16 * 1024;

/// What is still to be sent. Serves one request after another, to use its memory again.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// Bytes to send first, from `sent` on.
    gathered: Vec<u8>,
    sent: usize,
    /// A large piece to send after them.
    piece: Bytes,
    /// What the framing wants after that piece.
    after: &'static [u8],
    /// Where more comes from.
    body: Option<RequestBody>,
    /// How much the head promised; nothing if the body goes in chunks.
    left: Option<u64>,
}

impl Upload {
    /// Begins a request.
    pub(super) fn begin(&mut self, request: Request<RequestBody>) {
        let (parts, body) = request.into_parts();
        self.abandon();
        self.left = body.size_hint().exact();
        let out = &mut self.gathered;
        let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        // How the body ends is for us alone to say.
        let ours = [CONTENT_LENGTH, TRANSFER_ENCODING];
        for (name, value) in parts.headers.iter().filter(|(name, _)| !ours.contains(name)) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        match self.left {
            Some(0) if parts.method == Method::GET || parts.method == Method::HEAD => {}
            Some(length) => push_number(out, "content-length: ", length, Base::Ten),
            None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        out.extend_from_slice(b"\r\n");
        self.body = (self.left != Some(0)).then_some(body);
    }

    /// Forgets what is not sent.
    pub(super) fn abandon(&mut self) {
        self.gathered.clear();
        self.gathered.shrink_to(GATHERED);
        self.sent = 0;
        self.piece = Bytes::new();
        self.after = b"";
        self.body = None;
    }

    /// Whether all has been sent.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_flushed()
    }

    fn is_flushed(&self) -> bool {
        self.sent == self.gathered.len() && self.piece.is_empty()
    }

    /// Sends as much as goes now; ready when all is sent.
    pub(super) fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            self.gather(cx)?;
            if self.is_flushed() {
                return if self.body.is_none() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            ready!(self.poll_write(Pin::new(&mut *stream), cx))?;
        }
    }

    /// Takes from the body what it has, up to a bound.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.piece.is_empty()
            && self.gathered.len() < GATHERED
            && let Some(body) = &mut self.body
        {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Err(error))) => return Err(Fault::Request(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    let is_last = body.is_end_stream();
                    // Trailers are not passed on.
                    if let Ok(data) = frame.into_data() {
                        self.put(data)?;
                    }
                    if is_last {
                        self.end()?;
                    }
                }
                Poll::Ready(None) => self.end()?,
            }
        }
        Ok(())
    }

    fn put(&mut self, data: Bytes) -> Result<(), Fault> {
        let size = data.len() as u64;
        match &mut self.left {
            Some(left) => {
                *left = left
                    .checked_sub(size)
                    .ok_or_else(|| broken("more bytes than announced"))?
            }
            // An empty chunk would be the last.
            None if size == 0 => return Ok(()),
            None => push_number(&mut self.gathered, "", size, Base::Sixteen),
        }
        self.after = if self.left.is_none() { b"\r\n" } else { b"" };
        if data.len() > SMALL {
            self.piece = data;
        } else {
            self.gathered.extend_from_slice(&data);
            self.end_piece();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.body = None;
        match self.left {
            None if self.piece.is_empty() => self.gathered.extend_from_slice(b"0\r\n\r\n"),
            None => self.after = b"\r\n0\r\n\r\n",
            Some(0) => {}
            Some(_) => return Err(broken("fewer bytes than announced")),
        }
        Ok(())
    }

    fn end_piece(&mut self) {
        self.gathered.extend_from_slice(std::mem::take(&mut self.after));
    }

    fn poll_write(&mut self, stream: Pin<&mut TcpStream>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let gathered = self.gathered.get(self.sent..).unwrap_or_default();
        let count = ready!(if self.piece.is_empty() {
            stream.poll_write(cx, gathered)
        } else {
            stream.poll_write_vectored(cx, &[IoSlice::new(gathered), IoSlice::new(&self.piece)])
        })?;
        if count == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
        }
        let of_gathered = count.min(gathered.len());
        self.sent += of_gathered;
        if self.sent == self.gathered.len() {
            self.gathered.clear();
            self.sent = 0;
        }
        if !self.piece.is_empty() {
            self.piece.advance(count - of_gathered);
            if self.piece.is_empty() {
                self.end_piece();
            }
        }
        Poll::Ready(Ok(()))
    }
}

enum Base {
    Ten,
    Sixteen,
}

fn push_number(out: &mut Vec<u8>, before: &str, number: u64, base: Base) {
    use std::io::Write;
    out.extend_from_slice(before.as_bytes());
    // Writing to memory does not fail.
    let _ = match base {
        Base::Ten => write!(out, "{number}\r\n"),
        Base::Sixteen => write!(out, "{number:x}\r\n"),
    };
}

fn broken(how: &str) -> Fault {
    Fault::Request(BodyError::Client(how.to_owned()))
}
