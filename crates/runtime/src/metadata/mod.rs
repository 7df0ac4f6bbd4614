//! The metadata service of a sandbox: EC2's, version 2, as far as AWS's SDKs ask it for credentials and the region.
//!
//! ```text
//! PUT /latest/api/token                                                   a token, needed by all that follows
//! GET /latest/meta-data/iam/security-credentials/                         the role's name, always the same
//! GET /latest/meta-data/iam/security-credentials/execution_role           credentials, JSON
//! GET /latest/meta-data/placement/region                                  the region
//! ```
//!
//! One [`Metadata`] serves one sandbox; the connections come from a socket inside it. Its peer is hostile: heads are small,
//! deadlines short, bodies never read, and nothing is kept for a request.
//!
//! Invariant: credentials go only to whoever has fetched a token with `PUT` from this very sandbox, so that an agent that
//! can be made to fetch a URL for somebody else (`GET`, forwarded) gives nothing away.

mod token;

use crate::credentials;
use crate::credentials::wallet::{Issued, Wallet};
use bytes::Bytes;
use domain::Clock;
use domain::id::Region;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::{Timestamp, Unit};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use token::Tokens;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// From a connection's first byte, or the end of an answer, to the end of the next head.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever happens on it.
const CONNECTION: Duration = Duration::from_secs(120);
/// The largest head.
const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 32;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials";
const REGION_PATH: &str = "/latest/meta-data/placement/region";
/// What AgentCore calls every role inside.
const ROLE: &str = "execution_role";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Answer = Response<Full<Bytes>>;

/// The metadata service of one sandbox.
#[derive(Debug)]
pub(crate) struct Metadata {
    wallet: Arc<Wallet>,
    region: Region,
    clock: Clock,
    tokens: Tokens,
}

/// As AWS writes it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    code: &'static str,
    last_updated: String,
    r#type: &'static str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

/// What a path names.
enum Resource {
    Token,
    Roles,
    Credentials,
    Region,
}

impl Metadata {
    pub(crate) fn new(
        wallet: Arc<Wallet>,
        region: Region,
        clock: Clock,
    ) -> Result<Arc<Self>, aws_lc_rs::error::Unspecified> {
        Ok(Arc::new(Self {
            wallet,
            region,
            clock,
            tokens: Tokens::new()?,
        }))
    }

    /// Serves one connection to its end. `refused` is told why there are no credentials, as often as that is answered.
    pub(crate) async fn serve<S, R>(self: Arc<Self>, stream: S, refused: R)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        R: Fn(&str),
    {
        let service = service_fn(|request: Request<hyper::body::Incoming>| async {
            let (parts, _unread) = request.into_parts();
            let answer = self.answer(&parts.method, parts.uri.path(), &parts.headers, &refused);
            Ok::<_, Infallible>(answer.await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        // Whatever ends it, the other end has been told or is gone.
        let _ = timeout(CONNECTION, connection).await;
    }

    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap, refused: &impl Fn(&str)) -> Answer {
        let Some(resource) = Resource::of(path) else {
            return text(StatusCode::NOT_FOUND, "There is nothing here.");
        };
        let wanted = match resource {
            Resource::Token => Method::PUT,
            _ => Method::GET,
        };
        if *method != wanted {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Another method is needed here.");
            let allowed = if wanted == Method::PUT { "PUT" } else { "GET" };
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
        // Who forwards does not ask for itself.
        if headers.contains_key(FORWARDED) {
            return text(StatusCode::FORBIDDEN, "Forwarded requests are refused.");
        }
        let now = self.clock.now();
        if let Resource::Token = resource {
            return self.token(headers, now);
        }
        let token = headers.get(TOKEN).map(HeaderValue::as_bytes);
        if !token.is_some_and(|token| self.tokens.is_good(token, now)) {
            return text(
                StatusCode::UNAUTHORIZED,
                "A token is needed: PUT /latest/api/token, then send it as X-aws-ec2-metadata-token.",
            );
        }
        match resource {
            Resource::Token | Resource::Roles => text(StatusCode::OK, ROLE),
            Resource::Region => text(StatusCode::OK, self.region.as_str()),
            Resource::Credentials => match self.wallet.credentials().await {
                Ok(issued) => document(&issued),
                Err(error @ credentials::Error::Refused(_)) => {
                    let said = error.to_string();
                    refused(&said);
                    text(StatusCode::NOT_FOUND, &format!("{said}."))
                }
                Err(error @ credentials::Error::Unavailable(_)) => {
                    let said = error.to_string();
                    refused(&said);
                    text(StatusCode::SERVICE_UNAVAILABLE, &format!("{said}."))
                }
            },
        }
    }

    fn token(&self, headers: &HeaderMap, now: Timestamp) -> Answer {
        let seconds = headers
            .get(TOKEN_TTL)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(seconds) = seconds.filter(|seconds| token::TTL.contains(seconds)) else {
            return text(
                StatusCode::BAD_REQUEST,
                "X-aws-ec2-metadata-token-ttl-seconds must be a number from 1 to 21600.",
            );
        };
        let mut answer = text(StatusCode::OK, &self.tokens.make(seconds, now));
        answer.headers_mut().insert(TOKEN_TTL, HeaderValue::from(seconds));
        answer
    }
}

impl Resource {
    fn of(path: &str) -> Option<Self> {
        match path {
            TOKEN_PATH => return Some(Self::Token),
            REGION_PATH => return Some(Self::Region),
            _ => {}
        }
        match path.strip_prefix(ROLES_PATH)? {
            "" | "/" => Some(Self::Roles),
            rest => (rest.strip_prefix('/') == Some(ROLE)).then_some(Self::Credentials),
        }
    }
}

fn document(issued: &Issued) -> Answer {
    let credentials = &issued.credentials;
    let document = Document {
        code: "Success",
        last_updated: whole_seconds(issued.at),
        r#type: "AWS-HMAC",
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.reveal(),
        token: credentials.session_token.reveal(),
        expiration: whole_seconds(credentials.expires_at),
    };
    match serde_json::to_vec_pretty(&document) {
        Ok(body) => answer(StatusCode::OK, JSON, Bytes::from(body)),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The credentials could not be written.",
        ),
    }
}

/// `2026-11-25T12:00:00Z`: some SDKs read no fractions.
fn whole_seconds(at: Timestamp) -> String {
    use jiff::{RoundMode, TimestampRound};
    let down = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Floor);
    at.round(down).unwrap_or(at).to_string()
}

fn text(status: StatusCode, body: &str) -> Answer {
    answer(status, TEXT, Bytes::copy_from_slice(body.as_bytes()))
}

fn answer(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests;
