//! One request through all stages; [`answer`] is the one place where their order is written.
//!
//! ```text
//! route -> authenticate the head -> admit -> take in the body -> verify -> decode -> authorize -> service
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
mod authenticate;
mod builtin;
mod input;
mod prove;
mod sts;
mod unsupported;

pub(crate) use answer::AnswerBody;

use crate::admit::Admission;
use crate::auth::{Pending, Refusal, Service as SignedFor, Shown, Verifier};
use crate::authorize::Authority;
use crate::body::checked::Verdict;
use crate::body::full;
use crate::config::Config;
use crate::context::Context;
use crate::cors::{self, Grant};
use crate::error::{Dialect, Edge, Failure, body_failure};
use crate::forwarded::Origin;
use crate::metrics::{Metrics, ReasonLabel};
use crate::route::{Endpoint, Own, Route, Router};
use crate::server::Readiness;
use crate::server::connection::Wire;
use crate::server::watch::Busy;
use crate::service::{Call, Head, OwnCall};
use answer::Answer;
use authenticate::Proof;
use domain::{Error, Kind};
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use prometheus_client::registry::Registry;
use prove::{Allowance, ProvenBody, prove};
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
    pub(crate) tokens: oauth::Providers,
    pub(crate) authority: Authority,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Arc<Registry>,
    pub(crate) readiness: Readiness,
    /// The server is stopping.
    pub(crate) draining: AtomicBool,
    /// Whether clients reach this server over TLS of its own.
    pub(crate) is_secure: bool,
}

/// Answers one request; never fails, whatever happens inside.
pub(crate) async fn serve(
    door: &Door,
    busy: Busy,
    peer: SocketAddr,
    wire: Wire,
    request: Request<hyper::body::Incoming>,
) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let origin = match wire {
        Wire::Own => Origin::of(peer, door.is_secure, &parts.headers, &door.config.trusted_proxies),
        Wire::Inside => Origin::of(peer, true, &parts.headers, &[]),
    };
    let mut context = Context::new(parts.method.clone(), origin, busy, Arc::clone(door.router.unknown()));
    context.unread = !body.is_end_stream();
    context.inside = wire == Wire::Inside;
    let outcome = AssertUnwindSafe(answer(door, &mut context, parts, body))
        .catch_unwind()
        .await;
    let answer = match outcome {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => Answer::failure(&failure, &context),
        Err(_panic) => {
            // The panic hook has written the message and the place.
            door.metrics.panics.inc();
            tracing::error!(request_id = %context.request_id, operation = context.metrics.name, "a request panicked");
            let failure = Error::internal("The server made an error. Its log has this request's id.").into();
            Answer::failure(&failure, &context)
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
    if let Some(preflight) = share(door, context, &parts) {
        return Ok(preflight);
    }
    let route = door.router.find(&parts.method, parts.uri.path(), parts.uri.query());
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
        Route::Sts(own) => {
            let own = Arc::clone(own);
            context.dialect = Dialect::Sts;
            sts::call(door, context, &own, parts, body).await
        }
        Route::Builtin(builtin) => builtin::answer(door, context, builtin, &parts).await,
        Route::Metadata(endpoint, labels) => {
            let endpoint = Arc::clone(endpoint);
            let labels = input::labels(&endpoint, labels)?;
            builtin::metadata(door, context, &endpoint, Head::new(&labels, parts.uri.query()), &parts).await
        }
        Route::Unknown(methods) => Err(unknown(&parts, &methods)),
    }
}

/// Gives the page that a request comes from leave to read the answer; answers at once if the page only asks.
fn share(door: &Door, context: &mut Context, parts: &Parts) -> Option<Answer> {
    let grant = Grant::of(&parts.headers, &door.config.cors_origins)?;
    if !door.router.is_data(parts.uri.path()) {
        return None;
    }
    context.cors = Some(grant);
    cors::is_preflight(parts).then(|| Answer::empty(StatusCode::NO_CONTENT, cors::preflight(parts)))
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
    let shown = shown(door, context, &parts).await?;
    let head = Head::new(labels.as_deref().unwrap_or_default(), parts.uri.query());
    let service = endpoint.service.as_ref();
    let authorizer = service.and_then(|service| service.authorizer(operation, head));
    let proof = authenticate::check(door, context, &parts, &shown, head, authorizer.as_deref()).await?;
    let Some(service) = service else {
        return unsupported::refuse(door, context, operation, head, &parts, proof, body).await;
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
    let proven = prove(door, context, proof, body, allowance).await?;
    let document = match &proven.body {
        ProvenBody::Whole(spooled) if operation.payload.is_none() => spooled.bytes().cloned().unwrap_or_default(),
        _ => bytes::Bytes::new(),
    };
    let input = input::decode(operation, &labels?, &parts, &document)?;
    let access = service.access(operation, &input);
    door.authority
        .decide(context, &proven.caller, &parts.headers, &access)
        .await?;
    let (body, verdict) = match proven.body {
        ProvenBody::Whole(_) if operation.payload.is_none() => (full(bytes::Bytes::new()), None),
        other => other.into_incoming(),
    };
    let call = Call {
        operation,
        input,
        body,
        headers: parts.headers,
        caller: proven.caller.principal,
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
    let shown = shown(door, context, &parts).await?;
    let pending = check_head(door, context, &parts, &shown, SignedFor::AgentCore).await?;
    admit(door, context)?;
    let config = &door.config;
    let allowance = Allowance {
        most: config.max_upload_bytes,
        in_memory: config.spool_memory_bytes,
        member: "body",
        may_stream: true,
    };
    let proven = prove(door, context, Proof::Signed(pending), body, allowance).await?;
    let (path, query) = input::own(&parts)?;
    let (body, verdict) = proven.body.into_incoming();
    let call = OwnCall {
        method: parts.method,
        path,
        query,
        headers: parts.headers,
        body,
        caller: Arc::clone(&proven.caller.principal),
        request_id: context.request_id,
    };
    let access = own.service.own_access(&call)?;
    door.authority
        .decide(context, &proven.caller, &call.headers, &access)
        .await?;
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

/// What the head shows for its sender.
async fn shown<'p>(door: &Door, context: &Context, parts: &'p Parts) -> Result<Shown<'p>, Failure> {
    match Shown::of(parts) {
        Ok(shown) => Ok(shown),
        Err(refusal) => Err(refused(door, context, refusal).await),
    }
}

/// Everything about the signer that the head can tell.
async fn check_head<'p>(
    door: &Door,
    context: &Context,
    parts: &'p Parts,
    shown: &'p Shown<'p>,
    service: SignedFor,
) -> Result<Pending<'p>, Failure> {
    match door.verifier.check_head(parts, shown, service) {
        Ok(pending) => Ok(pending),
        Err(refusal) => Err(refused(door, context, refusal).await),
    }
}

async fn refused(door: &Door, context: &Context, refusal: Refusal) -> Failure {
    door.metrics
        .refusals
        .get_or_create(&ReasonLabel { reason: refusal.code() })
        .inc();
    tracing::debug!(request_id = %context.request_id, code = refusal.code(), "a caller was refused");
    door.authority.refused(context, refusal.code()).await;
    Failure::Refused(refusal)
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
