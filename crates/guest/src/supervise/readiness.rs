//! Whether the agent's port accepts connections: tried often at first, since most agents take a moment, then less often.

use super::dial::Attempt;
use std::time::{Duration, Instant};

/// How often at first.
const FIRST: Duration = Duration::from_millis(1);
/// For how long that often; a Python agent with few imports listens within it.
const EAGER: Duration = Duration::from_millis(500);
/// How often at last.
const LAST: Duration = Duration::from_millis(20);
/// How long an attempt may go unanswered. A busy kernel refuses a closed port late; a listener whose backlog is full never
/// answers.
const ANSWER: Duration = Duration::from_millis(250);

/// The state of the attempts.
pub(crate) struct Readiness {
    port: u16,
    started: Instant,
    next: Option<Instant>,
    pause: Duration,
    /// An attempt without an answer yet, and when it was made.
    pending: Option<(Attempt, Instant)>,
}

impl Readiness {
    pub(crate) fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            started: now,
            next: Some(now + FIRST),
            pause: FIRST,
            pending: None,
        }
    }

    /// When to try next; `None` once it has listened.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Tries if it is time; `true` once, when it listens.
    pub(crate) fn listens(&mut self, now: Instant) -> bool {
        if self.next.is_none_or(|at| at > now) {
            return false;
        }
        let (attempt, since) = match self.pending.take() {
            Some((attempt, since)) => (attempt.check(), since),
            None => (Attempt::start(self.port), now),
        };
        let listens = match attempt {
            Attempt::Connected(_) => true,
            Attempt::Refused => false,
            pending @ Attempt::Pending { .. } => {
                let unanswered = now.duration_since(since) >= ANSWER;
                self.pending = Some((pending, since));
                unanswered
            }
        };
        if !listens {
            if now.duration_since(self.started) > EAGER {
                self.pause = (self.pause + self.pause / 8 + Duration::from_micros(1)).min(LAST);
            }
            self.next = Some(now + self.pause);
            return false;
        }
        self.pending = None;
        self.next = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::os::fd::{AsRawFd, OwnedFd};

    /// A port of the loopback that is bound, and its socket.
    fn bound() -> (OwnedFd, u16) {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        bind(socket.as_raw_fd(), &any).unwrap();
        let port = getsockname::<SockaddrIn>(socket.as_raw_fd()).unwrap().port();
        (socket, port)
    }

    #[test]
    fn a_port_is_ready_when_it_listens_and_not_before() {
        let (socket, port) = bound();
        let mut now = Instant::now();
        let mut readiness = Readiness::new(port, now);
        for _ in 0..100 {
            now += LAST;
            assert!(!readiness.listens(now));
        }
        listen(&socket, Backlog::new(8).unwrap()).unwrap();
        assert!(readiness.listens(now + LAST));
        assert_eq!(readiness.next(), None);
    }

    #[test]
    fn an_attempt_without_an_answer_counts_only_when_it_has_waited() {
        let (socket, port) = bound();
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        // The backlog is full when an attempt hangs.
        let mut held = Vec::new();
        while !matches!(held.last(), Some(Attempt::Pending { .. })) {
            held.push(Attempt::start(port));
            assert!(held.len() < 16);
        }
        let start = Instant::now();
        let mut readiness = Readiness::new(port, start);
        assert!(!readiness.listens(start + LAST));
        assert!(!readiness.listens(start + ANSWER));
        assert!(readiness.listens(start + LAST + ANSWER));
    }
}
