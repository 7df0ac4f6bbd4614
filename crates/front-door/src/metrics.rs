//! What the front door counts. Every label comes from a fixed set.
//!
//! The counters of a call are looked up once, when the routes are built; a request then only adds to atomics.

use crate::admit::Admission;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};

/// Upper bounds of the duration histogram, in seconds: from a cached answer to a long stream.
const DURATION_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 900.0,
];

/// Status classes, by their first digit; the last stands for calls whose client left before an answer began.
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "gone"];

/// Counters of the front door; registered once, cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<OperationLabel, Histogram, fn() -> Histogram>,
    pub(crate) refusals: Family<ReasonLabel, Counter>,
    pub(crate) panics: Counter,
    pub(crate) spooled: Counter,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Family<ProtocolLabel, Counter>,
    pub(crate) cut: Family<ReasonLabel, Counter>,
    admission: Arc<OnceLock<Arc<Admission>>>,
}

/// The counters of one operation.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    /// The operation's name, for the log.
    pub(crate) name: &'static str,
    by_class: [Counter; CLASSES.len()],
    duration: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

/// Why something was refused or cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// What a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProtocolLabel {
    pub(crate) protocol: &'static str,
    pub(crate) tls: &'static str,
}

impl Metrics {
    /// Makes the counters and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            refusals: Family::default(),
            panics: Counter::default(),
            spooled: Counter::default(),
            connections: Gauge::default(),
            accepted: Family::default(),
            cut: Family::default(),
            admission: Arc::default(),
        };
        let m = &metrics;
        registry.register(
            "eyot_http_requests",
            "Requests by operation and class of the answer's status",
            m.requests.clone(),
        );
        registry.register(
            "eyot_http_request_duration_seconds",
            "From a request's head to the last byte of its answer",
            m.duration.clone(),
        );
        registry.register(
            "eyot_auth_refusals",
            "Calls whose caller was not proven",
            m.refusals.clone(),
        );
        registry.register(
            "eyot_http_panics",
            "Requests that ended in a panic; each is a bug",
            m.panics.clone(),
        );
        registry.register(
            "eyot_spooled_bytes",
            "Body bytes taken in before verification",
            m.spooled.clone(),
        );
        registry.register("eyot_connections_open", "Open connections", m.connections.clone());
        registry.register("eyot_connections_accepted", "Accepted connections", m.accepted.clone());
        registry.register("eyot_connections_cut", "Connections that the server cut", m.cut.clone());
        registry.register_collector(Box::new(AdmissionGauges(Arc::clone(&m.admission))));
        metrics
    }

    /// The counters of an operation.
    pub(crate) fn call(&self, operation: &'static str) -> Arc<CallMetrics> {
        let by_class = CLASSES.map(|status| self.requests.get_or_create_owned(&RequestLabels { operation, status }));
        let duration = self.duration.get_or_create_owned(&OperationLabel { operation });
        Arc::new(CallMetrics {
            name: operation,
            by_class,
            duration,
        })
    }

    /// Shows what is admitted; of several servers on one registry, the first.
    pub(crate) fn watch(&self, admission: &Arc<Admission>) {
        let _ = self.admission.set(Arc::clone(admission));
    }
}

impl CallMetrics {
    /// Counts a finished call; `status` is absent when its client left before an answer began.
    pub(crate) fn finished(&self, status: Option<http::StatusCode>, seconds: f64) {
        let class = match status.map(|status| status.as_u16() / 100) {
            Some(3) => 1,
            Some(4) => 2,
            Some(5) => 3,
            Some(_) => 0,
            None => 4,
        };
        if let Some(counter) = self.by_class.get(class) {
            counter.inc();
        }
        self.duration.observe(seconds);
    }
}

/// Reads the budgets when metrics are asked for.
#[derive(Debug)]
struct AdmissionGauges(Arc<OnceLock<Arc<Admission>>>);

impl Collector for AdmissionGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(admission) = self.0.get() else { return Ok(()) };
        let gauges = [
            (
                "eyot_http_requests_in_flight",
                "Calls being worked on",
                admission.calls(),
            ),
            (
                "eyot_held_bytes",
                "Bytes of bodies held in memory or in spool files",
                admission.held_bytes(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
