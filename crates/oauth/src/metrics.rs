//! What is counted about bearer tokens. Every label comes from a fixed set.

use crate::refusal::Refusal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of tokens and fetches; registered once, cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    tokens: Family<Outcome, Counter>,
    /// Looked up once: these two are on the way of every request.
    pub(crate) cached: Counter,
    pub(crate) verified: Counter,
    pub(crate) fetched: Counter,
    pub(crate) not_fetched: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Metrics {
    /// Makes the counters and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let tokens = Family::<Outcome, Counter>::default();
        let fetches = Family::<Outcome, Counter>::default();
        registry.register(
            "eyot_oauth_tokens",
            "Bearer tokens by what became of them",
            tokens.clone(),
        );
        registry.register(
            "eyot_oauth_provider_fetches",
            "Fetches of an identity provider's discovery document and keys",
            fetches.clone(),
        );
        let of = |family: &Family<Outcome, Counter>, outcome| family.get_or_create(&Outcome { outcome }).clone();
        Self {
            cached: of(&tokens, "cached"),
            verified: of(&tokens, "verified"),
            fetched: of(&fetches, "good"),
            not_fetched: of(&fetches, "failed"),
            tokens,
        }
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let outcome = refusal.code();
        self.tokens.get_or_create(&Outcome { outcome }).inc();
    }
}

impl Default for Metrics {
    /// Counters that nobody reads.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}
