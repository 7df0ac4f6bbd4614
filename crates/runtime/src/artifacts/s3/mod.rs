//! Fetches objects from S3-compatible services, one signed GET per object.
//!
//! `locate` (here) finds the service of a bucket; `request` builds and signs the GET; [`crate::outbound`] opens the connection;
//! this file runs it all under deadlines and turns what went wrong into a sentence that the owner of the runtime can
//! act on. Failures that may pass (no connection, 5xx, a body that breaks off) are tried three times.
//!
//! A service answers `AT_ONCE` fetches at a time; a further one waits for its `turn`, for so long and no longer. One
//! that is silent so delays whoever fetches from it, and nobody else.
//!
//! Invariant: never more than the allowed bytes are written, whatever the service claims. Invariant: redirects are
//! not followed, so credentials only ever go where the configuration says.

mod request;
#[cfg(test)]
mod tests;

use super::config::S3;
use crate::control::record::Code;
use crate::outbound::{Address, CHECK};
use bytes::Bytes;
use domain::Clock;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// No answer's head, or no further byte of its body, in this time: the connection is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// The whole of one attempt.
const WHOLE: Duration = Duration::from_secs(600);
const ATTEMPTS: u32 = 3;
/// Fetches from one service at a time.
const AT_ONCE: usize = 4;
/// How long a fetch waits for its turn: as long as one that has its turn may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How much of an error document is read.
const ERROR_BYTES: usize = 16 * 1024;

/// All S3-compatible services of the configuration.
#[derive(Debug)]
pub(crate) struct Client {
    services: Vec<Service>,
    clock: Clock,
}

/// One of them, ready to be connected to.
#[derive(Debug)]
struct Service {
    name: String,
    config: S3,
    address: Address,
    turns: Arc<Semaphore>,
}

/// Why one attempt failed.
#[derive(Debug)]
struct Failure {
    reason: String,
    may_pass: bool,
}

impl Client {
    /// Reads the configuration; the error says which entry is wrong and how.
    pub(crate) fn new(services: &BTreeMap<String, S3>, clock: Clock) -> Result<Self, String> {
        let build = |(name, config): (&String, &S3)| {
            let address = Address::new(&config.endpoint, config.ca_file.as_deref())
                .map_err(|why| format!("[runtime.s3.{name}] {why}"))?;
            Ok(Service {
                name: name.clone(),
                config: config.clone(),
                address,
                turns: Arc::new(Semaphore::new(AT_ONCE)),
            })
        };
        let services: Vec<Service> = services.iter().map(build).collect::<Result<_, String>>()?;
        let catch_all: Vec<&str> = services
            .iter()
            .filter(|s| s.config.buckets.is_empty())
            .map(|s| s.name.as_str())
            .collect();
        if catch_all.len() > 1 {
            let names = catch_all.join(", ");
            return Err(format!(
                "[runtime.s3.*] only one section may leave out `buckets`, but these do: {names}"
            ));
        }
        Ok(Self { services, clock })
    }

    /// Whether there is a service that has a bucket.
    pub(crate) fn has(&self, bucket: &str) -> bool {
        self.locate(bucket).is_some()
    }

    /// Waits until the object's service may be asked for it. The turn ends when what is returned is dropped.
    pub(crate) async fn turn(&self, code: &Code) -> Result<OwnedSemaphorePermit, String> {
        let service = self.service(&code.bucket)?;
        match timeout(PATIENCE, Arc::clone(&service.turns).acquire_owned()).await {
            Ok(turn) => Ok(turn.expect("nobody closes it")),
            Err(_) => {
                let waited = PATIENCE.as_secs();
                let reason = format!("earlier fetches kept the service busy for {waited} seconds: {CHECK}");
                Err(service.cannot(code, "", &reason))
            }
        }
    }

    /// Writes an object into a file, in a [`Client::turn`], and answers its size. The error is a sentence for the
    /// owner of the runtime.
    pub(crate) async fn fetch(&self, code: &Code, into: &mut File, max: u64) -> Result<u64, String> {
        let service = self.service(&code.bucket)?;
        let mut wait = Duration::from_millis(300);
        let mut attempt = 1;
        loop {
            let tried = timeout(WHOLE, service.attempt(&self.clock, code, into, max)).await;
            let failure = match tried {
                Ok(Ok(size)) => return Ok(size),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::final_(format!("it took longer than {} seconds: {CHECK}", WHOLE.as_secs())),
            };
            if !failure.may_pass || attempt == ATTEMPTS {
                let tries = if attempt > 1 {
                    format!(" (tried {attempt} times)")
                } else {
                    String::new()
                };
                return Err(service.cannot(code, &tries, &failure.reason));
            }
            tracing::warn!(
                service = service.name,
                bucket = code.bucket,
                reason = failure.reason,
                "fetch failed, trying again"
            );
            tokio::time::sleep(wait).await;
            wait *= 3;
            attempt += 1;
        }
    }

    fn service(&self, bucket: &str) -> Result<&Service, String> {
        self.locate(bucket).ok_or_else(|| {
            format!("bucket '{bucket}' is in no [runtime.s3.NAME] section of the server's configuration")
        })
    }

    fn locate(&self, bucket: &str) -> Option<&Service> {
        let named = self
            .services
            .iter()
            .find(|s| s.config.buckets.iter().any(|b| b == bucket));
        named.or_else(|| self.services.iter().find(|s| s.config.buckets.is_empty()))
    }
}

impl Service {
    /// The sentence for the owner of the runtime; its end says what to do.
    fn cannot(&self, code: &Code, tries: &str, reason: &str) -> String {
        let (Code { bucket, key, .. }, Self { name, config, .. }) = (code, self);
        format!(
            "cannot fetch s3://{bucket}/{key} from [runtime.s3.{name}] at {}{tries}: {reason}",
            config.endpoint
        )
    }

    fn host_of(&self, bucket: &str) -> String {
        let host = self.address.host();
        if self.config.force_path_style {
            host.to_owned()
        } else {
            format!("{bucket}.{host}")
        }
    }

    async fn attempt(&self, clock: &Clock, code: &Code, into: &mut File, max: u64) -> Result<u64, Failure> {
        let host = self.host_of(&code.bucket);
        let header = self.address.header(&host);
        let request = request::build(&self.config, &header, code, clock.now()).map_err(Failure::final_)?;
        let mut connection = self.address.open(&host).await.map_err(Failure::passing)?;
        let answer = timeout(SILENCE, connection.send(request)).await;
        let answer = answer
            .map_err(|_| Failure::passing(silent()))?
            .map_err(|e| Failure::passing(format!("no answer: {e}; {CHECK}")))?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(refusal(status, answer.into_body()).await);
        }
        let too_large = || {
            Failure::final_(format!(
                "the object is larger than the {max} bytes that are allowed: make it smaller, or raise \
                 `max_object_bytes` in [runtime.artifacts]"
            ))
        };
        if hyper::body::Body::size_hint(answer.body()).lower() > max {
            return Err(too_large());
        }
        let disk = |e: std::io::Error| {
            Failure::final_(format!(
                "it cannot be stored: {e}; see to the disk of the server's data directory"
            ))
        };
        into.rewind().await.map_err(disk)?;
        into.set_len(0).await.map_err(disk)?;
        let mut body = answer.into_body();
        let mut size = 0;
        while let Some(bytes) = next(&mut body).await? {
            size += bytes.len() as u64;
            if size > max {
                return Err(too_large());
            }
            into.write_all(&bytes).await.map_err(disk)?;
        }
        into.flush().await.map_err(disk)?;
        Ok(size)
    }
}

impl Failure {
    fn passing(reason: String) -> Self {
        Self { reason, may_pass: true }
    }

    fn final_(reason: String) -> Self {
        Self {
            reason,
            may_pass: false,
        }
    }
}

/// The next bytes of a body, or nothing at its end.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = timeout(SILENCE, body.frame())
            .await
            .map_err(|_| Failure::passing(silent()))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::passing(format!("the answer broke off: {error}; {CHECK}"))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn silent() -> String {
    format!("the service sent nothing for {} seconds: {CHECK}", SILENCE.as_secs())
}

/// What an answer other than 200 means for the owner of the runtime.
async fn refusal(status: StatusCode, mut body: Incoming) -> Failure {
    let mut document = Vec::new();
    while let Ok(Some(bytes)) = next(&mut body).await {
        let room = ERROR_BYTES.saturating_sub(document.len());
        document.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if document.len() >= ERROR_BYTES {
            break;
        }
    }
    let document = String::from_utf8_lossy(&document);
    let code = element(&document, "Code").unwrap_or_default();
    let (meaning, remedy) = match (status.as_u16(), code) {
        (_, "NoSuchBucket") => ("there is no such bucket", "create it or correct `bucket`"),
        (_, "NoSuchVersion") => (
            "there is no such version of the object",
            "correct or leave out `versionId`",
        ),
        (404, _) => ("there is no such object", "upload it or correct `prefix`"),
        (_, "InvalidAccessKeyId") => (
            "the service does not know the configured access key",
            "correct `access_key_id`",
        ),
        (_, "SignatureDoesNotMatch") => (
            "the configured secret access key is wrong",
            "correct it in the server's configuration",
        ),
        (_, "RequestTimeTooSkewed") => (
            "the clocks of this server and the service differ too much",
            "set the clock that is wrong",
        ),
        (401 | 403, _) => (
            "access is denied",
            "allow the configured access key s3:GetObject on the object, or correct the key",
        ),
        (301 | 302 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed") => (
            "the bucket is elsewhere",
            "correct `endpoint` and `region` of the configuration",
        ),
        _ => ("the service refused", CHECK),
    };
    let said = if code.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {}, {code}", status.as_u16())
    };
    let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    Failure {
        reason: format!("{meaning} ({said}): {remedy}"),
        may_pass,
    }
}

/// The text of the first element of this name in an S3 error document, when it is a plain word.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    text.bytes().all(|b| b.is_ascii_alphanumeric()).then_some(text)
}
