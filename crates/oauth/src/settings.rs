//! What an operator can set about identity providers and their tokens. Durations are written as `30s`, `15m`.

use crate::error::Error;
use crate::reach::Reach;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The `[oauth]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether discovery and key URLs may lead to private networks (RFC 1918, 100.64.0.0/10, unique local IPv6). Whoever
    /// may create a runtime can then make the server ask for URLs there. Metadata services stay refused. Default false.
    pub allow_private_addresses: bool,
    /// Whether they may lead to this machine itself, and then without TLS; for development. Default false.
    pub allow_loopback: bool,
    /// PEM file with certificates that providers' certificates may be signed by, beside the public ones. Default: none.
    pub ca_file: Option<PathBuf>,
    /// How far the clocks of a provider and of this server may differ when `exp`, `nbf` and `iat` are checked; at most
    /// 5m. Default 30s.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Verified tokens that are remembered. Default 8192.
    pub max_tokens: usize,
    /// How long a verified token is remembered, at most until its `exp`: a key that its provider has withdrawn counts
    /// for so long. Default 15m.
    #[serde(with = "duration")]
    pub max_token_age: Duration,
    /// Providers whose keys are kept. Default 256.
    pub max_providers: usize,
    /// How old keys may be before they are fetched again, in the background. Default 15m.
    #[serde(with = "duration")]
    pub refresh_interval: Duration,
    /// How old keys may be that are used while their provider cannot be reached. Default 24h.
    #[serde(with = "duration")]
    pub max_key_age: Duration,
    /// How long fetching a discovery document and its keys may take together. Default 5s.
    #[serde(with = "duration")]
    pub fetch_timeout: Duration,
}

impl Settings {
    /// Where providers may be.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach {
            private: self.allow_private_addresses,
            loopback: self.allow_loopback,
        }
    }

    /// Checks what the types do not say.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |name, rule| Err(Error::Setting { name, rule });
        if self.leeway > Duration::from_secs(300) {
            return wrong("leeway", "may be at most 5m");
        }
        if !(1..=1 << 20).contains(&self.max_tokens) {
            return wrong("max_tokens", "must be from 1 to 1048576");
        }
        if !(1..=1 << 16).contains(&self.max_providers) {
            return wrong("max_providers", "must be from 1 to 65536");
        }
        if self.fetch_timeout.is_zero() || self.fetch_timeout > Duration::from_secs(60) {
            return wrong("fetch_timeout", "must be above 0s and at most 60s");
        }
        if self.refresh_interval < Duration::from_secs(1) {
            return wrong("refresh_interval", "must be at least 1s");
        }
        if self.max_key_age < self.refresh_interval {
            return wrong("max_key_age", "must be at least `refresh_interval`");
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            allow_private_addresses: false,
            allow_loopback: false,
            ca_file: None,
            leeway: Duration::from_secs(30),
            max_tokens: 8192,
            max_token_age: 15 * MINUTE,
            max_providers: 256,
            refresh_interval: 15 * MINUTE,
            max_key_age: 24 * 60 * MINUTE,
            fetch_timeout: Duration::from_secs(5),
        }
    }
}
