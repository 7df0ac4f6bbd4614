//! The door of a session: counts the calls inside and shuts so that none can slip in.
//!
//! One word of memory holds all that must change together: whether the gate is shut, whether what is behind it sleeps,
//! how many calls are inside, and a count of all that ever entered. The owner looks at the word, decides, and shuts the
//! gate (or sends what is behind it to sleep) only if the word is still the one it looked at; so "nothing is in flight"
//! cannot become false between decision and deed, and calls need neither a lock nor a message to the owner. Only a call
//! that enters while the session sleeps has to say so, and the first one that leaves when the owner looks but rarely.
//!
//! Invariant: after the gate has been shut nobody enters. Invariant: the count inside is never below zero, because only
//! dropping a [`Pass`] lowers it and only entering makes one. Invariant: a call that enters while the session sleeps sees
//! that it does, whichever came first.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const SHUT: u64 = 1 << 63;
const ASLEEP: u64 = 1 << 62;
const INSIDE: u64 = (1 << 31) - 1;
const ENTERED_ONE: u64 = 1 << 31;
/// Bits 31 to 61; wraps, which is harmless unless 2^31 calls enter while the owner thinks.
const ENTERED: u64 = !(SHUT | ASLEEP | INSIDE);

/// Counts calls in and out of one session.
#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    /// Nanoseconds from `born` to the last exit.
    last_exit: AtomicU64,
    /// The owner will not look for a while, and wants to be told when a call has left.
    unwatched: AtomicBool,
    /// When this process made it, and how old the session was then: more than nothing for one that was taken over.
    made: Instant,
    age: Duration,
    most: u32,
}

/// Why a call may not enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The session is ending.
    Shut,
    /// As many calls as allowed are inside.
    Full,
}

/// What the owner saw at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    word: u64,
    /// Calls inside.
    pub(crate) inside: u32,
    /// Whether the gate is shut.
    pub(crate) shut: bool,
    /// Whether the session sleeps.
    pub(crate) asleep: bool,
    /// When the last call left, counted from the session's birth; zero if none has.
    pub(crate) last_exit: Duration,
}

/// A call inside a session; dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Pass<G: Gated>(Arc<G>);

/// Something that has a gate.
pub(crate) trait Gated {
    fn gate(&self) -> &Gate;

    /// A call has left that the owner wanted to be told of.
    fn left(&self) {}
}

impl Gate {
    /// An open gate that lets at most `most` calls be inside at once, of a session that is `age` old at `now`. Its last
    /// call left at `last_exit`.
    pub(crate) fn new(now: Instant, age: Duration, last_exit: Duration, most: u32) -> Self {
        let most = most.min(u32::try_from(INSIDE).unwrap_or(u32::MAX));
        Self {
            word: AtomicU64::new(0),
            last_exit: AtomicU64::new(nanoseconds(last_exit)),
            unwatched: AtomicBool::new(false),
            made: now,
            age,
            most,
        }
    }

    /// Enters the gate of `of`, or says why not.
    pub(crate) fn enter<G: Gated>(of: Arc<G>) -> Result<Pass<G>, Refused> {
        let gate = of.gate();
        let step = |word: u64| {
            let full = inside(word) >= gate.most;
            let entered = (word & ENTERED).wrapping_add(ENTERED_ONE) & ENTERED;
            (word & SHUT == 0 && !full).then_some((word & ASLEEP) | entered | ((word & INSIDE) + 1))
        };
        match gate.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(_) => Ok(Pass(of)),
            Err(word) if word & SHUT != 0 => Err(Refused::Shut),
            Err(_) => Err(Refused::Full),
        }
    }

    /// The state at this moment.
    pub(crate) fn look(&self) -> Look {
        // Acquire pairs with the release in `Pass::drop`: whoever sees a call gone sees when it went.
        let word = self.word.load(Ordering::Acquire);
        let last_exit = Duration::from_nanos(self.last_exit.load(Ordering::Acquire));
        Look {
            word,
            inside: inside(word),
            shut: word & SHUT != 0,
            asleep: word & ASLEEP != 0,
            last_exit,
        }
    }

    /// Whether the session sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.word.load(Ordering::Acquire) & ASLEEP != 0
    }

    /// Marks the session as asleep if nothing is inside and nothing has entered since `seen`; answers whether it is now.
    pub(crate) fn sleep_if_unchanged(&self, seen: Look) -> bool {
        self.set_if_unchanged(seen, ASLEEP)
    }

    /// The session is awake again.
    pub(crate) fn wake(&self) {
        self.word.fetch_and(!ASLEEP, Ordering::AcqRel);
    }

    /// Whether the next call to leave says so ([`Gated::left`]).
    pub(crate) fn watch(&self, unwatched: bool) {
        self.unwatched.store(unwatched, Ordering::Release);
    }

    /// Shuts the gate if nothing is inside and nothing has entered since `seen`; answers whether it is shut now.
    pub(crate) fn shut_if_unchanged(&self, seen: Look) -> bool {
        self.set_if_unchanged(seen, SHUT)
    }

    fn set_if_unchanged(&self, seen: Look, bit: u64) -> bool {
        let set = || {
            self.word
                .compare_exchange(seen.word, seen.word | bit, Ordering::AcqRel, Ordering::Acquire)
        };
        seen.inside == 0 && set().is_ok()
    }

    /// Shuts the gate whatever is inside.
    pub(crate) fn shut(&self) {
        self.word.fetch_or(SHUT, Ordering::AcqRel);
    }

    /// Time since the session's birth.
    pub(crate) fn now(&self) -> Duration {
        self.age + self.made.elapsed()
    }

    /// A moment counted from the session's birth; of one before this process knew the session, when it came to know it.
    pub(crate) fn at(&self, since_birth: Duration) -> Instant {
        self.made + since_birth.saturating_sub(self.age)
    }
}

#[cfg(test)]
impl Look {
    /// A look at an open gate; for tests of what is decided on it.
    pub(crate) fn open(inside: u32, last_exit: Duration) -> Self {
        Self {
            word: u64::from(inside),
            inside,
            shut: false,
            asleep: false,
            last_exit,
        }
    }
}

impl<G: Gated> Pass<G> {
    /// What was entered.
    pub(crate) fn share(&self) -> Arc<G> {
        Arc::clone(&self.0)
    }
}

impl<G: Gated> Deref for Pass<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.0
    }
}

impl<G: Gated> Drop for Pass<G> {
    fn drop(&mut self) {
        let gate = self.0.gate();
        gate.last_exit.fetch_max(nanoseconds(gate.now()), Ordering::AcqRel);
        gate.word.fetch_sub(1, Ordering::AcqRel);
        if gate.unwatched.load(Ordering::Relaxed) && gate.unwatched.swap(false, Ordering::AcqRel) {
            self.0.left();
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn inside(word: u64) -> u32 {
    u32::try_from(word & INSIDE).expect("31 bits fit in 32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Room(Gate);

    impl Gated for Room {
        fn gate(&self) -> &Gate {
            &self.0
        }
    }

    fn room(most: u32) -> Arc<Room> {
        Arc::new(Room(Gate::new(Instant::now(), Duration::ZERO, Duration::ZERO, most)))
    }

    #[test]
    fn counts_and_refuses() {
        let room = room(2);
        let first = Gate::enter(Arc::clone(&room)).unwrap();
        let _second = Gate::enter(Arc::clone(&room)).unwrap();
        assert_eq!(Gate::enter(Arc::clone(&room)).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(room.0.look().inside, 1);
        room.0.shut();
        assert_eq!(Gate::enter(Arc::clone(&room)).unwrap_err(), Refused::Shut);
        assert_eq!(room.0.look().inside, 1, "shutting forgets nobody");
    }

    #[test]
    fn a_call_that_came_and_went_keeps_the_gate_open() {
        let room = room(2);
        let seen = room.0.look();
        drop(Gate::enter(Arc::clone(&room)).unwrap());
        assert_eq!(room.0.look().inside, seen.inside);
        assert!(!room.0.shut_if_unchanged(seen));
        assert!(room.0.shut_if_unchanged(room.0.look()));
    }

    #[test]
    fn a_call_that_enters_a_sleeping_session_sees_it() {
        let room = room(2);
        let seen = room.0.look();
        let pass = Gate::enter(Arc::clone(&room)).unwrap();
        assert!(!room.0.sleep_if_unchanged(seen), "a call is inside");
        drop(pass);
        assert!(room.0.sleep_if_unchanged(room.0.look()));
        let pass = Gate::enter(Arc::clone(&room)).unwrap();
        assert!(room.0.is_asleep() && room.0.look().inside == 1);
        room.0.wake();
        drop(pass);
        assert_eq!((room.0.is_asleep(), room.0.look().inside), (false, 0));
        assert!(room.0.sleep_if_unchanged(room.0.look()) && room.0.shut_if_unchanged(room.0.look()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_taken_over_keeps_its_age() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let gate = Gate::new(now, 100 * second, 90 * second, 1);
        assert_eq!((gate.now(), gate.look().last_exit), (100 * second, 90 * second));
        tokio::time::advance(5 * second).await;
        assert_eq!(gate.now(), 105 * second);
        assert_eq!(gate.at(130 * second), now + 30 * second);
        assert_eq!(gate.at(7 * second), now);
    }

    #[test]
    fn the_count_of_entries_wraps_within_its_bits() {
        let room = room(2);
        room.0.word.store(ENTERED, Ordering::Release);
        let pass = Gate::enter(Arc::clone(&room)).unwrap();
        assert_eq!((room.0.look().inside, room.0.look().shut), (1, false));
        drop(pass);
        assert_eq!(room.0.look().word, 0);
    }

    #[test]
    fn threads_never_find_themselves_inside_a_gate_shut_as_empty() {
        for _ in 0..20 {
            let room = room(u32::MAX);
            let shut = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        // The gate may only be shut while nobody is inside, so a pass proves that it is open.
                        while let Ok(pass) = Gate::enter(Arc::clone(&room)) {
                            assert!(!shut.load(Ordering::SeqCst));
                            assert!(!room.0.look().shut);
                            drop(pass);
                            std::thread::yield_now();
                        }
                    });
                }
                while !room.0.shut_if_unchanged(room.0.look()) {}
                shut.store(true, Ordering::SeqCst);
            });
            assert_eq!(room.0.look().inside, 0);
        }
    }
}
