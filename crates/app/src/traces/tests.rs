use super::*;
use bytes::Bytes;
use domain::trace::{SpanId, TraceId};
use domain::{Error, Kind, RuntimeArn, TraceParent};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prometheus_client::registry::Registry;
use runtime::deployment::Deployment;
use runtime::metrics::Step;
use runtime::trace::{Outcome, Start, StepTimes, Target};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const BEGUN: &str = "2026-11-25T12:00:00Z";

fn call() -> Invocation {
    let trace = TraceId::new(7).unwrap();
    Invocation {
        context: TraceParent::first(trace),
        parent: SpanId::new(5),
        state: Some("k=v".to_owned()),
        request_id: uuid::Uuid::from_u128(7),
        begun: BEGUN.parse().unwrap(),
        took: Duration::from_millis(250),
        target: Some(target()),
        starts: Vec::new(),
        answering: true,
        outcome: Outcome::Answered,
    }
}

fn target() -> Target {
    let arn = RuntimeArn {
        region: domain::id::Region::parse("us-west-2").unwrap(),
        account: domain::id::AccountId::parse("123456789012").unwrap(),
        id: domain::id::RuntimeId::parse("agent-0123456789").unwrap(),
    };
    let deployment = serde_json::json!({
        "arn": arn, "name": "agent", "version": domain::id::Version::FIRST, "package": "/package", "port": 8080,
        "path": "/invocations", "idle_timeout": Duration::ZERO, "max_lifetime": Duration::ZERO, "header_allowlist": [],
    });
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    Target {
        endpoint: domain::id::EndpointName::default_endpoint(),
        deployment: Arc::new(deployment),
        session: domain::id::SessionId::parse(&"s".repeat(33)).unwrap(),
    }
}

fn started(error: Option<Error>) -> Start {
    let at = Duration::from_millis;
    let step = |step, from, to| StepTimes {
        step,
        from: at(from),
        to: at(to),
    };
    Start {
        begun: BEGUN.parse().unwrap(),
        took: at(100),
        warm: false,
        sandbox: None,
        steps: vec![step(Step::Queue, 0, 1), step(Step::Healthy, 1, 100)],
        error,
    }
}

/// The spans of a call, as a collector reads them.
fn seen(call: Invocation) -> Vec<Span> {
    let source = Source {
        service: "eyot".to_owned(),
        node: "node-1".to_owned(),
    };
    let count = call.spans();
    let bytes = spans::request(&source, &[call]).encode_to_vec();
    let mut request = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
    let spans = request.resource_spans.remove(0).scope_spans.remove(0).spans;
    assert_eq!(spans.len(), count, "as many as are counted when they are lost");
    spans
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let written = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    let all = span.attributes.iter();
    all.map(|pair| {
        let value = pair.value.as_ref().unwrap().value.as_ref().unwrap();
        (pair.key.as_str(), written(value))
    })
    .collect()
}

#[test]
fn a_call_is_a_server_span_with_the_conventions_names() {
    let call = call();
    let own = call.context.span.to_bytes();
    let [span] = &seen(call)[..] else { panic!("one span") };
    assert_eq!(
        (span.name.as_str(), span.kind()),
        ("InvokeAgentRuntime", SpanKind::Server)
    );
    assert_eq!(span.trace_id, [&[0; 15][..], &[7]].concat());
    assert_eq!(
        (&span.span_id[..], &span.parent_span_id[..]),
        (&own[..], &[0, 0, 0, 0, 0, 0, 0, 5][..])
    );
    assert_eq!((span.trace_state.as_str(), span.flags), ("k=v", 0x301));
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 250_000_000);
    assert_eq!(span.start_time_unix_nano, 1_795_608_000_000_000_000);
    assert_eq!(span.status, None);
    let expected = [
        ("aws.account.id", "123456789012"),
        ("aws.agent.id", "agent-0123456789"),
        ("aws.endpoint.name", "DEFAULT"),
        ("aws.operation.name", "InvokeAgentRuntime"),
        ("aws.region", "us-west-2"),
        ("aws.request_id", "00000000-0000-0000-0000-000000000007"),
        (
            "aws.resource.arn",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/agent-0123456789",
        ),
        ("eyot.runtime.version", "1"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("http.route", "/runtimes/{agentRuntimeArn}/invocations"),
        ("latency_ms", "250"),
        ("rpc.method", "InvokeAgentRuntime"),
        ("rpc.service", "bedrock-agentcore"),
        ("rpc.system", "aws-api"),
        ("session.id", &"s".repeat(33)),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key, value.to_owned())).into();
    assert_eq!(attributes(span), expected);
}

#[test]
fn every_end_of_a_call_is_told_apart() {
    let failed = |kind| Outcome::Failed(Box::new(Error::new(kind, "because")));
    let (agent, caller, system) = (failed(Kind::Agent), failed(Kind::NotFound), failed(Kind::Internal));
    for (outcome, answering, code, name, class, bad) in [
        (agent, false, "424", "RuntimeClientError", "user", true),
        (caller, false, "404", "ResourceNotFoundException", "user", false),
        (
            failed(Kind::Throttled),
            false,
            "429",
            "ThrottlingException",
            "throttle",
            false,
        ),
        (system, false, "500", "InternalServerException", "system", true),
        (
            Outcome::BrokeOff("because".to_owned()),
            true,
            "200",
            "answer_broke_off",
            "user",
            true,
        ),
        (Outcome::Left, true, "200", "caller_left", "user", false),
        (Outcome::Left, false, "", "caller_left", "user", false),
    ] {
        let mut call = call();
        (call.outcome, call.answering, call.target) = (outcome, answering, None);
        let span = &seen(call)[0];
        let attributes = attributes(span);
        let get = |key| attributes.get(key).map_or("", String::as_str);
        let got = (get("http.response.status_code"), get("error.type"), get("error_type"));
        assert_eq!(got, (code, name, class));
        let status = span
            .status
            .as_ref()
            .map(|status| (status.code(), status.message.as_str()));
        assert_eq!(status, bad.then_some((StatusCode::Error, "because")), "{name}");
    }
}

#[test]
fn a_start_stands_below_its_call_and_its_steps_below_it() {
    let mut call = call();
    call.starts = vec![started(Some(Error::agent("it would not")))];
    let spans = seen(call);
    let [top, start, queue, healthy] = &spans[..] else {
        panic!("{spans:?}")
    };
    let names = [start, queue, healthy].map(|span| span.name.as_str());
    assert_eq!(names, ["session start", "queue", "healthy"]);
    assert_eq!(start.parent_span_id, top.span_id);
    for step in [queue, healthy] {
        assert_eq!((&step.parent_span_id, &step.trace_id), (&start.span_id, &top.trace_id));
        assert_eq!(step.flags, 0x101, "its parent is here");
    }
    assert_eq!(queue.end_time_unix_nano, healthy.start_time_unix_nano);
    assert_eq!(healthy.end_time_unix_nano, start.end_time_unix_nano);
    assert_eq!(attributes(start)["error.type"], "RuntimeClientError");
    assert_eq!(start.status.as_ref().unwrap().message, "it would not");
}

/// What a collector does with a request.
#[derive(Clone, Copy)]
enum Does {
    Take,
    Answer(u16),
    Reject(i64),
    Hang,
}

/// A collector that does one thing after the other, and the last one for ever.
struct Bed {
    exporter: Exporter,
    queue: mpsc::Sender<Invocation>,
    registry: Registry,
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Bed {
    async fn new(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (requests, peers): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let (seen, met) = (Arc::clone(&requests), Arc::clone(&peers));
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                met.lock().unwrap().push(peer);
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request: Request<Incoming>| serve(script, Arc::clone(&seen), request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self::to(&url, requests, peers)
    }

    fn to(url: &str, requests: Arc<Mutex<Vec<Request<Bytes>>>>, peers: Arc<Mutex<Vec<SocketAddr>>>) -> Self {
        let mut registry = Registry::default();
        let (queue, receiver) = mpsc::channel(QUEUE);
        let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer key".parse().unwrap())]);
        let collector = Collector::new(url.parse().unwrap(), headers, None, Duration::from_secs(2));
        let task = Task {
            queue: receiver,
            collector: collector.unwrap(),
            source: Source {
                service: "eyot".to_owned(),
                node: "node-1".to_owned(),
            },
            metrics: Arc::new(Metrics::register(&mut registry)),
            complained: None,
            lost: 0,
        };
        Self {
            exporter: task.start(),
            queue,
            registry,
            requests,
            peers,
        }
    }

    async fn put(&self, calls: usize) {
        for _ in 0..calls {
            self.queue.send(call()).await.unwrap();
        }
    }

    /// Stops, and answers what the collector saw and what was counted.
    async fn stop(self) -> (usize, String) {
        self.exporter.stop(Duration::from_secs(10)).await;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let counted: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("eyot_trace_spans_"))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        (self.requests.lock().unwrap().len(), counted.join(", "))
    }
}

async fn serve(
    script: &'static [Does],
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(Request::from_parts(head, body));
        seen.len()
    };
    let partial_success = match script[(number - 1).min(script.len() - 1)] {
        Does::Take => None,
        Does::Answer(status) => {
            return Ok(Response::builder().status(status).body(Full::default()).unwrap());
        }
        Does::Reject(rejected_spans) => Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "too old".to_owned(),
        }),
        Does::Hang => std::future::pending().await,
    };
    let answer = ExportTraceServiceResponse { partial_success };
    Ok(Response::new(answer.encode_to_vec().into()))
}

#[tokio::test]
async fn what_becomes_of_batches() {
    for (script, requests, counted) in [
        (&[Does::Take][..], 1, "exported_total 3"),
        (&[Does::Answer(400)], 1, r#"dropped_total{reason="undeliverable"} 3"#),
        (&[Does::Answer(302)], 1, r#"dropped_total{reason="undeliverable"} 3"#),
        (
            &[Does::Answer(503), Does::Answer(429), Does::Take],
            3,
            "exported_total 3",
        ),
        (&[Does::Hang], 1, r#"dropped_total{reason="undeliverable"} 3"#),
        (
            &[Does::Reject(1)],
            1,
            r#"exported_total 2, dropped_total{reason="rejected"} 1"#,
        ),
        (&[Does::Reject(99)], 1, r#"dropped_total{reason="rejected"} 3"#),
        (&[Does::Reject(-1)], 1, "exported_total 3"),
    ] {
        let bed = Bed::new(script).await;
        bed.put(3).await;
        assert_eq!(bed.stop().await, (requests, counted.to_owned()));
    }
}

#[tokio::test]
async fn a_request_is_what_otlp_says() {
    let bed = Bed::new(&[Does::Take]).await;
    bed.put(1).await;
    let requests = Arc::clone(&bed.requests);
    bed.stop().await;
    let request = requests.lock().unwrap().remove(0);
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("POST", "/v1/traces")
    );
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    assert_eq!(request.headers()["authorization"], "Bearer key");
    assert!(request.headers()["host"].to_str().unwrap().starts_with("127.0.0.1:"));
    let mut sent = ExportTraceServiceRequest::decode(request.into_body()).unwrap();
    let spans = sent.resource_spans.remove(0);
    let resource = spans.resource.unwrap().attributes;
    let keys: Vec<&str> = resource.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version", "service.instance.id"]);
}

#[tokio::test]
async fn calls_go_together_and_over_one_connection() {
    let bed = Bed::new(&[Does::Take]).await;
    bed.put(BATCH * 2 + 1).await;
    let peers = Arc::clone(&bed.peers);
    let (requests, counted) = bed.stop().await;
    assert_eq!((requests, counted.as_str()), (3, "exported_total 513"));
    assert_eq!(peers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_counted() {
    // Nothing listens on port 1 of loopback.
    let bed = Bed::to("http://127.0.0.1:1/v1/traces", Arc::default(), Arc::default());
    bed.put(2).await;
    let (_, counted) = bed.stop().await;
    assert_eq!(counted, r#"dropped_total{reason="undeliverable"} 2"#);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_collector_that_hangs() {
    let bed = Bed::new(&[Does::Hang]).await;
    bed.put(1).await;
    let began = Instant::now();
    bed.exporter.stop(Duration::from_millis(100)).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn without_an_endpoint_there_is_no_tracer() {
    let metrics = Arc::default();
    let made = start(Config::default(), "node".to_owned(), Clock::system(), &metrics).unwrap();
    assert!(made.is_none());
}
