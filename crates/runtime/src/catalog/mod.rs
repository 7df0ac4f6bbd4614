//! What every endpoint serves right now, in memory.
//!
//! The invoke path asks here for each call: two hash look-ups on an immutable snapshot, no lock, no storage. The
//! control plane's reconciler is the only writer; it publishes a runtime as a whole, *before* it commits the records
//! that say the same. So a client that read READY is served at once, and after a lost commit the reconciler publishes
//! again what is true.
//!
//! Invariant: what is in the catalog as live was fetched, unpacked and checked. After a start it is filled from the
//! records before the first call is answered.

#[cfg(test)]
mod tests;

use crate::deployment::{Deployment, Target};
use crate::switches::Switches;
use arc_swap::ArcSwap;
use domain::id::{EndpointName, RuntimeId, Version};
use domain::{Error, Kind};
use front_door::service::Resource;
use std::collections::HashMap;
use std::sync::Arc;

/// Finds what an endpoint serves. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    runtimes: Arc<ArcSwap<HashMap<RuntimeId, Arc<Entry>>>>,
}

/// All endpoints of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) endpoints: HashMap<EndpointName, Serving>,
    /// The runtime and its endpoints as policies see them.
    pub(crate) guarded: Guarded,
    /// What its owner has switched.
    pub(crate) switches: Arc<Switches>,
}

/// What decides who may do something with a runtime.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guarded {
    /// The runtime.
    pub(crate) runtime: Option<Resource>,
    /// Its endpoints.
    pub(crate) endpoints: HashMap<EndpointName, Resource>,
}

/// What one endpoint can do for a caller.
#[derive(Debug, Clone)]
pub(crate) enum Serving {
    /// It serves this.
    Live(Arc<Deployment>),
    /// Its first version, or its version's package, is being made ready.
    NotYet,
    /// It cannot serve, and waiting does not help.
    Unfit {
        /// The version that it should serve.
        version: Version,
        /// Why the version cannot serve.
        reason: String,
    },
}

impl Entry {
    /// What its endpoints serve.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let live = self.endpoints.iter().filter_map(|(endpoint, serving)| match serving {
            Serving::Live(deployment) => Some(Target {
                endpoint: endpoint.clone(),
                deployment: Arc::clone(deployment),
                switches: Arc::clone(&self.switches),
            }),
            Serving::NotYet | Serving::Unfit { .. } => None,
        });
        live.collect()
    }
}

impl Catalog {
    /// What the endpoint serves, `DEFAULT` when none is named.
    ///
    /// [`Kind::NotFound`] when there is no such runtime or endpoint, [`Kind::SessionBusy`] while its first version is
    /// being made ready, [`Kind::Agent`] when that version failed.
    pub fn resolve(&self, runtime: &RuntimeId, endpoint: Option<&EndpointName>) -> Result<Target, Error> {
        let default;
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => {
                default = EndpointName::default_endpoint();
                &default
            }
        };
        let snapshot = self.runtimes.load();
        let Some(entry) = snapshot.get(runtime) else {
            return Err(Error::not_found(format!("There is no agent runtime '{runtime}'.")));
        };
        match entry.endpoints.get(endpoint) {
            Some(Serving::Live(deployment)) => Ok(Target {
                endpoint: endpoint.clone(),
                deployment: Arc::clone(deployment),
                switches: Arc::clone(&entry.switches),
            }),
            Some(Serving::NotYet) => Err(Error::new(
                Kind::SessionBusy,
                format!(
                    "Endpoint '{endpoint}' of agent runtime '{runtime}' is being made ready: try again in a moment."
                ),
            )),
            Some(Serving::Unfit { version, reason }) => {
                // Below the first line stands what the agent said, which is for the runtime's owner.
                let reason = reason.lines().next().unwrap_or_default();
                Err(Error::agent(format!(
                    "Endpoint '{endpoint}' of agent runtime '{runtime}' cannot serve version {version}: {reason}"
                )))
            }
            None => Err(Error::not_found(format!(
                "Agent runtime '{runtime}' has no endpoint '{endpoint}'."
            ))),
        }
    }

    /// Whose tokens the version needs that an endpoint serves; none where it wants signatures, or where there is none.
    pub(crate) fn authorizer(&self, runtime: &str, endpoint: &str) -> Option<Arc<oauth::Config>> {
        match self.runtimes.load().get(runtime)?.endpoints.get(endpoint)? {
            Serving::Live(deployment) => deployment.authorizer.clone(),
            Serving::NotYet | Serving::Unfit { .. } => None,
        }
    }

    /// A runtime as policies see it, if it is here.
    pub(crate) fn runtime_resource(&self, runtime: &str) -> Option<Resource> {
        self.runtimes.load().get(runtime)?.guarded.runtime.clone()
    }

    /// An endpoint as policies see it, if it is here.
    pub(crate) fn endpoint_resource(&self, runtime: &str, endpoint: &str) -> Option<Resource> {
        self.runtimes
            .load()
            .get(runtime)?
            .guarded
            .endpoints
            .get(endpoint)
            .cloned()
    }

    /// Replaces all that is known of a runtime.
    pub(crate) fn publish(&self, runtime: &RuntimeId, entry: Entry) {
        let entry = Arc::new(entry);
        self.runtimes.rcu(|old| {
            let mut new = HashMap::clone(old);
            new.insert(runtime.clone(), Arc::clone(&entry));
            new
        });
    }

    /// Puts other switches of a runtime in force. One that is not here gets them when it is published.
    pub(crate) fn switch(&self, runtime: &RuntimeId, switches: &Arc<Switches>) {
        self.runtimes.rcu(|old| {
            let mut new = HashMap::clone(old);
            if let Some(entry) = new.get_mut(runtime) {
                *entry = Arc::new(Entry {
                    endpoints: entry.endpoints.clone(),
                    guarded: entry.guarded.clone(),
                    switches: Arc::clone(switches),
                });
            }
            new
        });
    }

    /// Forgets a runtime.
    pub(crate) fn remove(&self, runtime: &RuntimeId) {
        if !self.runtimes.load().contains_key(runtime) {
            return;
        }
        self.runtimes.rcu(|old| {
            let mut new = HashMap::clone(old);
            new.remove(runtime);
            new
        });
    }
}
