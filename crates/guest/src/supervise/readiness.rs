//! Whether the agent's port accepts connections: tried often at first, since most agents take a moment, then less often.

use super::dial::Attempt;
use std::time::{Duration, Instant};

/// How often at first.
const FIRST: Duration = Duration::from_millis(1);
/// For how long that often; a Python agent with few imports listens within it.
const EAGER: Duration = Duration::from_millis(500);
/// How often at last.
const LAST: Duration = Duration::from_millis(20);

/// The state of the attempts.
pub(crate) struct Readiness {
    port: u16,
    started: Instant,
    next: Option<Instant>,
    pause: Duration,
}

impl Readiness {
    pub(crate) fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            started: now,
            next: Some(now + FIRST),
            pause: FIRST,
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
        // An attempt that is still pending belongs to a listener whose backlog is full: it listens.
        if matches!(Attempt::start(self.port), Attempt::Refused) {
            if now.duration_since(self.started) > EAGER {
                self.pause = (self.pause + self.pause / 8 + Duration::from_micros(1)).min(LAST);
            }
            self.next = Some(now + self.pause);
            return false;
        }
        self.next = None;
        true
    }
}
