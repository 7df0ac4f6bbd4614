//! All identity providers and the tokens that they signed: the way of a token from its text to a verdict.

use crate::cache::{Cache, Key};
use crate::claims::Claims;
use crate::config::Config;
use crate::error::Error;
use crate::fetch::Fetcher;
use crate::metrics::Metrics;
use crate::provider::{Fetching, Known, Provider};
use crate::refusal::Refusal;
use crate::rules;
use crate::settings::Settings;
use crate::token::{MAX_BYTES, Token};
use crate::url::Url;
use domain::{Bearer, Clock};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Checks bearer tokens. Shared; cheap to clone. Fetches that are under way end with the last clone.
#[derive(Clone)]
pub struct Providers(Arc<Shared>);

struct Shared {
    clock: Clock,
    /// Seconds.
    leeway: i64,
    /// Seconds.
    max_token_age: i64,
    cache: Cache,
    table: RwLock<HashMap<String, Place>>,
    max_providers: usize,
    /// Counts uses, so that the table knows which provider was used longest ago.
    uses: AtomicU64,
    fetching: Arc<Fetching>,
    _stop: DropGuard,
}

struct Place {
    provider: Arc<Provider>,
    used: AtomicU64,
}

impl Providers {
    /// Knows no provider yet; each is fetched when its first token comes.
    pub fn new(settings: &Settings, clock: Clock, metrics: Metrics) -> Result<Self, Error> {
        settings.check()?;
        let cancel = CancellationToken::new();
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Ok(Self(Arc::new(Shared {
            clock,
            leeway: seconds(settings.leeway),
            max_token_age: seconds(settings.max_token_age),
            cache: Cache::new(settings.max_tokens),
            table: RwLock::default(),
            max_providers: settings.max_providers,
            uses: AtomicU64::new(0),
            _stop: cancel.clone().drop_guard(),
            fetching: Arc::new(Fetching {
                fetcher: Fetcher::new(settings)?,
                timeout: settings.fetch_timeout,
                refresh_interval: settings.refresh_interval,
                max_key_age: settings.max_key_age,
                metrics,
                tracker: TaskTracker::new(),
                cancel,
            }),
        })))
    }

    /// Who bears a token, if it is one that the configuration accepts now. `token` is what follows `Bearer` in the
    /// header.
    ///
    /// Waits for a fetch of the provider's keys where they are not known, at most as long as `fetch_timeout`. May be
    /// dropped at any time; the fetch goes on for others.
    pub async fn verify(&self, config: &Config, token: &str) -> Result<Arc<Bearer>, Refusal> {
        let metrics = &self.0.fetching.metrics;
        let verdict = self.judge(config, token).await;
        if let Err(refusal) = &verdict {
            metrics.refused(refusal);
            if let Refusal::Unavailable { detail } = refusal {
                tracing::debug!(provider = config.spec().discovery_url, %detail, "a token cannot be checked");
            }
        }
        verdict
    }

    /// The issuer that a configuration's provider names, for RFC 9728 metadata. Fetched where it is not known; the same
    /// pauses hold as for tokens, so that callers without a token cannot make the server fetch at will.
    pub async fn issuer(&self, config: &Config) -> Result<String, Refusal> {
        let known = self.provider(config)?.known(&self.0.fetching).await?;
        Ok(known.issuer.clone())
    }

    async fn judge(&self, config: &Config, token: &str) -> Result<Arc<Bearer>, Refusal> {
        let shared = &*self.0;
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        if token.len() > MAX_BYTES {
            return Err(Refusal::TooLong);
        }
        let key = Key::new(config, token);
        let now = shared.clock.now().as_second();
        if let Some(bearer) = shared.cache.get(key, now) {
            shared.fetching.metrics.cached.inc();
            return Ok(bearer);
        }
        let token = Token::parse(token)?;
        let known = self.check_signature(config, &token).await?;
        let claims = Claims::parse(&token.payload()?)?;
        // The clock again: a fetch may have taken its time.
        let now = shared.clock.now().as_second();
        let expires = claims.check_times(now, shared.leeway)?;
        claims.check_issuer(&known.issuer)?;
        rules::check(config, &claims)?;
        let bearer = Arc::new(claims.into_bearer(*config.identity())?);
        let until = expires.min(now.saturating_add(shared.max_token_age));
        shared.cache.put(key, &bearer, until, now);
        shared.fetching.metrics.verified.inc();
        Ok(bearer)
    }

    /// Answers what is known of the provider whose key has signed the token.
    async fn check_signature(&self, config: &Config, token: &Token<'_>) -> Result<Arc<Known>, Refusal> {
        let fetching = &self.0.fetching;
        let provider = self.provider(config)?;
        let check = |known: &Known| {
            let id = token.key_id.as_deref();
            known.keys.verify(id, token.algorithm, token.signed, &token.signature)
        };
        let known = provider.known(fetching).await?;
        match check(&known) {
            Ok(()) => Ok(known),
            Err(Refusal::UnknownKey) => {
                if let Some(flight) = provider.fetch(fetching) {
                    flight.landed().await;
                }
                let newer = provider.usable(fetching).filter(|newer| !Arc::ptr_eq(newer, &known));
                let known = newer.ok_or(Refusal::UnknownKey)?;
                check(&known).map(|()| known)
            }
            // Some providers change a key and keep its id. Nobody waits for that.
            Err(Refusal::Signature) => {
                provider.fetch(fetching);
                Err(Refusal::Signature)
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn provider(&self, config: &Config) -> Result<Arc<Provider>, Refusal> {
        let shared = &*self.0;
        let url = &config.spec().discovery_url;
        let use_number = shared.uses.fetch_add(1, Ordering::Relaxed);
        let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = table.get(url) {
            place.used.store(use_number, Ordering::Relaxed);
            return Ok(Arc::clone(&place.provider));
        }
        drop(table);
        let reach = shared.fetching.fetcher.reach();
        // A version may have been made under other settings.
        let read = Url::parse(url, reach).and_then(|read| read.check_literal(reach).map(|()| read));
        let read = read.map_err(|why| Refusal::Unavailable {
            detail: format!("the discovery URL {why}").into(),
        })?;
        let mut table = shared.table.write().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(url) && table.len() >= shared.max_providers {
            let oldest = table.iter().min_by_key(|(_, place)| place.used.load(Ordering::Relaxed));
            if let Some(oldest) = oldest.map(|(url, _)| url.clone()) {
                table.remove(&oldest);
            }
        }
        let place = table.entry(url.clone()).or_insert_with(|| Place {
            provider: Arc::new(Provider::new(read)),
            used: AtomicU64::new(use_number),
        });
        Ok(Arc::clone(&place.provider))
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers")
            .field("fetching", &self.0.fetching)
            .finish_non_exhaustive()
    }
}
