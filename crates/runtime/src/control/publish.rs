//! Says what a runtime's endpoints serve: to the catalog, where calls find it, and to the sessions, which keep warm
//! sandboxes of it.

use super::Inner;
use super::lifecycle::Fitness;
use super::policies;
use super::record::{Endpoint, Runtime};
use crate::catalog::{Entry, Guarded, Serving};
use crate::deployment::{Deployment, Target};
use crate::switches::Switches;
use domain::id::{RuntimeId, Version};
use front_door::service::Resource;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is known of the versions that a runtime's endpoints use.
#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) fitness: HashMap<Version, Fitness>,
    pub(super) deployments: HashMap<Version, Arc<Deployment>>,
}

impl Versions {
    /// What an endpoint would serve with a version, if that is fit.
    pub(super) fn target(&self, endpoint: &Endpoint, version: Version, switches: &Arc<Switches>) -> Option<Target> {
        let deployment = self.deployments.get(&version)?;
        Some(Target {
            endpoint: endpoint.name.clone(),
            deployment: Arc::clone(deployment),
            switches: Arc::clone(switches),
        })
    }

    /// What the catalog shall say.
    pub(super) fn entry(&self, endpoints: &[Endpoint], guarded: Guarded, switches: Arc<Switches>) -> Entry {
        let endpoints = endpoints
            .iter()
            .map(|endpoint| (endpoint.name.clone(), self.serving(endpoint)));
        Entry {
            endpoints: endpoints.collect(),
            guarded,
            switches,
        }
    }

    fn serving(&self, endpoint: &Endpoint) -> Serving {
        let Some(live) = endpoint.live else {
            return match (endpoint.state.reason(), endpoint.target) {
                (Some(reason), Some(version)) => Serving::Unfit {
                    version,
                    reason: reason.to_owned(),
                },
                _ => Serving::NotYet,
            };
        };
        match (self.deployments.get(&live), self.fitness.get(&live)) {
            (Some(deployment), _) => Serving::Live(Arc::clone(deployment)),
            (None, Some(Fitness::Unfit { reason })) => Serving::Unfit {
                version: live,
                reason: reason.clone(),
            },
            _ => Serving::NotYet,
        }
    }
}

impl Inner {
    /// Puts in force what a runtime's endpoints serve.
    pub(super) fn publish(&self, id: &RuntimeId, entry: Entry) {
        let targets = entry.targets();
        self.catalog.publish(id, entry);
        self.sessions.serving(id, &targets);
    }

    /// A runtime is there and does not serve yet. Its tags count from now on.
    pub(super) fn announce(&self, runtime: &Runtime, default: &Endpoint) {
        let entry = Entry {
            endpoints: HashMap::from([(default.name.clone(), Serving::NotYet)]),
            guarded: self.guarded(runtime, std::slice::from_ref(default)),
            switches: Arc::default(),
        };
        self.catalog.publish(&runtime.id, entry);
    }

    /// A runtime and its endpoints as policies see them.
    pub(super) fn guarded(&self, runtime: &Runtime, endpoints: &[Endpoint]) -> Guarded {
        let arn = self.arn(&runtime.id);
        let resource = |arn: String, tags: &BTreeMap<String, String>, policy: Option<&str>| Resource {
            arn: arn.into(),
            tags: Arc::new(tags.clone()),
            policy: policies::recorded(&runtime.id, policy),
        };
        let endpoints = endpoints.iter().map(|endpoint| {
            let arn = format!("{arn}/runtime-endpoint/{}", endpoint.name);
            (
                endpoint.name.clone(),
                resource(arn, &endpoint.tags, endpoint.policy.as_deref()),
            )
        });
        Guarded {
            endpoints: endpoints.collect(),
            runtime: Some(resource(arn.to_string(), &runtime.tags, runtime.policy.as_deref())),
        }
    }

    /// A runtime serves nothing any more.
    pub(super) fn withdraw(&self, id: &RuntimeId) {
        self.catalog.remove(id);
        self.sessions.serving(id, &[]);
        self.warming.forget(id);
    }
}
