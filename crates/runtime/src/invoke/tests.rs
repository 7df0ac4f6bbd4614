use super::*;
use crate::session::testing::{Agent, CRASH, Rig, call, call_with, chunk, config, healthy, key, status, streamed};
use crate::session::{Config, Phase};
use crate::switches::Switches;
use crate::trace::Recording;
use bytes::Bytes;
use domain::Origin;
use front_door::body::{self, BodyError, Outgoing};
use http::Response;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming as AgentIncoming;
use serde_json::json;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

type Seen = Arc<Mutex<Vec<Request<()>>>>;

/// An agent that remembers the heads of its invocations and answers by `answer`.
fn recording(answer: fn() -> Response<Outgoing>) -> (Agent, Seen) {
    let seen: Seen = Arc::default();
    let record = Arc::clone(&seen);
    let agent = Agent::http(move |request: Request<AgentIncoming>| {
        let (parts, body) = request.into_parts();
        record.lock().unwrap().push(Request::from_parts(parts, ()));
        async move {
            let _ = body.collect().await;
            answer()
        }
    });
    (agent, seen)
}

/// Answers `/ping`, and does with an invocation's connection what `then` likes after the head has come.
fn raw<A>(then: fn(TcpStream) -> A) -> Agent
where
    A: Future<Output = ()> + Send + 'static,
{
    Agent::raw(move |mut stream| async move {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
            if bytes.starts_with(b"GET /ping") && bytes.ends_with(b"\r\n\r\n") {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    .await;
                bytes.clear();
            } else if bytes.starts_with(b"POST") && bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                return then(stream).await;
            }
        }
    })
}

#[tokio::test]
async fn an_answer_comes_back_with_the_modelled_headers_only() {
    let (agent, seen) = recording(|| {
        let mut response = Response::new(body::full("{}"));
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("x-amzn-trace-id", "t"),
            ("traceparent", "p"),
            ("tracestate", "s"),
            ("baggage", "b"),
            ("x-secret", "1"),
            ("set-cookie", "a=b"),
            ("server", "uvicorn"),
        ] {
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        }
        *response.status_mut() = http::StatusCode::ACCEPTED;
        response
    });
    let rig = Rig::new(agent);
    let (headers, body) = streamed(rig.invoke("a", "{}").await.unwrap());
    assert_eq!(body.size_hint().exact(), Some(2), "the length is known");
    let mut got: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    got.sort_unstable();
    let session = key("a").session;
    let expected = [
        ("baggage", "b"),
        ("content-type", "application/json; charset=utf-8"),
        ("traceparent", "p"),
        ("tracestate", "s"),
        ("x-amzn-bedrock-agentcore-runtime-session-id", session.as_str()),
        ("x-amzn-trace-id", "t"),
    ];
    assert_eq!(got, expected);
    let request = &seen.lock().unwrap()[0];
    assert_eq!(request.headers()["host"], "127.0.0.1:8080");
    assert_eq!(request.headers()["content-length"], "2");
    let mut names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "content-length",
        "content-type",
        "host",
        "x-amzn-bedrock-agentcore-runtime-request-id",
        "x-amzn-bedrock-agentcore-runtime-session-id",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_generated_session_id_is_given_to_the_agent_and_returned() {
    let (agent, seen) = recording(healthy);
    let rig = Rig::new(agent);
    let reply = rig
        .invoker
        .invoke(
            call_with(json!({}), body::full("")),
            rig.target.clone(),
            &mut Recording::default(),
        )
        .await
        .unwrap();
    let returned = streamed(reply).0[request::SESSION_ID].clone();
    assert_eq!(returned.len(), 36);
    assert_eq!(seen.lock().unwrap()[0].headers()[request::SESSION_ID], returned);
    assert_eq!(
        rig.router.sessions()[0].key.session.as_str(),
        returned.to_str().unwrap()
    );
}

#[tokio::test]
async fn payloads_go_through_untouched() {
    let rig = Rig::new(Agent::echo());
    let payload: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let input = json!({ "runtimeSessionId": key("a").session.as_str(), "contentType": "application/octet-stream" });
    let reply = rig
        .invoker
        .invoke(
            call_with(input, body::full(payload.clone())),
            rig.target.clone(),
            &mut Recording::default(),
        )
        .await
        .unwrap();
    let (headers, body) = streamed(reply);
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert!(body.collect().await.unwrap().to_bytes() == payload);
}

#[tokio::test]
async fn a_streams_chunks_come_one_by_one() {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let rig = Rig::new(Agent::http(move |_: Request<AgentIncoming>| {
        let receiver = Arc::clone(&receiver);
        async move {
            let frames = futures_util::stream::unfold(receiver, |receiver| async move {
                let text = receiver.lock().await.recv().await?;
                Some((Ok(Frame::data(Bytes::from(text))), receiver))
            });
            let mut response = Response::new(Outgoing::new(StreamBody::new(Box::pin(frames))));
            response
                .headers_mut()
                .insert("content-type", http::HeaderValue::from_static("text/event-stream"));
            response
        }
    }));
    // The head is there before the agent has written a byte of the body.
    let (headers, mut body) = streamed(rig.invoke("a", "").await.unwrap());
    assert_eq!(headers["content-type"], "text/event-stream");
    for text in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        sender.send(text).await.unwrap();
        assert_eq!(chunk(&mut body).await.unwrap().unwrap(), text);
    }
    assert_eq!(rig.router.sessions()[0].calls, 1);
    drop(sender);
    assert!(chunk(&mut body).await.is_none());
    assert!(body.is_end_stream());
    assert_eq!(
        rig.router.sessions()[0].calls,
        0,
        "an answer at its end is not in flight, though its body lives"
    );
}

/// A rig whose callers are told what agents say.
fn open_rig(agent: Agent) -> Rig {
    let config = Config {
        agent_errors: true,
        ..config()
    };
    Rig::with(agent, config)
}

/// Checks what the caller is told about an agent's error answer.
async fn check_error(agent: Agent, message: &str, said: Option<&str>) {
    let rig = open_rig(agent);
    let error = rig.ask("a", "{}").await.unwrap_err();
    assert_eq!((error.origin(), error.message.as_str()), (Origin::Agent, message));
    assert_eq!(error.detail.as_deref(), said);
    assert!(!error.may_retry());
    let session = &rig.router.sessions()[0];
    assert!(
        matches!(session.phase, Phase::Active | Phase::Idle) && session.calls == 0,
        "the session goes on"
    );
    let failure = rig.router.reports(|_| true).remove(0).last_failure.unwrap();
    assert_eq!((failure.message.as_str(), failure.detail.as_deref()), (message, said));
}

#[tokio::test]
async fn an_error_answer_is_named_and_what_it_says_is_the_detail() {
    for code in [302, 400, 404, 500, 503] {
        let agent = Agent::http(move |_: Request<AgentIncoming>| async move { status(code, "boom \u{1b}[31mred\0") });
        let message = format!("Received error ({code}) from runtime.");
        check_error(agent, &message, Some("boom [31mred")).await;
    }
    let message = "Received error (500) from runtime.";
    let empty = Agent::http(|_: Request<AgentIncoming>| async { status(500, "") });
    check_error(empty, message, None).await;
    let long = Agent::http(|_: Request<AgentIncoming>| async { status(500, &"ä".repeat(100_000)) });
    let excerpt = format!("{}…", "ä".repeat(1499));
    check_error(long, message, Some(&excerpt)).await;
    let binary = Agent::http(|_: Request<AgentIncoming>| async {
        let mut response = status(500, "GIF89a");
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("image/gif"));
        response
    });
    check_error(binary, message, None).await;
}

#[tokio::test]
async fn the_owners_switch_says_whether_callers_are_told_what_an_agent_said() {
    let agent = || Agent::http(|_: Request<AgentIncoming>| async { status(500, "boom") });
    for (configured, switched, told) in [
        (false, None, false),
        (true, None, true),
        (false, Some(true), true),
        (true, Some(false), false),
    ] {
        let config = Config {
            agent_errors: configured,
            ..config()
        };
        let mut rig = Rig::with(agent(), config);
        rig.target.switches = Arc::new(Switches {
            agent_errors: switched,
            ..Switches::default()
        });
        let error = rig.ask("a", "").await.unwrap_err();
        assert_eq!(error.detail.is_some(), told, "{configured} {switched:?}");
        assert!(!error.message.contains("boom"), "{error}");
        assert_eq!(error.message.contains("session's record"), !told, "{error}");
        let failure = rig.router.reports(|_| true).remove(0).last_failure.unwrap();
        assert_eq!(failure.detail.as_deref(), Some("boom"), "the operator always sees it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_up_or_talks_nonsense_is_named() {
    let hangs_up = Rig::new(raw(|stream| async move { drop(stream) }));
    let error = hangs_up.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::Agent);
    assert!(error.message.contains("closed before an answer came"), "{error}");
    let nonsense = Rig::new(raw(|mut stream| async move {
        let _ = stream.write_all(b"hello\r\n\r\n").await;
    }));
    let error = nonsense.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::Agent);
    assert!(error.message.contains("not HTTP"), "{error}");
}

#[tokio::test]
async fn an_agent_that_crashes_before_its_answer_is_named_with_its_last_words() {
    let called = Arc::new(Notify::new());
    let has_been = Arc::clone(&called);
    let mut agent = Agent::http(move |_: Request<AgentIncoming>| {
        has_been.notify_one();
        std::future::pending::<Response<Outgoing>>()
    });
    agent.log = "KeyError: 'prompt'".to_owned();
    let rig = open_rig(agent);
    let (answer, ()) = tokio::join!(rig.ask("a", "{}"), async {
        called.notified().await;
        rig.driver.sandbox(0).dies(CRASH);
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind, Kind::Agent);
    assert_eq!(error.message, "The agent exited with code 3 before it had answered.");
    assert_eq!(error.detail.as_deref(), Some("KeyError: 'prompt'"));
    assert_eq!(rig.driver.started(), 1, "the call must not run twice");
}

#[tokio::test]
async fn an_agent_that_dies_in_the_middle_of_a_stream_breaks_the_stream() {
    let rig = Rig::new(Agent::http(|_: Request<AgentIncoming>| async {
        let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from("first")))]);
        let then = futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>();
        Response::new(Outgoing::new(StreamBody::new(futures_util::StreamExt::chain(
            first, then,
        ))))
    }));
    let (_, mut body) = streamed(rig.invoke("a", "").await.unwrap());
    assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "first");
    rig.driver.sandbox(0).dies(CRASH);
    let error = chunk(&mut body).await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Agent(_)), "{error}");
    assert!(chunk(&mut body).await.is_none(), "nothing comes after the error");
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_call_and_leaves_the_session() {
    let called = Arc::new(Notify::new());
    let cancelled = Arc::new(Notify::new());
    let (has_been, gone) = (Arc::clone(&called), Arc::clone(&cancelled));
    let rig = Rig::new(Agent::http(move |request: Request<AgentIncoming>| {
        let (has_been, gone) = (Arc::clone(&has_been), Arc::clone(&gone));
        async move {
            if request.into_body().collect().await.unwrap().to_bytes() == "quick" {
                return healthy();
            }
            has_been.notify_one();
            /// Tells when the server gives the call up.
            struct Told(Arc<Notify>);
            impl Drop for Told {
                fn drop(&mut self) {
                    self.0.notify_one();
                }
            }
            let _told = Told(gone);
            std::future::pending().await
        }
    }));
    tokio::select! {
        _ = rig.ask("a", "slow") => panic!("it never answers"),
        () = called.notified() => {}
    }
    cancelled.notified().await;
    assert_eq!(rig.router.sessions()[0].calls, 0);
    rig.ask("a", "quick").await.unwrap();
    assert_eq!(rig.driver.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_begin_in_time_is_a_timeout() {
    let rig = Rig::new(Agent::http(|_: Request<AgentIncoming>| {
        std::future::pending::<Response<Outgoing>>()
    }));
    let began = tokio::time::Instant::now();
    let error = rig.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::AgentTimeout, "{error}");
    assert_eq!(began.elapsed().as_secs(), 900);
    assert_eq!(rig.router.count(), 1, "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_in_an_error_after_its_longest_time() {
    // One that never pauses must end as one that never speaks.
    for pause in [Duration::from_secs(1), Duration::from_secs(1 << 20)] {
        let rig = Rig::new(Agent::http(move |_: Request<AgentIncoming>| async move {
            let frames = futures_util::stream::unfold((), move |()| async move {
                sleep(pause).await;
                Some((Ok(Frame::data(Bytes::from("."))), ()))
            });
            Response::new(Outgoing::new(StreamBody::new(Box::pin(frames))))
        }));
        let began = tokio::time::Instant::now();
        let (_, body) = streamed(rig.invoke("a", "").await.unwrap());
        let error = body.collect().await.unwrap_err().to_string();
        assert!(error.contains("longer than is allowed"), "{error}");
        assert_eq!(began.elapsed().as_secs(), 3600);
    }
}

#[tokio::test]
async fn a_callers_broken_body_is_the_callers_fault() {
    let check = async |broken: fn() -> BodyError, kind: fn(&Kind) -> bool| {
        let (agent, _) = recording(healthy);
        let rig = Rig::new(agent);
        let frames = futures_util::stream::iter([0, 1]).then(move |step| async move {
            if step == 0 {
                Ok(Frame::data(Bytes::from("half")))
            } else {
                Err(broken())
            }
        });
        let body = Incoming::new(StreamBody::new(Box::pin(frames)));
        let error = rig
            .invoker
            .invoke(call("a", body), rig.target.clone(), &mut Recording::default())
            .await
            .unwrap_err();
        assert!(kind(&error.kind), "{error:?}");
        assert_eq!(rig.router.sessions()[0].calls, 0);
        rig.ask("a", "").await.unwrap();
    };
    use futures_util::StreamExt;
    check(|| BodyError::Digest, |kind| *kind == Kind::Denied).await;
    check(|| BodyError::TooLarge(7), |kind| matches!(kind, Kind::Invalid { .. })).await;
    check(
        || BodyError::Client("reset".into()),
        |kind| matches!(kind, Kind::Invalid { .. }),
    )
    .await;
    check(
        || BodyError::Spool(std::io::ErrorKind::StorageFull.into()),
        |kind| *kind == Kind::Internal,
    )
    .await;
}

#[tokio::test]
async fn a_version_may_have_a_path_of_its_own() {
    let (agent, seen) = recording(healthy);
    let mut rig = Rig::with(agent, Config::default());
    let mut deployment = crate::session::testing::deployment();
    deployment.path = "/run/agent?x=1".to_owned();
    rig.target.deployment = Arc::new(deployment);
    rig.ask("a", "").await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].uri(), "/run/agent?x=1");
}
