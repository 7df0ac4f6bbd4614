//! What an agent receives, byte for byte, and what becomes of a request that it does not want to the end.

use super::{Agent, Error, Rig, post, read_request};
use crate::upstream::Fault;
use bytes::Bytes;
use front_door::body::{self, BodyError, Incoming as RequestBody};
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An agent that keeps what it receives until the request's end, and says `ok`.
fn recording(end: &'static [u8]) -> (Agent, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let agent = Agent::raw(move |mut stream| {
        let keep = Arc::clone(&keep);
        async move {
            while !keep.lock().unwrap().ends_with(end) {
                let mut bytes = vec![0; 4096];
                let count = stream.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "the request ended early");
                keep.lock().unwrap().extend(&bytes[..count]);
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    });
    (agent, seen)
}

fn streamed(pieces: Vec<Bytes>) -> RequestBody {
    let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    RequestBody::new(StreamBody::new(futures_util::stream::iter(frames)))
}

async fn check(request: Request<RequestBody>, end: &'static [u8], expected: &str) {
    let (agent, seen) = recording(end);
    let answer = Rig::new(agent).await.upstream.send(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(String::from_utf8_lossy(&seen.lock().unwrap()), expected);
}

#[tokio::test]
async fn a_request_is_written_as_it_is() {
    let mut request = post(body::full("{}"));
    *request.uri_mut() = "/run?x=1".parse().unwrap();
    request.headers_mut().append("x-a", HeaderValue::from_static("b"));
    request
        .headers_mut()
        .append("content-length", HeaderValue::from_static("99"));
    request
        .headers_mut()
        .append("transfer-encoding", HeaderValue::from_static("chunked"));
    let expected = "POST /run?x=1 HTTP/1.1\r\nx-a: b\r\nhost: 127.0.0.1:8080\r\ncontent-length: 2\r\n\r\n{}";
    check(request, b"{}", expected).await;
    let expected = "POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ncontent-length: 0\r\n\r\n";
    check(post(body::full("")), b"\r\n\r\n", expected).await;
    let ping = Request::get("/ping").body(body::full("")).unwrap();
    let expected = "GET /ping HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n";
    check(ping, b"\r\n\r\n", expected).await;
}

#[tokio::test]
async fn a_body_of_unsaid_length_goes_in_chunks() {
    let large = "x".repeat(3000);
    let head = "POST /invocations HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ntransfer-encoding: chunked\r\n\r\n";
    let cases: [(Vec<&str>, String); 4] = [
        (vec![], String::new()),
        (vec!["ab", "", "cde"], "2\r\nab\r\n3\r\ncde\r\n".to_owned()),
        (vec![&large], format!("bb8\r\n{large}\r\n")),
        (
            vec!["a", &large, "b"],
            format!("1\r\na\r\nbb8\r\n{large}\r\n1\r\nb\r\n"),
        ),
    ];
    for (pieces, chunks) in cases {
        let body = streamed(pieces.iter().map(|piece| Bytes::from(piece.to_string())).collect());
        check(post(body), b"0\r\n\r\n", &format!("{head}{chunks}0\r\n\r\n")).await;
    }
}

/// A body that says how long it is and is not.
struct Liar(Option<&'static str>, u64);

impl http_body::Body for Liar {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text.into()))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn a_body_never_has_another_length_than_it_said() {
    for promised in [3, 5] {
        let rig = Rig::new(Agent::echo()).await;
        let error = rig
            .upstream
            .send(post(RequestBody::new(Liar(Some("four"), promised))))
            .await;
        assert!(matches!(error, Err(Error::Request(_))), "{promised}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_over_is_taken() {
    let rig = Rig::new(Agent::raw(|mut stream| async move {
        let mut some = [0; 1000];
        let _ = stream.read(&mut some).await;
        let _ = stream
            .write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
            .await;
    }))
    .await;
    let body = streamed(vec![Bytes::from(vec![0; 1 << 20]); 64]);
    let answer = rig.upstream.send(post(body)).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
    assert_eq!(rig.upstream.idle(), 0, "half a request is still on that connection");
}

#[tokio::test]
async fn an_agent_that_says_more_than_it_was_asked_loses_its_connection() {
    for (more, dials) in [("", 1), ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 2)] {
        let rig = Rig::new(Agent::raw(move |mut stream| async move {
            while read_request(&mut stream).await.is_some() {
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{more}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }))
        .await;
        for _ in 0..2 {
            assert_eq!(rig.ask("x").await.unwrap(), "ok");
        }
        assert_eq!(rig.dials(), dials, "{more}");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_in_an_answer_is_no_end_of_it() {
    let rig = Rig::new(Agent::raw(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").await;
        // What is unread when a socket closes makes the system reset the connection.
        let mut one = [0];
        let _ = stream.peek(&mut one).await;
        drop(stream);
    }))
    .await;
    // The second piece only follows the first part of the answer.
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let rest = futures_util::stream::once(async move {
        let _ = receive.await;
        Ok(Frame::data(Bytes::from("rest")))
    });
    let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from("0123456789")))]);
    let body = RequestBody::new(StreamBody::new(futures_util::StreamExt::chain(first, Box::pin(rest))));
    let mut answer = rig.upstream.send(post(body)).await.unwrap().into_body();
    let first = answer.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "part");
    let _ = send.send(());
    let end = answer.frame().await;
    assert!(matches!(end, Some(Err(Fault::Io(_)))), "{end:?}");
}
