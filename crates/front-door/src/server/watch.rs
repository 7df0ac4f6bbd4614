//! The clocks of one connection: how long it may be silent, and in which state.
//!
//! ```text
//!              request's head complete              last answer's body over
//!   Head ────────────────────────────────> (busy) ─────────────────────────> Idle
//!    ^                                                                        │
//!    └────────────── first byte of the next head (HTTP/1 only) ───────────────┘
//!   any ── the server says goodbye ──> Closing
//! ```
//!
//! A connection begins in `Head`. Deadlines: `Head` the head timeout, `Idle` the idle timeout, `Closing` the linger
//! timeout since the last byte that came, and the time for a whole body in all; while busy only an answer that the client does not take has one. Requests only store a time; one timer per
//! connection looks at it now and then, so that a request costs no timer.
//!
//! Invariant: in every state some deadline holds, so that no connection stays open for ever without use.

use crate::config::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The state of a connection that its socket, its requests and its task share.
#[derive(Debug)]
pub(crate) struct Watch {
    epoch: Instant,
    limits: Limits,
    /// State and the millisecond in which it began.
    state: AtomicU64,
    /// Requests in flight.
    busy: AtomicU32,
    /// The millisecond after that in which the client stopped to take our bytes; 0 while it takes them.
    blocked: AtomicU64,
    /// The millisecond after that in which `Closing` began; 0 before.
    closing: AtomicU64,
    /// Whether bytes written now belong to an answer of ours.
    expected: AtomicBool,
    /// Whether to read what the client still sends before closing.
    linger: AtomicBool,
}

/// Held while a request is in flight.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Watch>);

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// No complete head in time.
    Head,
    /// No request for a long time.
    Idle,
    /// The client does not take its answer.
    Write,
    /// The client does not close.
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    head: Duration,
    idle: Duration,
    write: Duration,
    linger: Duration,
    linger_total: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Idle,
    Closing,
}

impl Watch {
    /// A connection that was just accepted.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let limits = Limits {
            head: config.head_timeout,
            idle: config.idle_timeout,
            write: config.write_stall_timeout,
            linger: config.linger_timeout,
            linger_total: config.body_total_timeout,
        };
        Arc::new(Self {
            epoch: Instant::now(),
            limits,
            state: AtomicU64::new(pack(State::Head, 0)),
            busy: AtomicU32::new(0),
            blocked: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            expected: AtomicBool::new(false),
            linger: AtomicBool::new(false),
        })
    }

    /// A request's head is complete.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.expected.store(true, Ordering::Release);
        self.linger.store(false, Ordering::Release);
        Busy(Arc::clone(self))
    }

    /// Bytes came in on HTTP/1.
    pub(crate) fn received(&self) {
        if self.busy.load(Ordering::Acquire) == 0 {
            match unpack(self.state.load(Ordering::Acquire)).0 {
                State::Idle => self.enter(State::Head),
                State::Closing => self.enter(State::Closing),
                State::Head => {}
            }
        }
    }

    /// The client took bytes, or (`false`) did not.
    pub(crate) fn wrote(&self, progress: bool) {
        if progress {
            if self.blocked.load(Ordering::Relaxed) != 0 {
                self.blocked.store(0, Ordering::Release);
            }
        } else if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.millis() + 1, Ordering::Release);
        }
    }

    /// All bytes of finished answers are out.
    pub(crate) fn flushed(&self) {
        if self.busy.load(Ordering::Acquire) == 0 {
            self.expected.store(false, Ordering::Release);
        }
    }

    /// Whether bytes written now belong to an answer of ours.
    pub(crate) fn expects_writes(&self) -> bool {
        self.expected.load(Ordering::Acquire)
    }

    /// The connection is idle by nature (HTTP/2, where a head does not begin with a byte that we can see).
    pub(crate) fn idle(&self) {
        self.enter(State::Idle);
    }

    /// The server has begun to close.
    pub(crate) fn closing(&self) {
        let began = self.millis() + 1;
        let _ = self
            .closing
            .compare_exchange(0, began, Ordering::AcqRel, Ordering::Acquire);
        self.enter(State::Closing);
    }

    /// Read what the client still sends before closing, so that it gets to our answer.
    pub(crate) fn linger(&self) {
        self.linger.store(true, Ordering::Release);
    }

    /// Whether [`Watch::linger`] was asked for by the newest request.
    pub(crate) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Acquire)
    }

    /// When to look again, or why the connection has to end.
    pub(crate) fn check(&self) -> Result<Instant, Late> {
        let now = self.millis();
        let (state, since) = unpack(self.state.load(Ordering::Acquire));
        let blocked = self.blocked.load(Ordering::Acquire);
        let write = (blocked != 0).then(|| (blocked - 1 + millis(self.limits.write), Late::Write));
        let own = match state {
            State::Closing => {
                let began = self.closing.load(Ordering::Acquire).saturating_sub(1);
                let last = began + millis(self.limits.linger_total);
                Some((last.min(since + millis(self.limits.linger)), Late::Closing))
            }
            _ if self.busy.load(Ordering::Acquire) > 0 => None,
            State::Head => Some((since + millis(self.limits.head), Late::Head)),
            State::Idle => Some((since + millis(self.limits.idle), Late::Idle)),
        };
        // A state that begins right after this look must be seen in time: no look is further away than the shortest
        // deadline that a state may have.
        let mut next = now + millis(self.limits.head.min(self.limits.linger).min(self.limits.write));
        for (deadline, late) in [write, own].into_iter().flatten() {
            if deadline <= now {
                return Err(late);
            }
            next = next.min(deadline);
        }
        Ok(self.epoch + Duration::from_millis(next))
    }

    fn enter(&self, state: State) {
        self.state.store(pack(state, self.millis()), Ordering::Release);
    }

    fn millis(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

impl Busy {
    /// The connection that the request came on.
    pub(crate) fn watch(&self) -> &Watch {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1
            && unpack(self.0.state.load(Ordering::Acquire)).0 != State::Closing
        {
            self.0.enter(State::Idle);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 3)
}

fn pack(state: State, millis: u64) -> u64 {
    let code = match state {
        State::Head => 0,
        State::Idle => 1,
        State::Closing => 2,
    };
    millis << 2 | code
}

fn unpack(packed: u64) -> (State, u64) {
    let state = match packed & 3 {
        0 => State::Head,
        1 => State::Idle,
        _ => State::Closing,
    };
    (state, packed >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Arc<Watch> {
        Watch::new(&Config {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(100),
            linger_timeout: Duration::from_secs(5),
            ..Config::default()
        })
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_state_has_its_deadline() {
        let watch = watch();
        pass(9).await;
        assert!(watch.check().is_ok());
        let busy = watch.begin();
        pass(1000).await;
        assert!(watch.check().is_ok(), "a call may take long");
        let second = watch.begin();
        drop(busy);
        pass(1000).await;
        assert!(watch.check().is_ok(), "another call is still busy");
        drop(second);
        pass(59).await;
        assert!(watch.check().is_ok());
        watch.received();
        pass(9).await;
        assert!(watch.check().is_ok(), "the head's own clock began with its first byte");
        watch.received();
        pass(1).await;
        assert_eq!(watch.check(), Err(Late::Head), "more bytes do not buy more time");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_idle_after_a_call_and_late_before_the_first() {
        let before = watch();
        pass(10).await;
        assert_eq!(before.check(), Err(Late::Head));
        let after = watch();
        drop(after.begin());
        pass(59).await;
        assert!(after.check().is_ok());
        pass(1).await;
        assert_eq!(after.check(), Err(Late::Idle));
        after.closing();
        assert!(after.check().is_ok());
        pass(4).await;
        after.received();
        pass(4).await;
        assert!(after.check().is_ok(), "a client that goes on sending is lingered for");
        pass(1).await;
        assert_eq!(after.check(), Err(Late::Closing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_while_we_close_is_cut_in_the_end() {
        let watch = watch();
        watch.closing();
        for _ in 0..225 {
            assert!(watch.check().is_ok());
            pass(4).await;
            watch.received();
        }
        assert_eq!(watch.check(), Err(Late::Closing), "15 minutes are over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_late_even_while_busy() {
        let watch = watch();
        let _busy = watch.begin();
        watch.wrote(false);
        pass(60).await;
        watch.wrote(false);
        pass(39).await;
        assert!(watch.check().is_ok());
        watch.wrote(true);
        pass(500).await;
        assert!(watch.check().is_ok(), "progress starts the clock anew");
        watch.wrote(false);
        pass(100).await;
        assert_eq!(watch.check(), Err(Late::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn no_look_is_further_away_than_the_shortest_deadline() {
        let watch = watch();
        let _busy = watch.begin();
        assert!(watch.check().unwrap() <= Instant::now() + Duration::from_secs(5));
    }

    #[tokio::test]
    async fn an_answer_is_expected_from_its_request_until_it_is_flushed() {
        let watch = watch();
        assert!(!watch.expects_writes());
        let busy = watch.begin();
        watch.flushed();
        assert!(
            watch.expects_writes(),
            "a flush in the middle of an answer ends nothing"
        );
        drop(busy);
        assert!(watch.expects_writes(), "its last bytes are not out yet");
        watch.flushed();
        assert!(!watch.expects_writes());
    }
}
