//! What a call looks like in a trace: the names of spans and attributes, listed in SPECIFICATION.md.
//!
//! Attributes have the names of OpenTelemetry's semantic conventions where they have any, and beside them those of the
//! spans that AWS makes of the same calls, so that a query written for one finds the other.

use api::operations::INVOKE_AGENT_RUNTIME;
use domain::error::Origin;
use domain::trace::SpanId;
use domain::{Error, Kind, TraceParent};
use jiff::{SignedDuration, Timestamp};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use runtime::trace::{Invocation, Outcome, Start, Target};
use std::time::Duration;

const OPERATION: &api::Operation = INVOKE_AGENT_RUNTIME;
const START: &str = "session start";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who the spans are from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// `service.name`.
    pub(super) service: String,
    /// The node's name, the same for every server process of one data directory.
    pub(super) node: String,
}

/// A batch as the collector takes it.
pub(super) fn request(source: &Source, batch: &[Invocation]) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", &source.service),
            text("service.version", VERSION),
            text("service.instance.id", &source.node),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "eyot".to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: batch.iter().flat_map(spans).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// The spans of one call.
fn spans(call: &Invocation) -> Vec<Span> {
    let mut all = vec![invocation(call)];
    for start in &call.starts {
        let id = SpanId::random();
        all.push(session_start(call, start, id));
        for times in &start.steps {
            let step = span(call, times.step.name(), SpanId::random(), id);
            all.push(lasting(step, start.begun, times.from, times.to));
        }
    }
    all
}

fn invocation(call: &Invocation) -> Span {
    let Ending {
        code,
        name,
        class,
        status,
    } = Ending::of(call);
    let mut attributes = vec![
        text("rpc.system", "aws-api"),
        text("rpc.service", "bedrock-agentcore"),
        text("rpc.method", OPERATION.name),
        text("http.request.method", OPERATION.method),
        text("http.route", OPERATION.uri),
        text("aws.operation.name", OPERATION.name),
        text("aws.request_id", &call.request_id.to_string()),
        number("latency_ms", call.took.as_millis()),
    ];
    attributes.extend(call.target.iter().flat_map(of_target));
    attributes.extend(code.map(|code| number("http.response.status_code", code.into())));
    attributes.extend(name.map(|name| text("error.type", name)));
    attributes.extend(class.map(|class| text("error_type", class)));
    let parent = call.parent.map(|parent| parent.to_bytes().to_vec());
    let span = Span {
        parent_span_id: parent.unwrap_or_default(),
        flags: flags(call.context, call.parent.is_some()),
        kind: SpanKind::Server.into(),
        attributes,
        status,
        ..span(call, OPERATION.name, call.context.span, call.context.span)
    };
    lasting(span, call.begun, Duration::ZERO, call.took)
}

fn session_start(call: &Invocation, start: &Start, id: SpanId) -> Span {
    let mut attributes = vec![flag("eyot.session.warm", start.warm)];
    attributes.extend(call.target.iter().map(|t| text("session.id", t.session.as_str())));
    attributes.extend(start.sandbox.iter().map(|id| text("eyot.sandbox.id", id.as_str())));
    attributes.extend(start.error.iter().map(|error| text("error.type", exception(error).0)));
    let span = Span {
        attributes,
        status: start.error.as_ref().map(|error| wrong(&error.message)),
        ..span(call, START, id, call.context.span)
    };
    lasting(span, start.begun, Duration::ZERO, start.took)
}

fn of_target(target: &Target) -> Vec<KeyValue> {
    let arn = &target.deployment.arn;
    vec![
        text("aws.resource.arn", &arn.to_string()),
        text("aws.agent.id", arn.id.as_str()),
        text("aws.endpoint.name", target.endpoint.as_str()),
        text("aws.account.id", arn.account.as_str()),
        text("aws.region", arn.region.as_str()),
        text("session.id", target.session.as_str()),
        text("eyot.runtime.version", &target.deployment.version.to_string()),
    ]
}

/// How a call ended, as a span says it.
struct Ending {
    /// The status that went out, if one did.
    code: Option<u16>,
    /// What the failure is called.
    name: Option<&'static str>,
    /// AWS's coarse name for it.
    class: Option<&'static str>,
    status: Option<Status>,
}

impl Ending {
    fn of(call: &Invocation) -> Self {
        let code = call.answering.then_some(OPERATION.status);
        match &call.outcome {
            Outcome::Answered => Self {
                code,
                name: None,
                class: None,
                status: None,
            },
            Outcome::Failed(error) => {
                let (name, code) = exception(error);
                // A caller's own mistake is no error of the server's span, say the conventions.
                let bad = error.origin() != Origin::Caller;
                Self {
                    code: Some(code),
                    name: Some(name),
                    class: Some(class(error)),
                    status: bad.then(|| wrong(&error.message)),
                }
            }
            Outcome::BrokeOff(said) => Self {
                code,
                name: Some("answer_broke_off"),
                class: Some("user"),
                status: Some(wrong(said)),
            },
            Outcome::Left => Self {
                code,
                name: Some("caller_left"),
                class: Some("user"),
                status: None,
            },
        }
    }
}

/// The exception that the caller got, and its status.
fn exception(error: &Error) -> (&'static str, u16) {
    let (name, status) = front_door::exception(&error.kind, Some(OPERATION));
    (name, status.as_u16())
}

/// AWS tells apart three: what was too much, what was its own fault, and what was its caller's or the agent's.
fn class(error: &Error) -> &'static str {
    match (&error.kind, error.origin()) {
        (Kind::Throttled, _) => "throttle",
        (_, Origin::Platform) => "system",
        (_, Origin::Caller | Origin::Agent) => "user",
    }
}

/// A span below another one of ours.
fn span(call: &Invocation, name: &str, id: SpanId, parent: SpanId) -> Span {
    Span {
        trace_id: call.context.trace.to_bytes().to_vec(),
        span_id: id.to_bytes().to_vec(),
        trace_state: call.state.clone().unwrap_or_default(),
        parent_span_id: parent.to_bytes().to_vec(),
        flags: flags(call.context, false),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        ..Span::default()
    }
}

fn lasting(span: Span, since: Timestamp, from: Duration, to: Duration) -> Span {
    Span {
        start_time_unix_nano: nanoseconds(since, from),
        end_time_unix_nano: nanoseconds(since, to),
        ..span
    }
}

fn nanoseconds(since: Timestamp, by: Duration) -> u64 {
    let by = SignedDuration::try_from(by).unwrap_or_default();
    let at = since.saturating_add(by).unwrap_or(since);
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// The flags of the trace, and whether the parent is another server's span.
fn flags(context: TraceParent, remote: bool) -> u32 {
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    let remote = if remote {
        SpanFlags::ContextIsRemoteMask as u32
    } else {
        0
    };
    u32::from(context.flags()) | known | remote
}

fn wrong(message: &str) -> Status {
    Status {
        message: message.to_owned(),
        code: StatusCode::Error.into(),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u128) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
