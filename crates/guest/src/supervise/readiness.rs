//! Whether the agent's port accepts connections: tried again and again, with pauses in proportion to the time waited so
//! far. A fast agent is noticed at once, a slow one soon compared with its own time, and neither costs much.

use super::dial::Knock;
use std::time::{Duration, Instant};

/// The part of the time waited so far that a pause may take.
const PART: u32 = 256;
/// The shortest pause.
const LEAST: Duration = Duration::from_millis(1);
/// The longest pause.
const MOST: Duration = Duration::from_millis(20);

/// The state of the attempts.
pub(crate) struct Readiness {
    knock: Knock,
    started: Instant,
    next: Option<Instant>,
}

impl Readiness {
    pub(crate) fn new(port: u16, now: Instant) -> Self {
        Self {
            knock: Knock::new(port),
            started: now,
            next: Some(now + LEAST),
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
        if !self.knock.once(now) {
            self.next = Some(now + pause(now.duration_since(self.started)));
            return false;
        }
        self.next = None;
        true
    }
}

fn pause(waited: Duration) -> Duration {
    (waited / PART).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::super::dial::{ANSWER, Attempt};
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
            now += MOST;
            assert!(!readiness.listens(now));
        }
        listen(&socket, Backlog::new(8).unwrap()).unwrap();
        assert!(readiness.listens(now + MOST));
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
        assert!(!readiness.listens(start + MOST));
        assert!(!readiness.listens(start + ANSWER));
        assert!(readiness.listens(start + MOST + ANSWER));
    }

    #[test]
    fn a_pause_is_small_beside_the_time_waited() {
        for (waited, wanted) in [(0, 1000), (100, 1000), (1000, 3906), (5000, 19_531), (60_000, 20_000)] {
            let found = pause(Duration::from_millis(waited)).as_micros();
            assert_eq!(found, wanted, "after {waited} ms");
        }
    }
}
