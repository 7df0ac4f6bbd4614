//! One request through all stages; [`answer`] is the one place where their order is written.
//!
//! ```text
//! route -> authenticate the head -> admit -> take in the body -> verify -> decode -> service
//!    every failure ────────────────────────────────────────────────────────> error
//! ```
//!
//! The head is checked before the body because a client usually does not send its body's hash, so that the signature
//! can be compared only after the body was read. A refusal leaves the rest of the body unread; on HTTP/1 the connection
//! then closes, slowly enough that the client gets to read the answer.
//!
//! Invariant: a service is called only for a proven caller, admitted, with an input that keeps every constraint.
//! Invariant: no panic leaves a request without an answer or touches another request.

mod answer;
mod builtin;
mod input;

pub(crate) use answer::AnswerBody;

use crate::admit::Admission;
use crate::auth::{Payload, Pending, Refusal, Verifier};
use crate::body::checked::{Checked, Verdict};
use crate::body::source::{Limits, Source};
use crate::body::spool::{self, SpoolError, Spooled};
use crate::body::{Incoming, full};
use crate::config::Config;
use crate::context::Context;
use crate::error::{Edge, Failure, body_failure};
use crate::metrics::{Metrics, ReasonLabel};
use crate::route::{Endpoint, Own, Route, Router};
use crate::server::Readiness;
use crate::server::watch::Busy;
use crate::service::{Call, OwnCall};
use answer::Answer;
use domain::{Error, Kind, Principal};
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) config: Config,
    pub(crate) spool_dir: PathBuf,
    pub(crate) router: Router,
    pub(crate) verifier: Verifier,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Arc<Registry>,
    pub(crate) readiness: Readiness,
    /// The server is stopping.
    pub(crate) draining: AtomicBool,
}

/// A proven caller and its body.
struct Proven {
    caller: Principal,
    body: ProvenBody,
}

enum ProvenBody {
    /// Whole, and as signed.
    Whole(Spooled),
    /// Still coming; breaks off if it is not as signed, and says so in the verdict.
    Streaming(Incoming, Verdict),
}

/// What a route allows of a body.
#[derive(Clone, Copy)]
struct Allowance {
    /// The most bytes.
    most: u64,
    /// Up to this size in memory.
    in_memory: u64,
    /// What the caller knows the body as.
    member: &'static str,
    /// Whether a larger body may go to the service before its end has come.
    may_stream: bool,
}

/// Answers one request; never fails, whatever happens inside.
pub(crate) async fn serve(
    door: &Door,
    busy: Busy,
    peer: SocketAddr,
    request: Request<hyper::body::Incoming>,
) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let mut context = Context::new(parts.method.clone(), peer, busy, Arc::clone(door.router.unknown()));
    context.unread = !body.is_end_stream();
    let outcome = AssertUnwindSafe(answer(door, &mut context, parts, body))
        .catch_unwind()
        .await;
    let answer = match outcome {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => Answer::failure(&failure, context.operation),
        Err(_panic) => {
            // The panic hook has written the message and the place.
            door.metrics.panics.inc();
            tracing::error!(request_id = %context.request_id, operation = context.metrics.name, "a request panicked");
            let failure = Error::internal("The server made an error. Its log has this request's id.").into();
            Answer::failure(&failure, context.operation)
        }
    };
    answer.into_response(context, version < Version::HTTP_2)
}

/// The order of the stages.
async fn answer(
    door: &Door,
    context: &mut Context,
    parts: Parts,
    body: hyper::body::Incoming,
) -> Result<Answer, Failure> {
    head_size(&parts, door.config.max_head_bytes)?;
    let route = door.router.find(&parts.method, parts.uri.path());
    context.metrics = Arc::clone(route.metrics(&door.router));
    match route {
        Route::Operation(endpoint, labels) => {
            let endpoint = Arc::clone(endpoint);
            context.operation = Some(endpoint.operation);
            let labels = input::labels(&endpoint, labels);
            call(door, context, &endpoint, labels, parts, body).await
        }
        Route::Own(own) => {
            let own = Arc::clone(own);
            call_own(door, context, &own, parts, body).await
        }
        Route::Builtin(builtin) => builtin::answer(door, context, builtin, &parts),
        Route::Unknown(methods) => Err(unknown(&parts, &methods)),
    }
}

/// A call of a modelled operation.
async fn call(
    door: &Door,
    context: &mut Context,
    endpoint: &Endpoint,
    labels: Result<input::Labels, Error>,
    parts: Parts,
    body: hyper::body::Incoming,
) -> Result<Answer, Failure> {
    let operation = endpoint.operation;
    let pending = check_head(door, context, &parts)?;
    let Some(service) = &endpoint.service else {
        let text = format!(
            "{} is part of the AgentCore API, but not of this version of Eyot.",
            operation.name
        );
        return Err(Error::new(Kind::Unsupported, text).into());
    };
    admit(door, context)?;
    let config = &door.config;
    let allowance = match operation.payload {
        Some(payload) => Allowance {
            most: payload.max_bytes.unwrap_or(config.max_upload_bytes),
            in_memory: config.spool_memory_bytes,
            member: payload.member,
            may_stream: true,
        },
        None => Allowance {
            most: config.max_document_bytes,
            in_memory: config.max_document_bytes,
            member: "body",
            may_stream: false,
        },
    };
    let proven = prove(door, context, pending, body, allowance).await?;
    let document = match &proven.body {
        ProvenBody::Whole(spooled) if operation.payload.is_none() => spooled.bytes().cloned().unwrap_or_default(),
        _ => bytes::Bytes::new(),
    };
    let input = input::decode(operation, &labels?, &parts, &document)?;
    let (body, verdict) = match proven.body {
        ProvenBody::Whole(_) if operation.payload.is_none() => (full(bytes::Bytes::new()), None),
        other => other.into_incoming(),
    };
    let call = Call {
        operation,
        input,
        body,
        headers: parts.headers,
        caller: proven.caller,
        request_id: context.request_id,
        received: context.started,
    };
    let reply = service.call(call).await;
    blame(verdict.as_ref(), allowance.member)?;
    Answer::reply(operation, reply?)
}

/// A call below `/_eyot/` that a service answers.
async fn call_own(
    door: &Door,
    context: &mut Context,
    own: &Own,
    parts: Parts,
    body: hyper::body::Incoming,
) -> Result<Answer, Failure> {
    let pending = check_head(door, context, &parts)?;
    admit(door, context)?;
    let config = &door.config;
    let allowance = Allowance {
        most: config.max_upload_bytes,
        in_memory: config.spool_memory_bytes,
        member: "body",
        may_stream: true,
    };
    let proven = prove(door, context, pending, body, allowance).await?;
    let (path, query) = input::own(&parts)?;
    let (body, verdict) = proven.body.into_incoming();
    let call = OwnCall {
        method: parts.method,
        path,
        query,
        headers: parts.headers,
        body,
        caller: proven.caller,
        request_id: context.request_id,
    };
    let reply = own.service.call_own(call).await;
    blame(verdict.as_ref(), allowance.member)?;
    Ok(Answer::own(reply?))
}

/// Refuses a head that the protocol library let through but that is larger than allowed.
fn head_size(parts: &Parts, most: usize) -> Result<(), Failure> {
    let line = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if line + headers <= most {
        return Ok(());
    }
    let text = format!("The request's path and headers are larger than {most} bytes. Send fewer or shorter headers.");
    Err(Failure::Edge(Edge::HeadTooLarge, text))
}

/// Everything about the caller that the head can tell.
fn check_head<'p>(door: &Door, context: &mut Context, parts: &'p Parts) -> Result<Pending<'p>, Failure> {
    door.verifier
        .check_head(parts)
        .map_err(|refusal| refused(door, context, refusal))
}

fn refused(door: &Door, context: &Context, refusal: Refusal) -> Failure {
    door.metrics
        .refusals
        .get_or_create(&ReasonLabel { reason: refusal.code() })
        .inc();
    tracing::debug!(request_id = %context.request_id, code = refusal.code(), "a caller was refused");
    Error::from(refusal).into()
}

/// Whether there is room for one more call.
fn admit(door: &Door, context: &mut Context) -> Result<(), Failure> {
    if door.draining.load(Ordering::Acquire) {
        let text =
            "The server is stopping and takes no new work. Try again; another one, or its successor, will answer.";
        return Err(Error::new(Kind::Draining, text).into());
    }
    match door.admission.enter() {
        Some(ticket) => context.ticket = Some(ticket),
        None => return Err(busy("as many calls as it is allowed to work on at once")),
    }
    Ok(())
}

fn busy(with_what: &str) -> Failure {
    let text = format!("The server is busy with {with_what}. Try again in a moment.");
    Error::new(Kind::Throttled, text).into()
}

/// Takes in the body as far as the signature needs it, and compares the signature.
async fn prove(
    door: &Door,
    context: &mut Context,
    pending: Pending<'_>,
    body: hyper::body::Incoming,
    allowance: Allowance,
) -> Result<Proven, Failure> {
    let limits = Limits {
        bytes: allowance.most,
        stall: door.config.body_stall_timeout,
        total: Some(door.config.body_total_timeout),
    };
    let told = |fault| body_failure(&fault, allowance.member);
    let mut source = Source::new(body, limits).map_err(told)?;
    let declared = pending.payload();
    let refused = |context: &Context, refusal| refused(door, context, refusal);

    if let Payload::Declared(digest) = declared {
        let caller = pending.verify(&digest).map_err(|refusal| refused(context, refusal))?;
        context.access_key_id = Some(caller.access_key_id.clone());
        let is_small = source.promised().is_some_and(|size| size <= allowance.in_memory);
        if allowance.may_stream && !is_small {
            let (checked, verdict) = Checked::new(source.without_total(), digest);
            return Ok(Proven {
                caller,
                body: ProvenBody::Streaming(checked.boxed_unsync(), verdict),
            });
        }
        let spooled = take(door, &mut source, allowance).await?;
        context.unread = false;
        if spooled.digest != digest {
            return Err(body_failure(&crate::body::source::Fault::Digest, allowance.member));
        }
        return Ok(Proven {
            caller,
            body: ProvenBody::Whole(spooled),
        });
    }
    let spooled = take(door, &mut source, allowance).await?;
    context.unread = false;
    let caller = pending
        .verify(&spooled.digest)
        .map_err(|refusal| refused(context, refusal))?;
    context.access_key_id = Some(caller.access_key_id.clone());
    Ok(Proven {
        caller,
        body: ProvenBody::Whole(spooled),
    })
}

async fn take(door: &Door, source: &mut Source, allowance: Allowance) -> Result<Spooled, Failure> {
    let taken = spool::take(source, allowance.in_memory, &door.spool_dir, &door.admission).await;
    let spooled = taken.map_err(|error| match error {
        SpoolError::Client(fault) => body_failure(&fault, allowance.member),
        SpoolError::Busy => busy("request bodies that are being received"),
        SpoolError::Disk(error) => disk(door, &error),
    })?;
    door.metrics.spooled.inc_by(spooled.size);
    Ok(spooled)
}

/// The caller may be nobody that is known yet, so where bodies are kept and what the system said is for the log alone.
fn disk(door: &Door, error: &std::io::Error) -> Failure {
    let dir = door.spool_dir.display();
    tracing::error!(%dir, %error, "cannot spool a request body");
    let text = if error.kind() == std::io::ErrorKind::StorageFull {
        "The server could not write the request body: no space left on its disk. Its log says which; free some there."
    } else {
        "The server could not write the request body to its disk; its log says why."
    };
    Error::internal(text).into()
}

/// If the client's body broke off on its way to the service, that is the answer, whatever the service made of it.
fn blame(verdict: Option<&Verdict>, member: &str) -> Result<(), Failure> {
    verdict
        .and_then(|verdict| verdict.get())
        .map_or(Ok(()), |fault| Err(body_failure(fault, member)))
}

/// No route: a hint for whoever has credentials, AWS's gateway's words for whoever has none.
fn unknown(parts: &Parts, methods: &[&http::Method]) -> Failure {
    let signed = parts.headers.contains_key(http::header::AUTHORIZATION)
        || parts.uri.query().is_some_and(|query| query.contains("X-Amz-"));
    if !signed {
        return Failure::Edge(Edge::MissingToken, "Missing Authentication Token".to_owned());
    }
    let path: String = parts.uri.path().chars().take(200).collect();
    let hint = if methods.is_empty() {
        " An ARN in a path is best written percent-encoded.".to_owned()
    } else {
        let names: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
        format!(" That path takes {}.", names.join(", "))
    };
    Failure::Edge(
        Edge::UnknownOperation,
        format!("There is no operation {} {path}.{hint}", parts.method),
    )
}

impl ProvenBody {
    fn into_incoming(self) -> (Incoming, Option<Verdict>) {
        match self {
            Self::Whole(spooled) => (spooled.into_body(), None),
            Self::Streaming(body, verdict) => (body, Some(verdict)),
        }
    }
}
