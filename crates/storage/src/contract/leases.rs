//! The checks for [`Leases`].

use crate::leases::{Lease, Leases};
use crate::{Error, Result};
use domain::Clock;
use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const NAME: &str = "thing";
const TTL: Duration = Duration::from_secs(30);
const START: i64 = 1_800_000_000;

type Make = dyn Fn(Clock) -> Arc<dyn Leases> + Send + Sync;

/// Nodes that share one storage, each with a clock of its own.
pub struct Nodes(Box<Make>);

impl Nodes {
    /// `make` gives a node's view of the one storage.
    pub fn new(make: impl Fn(Clock) -> Arc<dyn Leases> + Send + Sync + 'static) -> Self {
        Self(Box::new(make))
    }

    fn node(&self, time: &Time) -> Arc<dyn Leases> {
        (self.0)(time.clock())
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nodes")
    }
}

/// A clock's time, in seconds, that the check sets.
#[derive(Clone)]
struct Time(Arc<AtomicI64>);

impl Time {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::from_fn(move || time.now())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn goes(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Another holder gets it after its expiry or its release, and not a moment earlier.
pub async fn one_holder_at_a_time(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    let first = leases.acquire(NAME, "a", TTL).await.unwrap();
    assert_eq!(
        (first.name.as_str(), first.holder.as_str(), first.epoch),
        (NAME, "a", 1)
    );
    assert_eq!(first.expires, time.now() + SignedDuration::from_secs(30));
    time.goes(29);
    held_by(leases.acquire(NAME, "b", TTL).await, "a");
    let renewed = leases.renew(&first, TTL).await.unwrap();
    assert_eq!(renewed.epoch, first.epoch, "renewing is no acquisition");
    assert_eq!(renewed.expires, time.now() + SignedDuration::from_secs(30));
    time.goes(29);
    held_by(leases.acquire(NAME, "b", TTL).await, "a");
    time.goes(1);
    let second = leases.acquire(NAME, "b", TTL).await.unwrap();
    held_by(leases.acquire(NAME, "a", TTL).await, "b");
    leases.release(&second).await.unwrap();
    leases.acquire(NAME, "a", TTL).await.unwrap();
}

/// Whoever takes it and however, and although it was released.
pub async fn the_epoch_rises_with_every_acquisition(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    for (epoch, holder) in (1..).zip(["a", "a", "b", "a", "b", "b"]) {
        time.goes(31);
        let lease = leases.acquire(NAME, holder, TTL).await.unwrap();
        assert_eq!(lease.epoch, epoch);
        if epoch % 2 == 0 {
            leases.release(&lease).await.unwrap();
        }
    }
}

/// A restarted process need not wait for the end of what it had before it was killed.
pub async fn a_holder_takes_over_from_itself_at_once(nodes: Arc<Nodes>) {
    let leases = nodes.node(&Time::new());
    let before = leases.acquire(NAME, "a", TTL).await.unwrap();
    let after = leases.acquire(NAME, "a", TTL).await.unwrap();
    assert!(after.epoch > before.epoch);
    lost(leases.renew(&before, TTL).await, &before);
    leases.renew(&after, TTL).await.unwrap();
}

/// Expiry allows others to take it; it takes nothing away by itself.
pub async fn a_late_holder_keeps_what_nobody_took(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    let lease = leases.acquire(NAME, "a", TTL).await.unwrap();
    time.goes(3600);
    let renewed = leases.renew(&lease, TTL).await.unwrap();
    assert!(renewed.expires > time.now());
    held_by(leases.acquire(NAME, "b", TTL).await, "a");
}

/// In renewing and in releasing, and its successor notices nothing.
pub async fn a_stale_holder_is_refused(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    let never = Lease {
        name: NAME.to_owned(),
        holder: "a".to_owned(),
        epoch: 1,
        expires: time.now(),
    };
    lost(leases.renew(&never, TTL).await, &never);
    let first = leases.acquire(NAME, "a", TTL).await.unwrap();
    time.goes(31);
    let second = leases.acquire(NAME, "b", TTL).await.unwrap();
    let forged = Lease {
        holder: "a".to_owned(),
        ..second.clone()
    };
    for stale in [&first, &forged] {
        lost(leases.renew(stale, TTL).await, stale);
        lost(leases.release(stale).await, stale);
    }
    held_by(leases.acquire(NAME, "a", TTL).await, "b");
    leases.release(&second).await.unwrap();
    lost(leases.renew(&second, TTL).await, &second);
    lost(leases.release(&second).await, &second);
}

/// Each name has its own holder and its own epochs; what is no key is no name.
pub async fn names_are_apart(nodes: Arc<Nodes>) {
    let leases = nodes.node(&Time::new());
    leases.acquire("x", "a", TTL).await.unwrap();
    leases.acquire("x", "a", TTL).await.unwrap();
    assert_eq!(leases.acquire("y", "b", TTL).await.unwrap().epoch, 1);
    held_by(leases.acquire("x", "b", TTL).await, "a");
    assert!(matches!(leases.acquire("", "a", TTL).await, Err(Error::BadKey(..))));
}

/// Of holders that ask at the same moment exactly one wins, in every round.
pub async fn of_many_who_want_it_one_gets_it(nodes: Arc<Nodes>) {
    let time = Time::new();
    for round in 1..=10 {
        let mut tasks = JoinSet::new();
        for i in 0..16 {
            let leases = nodes.node(&time);
            tasks.spawn(async move { leases.acquire(NAME, &format!("node-{i}"), TTL).await });
        }
        let answers = tasks.join_all().await;
        let won: Vec<&Lease> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {answers:?}");
        assert_eq!(won[0].epoch, round);
        let winner = won[0].holder.clone();
        for answer in answers.into_iter().filter(Result::is_err) {
            held_by(answer, &winner);
        }
        time.goes(30);
    }
}

/// Acquisitions of one holder each get an epoch of their own, and only the last can be renewed.
pub async fn a_holder_that_starts_many_times_at_once_is_one_in_the_end(nodes: Arc<Nodes>) {
    let time = Time::new();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let leases = nodes.node(&time);
        tasks.spawn(async move { leases.acquire(NAME, "a", TTL).await.unwrap() });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|lease| lease.epoch);
    assert_eq!(
        all.iter().map(|lease| lease.epoch).collect::<Vec<_>>(),
        (1..=16).collect::<Vec<_>>()
    );
    let leases = nodes.node(&time);
    let last = all.pop().unwrap();
    for stale in &all {
        lost(leases.renew(stale, TTL).await, stale);
    }
    leases.renew(&last, TTL).await.unwrap();
}

/// While others try in vain, and cut nothing off.
pub async fn renewing_beside_acquiring_loses_nothing(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    let mut lease = leases.acquire(NAME, "a", TTL).await.unwrap();
    let others = Arc::new(Mutex::new(0_u32));
    let rivals: Vec<_> = (0..4)
        .map(|i| {
            // Their clocks are behind, so that each attempt may also cut the expiry down.
            let (behind, others) = (Time::new(), Arc::clone(&others));
            behind.goes(-100);
            let leases = nodes.node(&behind);
            tokio::spawn(async move {
                for _ in 0..25 {
                    held_by(leases.acquire(NAME, &format!("b{i}"), TTL).await, "a");
                    *others.lock().unwrap() += 1;
                }
            })
        })
        .collect();
    while rivals.iter().any(|rival| !rival.is_finished()) {
        lease = leases.renew(&lease, TTL).await.unwrap();
    }
    for rival in rivals {
        rival.await.unwrap();
    }
    assert_eq!((*others.lock().unwrap(), lease.epoch), (100, 1));
}

/// The one from whom it was taken learns it at its next step.
pub async fn a_clock_that_runs_ahead_takes_early_and_the_epoch_says_so(nodes: Arc<Nodes>) {
    let (right, ahead) = (Time::new(), Time::new());
    let (first, second) = (nodes.node(&right), nodes.node(&ahead));
    let old = first.acquire(NAME, "a", TTL).await.unwrap();
    ahead.goes(3600);
    let new = second.acquire(NAME, "b", TTL).await.unwrap();
    assert!(new.epoch > old.epoch);
    lost(first.renew(&old, TTL).await, &old);
}

/// A lease written an hour ahead, by a holder that is dead since, is free after its own length.
pub async fn a_clock_that_fell_back_waits_no_longer_than_the_lease_is_long(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    time.goes(3600);
    let ahead = leases.acquire(NAME, "a", TTL).await.unwrap();
    time.goes(-3600);
    let refused = leases.acquire(NAME, "b", TTL).await;
    assert!(
        matches!(&refused, Err(Error::Leased { expires, .. }) if *expires == time.now() + SignedDuration::from_secs(30)),
        "{refused:?}"
    );
    // A holder that lives has lost nothing by that.
    let renewed = leases.renew(&ahead, TTL).await.unwrap();
    assert_eq!(renewed.expires, time.now() + SignedDuration::from_secs(30));
    time.goes(29);
    held_by(leases.acquire(NAME, "b", TTL).await, "a");
    time.goes(1);
    leases.acquire(NAME, "b", TTL).await.unwrap();
}

/// A length beyond the end of time is no error.
pub async fn the_longest_lease_never_ends(nodes: Arc<Nodes>) {
    let time = Time::new();
    let leases = nodes.node(&time);
    let lease = leases.acquire(NAME, "a", Duration::MAX).await.unwrap();
    assert_eq!(lease.expires, Timestamp::MAX);
    time.goes(100 * 365 * 24 * 3600);
    held_by(leases.acquire(NAME, "b", TTL).await, "a");
    leases.renew(&lease, Duration::MAX).await.unwrap();
}

#[track_caller]
fn held_by(answer: Result<Lease>, expected: &str) {
    assert!(
        matches!(&answer, Err(Error::Leased { holder, .. }) if holder == expected),
        "{answer:?}, not held by {expected}"
    );
}

#[track_caller]
fn lost<T: fmt::Debug>(answer: Result<T>, stale: &Lease) {
    assert!(
        matches!(&answer, Err(Error::LeaseLost { name, epoch }) if *name == stale.name && *epoch == stale.epoch),
        "{answer:?}, not lost"
    );
}
