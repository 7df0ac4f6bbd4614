//! One identity provider: its issuer and keys, and when they are fetched.
//!
//! - Nothing known: the call waits for a fetch.
//! - Known and fresh: no fetch. Known and older than `refresh_interval`: a fetch in the background.
//! - Known and older than `max_key_age`: as if nothing were known. Until then a provider may be down.
//! - A token names an unknown key: the call waits for a fetch, if one may begin.
//!
//! There is one fetch at a time, and everybody waits for that one. The next may begin after a pause that doubles, up to
//! a minute, with every fetch that failed or brought nothing new: a flood of tokens with invented keys costs nobody
//! anything, and a key that was changed is known after a second in quiet times.
//!
//! Invariant: what was known stays until something better was fetched.

use crate::document::Document;
use crate::fetch::Fetcher;
use crate::keys::KeySet;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::url::Url;
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const MAX_DOCUMENT: usize = 64 * 1024;
const MAX_KEYS: usize = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    url: Url,
    known: ArcSwapOption<Known>,
    gate: Mutex<Gate>,
}

/// What a provider has said.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) issuer: String,
    pub(crate) keys: KeySet,
    /// SHA-256 of issuer and keys, to see whether something has changed.
    content: [u8; 32],
    fetched: Instant,
}

/// What all fetches share.
#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) fetcher: Fetcher,
    pub(crate) timeout: Duration,
    pub(crate) refresh_interval: Duration,
    pub(crate) max_key_age: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) tracker: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

/// Closed when a fetch has ended, well or not.
pub(crate) struct Flight(watch::Receiver<()>);

#[derive(Debug, Default)]
struct Gate {
    flight: Option<watch::Receiver<()>>,
    not_before: Option<Instant>,
    pause: Duration,
    failure: Option<Arc<str>>,
}

impl Provider {
    pub(crate) fn new(url: Url) -> Self {
        Self {
            url,
            known: ArcSwapOption::empty(),
            gate: Mutex::default(),
        }
    }

    /// What is known and may be relied on, fetched if need be.
    pub(crate) async fn known(self: &Arc<Self>, with: &Arc<Fetching>) -> Result<Arc<Known>, Refusal> {
        if let Some(known) = self.usable(with) {
            if known.fetched.elapsed() >= with.refresh_interval {
                self.fetch(with);
            }
            return Ok(known);
        }
        if let Some(flight) = self.fetch(with) {
            flight.landed().await;
        }
        self.usable(with).ok_or_else(|| Refusal::Unavailable {
            detail: self
                .gate()
                .failure
                .clone()
                .unwrap_or_else(|| Arc::from("the fetch did not end")),
        })
    }

    /// What is known and not too old.
    pub(crate) fn usable(&self, with: &Fetching) -> Option<Arc<Known>> {
        self.known
            .load_full()
            .filter(|known| known.fetched.elapsed() < with.max_key_age)
    }

    /// Begins a fetch, or joins the one that is under way. Nothing while the pause after the last one goes on.
    pub(crate) fn fetch(self: &Arc<Self>, with: &Arc<Fetching>) -> Option<Flight> {
        let mut gate = self.gate();
        // The sending side is dropped when the fetch is over.
        if let Some(flight) = gate.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(Flight(flight.clone()));
        }
        let now = Instant::now();
        if gate.not_before.is_some_and(|begin| now < begin) {
            return None;
        }
        if gate.not_before.is_none_or(|begin| now > begin + 2 * LONGEST_PAUSE) {
            gate.pause = Duration::ZERO;
        }
        let (landing, flight) = watch::channel(());
        gate.flight = Some(flight.clone());
        let (provider, with_all) = (Arc::clone(self), Arc::clone(with));
        with.tracker.spawn(async move {
            let fetched = timeout(with_all.timeout, provider.ask(&with_all.fetcher));
            let Some(fetched) = with_all.cancel.run_until_cancelled(fetched).await else {
                return;
            };
            let late = || format!("no answer in {:?}", with_all.timeout);
            provider.settle(fetched.unwrap_or_else(|_| Err(late())), &with_all.metrics);
            drop(landing);
        });
        Some(Flight(flight))
    }

    async fn ask(&self, fetcher: &Fetcher) -> Result<Known, String> {
        let document = fetcher.get(&self.url, MAX_DOCUMENT).await?;
        let document = Document::parse(&document, &self.url, fetcher.reach())?;
        let keys = fetcher.get(&document.keys, MAX_KEYS).await?;
        let mut content = [0; 32];
        content.copy_from_slice(digest(&SHA256, &[document.issuer.as_bytes(), b"\n", &keys].concat()).as_ref());
        let keys = KeySet::parse(&keys)?;
        Ok(Known {
            issuer: document.issuer,
            keys,
            content,
            fetched: Instant::now(),
        })
    }

    fn settle(&self, fetched: Result<Known, String>, metrics: &Metrics) {
        let before = self.known.load();
        let mut gate = self.gate();
        let mut is_new = false;
        match fetched {
            Ok(known) => {
                metrics.fetched.inc();
                is_new = before.as_ref().is_none_or(|before| before.content != known.content);
                if is_new || gate.failure.is_some() {
                    tracing::info!(provider = ?self.url, keys = known.keys.len(), left_out = ?known.keys.left_out(), "an identity provider's keys are known");
                }
                gate.failure = None;
                self.known.store(Some(Arc::new(known)));
            }
            Err(why) => {
                metrics.not_fetched.inc();
                let age = before.as_ref().map(|known| known.fetched.elapsed());
                tracing::warn!(provider = ?self.url, keys_age = ?age, "an identity provider's keys cannot be fetched: {why}");
                gate.failure = Some(Arc::from(why));
            }
        }
        gate.pause = if is_new {
            FIRST_PAUSE
        } else {
            (2 * gate.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        };
        gate.not_before = Some(Instant::now() + gate.pause);
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        // Each change of it is whole, so what a panic left is usable.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Waits until the fetch has ended, which has a deadline.
    pub(crate) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
