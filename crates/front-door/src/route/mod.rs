//! Which call a request is, from its method and raw path alone.
//!
//! Routing works on the path as it came: a percent-encoded ARN is one segment, and nothing is collapsed, because the
//! signature covers the raw path. Labels are percent-decoded once, after the route is known. Literal segments are
//! compared as they are: `/runtimes/x/invo%63ations` is not a route.
//!
//! Two templates of the model may both fit a path only where one has a literal in place of the other's label; the
//! literal wins, so a resource named as that literal cannot be reached by that method (as at AWS).
//!
//! Invariant: no path makes this panic or take more than a fixed number of steps per segment.

pub(crate) mod label;
mod table;
#[cfg(test)]
mod tests;
mod unmodelled;

use crate::metrics::{CallMetrics, Metrics};
use crate::resource_metadata::SUFFIX as METADATA;
use crate::service::Service;
use api::{Operation, Plane};
use http::Method;
use std::collections::HashMap;
use std::sync::Arc;
pub(crate) use table::RawLabels;
use table::{Tree, label_names};
pub(crate) use unmodelled::UNMODELLED;

/// Below this everything is ours and nothing is AWS's.
pub(crate) const OWN_PREFIX: &str = "/_eyot/";

/// All routes.
#[derive(Debug)]
pub(crate) struct Router {
    /// A handful: compared sooner than hashed.
    methods: Vec<(Method, Tree<Arc<Endpoint>>)>,
    own: HashMap<&'static str, Arc<Own>>,
    sts: Option<Arc<Own>>,
    unknown: Arc<CallMetrics>,
    builtin: Arc<CallMetrics>,
}

/// A modelled operation and who answers it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The operation.
    pub(crate) operation: &'static Operation,
    /// `None`: part of the API, not of this server.
    pub(crate) service: Option<Arc<dyn Service>>,
    /// Names of the template's labels.
    pub(crate) labels: Vec<&'static str>,
    /// Where its calls are counted.
    pub(crate) metrics: Arc<CallMetrics>,
}

/// A route of our own that a service answers.
#[derive(Debug)]
pub(crate) struct Own {
    /// Who answers.
    pub(crate) service: Arc<dyn Service>,
    /// Where its calls are counted.
    pub(crate) metrics: Arc<CallMetrics>,
}

/// What the front door itself answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// The process lives.
    Health,
    /// Calls are welcome.
    Ready,
    /// Prometheus metrics.
    Metrics,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Route<'r, 'p> {
    /// A modelled operation, and its labels as they came.
    Operation(&'r Arc<Endpoint>, RawLabels<'p>),
    /// A service's own route.
    Own(&'r Arc<Own>),
    /// STS.
    Sts(&'r Arc<Own>),
    /// About the tokens that a call by POST to this operation needs.
    Metadata(&'r Arc<Endpoint>, RawLabels<'p>),
    /// One of the front door's.
    Builtin(Builtin),
    /// Nowhere; the methods that the path would have.
    Unknown(Vec<&'r Method>),
}

/// A service list that cannot be routed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two services answer the same.
    #[error("two services answer {0}; each operation and each own route belongs to one service")]
    Twice(String),
    /// An own route would hide one of the front door's.
    #[error("a service's own route '{0}' is one of the front door's own")]
    Reserved(&'static str),
    /// A template has more labels than the router keeps.
    #[error("the path template {0} has too many labels for the router")]
    TooManyLabels(&'static str),
}

impl Router {
    /// All operations of the model, each led to the service that answers it.
    pub(crate) fn new(services: &[Arc<dyn Service>], metrics: &Metrics) -> Result<Self, RouteError> {
        let mut answers = HashMap::new();
        let mut own = HashMap::new();
        let mut sts = None;
        for service in services {
            for operation in service.operations() {
                if answers.insert((operation.plane, operation.name), service).is_some() {
                    return Err(RouteError::Twice(operation.name.to_owned()));
                }
            }
            if service.answers_sts() {
                let entry = Own {
                    service: Arc::clone(service),
                    metrics: metrics.call("sts"),
                };
                if sts.replace(Arc::new(entry)).is_some() {
                    return Err(RouteError::Twice("STS".to_owned()));
                }
            }
            for &name in service.own_routes() {
                if Builtin::named(name).is_some() {
                    return Err(RouteError::Reserved(name));
                }
                let entry = Own {
                    service: Arc::clone(service),
                    metrics: metrics.call(name),
                };
                if own.insert(name, Arc::new(entry)).is_some() {
                    return Err(RouteError::Twice(format!("{OWN_PREFIX}{name}")));
                }
            }
        }
        let unsupported = metrics.call("unsupported");
        let mut methods: HashMap<Method, Tree<Arc<Endpoint>>> = HashMap::new();
        for operation in api::OPERATIONS.iter().chain(&UNMODELLED) {
            let Ok(method) = Method::from_bytes(operation.method.as_bytes()) else {
                continue;
            };
            let service = answers
                .get(&(operation.plane, operation.name))
                .map(|&service| Arc::clone(service));
            let labels = label_names(operation.uri);
            if labels.len() > table::MAX_LABELS {
                return Err(RouteError::TooManyLabels(operation.uri));
            }
            // One label value for all operations that are off: they could make 250 empty series.
            let metrics = if service.is_some() {
                metrics.call(operation.name)
            } else {
                Arc::clone(&unsupported)
            };
            let endpoint = Arc::new(Endpoint {
                operation,
                service,
                labels,
                metrics,
            });
            methods
                .entry(method)
                .or_insert_with(Tree::new)
                .add(operation.uri, endpoint);
        }
        Ok(Self {
            methods: methods.into_iter().collect(),
            own,
            sts,
            unknown: metrics.call("unknown"),
            builtin: metrics.call("builtin"),
        })
    }

    /// Where a request goes.
    pub(crate) fn find<'p>(&self, method: &Method, path: &'p str, query: Option<&str>) -> Route<'_, 'p> {
        if let Some(rest) = path.strip_prefix(OWN_PREFIX) {
            let (first, further) = rest.split_once('/').unwrap_or((rest, ""));
            if let Some(builtin) = Builtin::named(first).filter(|_| further.is_empty()) {
                let reads = matches!(*method, Method::GET | Method::HEAD);
                return if reads {
                    Route::Builtin(builtin)
                } else {
                    Route::Unknown(vec![&Method::GET])
                };
            }
            return self
                .own
                .get(first)
                .map_or_else(|| Route::Unknown(Vec::new()), Route::Own);
        }
        if let Some(sts) = self.sts.as_ref().filter(|_| path == "/") {
            // Somebody who only looks what is here has no action in mind.
            let has_action = query.is_some_and(|query| query.contains("Action="));
            return match *method {
                Method::POST => Route::Sts(sts),
                Method::GET if has_action => Route::Sts(sts),
                _ => Route::Unknown(vec![&Method::POST]),
            };
        }
        if let Some(resource) = path.strip_suffix(METADATA).filter(|_| *method == Method::GET)
            && let Route::Operation(endpoint, labels) = self.find(&Method::POST, resource, None)
        {
            return Route::Metadata(endpoint, labels);
        }
        let tree = self.methods.iter().find(|(known, _)| known == method);
        if let Some((endpoint, labels)) = tree.and_then(|(_, tree)| tree.find(path)) {
            return Route::Operation(endpoint, labels);
        }
        let mut others: Vec<_> = self
            .methods
            .iter()
            .filter(|(_, tree)| tree.find(path).is_some())
            .map(|(method, _)| method)
            .collect();
        others.sort_unstable_by_key(|method| method.as_str());
        Route::Unknown(others)
    }
}

impl Router {
    /// Whether a path is one of the data plane, by whatever method: those are the ones that pages in a browser call.
    pub(crate) fn is_data(&self, path: &str) -> bool {
        let path = path.strip_suffix(METADATA).unwrap_or(path);
        let found = self.methods.iter().find_map(|(_, tree)| tree.find(path));
        found.is_some_and(|(endpoint, _)| endpoint.operation.plane == Plane::Data)
    }

    /// Where requests are counted that lead nowhere.
    pub(crate) fn unknown(&self) -> &Arc<CallMetrics> {
        &self.unknown
    }
}

impl Route<'_, '_> {
    /// Where the request is counted.
    pub(crate) fn metrics<'m>(&'m self, router: &'m Router) -> &'m Arc<CallMetrics> {
        match self {
            Self::Operation(endpoint, _) => &endpoint.metrics,
            Self::Own(own) | Self::Sts(own) => &own.metrics,
            Self::Builtin(_) | Self::Metadata(..) => &router.builtin,
            Self::Unknown(_) => &router.unknown,
        }
    }
}

impl Builtin {
    fn named(name: &str) -> Option<Self> {
        match name {
            "healthz" => Some(Self::Health),
            "readyz" => Some(Self::Ready),
            "metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}
