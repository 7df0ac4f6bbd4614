//! An endpoint moves to a version only when that version's warm sandboxes stand, so that the first sessions after a
//! deployment start as fast as those before it.
//!
//! The router says whether they stand and starts them if not; here is remembered for which endpoint and version it was
//! asked, so that it is asked once: warm sandboxes are a kindness, and a version whose sandboxes do not get warm moves all
//! the same, after the time that the router gave them.
//!
//! Invariant: every wait ends, whatever the router does, and the runtime is settled again when it has.

use super::Inner;
use super::record::{Endpoint, State};
use super::work::Job;
use crate::deployment::Target;
use domain::id::{EndpointName, RuntimeId, Version};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// The router ends its wait by itself much earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Says whether a target's warm sandboxes stand; if not, the future ends when they do or will not.
pub(crate) type Source = Box<dyn Fn(&Target) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

/// For which endpoints the router was asked.
pub(crate) struct Warming {
    source: Source,
    asked: Mutex<HashMap<RuntimeId, HashMap<EndpointName, Asked>>>,
}

/// What one endpoint waits for, or has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    version: Version,
    is_over: bool,
}

impl Warming {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            asked: Mutex::default(),
        }
    }

    /// Forgets a runtime.
    pub(crate) fn forget(&self, runtime: &RuntimeId) {
        self.lock().remove(runtime);
    }

    /// Whether an endpoint may move to `target`, and what to wait for if it may not and nobody waits yet.
    fn look(&self, target: &Target) -> (bool, Option<BoxFuture<'static, ()>>) {
        let (runtime, version) = (&target.deployment.arn.id, target.deployment.version);
        let earlier = self
            .lock()
            .get(runtime)
            .and_then(|all| all.get(&target.endpoint))
            .copied();
        if let Some(asked) = earlier.filter(|asked| asked.version == version) {
            return (asked.is_over, None);
        }
        // Not under the lock: the source has locks of its own.
        let wait = (self.source)(target);
        let asked = Asked {
            version,
            is_over: wait.is_none(),
        };
        let mut all = self.lock();
        all.entry(runtime.clone())
            .or_default()
            .insert(target.endpoint.clone(), asked);
        (wait.is_none(), wait)
    }

    /// A wait has ended.
    fn over(&self, target: &Target) {
        let version = target.deployment.version;
        let mut all = self.lock();
        let asked = all
            .get_mut(&target.deployment.arn.id)
            .and_then(|all| all.get_mut(&target.endpoint));
        if let Some(asked) = asked.filter(|asked| asked.version == version) {
            asked.is_over = true;
        }
    }

    /// Forgets what no endpoint waits for any more.
    fn retain(&self, runtime: &RuntimeId, wanted: &HashMap<&EndpointName, Version>) {
        let mut all = self.lock();
        if let Some(asked) = all.get_mut(runtime) {
            asked.retain(|name, asked| wanted.get(name) == Some(&asked.version));
            if asked.is_empty() {
                all.remove(runtime);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RuntimeId, HashMap<EndpointName, Asked>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Warming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warming")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The endpoints of a runtime whose next version is fit and not warm yet. `next` is what an endpoint would serve.
    pub(super) fn still_cold(
        &self,
        runtime: &RuntimeId,
        endpoints: &[Endpoint],
        next: impl Fn(&Endpoint, Version) -> Option<Target>,
    ) -> HashSet<EndpointName> {
        let moving = endpoints
            .iter()
            .filter(|e| matches!(e.state, State::Creating | State::Updating));
        let moving: Vec<(&Endpoint, Version)> = moving.filter_map(|e| Some((e, e.target?))).collect();
        let wanted = moving.iter().map(|(endpoint, version)| (&endpoint.name, *version));
        self.warming.retain(runtime, &wanted.collect());
        let mut cold = HashSet::new();
        for target in moving.iter().filter_map(|(endpoint, version)| next(endpoint, *version)) {
            let (is_warm, wait) = self.warming.look(&target);
            if !is_warm {
                cold.insert(target.endpoint.clone());
            }
            if let Some(wait) = wait {
                self.settle_after(wait, target);
            }
        }
        cold
    }

    fn settle_after(&self, wait: BoxFuture<'static, ()>, target: Target) {
        let (warming, queue) = (Arc::clone(&self.warming), Arc::clone(&self.queue));
        self.spawn(async move {
            let (runtime, endpoint) = (&target.deployment.arn.id, &target.endpoint);
            match timeout(LONGEST_WAIT, AssertUnwindSafe(wait).catch_unwind()).await {
                Ok(Ok(())) => {}
                _ => tracing::warn!(%runtime, %endpoint, "warm sandboxes are not waited for any longer"),
            }
            warming.over(&target);
            queue.add(Job::Settle(runtime.clone()));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::deployment;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn target(version: u32) -> Target {
        let mut deployment = deployment();
        deployment.version = Version(version);
        Target {
            endpoint: EndpointName::default_endpoint(),
            deployment: Arc::new(deployment),
            switches: Arc::default(),
        }
    }

    #[test]
    fn the_router_is_asked_once_for_each_version() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let warming = Warming::new(Box::new(move |target| {
            counted.fetch_add(1, Ordering::Relaxed);
            (target.deployment.version != Version(3)).then(|| async {}.boxed())
        }));
        let (is_warm, wait) = warming.look(&target(1));
        assert!(!is_warm && wait.is_some());
        let (is_warm, wait) = warming.look(&target(1));
        assert!(!is_warm && wait.is_none());
        warming.over(&target(2));
        assert!(!warming.look(&target(1)).0, "that was another version");
        warming.over(&target(1));
        assert!(warming.look(&target(1)).0);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(warming.look(&target(3)).0, "it was warm already");
    }

    #[test]
    fn nothing_is_kept_for_endpoints_that_have_moved() {
        let warming = Warming::new(Box::new(|_| Some(async {}.boxed())));
        let target = target(1);
        let (runtime, name) = (target.deployment.arn.id.clone(), target.endpoint.clone());
        drop(warming.look(&target));
        warming.retain(&runtime, &HashMap::from([(&name, Version(1))]));
        assert_eq!(warming.lock().len(), 1);
        warming.retain(&runtime, &HashMap::from([(&name, Version(2))]));
        assert!(warming.lock().is_empty());
    }
}
