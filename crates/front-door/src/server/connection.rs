//! One connection, from its first byte to its last.
//!
//! HTTP/1.1 or HTTP/2 is told apart before hyper sees the stream: by ALPN over TLS, else by the first bytes, under a
//! deadline of ours (hyper-util's `auto` has none, so a silent client would be free there, and it would add a layer to
//! every read).

use super::Shared;
use super::socket::{Socket, close_with};
use super::watch::{Late, Watch};
use crate::call::{self, AnswerBody};
use crate::error::{Edge, Failure};
use crate::metrics::{ProtocolLabel, ReasonLabel};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What every HTTP/2 client sends first; no HTTP/1 method begins so.
const H2_BEGIN: &[u8; 4] = b"PRI ";
/// How often the first bytes are looked at again when less than those have come.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// hyper reads at most this much at once; also the size of the pieces of a large body.
const READ_BUFFER: usize = 256 * 1024;
/// Bytes that a client may send ahead per HTTP/2 stream and connection: enough for full speed on a fast network, small
/// enough that unread bodies do not fill memory.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of answers buffered per HTTP/2 stream.
const SEND_BUFFER: usize = 128 * 1024;
/// HTTP/2 clients that do not answer a ping are gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(20);

/// Which way a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Through the server's own address, with TLS if the server has it.
    Own,
    /// Through an [`Inlet`](super::Inlet), from an agent.
    Inside,
}

/// Serves an accepted connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, wire: Wire) {
    // Without it the last small packet of an answer could wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "the connection was gone before it was served");
        return;
    }
    let watch = Watch::new(&shared.door.config);
    let opening = open(&shared, stream, wire);
    let opened = tokio::select! {
        opened = tokio::time::timeout(shared.door.config.head_timeout, opening) => opened,
        () = shared.closing.cancelled() => return,
    };
    match opened {
        Err(_) => shared.count_cut("head"),
        Ok(None) => {}
        Ok(Some(Opened::Plain(stream, is_h2))) => speak(&shared, stream, (peer, wire), watch, is_h2, "no").await,
        Ok(Some(Opened::Tls(stream))) => {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            speak(&shared, *stream, (peer, wire), watch, is_h2, "yes").await;
        }
    }
}

enum Opened {
    Plain(TcpStream, bool),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

async fn open(shared: &Shared, stream: TcpStream, wire: Wire) -> Option<Opened> {
    let opened = match shared.tls.as_ref().filter(|_| wire == Wire::Own) {
        Some(config) => TlsAcceptor::from(Arc::clone(config))
            .accept(stream)
            .await
            .map(|tls| Opened::Tls(Box::new(tls))),
        None => begins_h2(&stream).await.map(|is_h2| Opened::Plain(stream, is_h2)),
    };
    opened
        .inspect_err(|error| tracing::debug!(%error, "a connection did not get as far as a request"))
        .ok()
}

async fn begins_h2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; H2_BEGIN.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || first[..count] != H2_BEGIN[..count] {
            return Ok(false);
        }
        if count == H2_BEGIN.len() {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn speak<S>(
    shared: &Arc<Shared>,
    stream: S,
    (peer, wire): (SocketAddr, Wire),
    watch: Arc<Watch>,
    is_h2: bool,
    tls: &'static str,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = &shared.door.config;
    let protocol = if is_h2 { "http2" } else { "http1" };
    shared
        .door
        .metrics
        .accepted
        .get_or_create(&ProtocolLabel { protocol, tls })
        .inc();
    let io = TokioIo::new(Socket::new(stream, Arc::clone(&watch), !is_h2, config.linger_bytes));
    let handler = service_fn(|request: Request<Incoming>| {
        let busy = watch.begin();
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(call::serve(&shared.door, busy, peer, wire, request).await) }
    });
    if is_h2 {
        watch.idle();
        let connection = shared.http2().serve_connection(io, handler);
        drive(shared, &watch, pin!(connection)).await;
    } else {
        let mut connection = http1_builder(config.max_head_bytes).serve_connection(io, handler);
        if drive(shared, &watch, Pin::new(&mut connection)).await == Some(Late::Head) {
            let mut socket = connection.into_parts().io.into_inner();
            let failure = Failure::Edge(
                Edge::BodyTimeout,
                format!(
                    "The request's head was not complete after {} seconds.",
                    config.head_timeout.as_secs_f32()
                ),
            );
            // The answer is small: it fits the system's buffer or the client gets none.
            let farewell = async {
                socket.write_all(&close_with(&failure)).await?;
                socket.shutdown().await
            };
            let _ = tokio::time::timeout(config.linger_timeout, farewell).await;
        }
    }
}

/// Polls a connection to its end, or until a deadline or the server ends it. Returns what was late.
async fn drive<C: Connection>(shared: &Shared, watch: &Watch, mut connection: Pin<&mut C>) -> Option<Late> {
    let mut look = pin!(tokio::time::sleep(Duration::ZERO));
    let mut closing = pin!(shared.closing.cancelled());
    let mut cut = pin!(shared.cut.cancelled());
    let mut is_told = false;
    let mut asked: Option<Waker> = None;
    poll_fn(|cx| {
        // Once asked, clock and signals wake this task by themselves. So nearly always only the connection has news, and
        // asking the others again at each of its wake-ups would cost more than a look at these three flags.
        let is_quiet = asked.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            && !look.is_elapsed()
            && !shared.door.draining.load(Ordering::Acquire);
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return Poll::Ready(None);
            }
            if is_quiet {
                return Poll::Pending;
            }
            if look.as_mut().poll(cx).is_ready() {
                match watch.check() {
                    Ok(next) => look.as_mut().reset(next),
                    Err(late @ Late::Idle) => {
                        shared.count_cut(late.name());
                        connection.as_mut().say_goodbye();
                        watch.closing();
                        look.as_mut().reset(tokio::time::Instant::now());
                    }
                    Err(late) => {
                        shared.count_cut(late.name());
                        return Poll::Ready(Some(late));
                    }
                }
            } else if !is_told && closing.as_mut().poll(cx).is_ready() {
                is_told = true;
                connection.as_mut().say_goodbye();
            } else if cut.as_mut().poll(cx).is_ready() {
                shared.count_cut("drain");
                return Poll::Ready(None);
            } else {
                asked = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    })
    .await
}

impl Late {
    fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Write => "write",
            Self::Closing => "closing",
        }
    }
}

/// What both kinds of connection can do.
trait Connection: Future<Output = hyper::Result<()>> {
    /// Finish what is under way and take no more.
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<I, H> Connection for http1::Connection<I, H>
where
    I: Read + Write + Unpin,
    H: Service<Request<Incoming>, Response = Response<AnswerBody>, Error = Infallible>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, H> Connection for http2::Connection<I, H, Tracked>
where
    I: Read + Write + Unpin,
    H: Service<Request<Incoming>, Response = Response<AnswerBody>, Error = Infallible>,
    H::Future: Send + 'static,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns HTTP/2's streams so that the server knows of them and can end them.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) tasks: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move { cut.run_until_cancelled(future).await });
    }
}

impl Shared {
    fn count_cut(&self, reason: &'static str) {
        self.door.metrics.cut.get_or_create(&ReasonLabel { reason }).inc();
    }

    fn http2(&self) -> http2::Builder<Tracked> {
        let config = &self.door.config;
        let executor = Tracked {
            tasks: self.tasks.clone(),
            cut: self.cut.clone(),
        };
        let mut builder = http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(config.max_streams_per_connection)
            .max_send_buf_size(SEND_BUFFER)
            // Above our own limit, which answers with a proper error; beyond this the protocol library refuses.
            .max_header_list_size(u32::try_from(config.max_head_bytes.saturating_mul(2)).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN);
        builder
    }
}

fn http1_builder(max_head_bytes: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Our own watch knows more states than hyper's timer, and costs no timer per request.
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER.max(max_head_bytes))
        .max_header_size(max_head_bytes);
    builder
}
