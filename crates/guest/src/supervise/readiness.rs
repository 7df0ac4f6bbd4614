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
        if !self.knock.once() {
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
    use super::*;

    #[test]
    fn a_pause_is_small_beside_the_time_waited() {
        for (waited, wanted) in [(0, 1000), (100, 1000), (1000, 3906), (5000, 19_531), (60_000, 20_000)] {
            let found = pause(Duration::from_millis(waited)).as_micros();
            assert_eq!(found, wanted, "after {waited} ms");
        }
    }
}
