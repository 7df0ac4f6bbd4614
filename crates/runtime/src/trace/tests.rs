use super::*;
use crate::metrics::{Metrics, SpanLoss};
use crate::session::testing::{Agent, Rig, call_with, healthy, key, status, streamed};
use domain::{Clock, Kind};
use front_door::body;
use front_door::service::{Call, Reply};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::sync::mpsc::Receiver;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A server of sessions whose calls are traced, and what its agent was told of the trace.
struct Bed {
    rig: Rig,
    tracer: Tracer,
    queue: Receiver<Invocation>,
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

impl Bed {
    fn new(share: f64, queue: usize) -> Self {
        let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let record = Arc::clone(&seen);
        let agent = Agent::http(move |request: Request<Incoming>| {
            let told = request.headers().get("traceparent");
            record
                .lock()
                .unwrap()
                .push(told.map(|value| value.to_str().unwrap().to_owned()));
            async move {
                let payload = request.into_body().collect().await.unwrap().to_bytes();
                if payload == "fail" {
                    status(500, "my own words")
                } else {
                    healthy()
                }
            }
        });
        let rig = Rig::new(agent);
        let settings = Settings {
            share,
            queue,
            clock: Clock::system(),
            metrics: Arc::clone(&rig.metrics),
        };
        let (tracer, queue) = Tracer::new(settings);
        Self {
            rig,
            tracer,
            queue,
            seen,
        }
    }

    /// As the service does it; the reply is not read.
    async fn begin(&self, input: Value, payload: &'static str) -> Result<Reply, Error> {
        let call = named(input, payload);
        let mut trace = Recording::begin(Some(&self.tracer), &call);
        let reply = self.rig.invoker.invoke(call, self.rig.target.clone(), &mut trace).await;
        reply.inspect_err(|error| trace.failed(error))
    }

    async fn ask(&self, input: Value, payload: &'static str) -> Result<(), Error> {
        let (_, body) = streamed(self.begin(input, payload).await?);
        body.collect().await.unwrap();
        Ok(())
    }

    fn finished(&mut self) -> Invocation {
        self.queue.try_recv().expect("a call has been recorded")
    }
}

fn named(mut input: Value, payload: &'static str) -> Call {
    input["runtimeSessionId"] = key("a").session.as_str().into();
    let mut call = call_with(input, body::full(payload));
    call.request_id = Uuid::new_v4();
    call
}

fn parent(flags: &str) -> Value {
    json!({"traceParent": format!("00-{TRACE}-{SPAN}-{flags}"), "traceState": "k=v"})
}

#[tokio::test]
async fn a_call_that_starts_its_session_is_recorded_with_every_step() {
    let mut bed = Bed::new(0.0, 8);
    bed.ask(parent("01"), "{}").await.unwrap();
    let call = bed.finished();
    assert_eq!(
        call.context.trace,
        TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap().trace
    );
    assert_eq!(call.parent.unwrap().to_bytes()[0], 0xb7);
    assert_eq!(call.state.as_deref(), Some("k=v"));
    assert_eq!((&call.outcome, call.answering), (&Outcome::Answered, true));
    assert_eq!(call.target.as_ref().unwrap().session, key("a").session);
    let [start] = &call.starts[..] else {
        panic!("one start: {call:?}")
    };
    let names: Vec<_> = start.steps.iter().map(|times| times.step.name()).collect();
    assert_eq!(
        names,
        ["queue", "prepare", "sandbox", "process", "healthy", "first_byte"]
    );
    assert!(!start.warm && start.error.is_none() && start.sandbox.is_some());
    for pair in start.steps.windows(2) {
        assert!(
            pair[0].from <= pair[0].to && pair[0].to <= pair[1].from,
            "{:?}",
            start.steps
        );
    }
    assert_eq!(start.steps[5].to, start.took);
    assert!(start.took <= call.took);
    assert_eq!(call.spans(), 8);
    let told = bed.seen.lock().unwrap()[0].clone().unwrap();
    assert_eq!(told, call.context.to_string());
    assert!(told.starts_with(&format!("00-{TRACE}-")) && !told.contains(SPAN));

    bed.ask(parent("01"), "{}").await.unwrap();
    assert_eq!(bed.finished().spans(), 1, "the second call of a session starts nothing");
}

#[tokio::test]
async fn whoever_does_not_sample_is_not_recorded_and_passed_on_untouched() {
    let mut bed = Bed::new(1.0, 8);
    bed.ask(parent("00"), "{}").await.unwrap();
    assert!(bed.queue.try_recv().is_err());
    let told = bed.seen.lock().unwrap()[0].clone();
    assert_eq!(told.as_deref(), parent("00")["traceParent"].as_str());
}

#[tokio::test]
async fn of_calls_without_a_trace_a_share_is_recorded() {
    for (share, recorded) in [(0.0, 0..=0), (1.0, 2000..=2000), (0.25, 350..=650)] {
        let (tracer, mut queue) = Tracer::new(Settings {
            share,
            queue: 2000,
            clock: Clock::system(),
            metrics: Arc::default(),
        });
        for input in [json!({}), json!({"traceParent": "00-a-b-01"})] {
            for _ in 0..1000 {
                drop(Recording::begin(Some(&tracer), &named(input.clone(), "")));
            }
        }
        let mut count = 0;
        while let Ok(call) = queue.try_recv() {
            assert_eq!(call.parent, None);
            assert_eq!(call.context.trace.to_bytes(), call.request_id.into_bytes());
            count += 1;
        }
        assert!(recorded.contains(&count), "{share}: {count}");
    }
}

#[tokio::test]
async fn without_a_tracer_nothing_changes() {
    let bed = Bed::new(1.0, 8);
    let call = named(parent("01"), "{}");
    let mut trace = Recording::begin(None, &call);
    let reply = bed.rig.invoker.invoke(call, bed.rig.target.clone(), &mut trace).await;
    streamed(reply.unwrap()).1.collect().await.unwrap();
    let told = bed.seen.lock().unwrap()[0].clone();
    assert_eq!(told.as_deref(), parent("01")["traceParent"].as_str());
}

#[tokio::test]
async fn a_failure_is_recorded_without_what_the_agent_said() {
    let mut bed = Bed::new(1.0, 8);
    bed.rig.target.switches = Arc::new(crate::switches::Switches {
        agent_errors: Some(true),
        ..Default::default()
    });
    let told = bed.ask(json!({}), "fail").await.unwrap_err();
    assert!(told.detail.is_some(), "its caller is told");
    let call = bed.finished();
    let Outcome::Failed(error) = &call.outcome else {
        panic!("{call:?}")
    };
    assert_eq!((&error.kind, &error.detail), (&Kind::Agent, &None));
    assert!(!call.answering);
    let steps = &call.starts[0].steps;
    assert_eq!(steps.last().unwrap().step, Step::Healthy, "no answer, no first byte");
}

#[tokio::test]
async fn a_start_that_fails_is_recorded_as_far_as_it_got() {
    let mut agent = Agent::echo();
    agent.cannot_start = Some(|| sandbox::Error::Artifact("no such program".to_owned()));
    let mut bed = Bed::new(1.0, 8);
    bed.rig.driver.runs(agent);
    bed.ask(json!({}), "{}").await.unwrap_err();
    let call = bed.finished();
    let start = &call.starts[0];
    let error = start.error.as_ref().unwrap();
    assert!(error.message.contains("no such program"));
    let names: Vec<_> = start.steps.iter().map(|times| times.step.name()).collect();
    assert_eq!(names, ["queue", "prepare"]);
}

#[tokio::test]
async fn a_caller_that_leaves_is_recorded_as_such() {
    let mut bed = Bed::new(1.0, 8);
    let reply = bed.begin(json!({}), "{}").await.unwrap();
    drop(reply);
    let call = bed.finished();
    assert_eq!((call.outcome, call.answering), (Outcome::Left, true));
    let unsent = Recording::begin(Some(&bed.tracer), &named(json!({}), ""));
    drop(unsent);
    let call = bed.finished();
    assert_eq!((call.outcome, call.answering), (Outcome::Left, false));
}

#[tokio::test]
async fn a_full_queue_loses_spans_and_counts_them() {
    let mut bed = Bed::new(1.0, 1);
    for _ in 0..3 {
        bed.ask(json!({}), "{}").await.unwrap();
    }
    assert_eq!(bed.rig.metrics.lost_spans(SpanLoss::QueueFull), 2);
    assert_eq!(bed.finished().spans(), 8, "the first was kept");
    assert!(bed.queue.try_recv().is_err());
}

#[tokio::test]
async fn nobody_who_takes_spans_is_no_hindrance() {
    let bed = Bed::new(1.0, 4);
    drop(bed.queue);
    let call = named(json!({}), "{}");
    drop(Recording::begin(Some(&bed.tracer), &call));
    assert_eq!(bed.rig.metrics.lost_spans(SpanLoss::QueueFull), 1);
}

#[test]
fn metrics_are_named_as_promised() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    metrics.spans_exported(3);
    metrics.spans_dropped(SpanLoss::Undeliverable, 2);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("eyot_trace_spans_exported_total 3"), "{text}");
    assert!(
        text.contains(r#"eyot_trace_spans_dropped_total{reason="undeliverable"} 2"#),
        "{text}"
    );
}
