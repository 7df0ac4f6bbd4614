//! What an operator can set about traces.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where the signal is posted below the endpoint.
const PATH: &str = "/v1/traces";

/// The `[traces]` part of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The collector, such as `http://127.0.0.1:4318`: OTLP over HTTP, in protobuf. Nothing is traced without it.
    #[serde(deserialize_with = "endpoint")]
    pub(crate) endpoint: Option<Uri>,
    /// Headers that the collector wants, such as a key.
    #[serde(deserialize_with = "headers")]
    pub(crate) headers: HeaderMap,
    /// A PEM file with the certificates to trust instead of the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// The share of calls without a `traceparent` that is traced. Others are traced if their caller's flag says so.
    #[serde(deserialize_with = "share")]
    pub(crate) sample_ratio: f64,
    /// `service.name` of the spans.
    pub(crate) service_name: String,
    /// How long a batch may take, repetitions included, before it is given up.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub(crate) timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: HeaderMap::new(),
            ca_file: None,
            sample_ratio: 1.0,
            service_name: "eyot".to_owned(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The URL that spans are posted to.
fn endpoint<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Uri>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(Some).ok_or_else(|| {
        D::Error::custom(format!(
            "'{text}' is not the URL of a collector: write http://HOST:PORT or https://HOST, without {PATH}"
        ))
    })
}

fn parse(text: &str) -> Option<Uri> {
    let base: Uri = text.parse().ok()?;
    let authority = base.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let known = matches!(base.scheme_str(), Some("http" | "https"));
    let bare = base.query().is_none() && !base.path().ends_with(PATH);
    if !known || !bare || authority.host().is_empty() {
        return None;
    }
    let path = format!("{}{PATH}", base.path().trim_end_matches('/'));
    let mut parts = base.into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Values are marked as sensitive, so that none is ever printed.
fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in BTreeMap::<String, String>::deserialize(from)? {
        let wrong = |what| D::Error::custom(format!("'{name}' {what}"));
        let parsed = HeaderName::try_from(&name).map_err(|_| wrong("is no header name"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong("has a value that no header can carry"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(D::Error::custom(format!(
            "{share} is not a share: write a number from 0 to 1"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut layers = Layers::default();
        let owned = variables.iter().map(|(k, v)| (format!("EYOT__{k}"), (*v).to_owned()));
        layers.environment(owned.collect::<Vec<_>>().into_iter())?;
        layers.read()
    }

    #[test]
    fn the_path_of_the_signal_is_added_to_the_endpoint() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            (
                "https://traces.example.com/api/otel",
                "https://traces.example.com/api/otel/v1/traces",
            ),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            let config = read(&[("ENDPOINT", endpoint)]).unwrap();
            assert_eq!(config.endpoint.unwrap().to_string(), url);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value, said) in [
            ("ENDPOINT", "127.0.0.1:4318", "is not the URL of a collector"),
            ("ENDPOINT", "grpc://127.0.0.1:4317", "is not the URL of a collector"),
            ("ENDPOINT", "http://127.0.0.1:4318/v1/traces", "without /v1/traces"),
            (
                "ENDPOINT",
                "http://me:secret@127.0.0.1:4318",
                "is not the URL of a collector",
            ),
            (
                "ENDPOINT",
                "http://127.0.0.1:4318/?a=b",
                "is not the URL of a collector",
            ),
            ("SAMPLE_RATIO", "1.5", "from 0 to 1"),
            ("SAMPLE_RATIO", "nan", "from 0 to 1"),
            ("SAMPLE_RATIO", "often", "sample_ratio"),
            ("HEADERS", "{ \"a b\" = \"1\" }", "no header name"),
            ("HEADERS__X-KEY", "\"a\\nb\"", "no header can carry"),
            ("TIMEOUT", "10", "timeout"),
        ] {
            let error = read(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{key}={value}: {error}");
        }
    }

    #[test]
    fn headers_are_read_from_the_environment_and_never_printed() {
        let config = read(&[("HEADERS__AUTHORIZATION", "Bearer hidden"), ("HEADERS__X-NUMBER", "7")]).unwrap();
        assert_eq!(config.headers["authorization"], "Bearer hidden");
        assert_eq!(config.headers["x-number"], "7");
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
