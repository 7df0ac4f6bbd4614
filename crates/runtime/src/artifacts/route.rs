//! The built-in artifact store's own route: `/_eyot/artifacts`, and below it `/{bucket}/{key…}`.
//!
//! `GET` of the route itself answers `{"bucket", "maxObjectBytes"}`: what the one bucket is called and what it takes.
//! Of an object, `PUT` stores a body as it comes and answers `{"size", "sha256"}`; `GET`, `HEAD` and `DELETE` do what they say.
//! An object is replaced as a whole or not at all; versions that were made from an earlier one keep what they have.
//!
//! Invariant: a body whose signature does not match stores nothing.

use super::Artifacts;
use domain::{Error, Kind};
use front_door::body::{BodyError, Incoming, Outgoing, full};
use front_door::service::{OwnCall, OwnReply};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use std::time::Duration;
use storage::{Blob, Stored};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

/// A client that sends nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of a file is read at a time.
const CHUNK: usize = 64 * 1024;

impl Artifacts {
    /// Answers a request to the route; `path` starts with `artifacts`.
    pub(crate) async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error> {
        let [_, bucket, key @ ..] = call.path.as_slice() else {
            return self.describe(&call.method);
        };
        if *bucket != self.config.bucket {
            let message = format!("There is no bucket '{bucket}' here, only '{}'.", self.config.bucket);
            return Err(Error::not_found(message));
        }
        let key = key.join("/");
        if !is_key(&key) {
            let message = "must be 1 to 1024 bytes of path segments, none of them empty, '.' or '..'";
            return Err(Error::invalid_field("key", message));
        }
        let blob_key = blob_key(bucket, &key);
        let missing = || Error::not_found(format!("There is no object '{key}' in bucket '{bucket}'."));
        match call.method {
            Method::PUT => {
                let stored = self.store(&blob_key, &call.headers, call.body).await?;
                tracing::info!(
                    bucket,
                    key,
                    size = stored.size,
                    sha256 = stored.sha256,
                    "artifact stored"
                );
                let answer = serde_json::json!({"size": stored.size, "sha256": stored.sha256});
                Ok(reply(StatusCode::OK, "application/json", full(answer.to_string())))
            }
            Method::GET | Method::HEAD => {
                let blob = self
                    .blobs
                    .open(&blob_key)
                    .await
                    .map_err(|e| from_blobs(&e))?
                    .ok_or_else(missing)?;
                Ok(download(blob, call.method == Method::HEAD))
            }
            Method::DELETE => {
                let deleted = self.blobs.delete(&blob_key).await.map_err(|e| from_blobs(&e))?;
                if !deleted {
                    return Err(missing());
                }
                Ok(OwnReply {
                    status: StatusCode::NO_CONTENT,
                    headers: HeaderMap::new(),
                    body: full(""),
                })
            }
            other => Err(useless(&other, "PUT, GET, HEAD or DELETE")),
        }
    }

    /// What a client must know before it uploads.
    fn describe(&self, method: &Method) -> Result<OwnReply, Error> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(useless(method, "GET, or add /BUCKET/KEY to the path"));
        }
        let answer = serde_json::json!({"bucket": self.config.bucket, "maxObjectBytes": self.config.max_object_bytes});
        Ok(reply(StatusCode::OK, "application/json", full(answer.to_string())))
    }

    async fn store(&self, key: &str, headers: &HeaderMap, mut body: Incoming) -> Result<Stored, Error> {
        let max = self.config.max_object_bytes;
        let too_large = || Error::invalid_field("body", format!("an artifact may have at most {max} bytes"));
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > max) {
            return Err(too_large());
        }
        let mut upload = self.blobs.upload(key).await.map_err(|e| from_blobs(&e))?;
        let mut size = 0;
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|_| Error::cannot_parse("The body stopped coming: send the artifact again."))?;
            let Some(frame) = frame else { break };
            let Ok(bytes) = frame.map_err(|e| from_body(&e))?.into_data() else {
                continue;
            };
            size += bytes.len() as u64;
            if size > max {
                return Err(too_large());
            }
            upload.write(bytes).await.map_err(|e| from_blobs(&e))?;
        }
        upload.finish().await.map_err(|e| from_blobs(&e))
    }
}

fn useless(method: &Method, useful: &str) -> Error {
    Error::invalid_field("method", format!("{method} does nothing here: use {useful}"))
}

/// The key in [`storage::Blobs`] of an object of the built-in store.
pub(super) fn blob_key(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

/// Whether an object of the built-in store may have this key.
pub(super) fn is_key(key: &str) -> bool {
    let fine = |segment: &str| !matches!(segment, "" | "." | "..");
    (1..=1024).contains(&key.len()) && !key.chars().any(char::is_control) && key.split('/').all(fine)
}

fn download(blob: Blob, head_only: bool) -> OwnReply {
    let body = if head_only {
        full("")
    } else {
        let file = tokio::fs::File::from_std(blob.file);
        let stream = ReaderStream::with_capacity(file, CHUNK);
        let frames = futures_util::StreamExt::map(stream, |chunk| Ok(http_body::Frame::data(chunk?)));
        BodyExt::boxed_unsync(StreamBody::new(frames))
    };
    let mut reply = reply(StatusCode::OK, "application/octet-stream", body);
    reply.headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: Outgoing) -> OwnReply {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    OwnReply { status, headers, body }
}

fn from_blobs(error: &storage::Error) -> Error {
    match error {
        storage::Error::BadKey(key, why) => Error::invalid_field("key", format!("'{key}' cannot be a key: {why}")),
        other => crate::error::from_storage(other),
    }
}

fn from_body(error: &BodyError) -> Error {
    match error {
        BodyError::Digest => Error::denied(error.to_string()),
        BodyError::TooLarge(max) => Error::invalid_field("body", format!("may have at most {max} bytes")),
        BodyError::Spool(cause) => {
            tracing::error!(%cause, "a spool file failed");
            Error::new(Kind::Internal, "The server could not keep the body; its log says why.")
        }
        BodyError::Client(_) | BodyError::Agent(_) => Error::cannot_parse(error.to_string()),
    }
}
