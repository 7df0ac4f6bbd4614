//! Admission: how much the server takes on at once.
//!
//! Two budgets, both without locks: calls in flight, and bytes of bodies that are held (in memory or in spool files)
//! because their signature is not yet verified or their service has not yet read them. A call that fits neither is
//! told to come back, before its body is read. What is admitted becomes a [`Ticket`] or a [`Held`]; dropping it gives
//! the room back.
//!
//! Invariant: the sum of all held bytes never exceeds the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budgets.
#[derive(Debug)]
pub(crate) struct Admission {
    calls: Budget,
    held: Budget,
}

/// Leave to work on one call.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Admission>);

/// Room for some bytes of a body.
#[derive(Debug)]
pub(crate) struct Held {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Admission {
    /// Budgets of this many calls and bytes.
    pub(crate) fn new(calls: u64, held_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            calls: Budget::new(calls),
            held: Budget::new(held_bytes),
        })
    }

    /// Leave for one more call, unless the server is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Ticket> {
        self.calls.take(1).then(|| Ticket(Arc::clone(self)))
    }

    /// Room for `bytes`, unless too much is held already.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        self.held.take(bytes).then(|| Held {
            admission: Arc::clone(self),
            bytes,
        })
    }

    /// Bytes held now.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.used.load(Ordering::Relaxed)
    }

    /// Calls in flight now.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.used.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Makes the room `bytes` large in all; `false` when the budget does not allow it.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let granted = more == 0 || self.admission.held.take(more);
        if granted {
            self.bytes += more;
        }
        granted
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.calls.give(1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.admission.held.give(self.bytes);
    }
}

#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    most: u64,
}

impl Budget {
    fn new(most: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            most,
        }
    }

    fn take(&self, amount: u64) -> bool {
        // Add first, look after: two callers may both be refused at the brim, but the sum is never exceeded for long
        // enough to be used.
        let before = self.used.fetch_add(amount, Ordering::Relaxed);
        let fits = before.checked_add(amount).is_some_and(|after| after <= self.most);
        if !fits {
            self.give(amount);
        }
        fits
    }

    fn give(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_when_a_ticket_or_hold_is_dropped() {
        let admission = Admission::new(2, 100);
        let (first, second) = (admission.enter(), admission.enter());
        assert!(first.is_some() && second.is_some());
        assert!(admission.enter().is_none());
        drop(first);
        assert!(admission.enter().is_some());
        assert_eq!(admission.calls(), 1);

        let mut held = admission.hold(40).unwrap();
        assert!(admission.hold(61).is_none());
        assert!(held.grow_to(100));
        assert!(held.grow_to(50), "it is already larger");
        assert!(!held.grow_to(101));
        assert_eq!(admission.held_bytes(), 100);
        drop(held);
        assert_eq!(admission.held_bytes(), 0);
    }

    #[test]
    fn an_absurd_size_is_refused_without_wrapping() {
        let admission = Admission::new(1, 100);
        let _held = admission.hold(10).unwrap();
        assert!(admission.hold(u64::MAX).is_none());
        assert_eq!(admission.held_bytes(), 10);
    }

    #[test]
    fn many_threads_never_exceed_the_budget() {
        let admission = Admission::new(1, 10);
        let peak = AtomicU64::new(0);
        let inside = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(held) = admission.hold(3) {
                            let now = inside.fetch_add(3, Ordering::SeqCst) + 3;
                            peak.fetch_max(now, Ordering::SeqCst);
                            inside.fetch_sub(3, Ordering::SeqCst);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert!(peak.load(Ordering::SeqCst) <= 10);
        assert_eq!(admission.held_bytes(), 0);
    }
}
