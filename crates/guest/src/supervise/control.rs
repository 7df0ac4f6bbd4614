//! One connection to the control socket: a request, its answer, the end.
//!
//! Invariant: a peer that sends nothing, or reads nothing, is dropped after a while and holds a bounded amount of memory.

use super::dial::Attempt;
use guest::frame::{self, Decoder};
use guest::protocol::{Hello, Reply, Request, VERSION};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Time to send a request, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request, hello included.
const REQUEST: usize = 16 * 1024;
/// Answers that a watcher may leave unread before it is dropped.
const BACKLOG: usize = 64 * 1024;

/// A control connection.
pub(crate) struct Connection {
    stream: UnixStream,
    phase: Phase,
    /// What the peer's hello said.
    epoch: Option<u64>,
    out: Vec<u8>,
    /// When to give it up.
    deadline: Option<Instant>,
}

enum Phase {
    /// The hello or the request has not come yet.
    Reading { decoder: Decoder, greeted: bool },
    /// A dial is on its way.
    Dialing(Attempt),
    /// Every change is told.
    Watching,
    /// The end is told.
    Stopping,
    /// The answer is being sent.
    Closing,
}

/// What came of looking at a connection.
pub(crate) enum Step {
    /// Nothing to do for now.
    Wait,
    /// It is over.
    Close,
    /// It asks for this.
    Asked(Request),
}

impl Connection {
    /// `None` if the stream cannot be used without blocking.
    pub(crate) fn new(stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        let phase = Phase::Reading {
            decoder: Decoder::default(),
            greeted: false,
        };
        Some(Self {
            stream,
            phase,
            epoch: None,
            out: Vec::new(),
            deadline: Some(Instant::now() + PATIENCE),
        })
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The epoch of its server, once it has said hello.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    pub(crate) fn watches(&self) -> bool {
        matches!(self.phase, Phase::Watching)
    }

    pub(crate) fn stops(&self) -> bool {
        matches!(self.phase, Phase::Stopping)
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFd<'_> {
        match &self.phase {
            Phase::Dialing(Attempt::Pending { socket, .. }) => PollFd::new(socket.as_fd(), PollFlags::POLLOUT),
            _ if !self.out.is_empty() => PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT),
            _ => PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
        }
    }

    /// Goes as far as it can without waiting.
    pub(crate) fn advance(&mut self) -> Step {
        if let Phase::Dialing(_) = self.phase {
            let Phase::Dialing(attempt) = std::mem::replace(&mut self.phase, Phase::Closing) else {
                return Step::Close;
            };
            return if self.dialed(attempt.check()) {
                Step::Wait
            } else {
                Step::Close
            };
        }
        if !self.out.is_empty() {
            return if self.flush() { Step::Wait } else { Step::Close };
        }
        let mut buffer = [0; REQUEST];
        match self.stream.read(&mut buffer) {
            Ok(0) => Step::Close,
            Ok(count) => self.on_bytes(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Step::Wait,
            Err(_) => Step::Close,
        }
    }

    fn on_bytes(&mut self, bytes: &[u8]) -> Step {
        // Who has asked has nothing more to say.
        let Phase::Reading { decoder, greeted } = &mut self.phase else {
            return Step::Close;
        };
        if decoder.held() + bytes.len() > REQUEST {
            return Step::Close;
        }
        decoder.push(bytes);
        if !*greeted {
            match decoder.take::<Hello>() {
                Ok(Some(hello)) if hello.version == VERSION => {
                    *greeted = true;
                    self.epoch = Some(hello.epoch);
                }
                Ok(Some(hello)) => {
                    let text = format!(
                        "version {} of the protocol is not spoken here, {VERSION} is",
                        hello.version
                    );
                    return if self.answer(&Reply::Invalid(text)) {
                        Step::Wait
                    } else {
                        Step::Close
                    };
                }
                Ok(None) => return Step::Wait,
                Err(_) => return Step::Close,
            }
        }
        match decoder.take::<Request>() {
            Ok(Some(request)) => {
                self.phase = match &request {
                    Request::Watch => Phase::Watching,
                    Request::Stop { .. } => Phase::Stopping,
                    Request::Dial { .. }
                    | Request::Listener { .. }
                    | Request::Note { .. }
                    | Request::Ports
                    | Request::Usage => Phase::Closing,
                };
                if matches!(request, Request::Watch | Request::Stop { .. }) {
                    self.deadline = None;
                }
                Step::Asked(request)
            }
            Ok(None) => Step::Wait,
            Err(error) => {
                let text = format!("this request is not known here: {error}");
                if self.answer(&Reply::Invalid(text)) {
                    Step::Wait
                } else {
                    Step::Close
                }
            }
        }
    }

    /// Says hello, before the answer to a request.
    pub(crate) fn greet(&mut self, epoch: u64) {
        let hello = Hello {
            version: VERSION,
            epoch,
        };
        self.out = frame::encode(&hello).unwrap_or_default();
    }

    /// Says that the peer has been succeeded; `false`, as nothing more is to come, unless it is slow to read.
    pub(crate) fn fence(&mut self, epoch: u64) -> bool {
        self.phase = Phase::Closing;
        self.deadline = Some(Instant::now() + PATIENCE);
        self.answer(&Reply::Fenced(epoch))
    }

    /// Starts a dial; whether the connection stays.
    pub(crate) fn dial(&mut self, port: u16) -> bool {
        self.dialed(Attempt::start(port))
    }

    fn dialed(&mut self, attempt: Attempt) -> bool {
        match attempt {
            Attempt::Connected(socket) => self.pass(&Reply::Dialed, socket.as_fd()),
            Attempt::Refused => self.answer(&Reply::Refused),
            pending @ Attempt::Pending { .. } => {
                self.phase = Phase::Dialing(pending);
                true
            }
        }
    }

    /// Sends a reply, as far as the peer takes it; whether the connection stays.
    pub(crate) fn answer(&mut self, reply: &Reply) -> bool {
        let Ok(bytes) = frame::encode(reply) else { return false };
        if self.out.len() + bytes.len() > BACKLOG {
            return false;
        }
        self.out.extend(bytes);
        self.flush()
    }

    /// Sends a reply and a socket with it, of which the peer gets a descriptor of its own; whether the connection stays.
    pub(crate) fn pass(&mut self, reply: &Reply, socket: BorrowedFd<'_>) -> bool {
        let Ok(bytes) = frame::encode(reply) else {
            return false;
        };
        self.out.extend(bytes);
        let fds = [socket.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(&self.out)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(count) => {
                self.out.drain(..count);
                self.flush()
            }
            // The first bytes on a fresh connection always find room.
            Err(_) => false,
        }
    }

    /// Whether the connection stays: it does while bytes are left or more is to come.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        matches!(self.phase, Phase::Watching | Phase::Stopping)
    }

    /// Sends what is left, at the guest's end; `false`, always, since nothing is to come.
    pub(crate) fn flush_until(&mut self, until: Instant) -> bool {
        let left = until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        if !self.out.is_empty() && self.stream.set_nonblocking(false).is_ok() {
            // Whoever is too slow finds the exit in its file.
            let _ = self
                .stream
                .set_write_timeout(Some(left))
                .and_then(|()| self.stream.write_all(&self.out));
        }
        false
    }
}
