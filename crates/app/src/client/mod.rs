//! A small client of the AgentCore API, for our own commands: signs, sends, streams both ways, explains errors.
//!
//! It speaks to any server that verifies Signature Version 4, so the commands work against a remote Eyot as well.
//! `connect` opens sockets, `error` reads what a server refuses, `runtimes` holds the calls that several commands make.
//!
//! Invariant: the secret key is never printed, by `Debug` either.

pub(crate) mod connect;
mod error;
mod runtimes;

#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use runtimes::{Found, text};

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{Context, SHA256};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use domain::Clock;
use futures_util::TryStreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, SystemTime};
use tokio_util::io::ReaderStream;

/// What AWS signs for, on both planes.
const SERVICE: &str = "bedrock-agentcore";

/// How long a control call may take.
const CONTROL_DEADLINE: Duration = Duration::from_secs(60);

/// How long stopping sessions may take, of which there may be many.
const STOP_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Between two pieces of an answer; longer than the 15 minutes that an agent may think before the first.
const PIECE_DEADLINE: Duration = Duration::from_secs(16 * 60);

/// Bytes of a document that is read into memory.
const MAX_DOCUMENT: usize = 16 << 20;

/// Everything that RFC 3986 does not leave alone, `/` included.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which server, and as whom.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Base URL of the control plane.
    pub(crate) control_url: String,
    /// Base URL of the data plane.
    pub(crate) data_url: String,
    /// Region that the server plays; part of every signature.
    pub(crate) region: String,
    /// Access key.
    pub(crate) access_key_id: String,
    /// Its secret.
    pub(crate) secret: String,
    /// Session token of temporary credentials.
    pub(crate) session_token: Option<String>,
}

/// Sends calls over a [`Connection`].
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connection: Connection,
    clock: Clock,
}

/// Which of the two base URLs a call goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plane {
    Control,
    Data,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) plane: Plane,
    pub(crate) method: Method,
    /// Path and query, percent-encoded as they go onto the wire.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// Until the answer's head.
    pub(crate) deadline: Duration,
}

/// A call's body, whose digest is signed and which is sent as a stream.
#[derive(Debug)]
pub(crate) enum Payload {
    Memory(Bytes),
    /// A file from its beginning, unchanged since it was hashed.
    File {
        file: std::fs::File,
        size: u64,
        sha256: String,
    },
}

/// A successful answer whose body is still coming.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    body: Incoming,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            clock: Clock::system(),
        }
    }

    /// Sends a JSON document to the control plane and reads one.
    pub(crate) async fn control(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
        let bytes = body.map(|document| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Bytes::from(document.to_string())
        });
        let call = Call {
            plane: Plane::Control,
            method,
            target: target.to_owned(),
            headers,
            payload: Payload::Memory(bytes.unwrap_or_default()),
            deadline: CONTROL_DEADLINE,
        };
        self.send(call).await?.document().await
    }

    /// Sends a request without a body to one of the server's own paths and reads the document that it answers.
    pub(crate) async fn own(&self, method: Method, target: &str) -> Result<Value, Error> {
        let deadline = if method == Method::GET {
            CONTROL_DEADLINE
        } else {
            STOP_DEADLINE
        };
        let call = Call {
            plane: Plane::Data,
            method,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            payload: Payload::Memory(Bytes::new()),
            deadline,
        };
        self.send(call).await?.document().await
    }

    /// Sends a document to one of the server's own paths and reads the one that it answers.
    pub(crate) async fn own_with(&self, method: Method, target: &str, body: String) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let call = Call {
            plane: Plane::Data,
            method,
            target: target.to_owned(),
            headers,
            payload: Payload::Memory(Bytes::from(body)),
            deadline: CONTROL_DEADLINE,
        };
        self.send(call).await?.document().await
    }

    /// Signs and sends a call. An answer that is not 2xx is [`Error::Refused`].
    ///
    /// Cancellation safe: dropped, it closes the connection.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer, Error> {
        let base = match call.plane {
            Plane::Control => &self.connection.control_url,
            Plane::Data => &self.connection.data_url,
        };
        let base: Uri = base
            .parse()
            .map_err(|e| Error::Endpoint(base.clone(), format!("is not a URL: {e}")))?;
        let deadline = call.deadline;
        let request = self.request(&base, call)?;
        let waited = tokio::time::timeout(deadline, async {
            let mut sender = connect::open(&base, connect::trust_as_aws).await?;
            sender
                .send_request(request)
                .await
                .map_err(|e| Error::from_hyper(&base, &e))
        });
        let response = waited.await.map_err(|_| Error::Late(base.to_string(), deadline))??;
        let (parts, body) = response.into_parts();
        let answer = Answer {
            headers: parts.headers,
            body,
        };
        if parts.status.is_success() {
            Ok(answer)
        } else {
            Err(answer.refusal(parts.status).await)
        }
    }

    fn request(&self, base: &Uri, call: Call) -> Result<Request<UnsyncBoxBody<Bytes, std::io::Error>>, Error> {
        let endpoint = |why: &str| Error::Endpoint(base.to_string(), why.to_owned());
        let host = base
            .authority()
            .ok_or_else(|| endpoint("has no host"))?
            .as_str()
            .to_owned();
        let target = format!("{}{}", base.path().trim_end_matches('/'), call.target);
        let (sha256, size) = call.payload.digest();
        let mut headers = call.headers;
        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|_| endpoint("or a header has forbidden characters"));
        headers.insert(HOST, value(&host)?);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("eyot/", env!("CARGO_PKG_VERSION"))),
        );
        // Sent and signed, so that the server verifies at once and streams the body instead of keeping it first.
        headers.insert(HeaderName::from_static("x-amz-content-sha256"), value(&sha256)?);
        self.sign(
            call.method.as_str(),
            &format!("{}://{host}{target}", base.scheme_str().unwrap_or("http")),
            &mut headers,
            sha256,
        )?;
        let mut request = Request::new(call.payload.into_body());
        *request.method_mut() = call.method;
        *request.uri_mut() = target
            .parse()
            .map_err(|_| endpoint("and the call's path make no valid target"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn sign(&self, method: &str, url: &str, headers: &mut HeaderMap, sha256: String) -> Result<(), Error> {
        let connection = &self.connection;
        let identity = Credentials::new(
            &connection.access_key_id,
            &connection.secret,
            connection.session_token.clone(),
            None,
            "eyot",
        )
        .into();
        let failed = |e: &dyn fmt::Display| Error::Signing(e.to_string());
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&connection.region)
            .name(SERVICE)
            .time(SystemTime::from(self.clock.now()))
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| failed(&e))?
            .into();
        let texts = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Precomputed(sha256);
        let signable = SignableRequest::new(method, url, texts, body).map_err(|e| failed(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| failed(&e))?.into_parts();
        for (name, text) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|e| failed(&e))?;
            headers.insert(name, HeaderValue::from_str(text).map_err(|e| failed(&e))?);
        }
        Ok(())
    }
}

impl Payload {
    /// A file as it is now, hashed to its end. Blocks for as long as reading it takes.
    pub(crate) fn from_file(mut file: std::fs::File) -> std::io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut context = Context::new(&SHA256);
        let (mut buffer, mut size) = (vec![0; 128 * 1024], 0);
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            context.update(&buffer[..n]);
            size += n as u64;
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(Self::File {
            file,
            size,
            sha256: hex::encode(context.finish()),
        })
    }

    /// SHA-256 in hexadecimal, and the size.
    pub(crate) fn digest(&self) -> (String, u64) {
        match self {
            Self::Memory(bytes) => {
                let digest = aws_lc_rs::digest::digest(&SHA256, bytes);
                (hex::encode(digest), bytes.len() as u64)
            }
            Self::File { size, sha256, .. } => (sha256.clone(), *size),
        }
    }

    fn into_body(self) -> UnsyncBoxBody<Bytes, std::io::Error> {
        match self {
            Self::Memory(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Self::File { file, .. } => {
                let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 128 * 1024);
                StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()
            }
        }
    }
}

impl Answer {
    /// A header's text, empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The next piece of the body as it arrives; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        self.piece_within(PIECE_DEADLINE).await
    }

    /// The same from a server that may be silent for so long.
    pub(crate) async fn piece_within(&mut self, deadline: Duration) -> Result<Option<Bytes>, Error> {
        loop {
            let next = tokio::time::timeout(deadline, self.body.frame()).await;
            let silent = |_| Error::BrokeOff(format!("nothing came for {} minutes", deadline.as_secs() / 60));
            let frame = match next.map_err(silent)? {
                None => return Ok(None),
                Some(frame) => frame.map_err(|e| Error::BrokeOff(error::chain(&e)))?,
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, which must be small.
    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            if all.len() + piece.len() > MAX_DOCUMENT {
                return Err(Error::Unreadable(format!("it is larger than {MAX_DOCUMENT} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The body as a JSON document; `null` if there is none.
    pub(crate) async fn document(self) -> Result<Value, Error> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::Unreadable(e.to_string()))
    }

    async fn refusal(self, status: StatusCode) -> Error {
        let kind = self.header("x-amzn-errortype").to_owned();
        let request_id = self.header("x-amzn-requestid").to_owned();
        let agent = self.header("x-eyot-agent-error").to_owned();
        // Whatever the body is, the status has already said the main thing.
        let body = self.bytes().await.unwrap_or_default();
        Error::refused(status, &kind, request_id, &agent, &body)
    }
}

/// Encodes one path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    percent_encode(text.as_bytes(), SEGMENT).to_string()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("control_url", &self.control_url)
            .field("data_url", &self.data_url)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}
