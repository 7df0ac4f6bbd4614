//! Bodies: whole and streamed, small and large, honest and not.

use crate::harness::{INVOKE, LONG, Running, config, start};
use aws_lc_rs::digest::{Context, SHA256, digest};
use front_door::Config;
use front_door::body::{BodyError, full};
use front_door::service::{Call, Reply};
use http::HeaderMap;
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The payload's largest size, from the model.
const MOST: usize = 100_000_000;

/// What a service that reads its body piece by piece saw.
#[derive(Debug, Default, Clone)]
struct Seen {
    bytes: usize,
    largest_piece: usize,
    announced: Option<u64>,
    failed: Option<String>,
}

async fn read(call: Call) -> (Seen, String) {
    let mut body = call.body;
    let mut hash = Context::new(&SHA256);
    let mut seen = Seen {
        announced: http_body::Body::size_hint(&body).exact(),
        ..Seen::default()
    };
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.into_data().unwrap();
                hash.update(&data);
                seen.bytes += data.len();
                seen.largest_piece = seen.largest_piece.max(data.len());
            }
            Err(error) => {
                assert!(
                    matches!(error, BodyError::Digest | BodyError::Client(_) | BodyError::TooLarge(_)),
                    "{error}"
                );
                seen.failed = Some(error.to_string());
                break;
            }
        }
    }
    (seen, hex::encode(hash.finish()))
}

/// A server that answers with the digest of what its service read.
async fn hashing(config: Config) -> (Running, Arc<Mutex<Seen>>) {
    let last = Arc::new(Mutex::new(Seen::default()));
    let keep = Arc::clone(&last);
    let server = start(config, move |call| {
        let keep = Arc::clone(&keep);
        async move {
            let (seen, digest) = read(call).await;
            *keep.lock().unwrap() = seen;
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full(digest),
            })
        }
    })
    .await;
    (server, last)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap())
        .collect()
}

#[tokio::test]
async fn bodies_of_every_size_class_arrive_whole_and_leave_no_file() {
    let (server, last) = hashing(config()).await;
    for length in [0, 1, 65_535, 65_536, 65_537, 262_144, 1_000_000, 3_000_001] {
        let body = pattern(length);
        let expected = hex::encode(digest(&SHA256, &body));
        for declare in [false, true] {
            let mut raw = server.connect().await;
            raw.write(&server.head("POST", INVOKE, &[], &body, declare)).await;
            raw.write(&body).await;
            assert_eq!(
                raw.answer().await.text(),
                expected,
                "{length} bytes, declared: {declare}"
            );
            let seen = last.lock().unwrap().clone();
            assert_eq!((seen.bytes, seen.announced), (length, Some(length as u64)));
            assert!(seen.largest_piece <= 256 * 1024, "{seen:?}");
        }
    }
    server.wait_for_metric("eyot_held_bytes 0").await;
    assert_eq!(std::fs::read_dir(server.spool.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn chunked_bodies_arrive_whole() {
    let (server, last) = hashing(config()).await;
    let body = pattern(500_000);
    for declare in [false, true] {
        let mut raw = server.connect().await;
        raw.write(&server.head("POST", INVOKE, &[("transfer-encoding", "chunked")], &body, declare))
            .await;
        for piece in body.chunks(70_000) {
            raw.write(format!("{:x}\r\n", piece.len()).as_bytes()).await;
            raw.write(piece).await;
            raw.write(b"\r\n").await;
        }
        raw.write(b"0\r\n\r\n").await;
        assert_eq!(raw.answer().await.text(), hex::encode(digest(&SHA256, &body)));
        assert_eq!(last.lock().unwrap().bytes, body.len());
    }
}

#[tokio::test]
async fn a_declared_body_streams_before_its_end_has_come() {
    let (pieces, mut received) = tokio::sync::mpsc::channel(64);
    let server = start(config(), move |mut call: Call| {
        let pieces = pieces.clone();
        async move {
            while let Some(Ok(frame)) = call.body.frame().await {
                pieces.send(frame.into_data().unwrap().len()).await.unwrap();
            }
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full("all"),
            })
        }
    })
    .await;
    let body = pattern(200_000);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &body, true)).await;
    raw.write(&body[..150_000]).await;
    let first = tokio::time::timeout(LONG, received.recv())
        .await
        .expect("a piece before the end")
        .unwrap();
    assert!(first > 0);
    raw.write(&body[150_000..]).await;
    assert_eq!(raw.answer().await.text(), "all");
}

#[tokio::test]
async fn a_body_that_is_not_as_declared_never_reaches_its_end() {
    let (server, last) = hashing(config()).await;
    let (signed, sent) = (pattern(300_000), vec![0; 300_000]);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &signed, true)).await;
    raw.write(&sent).await;
    let document = raw.answer().await.error(403, "AccessDeniedException");
    assert!(
        document["message"].as_str().unwrap().contains("x-amz-content-sha256"),
        "{document}"
    );
    let seen = last.lock().unwrap().clone();
    assert!(seen.failed.is_some() && seen.bytes < sent.len(), "{seen:?}");

    // A small one is checked before the service is called at all.
    let calls = server.calls();
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], b"{\"a\":1}", true)).await;
    raw.write(b"{\"a\":2}").await;
    raw.answer().await.error(403, "AccessDeniedException");
    // So is the document of another operation.
    let mut raw = server.connect().await;
    raw.write(&server.head("PUT", "/runtimes/", &[], b"{\"a\":1}", true))
        .await;
    raw.write(b"{\"a\":2}").await;
    raw.answer().await.error(403, "AccessDeniedException");
    assert_eq!(server.calls(), calls);
}

#[tokio::test]
async fn the_largest_payload_goes_through_and_one_byte_more_does_not() {
    let (server, last) = hashing(config()).await;
    let body = pattern(MOST + 1);

    let most = &body[..MOST];
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], most, false)).await;
    raw.write(most).await;
    assert_eq!(raw.answer().await.text(), hex::encode(digest(&SHA256, most)));
    assert_eq!(last.lock().unwrap().bytes, MOST);
    assert_eq!(server.calls(), 1);

    // A client such as Python's http.client sends everything first and only then reads.
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &body, false)).await;
    raw.write(&body).await;
    let wire = raw.answer().await;
    let document = wire.error(400, "ValidationException");
    let field = &document["fieldList"][0];
    assert_eq!(field["name"], "payload");
    let message = field["message"].as_str().unwrap();
    assert!(
        message.contains("100000000") && message.contains("100000001"),
        "{message}"
    );
    assert!(raw.is_closed().await);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_chunked_body_that_grows_too_large_is_refused() {
    let server = start(
        Config {
            max_document_bytes: 10_000,
            ..config()
        },
        |_| async { unreachable!("never called") },
    )
    .await;
    let body = pattern(10_001);
    let mut raw = server.connect().await;
    raw.write(&server.head("PUT", "/runtimes/", &[("transfer-encoding", "chunked")], &body, false))
        .await;
    raw.write(b"2711\r\n").await;
    raw.write(&body).await;
    raw.write(b"\r\n0\r\n\r\n").await;
    let document = raw.answer().await.error(400, "ValidationException");
    assert_eq!(document["fieldList"][0]["name"], "body");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_truncated_body_is_told_so_and_reaches_no_service() {
    let (server, _) = hashing(config()).await;
    for (length, sent) in [(1000, 500), (500_000, 300_000)] {
        let body = pattern(length);
        let mut raw = server.connect().await;
        raw.write(&server.head("POST", INVOKE, &[], &body, false)).await;
        raw.write(&body[..sent]).await;
        tokio::io::AsyncWriteExt::shutdown(&mut raw.stream).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(LONG, raw.stream.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        assert!(
            text.is_empty() || text.contains(" 400 ") && text.contains("CannotParse"),
            "{text}"
        );
    }
    assert_eq!(server.calls(), 0);
    server.wait_for_metric("eyot_held_bytes 0").await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_told_and_cut() {
    let config = Config {
        body_stall_timeout: Duration::from_millis(100),
        ..config()
    };
    let (server, _) = hashing(config).await;
    for (length, sent) in [(1000, 0), (1000, 10), (500_000, 300_000)] {
        let body = pattern(length);
        let mut raw = server.connect().await;
        raw.write(&server.head("POST", INVOKE, &[], &body, false)).await;
        raw.write(&body[..sent]).await;
        raw.answer().await.error(408, "RequestTimeoutException");
    }
    assert_eq!(server.calls(), 0);
    // The same while a proven caller's body streams into the service.
    let body = pattern(500_000);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &body, true)).await;
    raw.write(&body[..100_000]).await;
    raw.answer().await.error(408, "RequestTimeoutException");
    server.wait_for_metric("eyot_held_bytes 0").await;
}

#[tokio::test]
async fn a_client_that_drips_is_cut_by_the_bound_for_the_whole() {
    let config = Config {
        body_total_timeout: Duration::from_millis(300),
        ..config()
    };
    let (server, _) = hashing(config).await;
    let body = pattern(1000);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &body, false)).await;
    let (mut reader, mut writer) = raw.stream.into_split();
    let drip = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for byte in body {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut text = vec![0; 4096];
    let count = tokio::time::timeout(LONG, reader.read(&mut text))
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&text[..count]);
    assert!(
        text.starts_with("HTTP/1.1 408 ") && text.contains("RequestTimeoutException"),
        "{text}"
    );
    drip.abort();
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn expect_100_continue_works_and_an_early_refusal_comes_instead_of_it() {
    let (server, _) = hashing(config()).await;
    let body = pattern(100_000);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[("expect", "100-continue")], &body, false))
        .await;
    assert_eq!(raw.head().await.status, 100);
    raw.write(&body).await;
    assert_eq!(raw.answer().await.text(), hex::encode(digest(&SHA256, &body)));

    let mut raw = server.connect().await;
    let head = String::from_utf8(server.head("POST", INVOKE, &[("expect", "100-continue")], &body, false)).unwrap();
    raw.write(head.replace("us-west-2", "eu-west-1").as_bytes()).await;
    raw.answer().await.error(403, "AccessDeniedException");
}

#[tokio::test]
async fn a_spool_directory_that_fails_is_the_servers_fault_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let (server, _) = hashing(Config {
        spool_dir: Some(spool.clone()),
        ..config()
    })
    .await;
    std::fs::remove_dir(&spool).unwrap();
    let document = server
        .send("POST", INVOKE, &pattern(100_000))
        .await
        .error(500, "InternalServerException");
    let message = document["message"].as_str().unwrap();
    assert!(message.contains("could not write"), "{message}");
    // Who sent the body is known only once all of it is there.
    assert!(
        !message.contains(spool.to_str().unwrap()) && !message.contains("os error"),
        "{message}"
    );
    assert_eq!(
        server.send("POST", INVOKE, &pattern(1000)).await.status,
        200,
        "small bodies need no file"
    );
    server.wait_for_metric("eyot_held_bytes 0").await;
}

#[tokio::test]
async fn a_service_that_pauses_makes_no_client_late() {
    let limit = Duration::from_millis(100);
    let config = Config {
        body_stall_timeout: limit,
        body_total_timeout: limit * 2,
        ..config()
    };
    let server = start(config, move |mut call: Call| async move {
        let mut bytes = 0;
        while let Some(frame) = call.body.frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
            if bytes < 900_000 {
                tokio::time::sleep(limit * 3 / 2).await;
            }
        }
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full(bytes.to_string()),
        })
    })
    .await;
    let body = pattern(1_000_000);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &body, true)).await;
    raw.write(&body).await;
    assert_eq!(raw.answer().await.text(), "1000000");
}

#[tokio::test]
async fn a_refused_client_that_sends_on_slowly_still_reads_its_answer() {
    let config = Config {
        head_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        linger_timeout: Duration::from_millis(300),
        ..config()
    };
    let server = start(config, |_| async { unreachable!("never called") }).await;
    let head = String::from_utf8(server.head("POST", INVOKE, &[], b"", false)).unwrap();
    let mut raw = server.connect().await;
    raw.write(
        head.replace("content-length: 0", "content-length: 100000001")
            .as_bytes(),
    )
    .await;
    for _ in 0..10 {
        raw.write(&[0; 50_000]).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    raw.answer().await.error(400, "ValidationException");
    // Once it pauses for too long the server lets go.
    assert!(raw.is_closed().await);
    server
        .wait_for_metric(r#"eyot_connections_cut_total{reason="closing"} 1"#)
        .await;
}

#[tokio::test]
async fn a_large_body_of_an_unproven_caller_costs_no_call_and_leaves_nothing() {
    let (server, _) = hashing(config()).await;
    let (signed, sent) = (pattern(3_000_000), vec![0; 3_000_000]);
    let mut raw = server.connect().await;
    raw.write(&server.head("POST", INVOKE, &[], &signed, false)).await;
    raw.write(&sent).await;
    raw.answer().await.error(403, "AccessDeniedException");
    assert_eq!(server.calls(), 0);
    server.wait_for_metric("eyot_held_bytes 0").await;
    assert_eq!(std::fs::read_dir(server.spool.path()).unwrap().count(), 0);
}
