//! What an operator can set about sockets, TLS and the limits of requests.

use ipnet::IpNet;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Sockets, TLS and limits of requests. Durations are written as `10s`, `15m`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PEM file with the server's certificate chain. TLS is on when this and `tls_key` are set.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Connections open at once; more wait in the system's queue.
    pub max_connections: usize,
    /// Calls worked on at once; more are answered with ThrottlingException.
    pub max_calls: u64,
    /// Bytes of request bodies held at once, in memory and in spool files; more are answered with ThrottlingException.
    pub max_held_bytes: u64,
    /// Largest request head: request line and headers.
    pub max_head_bytes: usize,
    /// Largest JSON request body.
    pub max_document_bytes: u64,
    /// Largest body of a request below `/_eyot/`, such as an uploaded code package.
    pub max_upload_bytes: u64,
    /// Bodies up to this size are kept in memory until their signature is verified; larger ones go to a spool file.
    pub spool_memory_bytes: u64,
    /// Directory of spool files, which have no names there; should not be a memory disk. `eyot serve` sets one below its
    /// data directory.
    pub spool_dir: Option<PathBuf>,
    /// From a connection's, or a request's, first byte to the end of the request's head.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long a connection may be open without a request.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long a client may send nothing of a body that it has begun.
    #[serde(with = "duration")]
    pub body_stall_timeout: Duration,
    /// From a body's first byte to its last.
    #[serde(with = "duration")]
    pub body_total_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    #[serde(with = "duration")]
    pub write_stall_timeout: Duration,
    /// How long a client that was refused early may pause in sending the rest before its connection is closed, and how
    /// long a connection may take to close.
    #[serde(with = "duration")]
    pub linger_timeout: Duration,
    /// Bytes that are read and thrown away from a client that was refused early, so that it can read the refusal.
    pub linger_bytes: u64,
    /// How long answers may go on after SIGTERM before they are cut.
    #[serde(with = "duration")]
    pub drain_grace: Duration,
    /// Whether `/_eyot/metrics` is answered without a signature.
    pub open_metrics: bool,
    /// HTTP/2 requests at once on one connection.
    pub max_streams_per_connection: u32,
    /// Where clients reach this server, such as `https://agents.example.com`, when its own `Host` does not say it.
    pub public_url: Option<String>,
    /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of pages that may call agents from a browser; `*` is any.
    pub cors_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls_cert: None,
            tls_key: None,
            max_connections: 4096,
            max_calls: 4096,
            max_held_bytes: 4 << 30,
            max_head_bytes: 64 << 10,
            max_document_bytes: 1 << 20,
            max_upload_bytes: 256 << 20,
            spool_memory_bytes: 64 << 10,
            spool_dir: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            body_stall_timeout: Duration::from_secs(30),
            body_total_timeout: Duration::from_mins(15),
            write_stall_timeout: Duration::from_mins(5),
            linger_timeout: Duration::from_secs(5),
            linger_bytes: 128 << 20,
            drain_grace: Duration::from_secs(30),
            open_metrics: true,
            max_streams_per_connection: 128,
            public_url: None,
            trusted_proxies: Vec::new(),
            cors_origins: vec!["*".to_owned()],
        }
    }
}

impl Config {
    /// Where spool files go.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.spool_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_for_people_and_unknown_keys_are_refused() {
        let read: Config = serde_json::from_str(r#"{"head_timeout": "250ms", "drain_grace": "2m"}"#).unwrap();
        assert_eq!(read.head_timeout, Duration::from_millis(250));
        assert_eq!(read.drain_grace, Duration::from_secs(120));
        assert_eq!(read.max_head_bytes, Config::default().max_head_bytes);
        let error = serde_json::from_str::<Config>(r#"{"head_timeuot": "1s"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("head_timeuot"), "{error}");
    }
}
