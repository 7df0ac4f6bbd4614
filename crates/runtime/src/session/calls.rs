//! What the calls of one session have done: how many, how much, which were in flight when, and how the last one failed.
//!
//! A call touches this a few times, each for tens of nanoseconds; nothing here is held across an await.

use super::gate::Pass;
use super::live::Session;
use super::report::{Failure, Usage};
use domain::Error;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Calls remembered to say which one a line of the log was written for.
const REMEMBERED: usize = 256;
/// An agent's output reaches its log a little after it was written.
const LAG: Duration = Duration::from_millis(50);

/// Counters and memories of one session's calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// From the session's birth to the first byte of its first answer; nothing inside if that was another process's.
    first_byte: OnceLock<Option<Duration>>,
    flights: Mutex<Flights>,
    last_failure: Mutex<Option<Failure>>,
}

/// A call inside a session, from when it may reach the agent to the end of its answer. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct InFlight {
    pass: Pass<Session>,
    number: u64,
}

#[derive(Debug, Default)]
struct Flights {
    /// The number of the oldest that is remembered.
    first: u64,
    known: VecDeque<Flight>,
}

#[derive(Debug)]
struct Flight {
    request: Uuid,
    from: Duration,
    to: Option<Duration>,
}

impl InFlight {
    /// A call that has entered sets out.
    pub(crate) fn new(pass: Pass<Session>, request: Uuid) -> Self {
        pass.calls.requests.fetch_add(1, Ordering::Relaxed);
        let number = lock(&pass.calls.flights).begin(request, pass.now());
        Self { pass, number }
    }

    /// The session, for whoever counts beside the call.
    pub(crate) fn share(&self) -> Arc<Session> {
        self.pass.share()
    }

    /// The head of its answer is there. Answers the time since the session's birth if it was the session's first.
    pub(crate) fn answered(&self) -> Option<Duration> {
        if self.pass.calls.first_byte.get().is_some() {
            return None;
        }
        let now = self.pass.now();
        self.pass.calls.first_byte.set(Some(now)).ok().map(|()| now)
    }
}

impl Deref for InFlight {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.pass
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.pass.calls.flights).end(self.number, self.pass.now());
    }
}

impl Calls {
    /// Payload that went to the agent.
    pub(crate) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Payload that came from the agent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A call failed.
    pub(crate) fn failed(&self, at: Timestamp, request: Uuid, error: &Error) {
        *lock(&self.last_failure) = Some(Failure {
            at,
            request_id: request.to_string(),
            message: error.message.clone(),
            detail: error.detail.as_deref().map(str::to_owned),
        });
    }

    /// The request that something at a moment belongs to: that of the one call in flight, if there was exactly one.
    pub(super) fn request_at(&self, at: Duration) -> Option<Uuid> {
        lock(&self.flights).request_at(at)
    }

    pub(super) fn last_failure(&self) -> Option<Failure> {
        lock(&self.last_failure).clone()
    }

    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get().copied().flatten()
    }

    /// The session has been called before this process had it.
    pub(super) fn adopt(&self) {
        let _ = self.first_byte.set(None);
    }

    /// Adds what was counted to what else is known of the session's use.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        usage.requests += self.requests.load(Ordering::Relaxed);
        usage.bytes_in += self.bytes_in.load(Ordering::Relaxed);
        usage.bytes_out += self.bytes_out.load(Ordering::Relaxed);
    }
}

impl Flights {
    fn begin(&mut self, request: Uuid, now: Duration) -> u64 {
        if self.known.len() == REMEMBERED {
            self.known.pop_front();
            self.first += 1;
        }
        self.known.push_back(Flight {
            request,
            from: now,
            to: None,
        });
        self.first + self.known.len() as u64 - 1
    }

    fn end(&mut self, number: u64, now: Duration) {
        // One that is no longer remembered was overtaken by hundreds of others.
        let index = number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(flight) = index.and_then(|index| self.known.get_mut(index)) {
            flight.to = Some(now);
        }
    }

    fn request_at(&self, at: Duration) -> Option<Uuid> {
        let flew = |flight: &&Flight| flight.from <= at && flight.to.is_none_or(|to| at <= to + LAG);
        let mut flights = self.known.iter().filter(flew);
        let one = flights.next()?;
        // Calls one after the other may both claim a moment within the lag; the later one began before it.
        match flights.next() {
            None => Some(one.request),
            Some(later) if one.to.is_some_and(|to| to <= later.from) && flights.next().is_none() => Some(later.request),
            Some(_) => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can be left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_moment_belongs_to_the_one_call_in_flight() {
        let [a, b, c] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
        let mut flights = Flights::default();
        let first = flights.begin(a, at(100));
        assert_eq!(flights.request_at(at(99)), None);
        assert_eq!(flights.request_at(at(150)), Some(a));
        flights.end(first, at(200));
        assert_eq!(flights.request_at(at(240)), Some(a), "output comes a little late");
        assert_eq!(flights.request_at(at(251)), None);
        let second = flights.begin(b, at(220));
        assert_eq!(
            flights.request_at(at(240)),
            Some(b),
            "a call that is in flight comes first"
        );
        flights.begin(c, at(300));
        assert_eq!(flights.request_at(at(310)), None, "two are in flight");
        flights.end(second, at(400));
        assert_eq!(flights.request_at(at(500)), Some(c));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut flights = Flights::default();
        let numbers: Vec<u64> = (0..1000).map(|n| flights.begin(Uuid::from_u128(n), at(0))).collect();
        assert_eq!(flights.known.len(), REMEMBERED);
        for number in &numbers[..999] {
            flights.end(*number, at(1));
        }
        assert_eq!(flights.request_at(at(60)), Some(Uuid::from_u128(999)));
    }
}
