//! Posts batches to a collector, each under one deadline.
//!
//! What may pass is tried again within the deadline, as OTLP says: no connection, 429, 502, 503, 504. Anything else is
//! final. Redirects are not followed, so the headers only ever go where the configuration says.
//!
//! Invariant: of an answer no more is read than a bounded number of bytes.

use crate::client::{self, connect};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rustls::ClientConfig;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The first pause before another attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// A collector, and the connection to it.
pub(super) struct Collector {
    url: Uri,
    headers: HeaderMap,
    tls: Arc<ClientConfig>,
    deadline: Duration,
    /// The connection of the last request, while the collector keeps it open.
    kept: Option<connect::Sender>,
}

/// What a collector said of a batch that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Spans that it did not take.
    pub(super) rejected: u64,
    /// Why.
    pub(super) said: String,
}

/// Why an attempt failed.
enum Failure {
    /// It may succeed after a while.
    Passing(String, Option<Duration>),
    /// It will not.
    Final(String),
}

impl Collector {
    /// One at a URL; opens nothing yet.
    pub(super) fn new(
        url: Uri,
        mut headers: HeaderMap,
        ca_file: Option<&Path>,
        deadline: Duration,
    ) -> Result<Self, client::Error> {
        let host = url.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|e| client::Error::Endpoint(url.to_string(), e.to_string()))?;
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("eyot/", env!("CARGO_PKG_VERSION"))),
        );
        Ok(Self {
            tls: connect::trust(ca_file, "`ca_file`")?,
            url,
            headers,
            deadline,
            kept: None,
        })
    }

    /// Delivers a batch; the error says why that could not be done.
    pub(super) async fn deliver(&mut self, batch: Bytes) -> Result<Verdict, String> {
        let mut last = None;
        let deadline = self.deadline;
        let delivered = timeout(deadline, async {
            let mut pause = PAUSE;
            loop {
                match self.attempt(batch.clone()).await {
                    Ok(verdict) => return Ok(verdict),
                    Err(Failure::Final(why)) => return Err(why),
                    Err(Failure::Passing(why, wait)) => {
                        last = Some(why);
                        sleep(wait.unwrap_or_default().max(pause)).await;
                        pause *= 2;
                    }
                }
            }
        });
        match delivered.await {
            Ok(delivered) => delivered,
            // The connection is closed with the attempt: an answer that comes late must not be taken for the next one's.
            Err(_) => Err(last.unwrap_or_else(|| format!("it did not answer within {deadline:?}"))),
        }
    }

    async fn attempt(&mut self, batch: Bytes) -> Result<Verdict, Failure> {
        let mut sender = match self.kept.take() {
            Some(kept) if kept.is_ready() => kept,
            _ => {
                let opened = connect::open(&self.url, || Ok(Arc::clone(&self.tls))).await;
                opened.map_err(|error| Failure::Passing(format!("{:#}", anyhow::Error::from(error)), None))?
            }
        };
        let answer = sender.send_request(self.request(batch)).await;
        let answer = answer.map_err(|error| Failure::Passing(format!("it closed the connection: {error}"), None))?;
        let (head, body) = answer.into_parts();
        let read = Limited::new(body, ANSWER).collect().await;
        let body = read.map(http_body_util::Collected::to_bytes);
        match head.status {
            status if status.is_success() => {
                if body.is_ok() {
                    self.kept = Some(sender);
                }
                Ok(verdict(&body.unwrap_or_default()))
            }
            status => Err(refusal(status, &head.headers)),
        }
    }

    fn request(&self, batch: Bytes) -> Request<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>> {
        let length = batch.len();
        let body = Full::new(batch).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.path().parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        request
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// An answer that cannot be read was still a good one.
fn verdict(answer: &[u8]) -> Verdict {
    let partial = ExportTraceServiceResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success);
    partial.map_or_else(Verdict::default, |partial| Verdict {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or_default(),
        said: format!("it rejected spans: {}", partial.error_message),
    })
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let said = format!("it answered {status}");
    let may_pass = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if !may_pass.contains(&status) {
        return Failure::Final(said);
    }
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Failure::Passing(said, seconds.map(Duration::from_secs))
}
