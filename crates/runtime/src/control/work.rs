//! What is still to be done, and by whom: the reconciler's queue.
//!
//! A job names something to look at, never what to do with it: whoever runs it reads the records and moves them on.
//! So a job may be queued twice, run twice or be lost in a crash without harm; at the start every runtime is looked at.
//!
//! Invariant: two jobs about the same thing never run at the same time. Invariant: packages are collected only while
//! nothing else runs, so that none is removed between its unpacking and the commit that names it.

use domain::id::{RuntimeId, Version};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Something to look at. In order of urgency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Job {
    /// Move a runtime and its endpoints on; finish its deletion.
    Settle(RuntimeId),
    /// Fetch, unpack and check a version's artifact.
    Prepare(RuntimeId, Version),
    /// Remove client tokens that have expired.
    Expire,
    /// Remove packages that no version uses.
    Collect,
}

/// The jobs that wait and the jobs that run.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    limits: Limits,
}

/// How many jobs run at once, those that wait for a service or a turn among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) settle: usize,
    pub(crate) prepare: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeSet<Job>,
    running: HashSet<Job>,
    /// How often in a row a job failed for reasons of the platform.
    failures: HashMap<Job, u32>,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            limits,
        }
    }

    /// Queues a job, unless it waits already.
    pub(crate) fn add(&self, job: Job) {
        self.lock().waiting.insert(job);
        self.changed.notify_one();
    }

    /// Waits for a job that may run now, and counts it as running. For one caller only.
    pub(crate) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.changed.notified().await;
        }
    }

    /// A job has ended well.
    pub(crate) fn done(&self, job: &Job) {
        let mut state = self.lock();
        state.running.remove(job);
        state.failures.remove(job);
        drop(state);
        self.changed.notify_one();
    }

    /// A job could not do its work. Answers how long to wait before it is added again.
    pub(crate) fn failed(&self, job: &Job) -> Duration {
        let mut state = self.lock();
        state.running.remove(job);
        let failures = state.failures.entry(job.clone()).or_insert(0);
        *failures = (*failures + 1).min(9);
        let wait = Duration::from_millis(100 << *failures).min(Duration::from_secs(30));
        drop(state);
        self.changed.notify_one();
        wait
    }

    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        let exclusive = state.running.contains(&Job::Collect);
        let settling = state.running.iter().filter(|job| matches!(job, Job::Settle(_))).count();
        let preparing = state
            .running
            .iter()
            .filter(|job| matches!(job, Job::Prepare(..)))
            .count();
        let idle = state.running.is_empty();
        let may_run = |job: &Job| match job {
            Job::Settle(_) => settling < self.limits.settle,
            Job::Prepare(..) => preparing < self.limits.prepare,
            Job::Expire => true,
            // The last in order: nothing else waits that could run now.
            Job::Collect => idle,
        };
        if exclusive {
            return None;
        }
        let job = state
            .waiting
            .iter()
            .find(|job| may_run(job) && !state.running.contains(*job))?
            .clone();
        state.waiting.remove(&job);
        state.running.insert(job.clone());
        Some(job)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(Limits { settle: 2, prepare: 1 })
    }

    fn id(name: &str) -> RuntimeId {
        RuntimeId::parse(&format!("{name}-0123456789")).unwrap()
    }

    #[test]
    fn a_job_that_is_added_while_it_runs_runs_once_more_afterwards() {
        let queue = queue();
        let job = Job::Settle(id("a"));
        queue.add(job.clone());
        assert_eq!(queue.take(), Some(job.clone()));
        queue.add(job.clone());
        queue.add(job.clone());
        assert_eq!(queue.take(), None);
        queue.done(&job);
        assert_eq!(queue.take(), Some(job.clone()));
        queue.done(&job);
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn kinds_have_their_own_limits_and_collecting_is_alone() {
        let queue = queue();
        let prepare = |name| Job::Prepare(id(name), Version::FIRST);
        for job in [Job::Collect, prepare("a"), prepare("b"), Job::Settle(id("a"))] {
            queue.add(job);
        }
        assert_eq!(queue.take(), Some(Job::Settle(id("a"))));
        assert_eq!(queue.take(), Some(prepare("a")));
        assert_eq!(queue.take(), None);
        queue.done(&Job::Settle(id("a")));
        assert_eq!(
            queue.take(),
            None,
            "one preparation at a time, and no collection beside it"
        );
        queue.done(&prepare("a"));
        assert_eq!(queue.take(), Some(prepare("b")));
        queue.done(&prepare("b"));
        assert_eq!(queue.take(), Some(Job::Collect));
        queue.add(Job::Settle(id("c")));
        assert_eq!(queue.take(), None);
        queue.done(&Job::Collect);
        assert_eq!(queue.take(), Some(Job::Settle(id("c"))));
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_half_a_minute() {
        let queue = queue();
        let waits: Vec<Duration> = (0..12).map(|_| queue.failed(&Job::Expire)).collect();
        assert!(waits.is_sorted());
        assert_eq!(waits[0], Duration::from_millis(200));
        assert_eq!(waits[11], Duration::from_secs(30));
    }
}
