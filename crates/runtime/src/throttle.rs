//! How fast callers may call: AWS's rate quotas, as settings.
//!
//! A limit of N per second lets N calls through at once and then one every N-th part of a second: a bucket that holds what
//! the limit allows in its period. That is as much as AWS's figures promise, needs no second number to be set, and a
//! limit of 2 a minute means two now. New sessions are counted by the minute, so a burst of users is let in.
//!
//! Data plane operations are counted for each runtime, control operations for the whole server, new sessions for each
//! endpoint. All that is remembered of a bucket is when it will be full again; one that is full is forgotten, so memory
//! is bounded by what is called within a period.
//!
//! Invariant: nothing here awaits or allocates for a caller that is known; a call costs a lock and a look-up.

use crate::control;
use api::operations as op;
use domain::id::{EndpointName, RuntimeId};
use domain::{Error, Kind};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Fewer buckets than this are not worth looking through for full ones.
const FEW: usize = 64;

/// The `[quotas.rates]` part of the configuration. The defaults are AWS's; 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// `InvokeAgentRuntime` calls of one runtime. Default 200.
    pub invoke_per_second: u32,
    /// `StopRuntimeSession` calls of one runtime. Default 200.
    pub stop_per_second: u32,
    /// Calls of each control operation that creates. Default 5.
    pub create_per_second: u32,
    /// Calls of each control operation that updates or tags. Default 5.
    pub update_per_second: u32,
    /// Calls of each control operation that deletes. Default 5.
    pub delete_per_second: u32,
    /// Calls of each control operation that lists. Default 5.
    pub list_per_second: u32,
    /// Calls of each control operation that gets. Default 50.
    pub get_per_second: u32,
    /// New sessions of one endpoint. Default 1500, which is AWS's 25 a second for code packages. (For container images,
    /// which Eyot does not run yet, AWS says 400 a minute.)
    pub new_sessions_per_minute: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            invoke_per_second: 200,
            stop_per_second: 200,
            create_per_second: 5,
            update_per_second: 5,
            delete_per_second: 5,
            list_per_second: 5,
            get_per_second: 50,
            new_sessions_per_minute: 1500,
        }
    }
}

#[cfg(test)]
impl Rates {
    /// For tests that are about something else.
    pub(crate) fn unlimited() -> Self {
        Self {
            invoke_per_second: 0,
            stop_per_second: 0,
            create_per_second: 0,
            update_per_second: 0,
            delete_per_second: 0,
            list_per_second: 0,
            get_per_second: 0,
            new_sessions_per_minute: 0,
        }
    }
}

/// Counts calls of operations.
#[derive(Debug)]
pub(crate) struct Throttle {
    invoke: Keyed<()>,
    stop: Keyed<()>,
    control: Vec<Operation>,
}

/// Counts new sessions.
#[derive(Debug)]
pub struct SessionRate(Keyed<EndpointName>);

/// So many in so much time.
#[derive(Debug, Clone, Copy)]
struct Limit {
    count: u32,
    period: Duration,
}

/// One control operation.
#[derive(Debug)]
struct Operation {
    name: &'static str,
    limit: Limit,
    key: &'static str,
    full_at: Mutex<Instant>,
}

/// A bucket for each part of each runtime.
#[derive(Debug)]
struct Keyed<Part> {
    limit: Limit,
    state: Mutex<State<Part>>,
}

#[derive(Debug)]
struct State<Part> {
    full_at: HashMap<RuntimeId, Vec<(Part, Instant)>>,
    /// With so many runtimes, full buckets are looked for.
    sweep_at: usize,
}

impl Throttle {
    pub(crate) fn new(rates: &Rates) -> Self {
        let now = Instant::now();
        let operations = control::OPERATIONS.iter().map(|operation| {
            let (count, key) = control_rate(operation.name, rates);
            Operation {
                name: operation.name,
                limit: Limit::new(count, SECOND),
                key,
                full_at: Mutex::new(now),
            }
        });
        Self {
            invoke: Keyed::new(Limit::new(rates.invoke_per_second, SECOND)),
            stop: Keyed::new(Limit::new(rates.stop_per_second, SECOND)),
            control: operations.collect(),
        }
    }

    /// `InvokeAgentRuntime`.
    pub(crate) fn invoke(&self, runtime: &RuntimeId) -> Result<(), Error> {
        self.data(
            &self.invoke,
            runtime,
            op::INVOKE_AGENT_RUNTIME.name,
            "invoke_per_second",
        )
    }

    /// `StopRuntimeSession`.
    pub(crate) fn stop(&self, runtime: &RuntimeId) -> Result<(), Error> {
        self.data(&self.stop, runtime, op::STOP_RUNTIME_SESSION.name, "stop_per_second")
    }

    /// An operation of the control plane.
    pub(crate) fn control(&self, operation: &api::Operation) -> Result<(), Error> {
        let Some(known) = self.control.iter().find(|known| known.name == operation.name) else {
            return Ok(());
        };
        let count = known.limit.count;
        known
            .limit
            .take(&mut lock(&known.full_at), Instant::now())
            .map_err(|wait| {
                let what = format!("{} may be called {count} times a second", known.name);
                exceeded(&what, known.key, wait)
            })
    }

    fn data(&self, buckets: &Keyed<()>, runtime: &RuntimeId, operation: &str, key: &str) -> Result<(), Error> {
        let _ = self;
        buckets.take(runtime, &()).map_err(|wait| {
            let count = buckets.limit.count;
            let what = format!("{operation} may be called {count} times a second for agent runtime '{runtime}'");
            exceeded(&what, key, wait)
        })
    }
}

impl SessionRate {
    /// As configured.
    #[must_use]
    pub fn new(rates: &Rates) -> Self {
        Self(Keyed::new(Limit::new(rates.new_sessions_per_minute, MINUTE)))
    }

    /// Counts a new session of an endpoint, or says that there may be none yet.
    pub fn admit(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Result<(), Error> {
        self.0.take(runtime, endpoint).map_err(|wait| {
            let count = self.0.limit.count;
            let what = format!(
                "endpoint '{endpoint}' of agent runtime '{runtime}' may begin {count} new sessions a minute; calls of \
                 sessions that are there go on"
            );
            exceeded(&what, "new_sessions_per_minute", wait)
        })
    }
}

impl Limit {
    fn new(count: u32, period: Duration) -> Self {
        Self { count, period }
    }

    /// Takes one from a bucket, or says how long until there is one. A bucket is the moment at which it is full.
    fn take(self, full_at: &mut Instant, now: Instant) -> Result<(), Duration> {
        let Some(each) = self.period.checked_div(self.count) else {
            return Ok(());
        };
        let next = (*full_at).max(now) + each;
        let missing = next.duration_since(now);
        if missing > self.period {
            return Err(missing - self.period);
        }
        *full_at = next;
        Ok(())
    }
}

impl<Part: PartialEq + Clone> Keyed<Part> {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                full_at: HashMap::new(),
                sweep_at: FEW,
            }),
        }
    }

    fn take(&self, runtime: &RuntimeId, part: &Part) -> Result<(), Duration> {
        if self.limit.count == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        if let Some(parts) = state.full_at.get_mut(runtime) {
            if let Some((_, full_at)) = parts.iter_mut().find(|(known, _)| known == part) {
                return self.limit.take(full_at, now);
            }
            // Parts may come and go in the life of a runtime.
            parts.retain(|(_, full_at)| *full_at > now);
        }
        state.sweep(now);
        let mut full_at = now;
        let taken = self.limit.take(&mut full_at, now);
        state
            .full_at
            .entry(runtime.clone())
            .or_default()
            .push((part.clone(), full_at));
        taken
    }
}

impl<Part> State<Part> {
    /// Forgets full buckets, seldom enough that each new one pays for a few old ones.
    fn sweep(&mut self, now: Instant) {
        if self.full_at.len() < self.sweep_at {
            return;
        }
        self.full_at.retain(|_, parts| {
            parts.retain(|(_, full_at)| *full_at > now);
            !parts.is_empty()
        });
        self.full_at.shrink_to(FEW.max(self.full_at.len() * 2));
        self.sweep_at = FEW.max(self.full_at.len() * 2);
    }
}

/// The limit of a control operation, and its configuration key.
fn control_rate(operation: &str, rates: &Rates) -> (u32, &'static str) {
    match operation {
        name if name.starts_with("Create") => (rates.create_per_second, "create_per_second"),
        name if name.starts_with("Delete") => (rates.delete_per_second, "delete_per_second"),
        name if name.starts_with("List") => (rates.list_per_second, "list_per_second"),
        name if name.starts_with("Get") => (rates.get_per_second, "get_per_second"),
        _ => (rates.update_per_second, "update_per_second"),
    }
}

fn exceeded(what: &str, key: &str, wait: Duration) -> Error {
    let message = format!("Rate exceeded: {what} (runtime.quotas.rates.{key}).");
    Error::new(Kind::Throttled, message).retry_in(wait)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can be left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn runtime(number: usize) -> RuntimeId {
        RuntimeId::parse(&format!("a{number}-0123456789")).unwrap()
    }

    /// How many calls are let through at this moment.
    fn admitted(call: impl Fn() -> Result<(), Error>) -> usize {
        (0..10_000).take_while(|_| call().is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_as_many_calls_as_the_limit_says() {
        let throttle = Throttle::new(&Rates::default());
        let (a, b) = (runtime(1), runtime(2));
        assert_eq!(admitted(|| throttle.invoke(&a)), 200);
        assert_eq!(admitted(|| throttle.invoke(&b)), 200, "each runtime has its own");
        assert_eq!(admitted(|| throttle.stop(&a)), 200, "and each operation");
        advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(|| throttle.invoke(&a)), 20);
        advance(Duration::from_secs(100)).await;
        assert_eq!(admitted(|| throttle.invoke(&a)), 200, "an idle time is not saved up");
        let error = throttle.invoke(&a).unwrap_err();
        assert_eq!(error.kind, Kind::Throttled);
        assert_eq!(error.retry_after, Some(Duration::from_millis(5)));
        for part in [
            "InvokeAgentRuntime",
            "200",
            a.as_str(),
            "runtime.quotas.rates.invoke_per_second",
        ] {
            assert!(error.message.contains(part), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn control_operations_have_limits_of_their_own() {
        let throttle = Throttle::new(&Rates::default());
        for (operation, count) in [
            (op::CREATE_AGENT_RUNTIME, 5),
            (op::CREATE_AGENT_RUNTIME_ENDPOINT, 5),
            (op::UPDATE_AGENT_RUNTIME, 5),
            (op::TAG_RESOURCE, 5),
            (op::DELETE_AGENT_RUNTIME, 5),
            (op::LIST_AGENT_RUNTIMES, 5),
            (op::GET_AGENT_RUNTIME, 50),
        ] {
            assert_eq!(admitted(|| throttle.control(operation)), count, "{}", operation.name);
            advance(Duration::from_secs(1)).await;
            assert_eq!(admitted(|| throttle.control(operation)), count, "{}", operation.name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_sessions_are_counted_by_the_minute_for_each_endpoint() {
        let rate = SessionRate::new(&Rates {
            new_sessions_per_minute: 2,
            ..Rates::default()
        });
        let (a, prod) = (runtime(1), EndpointName::parse("prod").unwrap());
        let default = EndpointName::default_endpoint();
        assert_eq!(admitted(|| rate.admit(&a, &default)), 2);
        assert_eq!(admitted(|| rate.admit(&a, &prod)), 2);
        advance(Duration::from_secs(30)).await;
        assert_eq!(admitted(|| rate.admit(&a, &default)), 1);
        let error = rate.admit(&a, &default).unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
        assert!(error.message.contains("new_sessions_per_minute"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let rates = Rates {
            invoke_per_second: 0,
            get_per_second: 0,
            ..Rates::default()
        };
        let throttle = Throttle::new(&rates);
        assert_eq!(admitted(|| throttle.invoke(&runtime(1))), 10_000);
        assert_eq!(admitted(|| throttle.control(op::GET_AGENT_RUNTIME)), 10_000);
        assert_eq!(lock(&throttle.invoke.state).full_at.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn full_buckets_are_forgotten() {
        let buckets = Keyed::new(Limit::new(10, SECOND));
        for round in 0..50 {
            for number in 0..100 {
                buckets.take(&runtime(round * 100 + number), &()).unwrap();
            }
            advance(SECOND).await;
        }
        let kept = lock(&buckets.state).full_at.len();
        assert!(kept <= 200, "{kept} buckets are kept");
        let parts = Keyed::new(Limit::new(10, SECOND));
        for number in 0..1000 {
            parts.take(&runtime(1), &number).unwrap();
            advance(SECOND).await;
        }
        assert!(lock(&parts.state).full_at[&runtime(1)].len() <= 2);
    }
}
