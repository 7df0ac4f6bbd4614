//! Calls that are refused: what the client reads, and that the service never hears of them.

use crate::harness::{INVOKE, Running, config, sign_for, start};
use domain::Error;
use front_door::service::Reply;
use front_door::{Config, body::full};
use http::HeaderMap;
use serde_json::json;
use std::time::Duration;

async fn refusing() -> Running {
    start(config(), |_| async {
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full("called"),
        })
    })
    .await
}

#[tokio::test]
async fn an_operation_that_is_off_answers_501_and_names_itself() {
    let server = refusing().await;
    let document = server
        .send("POST", "/gateways/", b"{}")
        .await
        .error(501, "NotImplementedException");
    assert!(
        document["message"].as_str().unwrap().contains("CreateGateway"),
        "{document}"
    );
    let document = server
        .send("GET", "/memories/m-1/details", b"")
        .await
        .error(501, "NotImplementedException");
    assert!(
        document["message"].as_str().unwrap().contains("GetMemory"),
        "{document}"
    );
}

#[tokio::test]
async fn what_is_not_here_yet_is_refused_to_whoever_is_not_proven() {
    let server = refusing().await;
    let socket = INVOKE.replace("/invocations", "/ws");
    for (path, name) in [
        (socket.clone(), "InvokeAgentRuntimeWithWebSocketStream"),
        (format!("{socket}/shells?shellId=s"), "InvokeAgentRuntimeCommandShell"),
    ] {
        let document = server
            .send("GET", &path, b"")
            .await
            .error(501, "NotImplementedException");
        assert!(document["message"].as_str().unwrap().contains(name), "{document}");
        let mut raw = server.connect().await;
        // Signed for another path.
        let signed = String::from_utf8(server.signed("GET", &format!("{path}x"), &[], b"")).unwrap();
        raw.write(signed.replacen(&format!("{path}x"), &path, 1).as_bytes())
            .await;
        let refused = raw.answer().await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn unknown_routes_are_404_with_credentials_and_403_without() {
    let server = refusing().await;
    for (method, path, hint) in [
        ("GET", "/no/such/thing", "/no/such/thing"),
        ("PATCH", "/runtimes/", "POST, PUT"),
        ("GET", INVOKE, "POST"),
        ("GET", "/", "POST"),
        ("POST", "/runtimes//invocations", "//"),
        ("POST", "//runtimes/x/invocations", "//runtimes"),
        ("POST", "/runtimes/x/invo%63ations", "invo%63ations"),
        ("POST", "/_eyot/healthz", "GET"),
    ] {
        let document = server
            .send(method, path, b"")
            .await
            .error(404, "UnknownOperationException");
        assert!(
            document["message"].as_str().unwrap().contains(hint),
            "{method} {path}: {document}"
        );
    }
    let mut raw = server.connect().await;
    raw.write(b"GET /no/such/thing HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let document = raw.answer().await.error(403, "MissingAuthenticationTokenException");
    assert_eq!(document["message"], "Missing Authentication Token");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn callers_who_are_not_proven_get_403_and_cost_no_call() {
    let server = refusing().await;
    let good = String::from_utf8(server.signed("POST", INVOKE, &[], b"{}")).unwrap();
    let changed = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        text
    };
    let signature = good.split("Signature=").nth(1).unwrap()[..64].to_owned();
    let other = if signature.starts_with('0') { "1" } else { "0" };
    let cases = [
        (
            "no header",
            good.lines()
                .filter(|l| !l.starts_with("authorization"))
                .map(|l| format!("{l}\r\n"))
                .collect(),
        ),
        (
            "wrong signature",
            changed(&format!("Signature={}", &signature[..1]), &format!("Signature={other}")),
        ),
        ("unknown key", changed("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLF")),
        ("another region", changed("us-west-2/bedrock", "eu-west-1/bedrock")),
        ("another service", changed("bedrock-agentcore/aws4", "bedrock/aws4")),
        ("another body", changed("\r\n\r\n{}", "\r\n\r\n[]")),
        ("another path", changed("/invocations", "/invocations/")),
        ("another query", changed("/invocations", "/invocations?qualifier=x")),
        ("a bearer token", changed("AWS4-HMAC-SHA256 ", "Bearer ")),
        (
            "nonsense",
            changed("AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA256 Nonsense"),
        ),
    ];
    for (what, text) in cases {
        let mut raw = server.connect().await;
        raw.write(text.as_bytes()).await;
        let wire = raw.answer().await;
        let document = wire.error(403, "AccessDeniedException");
        assert!(!document.to_string().contains(&signature[1..]), "{what}: {document}");
    }
    assert_eq!(server.calls(), 0);
    let metrics = server.metrics().await;
    for line in [
        r#"eyot_auth_refusals_total{reason="MissingAuthenticationToken"} 1"#,
        r#"eyot_auth_refusals_total{reason="SignatureDoesNotMatch"} 4"#,
        r#"eyot_auth_refusals_total{reason="UnrecognizedClient"} 1"#,
        r#"eyot_auth_refusals_total{reason="InvalidScope"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn input_that_breaks_the_model_never_reaches_the_service() {
    let server = refusing().await;
    for body in [
        &b"{"[..],
        b"[1]",
        b"\"text\"",
        b"\xff\xfe",
        b"{\"a\":",
        &[b'['; 100_000],
    ] {
        let wire = server.send("PUT", "/runtimes/", body).await;
        assert_eq!(wire.error(400, "ValidationException")["reason"], "CannotParse");
    }
    let document = server
        .send("PUT", "/runtimes/", b"{\"agentRuntimeName\":\"1 bad\"}")
        .await
        .error(400, "ValidationException");
    assert_eq!(document["reason"], "FieldValidationFailed");
    let names: Vec<_> = document["fieldList"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"agentRuntimeName") && names.contains(&"roleArn"),
        "{document}"
    );
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn odd_paths_are_refused_with_the_name_of_the_member() {
    let server = refusing().await;
    for path in [
        "/runtimes/%zz/invocations",
        "/runtimes/%/invocations",
        "/runtimes/a%00b/invocations",
        "/runtimes/%ff%fe/invocations",
        "/runtimes/%c0%af/invocations",
    ] {
        let document = server.send("POST", path, b"{}").await.error(400, "ValidationException");
        assert_eq!(document["fieldList"][0]["name"], "agentRuntimeArn", "{path}");
    }
    let document = server
        .send("POST", &format!("{INVOKE}?qualifier=%zz"), b"{}")
        .await
        .error(400, "ValidationException");
    assert_eq!(document["fieldList"][0]["name"], "qualifier");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_service_error_is_rendered_with_the_operations_own_exception() {
    let server = start(config(), |_| async {
        Err(Error::agent("The agent answered with status 500."))
    })
    .await;
    let wire = server.send("POST", INVOKE, b"{}").await;
    assert_eq!(
        wire.error(424, "RuntimeClientError"),
        json!({"message": "The agent answered with status 500."})
    );
    assert_eq!(wire.header("connection"), None, "the connection stays usable");
}

#[tokio::test]
async fn a_panic_is_one_requests_affair() {
    let server = start(config(), |call| async move {
        assert!(call.input["agentRuntimeArn"] != "panic", "on purpose");
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full("fine"),
        })
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", "/runtimes/panic/invocations", &[], b"{}"))
        .await;
    let document = raw.answer().await.error(500, "InternalServerException");
    assert!(!document.to_string().contains("on purpose"));
    raw.write(&server.signed("POST", "/runtimes/other/invocations", &[], b"{}"))
        .await;
    assert_eq!(raw.answer().await.text(), "fine");
    assert!(server.metrics().await.contains("eyot_http_panics_total 1"));
}

#[tokio::test]
async fn a_full_server_says_so_before_it_reads_the_body() {
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let gate = std::sync::Arc::clone(&release);
    let server = start(
        Config {
            max_calls: 1,
            ..config()
        },
        move |_| {
            let (entered, gate) = (entered.clone(), std::sync::Arc::clone(&gate));
            async move {
                entered.send(()).await.unwrap();
                gate.notified().await;
                Ok(Reply::Stream {
                    headers: HeaderMap::new(),
                    body: full("first"),
                })
            }
        },
    )
    .await;
    let mut first = server.connect().await;
    first.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    inside.recv().await.unwrap();

    let mut second = server.connect().await;
    second
        .write(&server.head("POST", INVOKE, &[], b"a body that is never sent", false))
        .await;
    let wire = second.answer().await;
    wire.error(429, "ThrottlingException");
    assert_eq!(wire.header("connection"), Some("close"));
    assert!(
        server.send("GET", "/_eyot/healthz", b"").await.status == 200,
        "health is always answered"
    );

    release.notify_one();
    assert_eq!(first.answer().await.text(), "first");
    server.wait_for_metric("eyot_http_requests_in_flight 0").await;
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_before_they_are_read() {
    let server = start(
        Config {
            max_held_bytes: 1000,
            ..config()
        },
        |_| async {
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full("fits"),
            })
        },
    )
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &[0; 1001], false)).await;
    raw.answer().await.error(429, "ThrottlingException");
    assert_eq!(server.send("POST", INVOKE, &[0; 1000]).await.text(), "fits");
    // Without an announced size the budget is seen on the way.
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[("transfer-encoding", "chunked")], &[0; 1001], false))
        .await;
    raw.write(b"3e9\r\n").await;
    raw.write(&[0; 1001]).await;
    raw.write(b"\r\n0\r\n\r\n").await;
    raw.answer().await.error(429, "ThrottlingException");
    assert_eq!(server.calls(), 1);
    server.wait_for_metric("eyot_held_bytes 0").await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_as_every_error() {
    let server = refusing().await;
    // A little too large, far too large, too many, too long a path.
    let one = format!("x-pad: {}\r\n", "x".repeat(66_000));
    let far = "x-pad: 0123456789012345678901234567890123456789\r\n".repeat(20_000);
    let many = "a: b\r\n".repeat(101);
    for headers in [one, far, many] {
        let mut raw = server.connect().await;
        raw.write(format!("POST {INVOKE} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes())
            .await;
        raw.answer().await.error(431, "RequestHeadersTooLargeException");
        assert!(raw.is_closed().await);
    }
    let mut raw = server.connect().await;
    raw.write(format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(65_000)).as_bytes())
        .await;
    let wire = raw.answer().await;
    assert!(matches!(wire.status, 403 | 414 | 431), "{wire:?}");
    assert!(wire.json()["message"].is_string());
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn bytes_that_are_not_http_get_a_proper_error_and_a_closed_connection() {
    let server = refusing().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n",
        b"PRI \x00not the preface at all\r\n\r\n\r\n",
    ] {
        let mut raw = server.connect().await;
        raw.write(bytes).await;
        if bytes.starts_with(b"PRI ") {
            while raw.until(b"\0\0").await.is_some() {}
        } else {
            raw.answer().await.error(400, "BadRequestException");
        }
        assert!(raw.is_closed().await);
    }
    // After a good request on the same connection as well.
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    assert_eq!(raw.answer().await.text(), "called");
    raw.write(b"nonsense\r\n\r\n").await;
    raw.answer().await.error(400, "BadRequestException");
}

#[tokio::test]
async fn http_1_0_without_keep_alive_is_served() {
    let server = refusing().await;
    let host = server.address.to_string();
    let signed: String = sign_for(&host, "POST", INVOKE, &[], b"", false)
        .iter()
        .map(|(n, v)| format!("{n}: {v}\r\n"))
        .collect();
    let mut raw = server.connect().await;
    raw.write(format!("POST {INVOKE} HTTP/1.0\r\nhost: {host}\r\n{signed}\r\n").as_bytes())
        .await;
    assert_eq!(raw.answer().await.text(), "called");
    assert!(
        tokio::time::timeout(Duration::from_secs(5), raw.is_closed())
            .await
            .unwrap()
    );
}
