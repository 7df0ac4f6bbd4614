//! Calls that go well.

use crate::harness::{ARN, INVOKE, config, start, start_with};
use bytes::Bytes;
use domain::Error;
use front_door::body::{BodyError, full};
use front_door::service::{OwnReply, Reply};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::sync::mpsc;

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

#[tokio::test]
async fn a_document_call_is_decoded_called_and_encoded() {
    let server = start(config(), |call| async move {
        assert_eq!(call.operation.name, "ListAgentRuntimes");
        assert_eq!(
            serde_json::Value::Object(call.input),
            json!({"maxResults": 7, "nextToken": "a+b/="})
        );
        assert_eq!(call.caller.arn, "arn:aws:iam::123456789012:root");
        Ok(Reply::Document(
            json!({"agentRuntimes": []}).as_object().unwrap().clone(),
        ))
    })
    .await;
    let wire = server
        .send("POST", "/runtimes/?maxResults=7&nextToken=a%2Bb%2F%3D", b"")
        .await;
    assert_eq!((wire.status, wire.text().as_str()), (200, r#"{"agentRuntimes":[]}"#));
    assert_eq!(wire.header("content-type"), Some("application/json"));
    assert_eq!(wire.header("x-amzn-requestid").map(str::len), Some(36));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_payload_reaches_the_service_untouched_and_the_answer_comes_back_as_written() {
    let server = start(config(), |call| async move {
        let body = call.body.collect().await.unwrap().to_bytes();
        let mut headers = json_headers();
        headers.insert(
            "x-seen-input",
            serde_json::to_string(&call.input).unwrap().parse().unwrap(),
        );
        headers.insert("x-seen-custom", call.headers["x-custom"].clone());
        Ok(Reply::Stream {
            headers,
            body: full(body),
        })
    })
    .await;
    let payload = b"{\"prompt\": \"\xc3\xa9\"  }\n";
    let session = "s".repeat(33);
    let headers = [
        ("x-amzn-bedrock-agentcore-runtime-session-id", session.as_str()),
        ("x-custom", "kept"),
    ];
    let wire = server
        .send_with("POST", &format!("{INVOKE}?qualifier=DEFAULT"), &headers, payload)
        .await;
    assert_eq!((wire.status, wire.body.as_slice()), (200, &payload[..]), "{wire:?}");
    assert_eq!(wire.header("x-seen-custom"), Some("kept"));
    let input: serde_json::Value = serde_json::from_str(wire.header("x-seen-input").unwrap()).unwrap();
    assert_eq!(
        input,
        json!({"agentRuntimeArn": ARN, "qualifier": "DEFAULT", "runtimeSessionId": session})
    );
}

#[tokio::test]
async fn an_answer_of_one_piece_has_a_length_and_arrives_in_one_read() {
    let server = start(config(), |_| async {
        Ok(Reply::Stream {
            headers: json_headers(),
            body: full("{\"a\":1}"),
        })
    })
    .await;
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    writer
        .write_all(&server.signed("POST", INVOKE, &[], b"{}"))
        .await
        .unwrap();
    let mut first = [0; 4096];
    let count = reader.read(&mut first).await.unwrap();
    let text = std::str::from_utf8(&first[..count]).unwrap();
    assert!(
        text.contains("content-length: 7\r\n") && text.ends_with("\r\n\r\n{\"a\":1}"),
        "{text}"
    );
}

#[tokio::test]
async fn the_first_piece_of_a_stream_arrives_before_the_service_has_the_second() {
    let (pieces, source) = mpsc::channel::<Bytes>(1);
    let source = std::sync::Mutex::new(Some(source));
    let server = start(config(), move |_| {
        let source = source.lock().unwrap().take().unwrap();
        async move {
            let stream = futures_util::stream::unfold(source, |mut source| async move {
                source
                    .recv()
                    .await
                    .map(|piece| (Ok::<_, BodyError>(Frame::data(piece)), source))
            });
            let headers = HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("text/event-stream"),
            )]);
            Ok(Reply::Stream {
                headers,
                body: StreamBody::new(stream).boxed_unsync(),
            })
        }
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    let head = raw.head().await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        pieces.send(Bytes::from(piece)).await.unwrap();
        assert_eq!(raw.chunk().await, Ok(Some(piece.as_bytes().to_vec())));
    }
    drop(pieces);
    assert_eq!(raw.chunk().await, Ok(None));
}

#[tokio::test]
async fn a_stream_that_breaks_is_not_ended_properly() {
    let (breaks, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = std::sync::Mutex::new(Some(broken));
    let server = start(config(), move |_| {
        let broken = broken.lock().unwrap().take().unwrap();
        async move {
            let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from("data: 1\n\n")))]);
            let then = futures_util::stream::once(async move {
                let _ = broken.await;
                Err(BodyError::Agent("it crashed".to_owned()))
            });
            let body = StreamBody::new(futures_util::StreamExt::chain(first, then)).boxed_unsync();
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body,
            })
        }
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    assert_eq!(raw.head().await.status, 200);
    assert_eq!(raw.chunk().await, Ok(Some(b"data: 1\n\n".to_vec())));
    breaks.send(()).unwrap();
    assert_eq!(
        raw.chunk().await,
        Err(()),
        "the client must see that the answer is not whole"
    );
}

#[tokio::test]
async fn both_forms_of_a_trailing_slash_and_all_spellings_of_an_arn_reach_the_operation() {
    let server = start(config(), |call| async move {
        let label = call
            .input
            .get("agentRuntimeArn")
            .or(call.input.get("resourceArn"))
            .or(call.input.get("agentRuntimeId"));
        let body = format!(
            "{} {}",
            call.operation.name,
            label.and_then(|v| v.as_str()).unwrap_or("-")
        );
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full(body),
        })
    })
    .await;
    let encoded = ARN.replace(':', "%3A").replace('/', "%2F");
    let lower = encoded.to_lowercase();
    let lower_arn = ARN.to_lowercase();
    let endpoint = format!("{ARN}/runtime-endpoint/prod");
    let cases = [
        (
            "POST",
            format!("/runtimes/{encoded}/invocations"),
            format!("InvokeAgentRuntime {ARN}"),
        ),
        (
            "POST",
            format!("/runtimes/{encoded}/invocations/"),
            format!("InvokeAgentRuntime {ARN}"),
        ),
        (
            "POST",
            format!("/runtimes/{lower}/invocations"),
            format!("InvokeAgentRuntime {lower_arn}"),
        ),
        (
            "POST",
            format!("/runtimes/{ARN}/invocations"),
            format!("InvokeAgentRuntime {ARN}"),
        ),
        (
            "POST",
            format!("/runtimes/{endpoint}/invocations"),
            format!("InvokeAgentRuntime {endpoint}"),
        ),
        (
            "POST",
            "/runtimes/agent-0123456789/invocations?accountId=123456789012".to_owned(),
            "InvokeAgentRuntime agent-0123456789".to_owned(),
        ),
        ("POST", "/runtimes".to_owned(), "ListAgentRuntimes -".to_owned()),
        ("POST", "/runtimes/".to_owned(), "ListAgentRuntimes -".to_owned()),
        (
            "GET",
            "/runtimes/agent-0123456789".to_owned(),
            "GetAgentRuntime agent-0123456789".to_owned(),
        ),
        (
            "GET",
            "/runtimes/agent-0123456789/".to_owned(),
            "GetAgentRuntime agent-0123456789".to_owned(),
        ),
        ("GET", format!("/tags/{ARN}"), format!("ListTagsForResource {ARN}")),
        ("GET", format!("/tags/{encoded}"), format!("ListTagsForResource {ARN}")),
    ];
    for (method, path, expected) in cases {
        let wire = server.send(method, &path, b"").await;
        assert_eq!((wire.status, wire.text()), (200, expected), "{method} {path}");
    }
}

#[tokio::test]
async fn own_routes_get_decoded_segments_and_query() {
    let on_own = |call: front_door::service::OwnCall| async move {
        let body = call.body.collect().await.unwrap().to_bytes();
        let said = format!("{} {:?} {:?} {}", call.method, call.path, call.query, body.len());
        Ok(OwnReply {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: full(said),
        })
    };
    let server = start_with(
        config(),
        Box::new(|_| Box::pin(async { Err(Error::internal("not here")) })),
        Box::new(move |call| Box::pin(on_own(call))),
    )
    .await;
    let wire = server
        .send("PUT", "/_eyot/artifacts/bucket/a%20b%2Fc.zip?part=1", &vec![7; 300_000])
        .await;
    assert_eq!(wire.status, 201);
    assert_eq!(
        wire.text(),
        r#"PUT ["artifacts", "bucket", "a b/c.zip"] [("part", "1")] 300000"#
    );
    server
        .send("GET", "/_eyot/nothing", b"")
        .await
        .error(404, "UnknownOperationException");
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_signature() {
    let server = start(config(), |_| async { Err(Error::not_found("nothing")) }).await;
    let get = async |path: &str| {
        let mut raw = server.connect().await;
        raw.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await;
        raw.answer().await
    };
    assert_eq!(get("/_eyot/healthz").await.text(), r#"{"status":"ok"}"#);
    assert_eq!(get("/_eyot/readyz").await.status, 503);
    server.readiness.set(true);
    assert_eq!(get("/_eyot/readyz").await.text(), r#"{"status":"ready"}"#);
    server
        .send("POST", INVOKE, b"{}")
        .await
        .error(404, "ResourceNotFoundException");
    server
        .wait_for_metric(r#"eyot_http_requests_total{operation="InvokeAgentRuntime",status="4xx"} 1"#)
        .await;
    let metrics = get("/_eyot/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    for name in [
        "eyot_http_request_duration_seconds_bucket",
        "eyot_http_requests_in_flight 0",
        "eyot_connections_open",
        "eyot_held_bytes 0",
    ] {
        assert!(metrics.text().contains(name), "{name} is not in\n{}", metrics.text());
    }

    let closed = start(
        front_door::Config {
            open_metrics: false,
            ..config()
        },
        |_| async { Err(Error::not_found("nothing")) },
    )
    .await;
    let mut raw = closed.connect().await;
    raw.write(b"GET /_eyot/metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    raw.answer().await.error(403, "AccessDeniedException");
    assert_eq!(closed.send("GET", "/_eyot/metrics", b"").await.status, 200);
}

#[tokio::test]
async fn several_calls_share_a_connection() {
    let server = start(config(), |call| async move {
        let body = call.body.collect().await.unwrap().to_bytes();
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full(body),
        })
    })
    .await;
    let mut raw = server.connect().await;
    for number in 0..50 {
        let body = format!("{{\"n\":{number}}}");
        raw.write(&server.signed("POST", INVOKE, &[], body.as_bytes())).await;
        let wire = raw.answer().await;
        assert_eq!((wire.status, wire.text()), (200, body));
        assert_eq!(wire.header("connection"), None);
    }
}
