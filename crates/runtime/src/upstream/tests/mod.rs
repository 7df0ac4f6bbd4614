mod reading;
mod writing;

use super::*;
use crate::session::testing::{Agent, FakeDriver, call, healthy};
use domain::id::SandboxId;
use front_door::body::{self, BodyError, Incoming as RequestBody};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use sandbox::{Driver, Limits, Spec};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const KEEP_ALIVE: Duration = Duration::from_secs(4);

struct Rig {
    driver: Arc<FakeDriver>,
    upstream: Arc<Upstream>,
}

impl Rig {
    async fn new(agent: Agent) -> Self {
        let driver = FakeDriver::new(agent);
        let limits = Limits {
            memory: 0,
            pids: 0,
            cpu_millis: 0,
            scratch: 0,
            log: 0,
        };
        let spec = Spec {
            id: SandboxId::generate(),
            labels: Default::default(),
            package: Default::default(),
            read_only: Vec::new(),
            command: Vec::new(),
            env: Vec::new(),
            port: 8080,
            listen: Vec::new(),
            limits,
            storage: None,
            orphan_after: Duration::from_secs(3600),
        };
        let sandbox = driver.start(spec).await.unwrap();
        Self {
            driver,
            upstream: Upstream::new(sandbox, 8080, KEEP_ALIVE, Default::default()),
        }
    }

    async fn post(&self, text: &'static str) -> Result<Response<Body>, Error> {
        self.upstream.send(post(body::full(text))).await
    }

    async fn ask(&self, text: &'static str) -> Result<String, Error> {
        let bytes = self
            .post(text)
            .await?
            .into_body()
            .collect()
            .await
            .map_err(Error::Closed)?
            .to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn dials(&self) -> usize {
        self.driver.sandbox(0).dials.load(Ordering::Relaxed)
    }
}

fn post(body: RequestBody) -> Request<RequestBody> {
    let mut request = call("a", body).body;
    let request = Request::post("/invocations").body(std::mem::replace(&mut request, body::full("")));
    request.unwrap()
}

/// Reads a request's head and its body of known length.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap_or("0");
            if rest.len() >= length.parse().unwrap() {
                return Some(text);
            }
        }
    }
}

#[tokio::test]
async fn one_connection_serves_calls_in_turn() {
    let rig = Rig::new(Agent::echo()).await;
    for _ in 0..10 {
        assert_eq!(rig.ask("x").await.unwrap(), "x");
    }
    assert_eq!((rig.dials(), rig.upstream.idle()), (1, 1));
}

#[tokio::test]
async fn calls_at_once_have_a_connection_each_and_leave_them_behind() {
    let all_here = Arc::new(tokio::sync::Barrier::new(40));
    let rig = Rig::new(Agent::http(move |_: Request<Incoming>| {
        let all_here = Arc::clone(&all_here);
        async move {
            all_here.wait().await;
            healthy()
        }
    }))
    .await;
    for answer in join_all((0..40).map(|_| rig.ask("x"))).await {
        answer.unwrap();
    }
    assert_eq!((rig.dials(), rig.upstream.idle()), (40, 32), "at most 32 are kept");
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_not_used_again() {
    let rig = Rig::new(Agent::echo()).await;
    rig.ask("x").await.unwrap();
    tokio::time::sleep(KEEP_ALIVE - Duration::from_millis(1)).await;
    rig.ask("x").await.unwrap();
    assert_eq!(rig.dials(), 1);
    tokio::time::sleep(KEEP_ALIVE).await;
    rig.ask("x").await.unwrap();
    assert_eq!((rig.dials(), rig.upstream.idle()), (2, 1));
}

#[tokio::test]
async fn a_connection_that_the_agent_closed_while_idle_is_replaced() {
    let closing = Arc::new(Notify::new());
    let close = Arc::clone(&closing);
    let closed = Arc::new(Notify::new());
    let has_closed = Arc::clone(&closed);
    let rig = Rig::new(Agent::raw(move |mut stream| {
        let (close, has_closed) = (Arc::clone(&close), Arc::clone(&has_closed));
        async move {
            read_request(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            close.notified().await;
            drop(stream);
            has_closed.notify_one();
        }
    }))
    .await;
    for round in 1..=5 {
        assert_eq!(rig.ask("x").await.unwrap(), "ok");
        assert_eq!(rig.dials(), round);
        closing.notify_one();
        closed.notified().await;
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_seen_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let rig = Rig::new(Agent::raw(move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            // Answers the first request of a connection, hangs up on the second.
            read_request(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            if read_request(&mut stream).await.is_some() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    }))
    .await;
    rig.ask("x").await.unwrap();
    let error = rig.post("y").await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error:?}");
    assert_eq!((seen.load(Ordering::SeqCst), rig.dials()), (1, 1));
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error_and_its_connection_is_dropped() {
    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        let rig = Rig::new(Agent::raw(move |mut stream| async move {
            read_request(&mut stream).await;
            let _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello").as_bytes())
                .await;
        }))
        .await;
        let response = rig.post("x").await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{head}");
        assert_eq!(rig.upstream.idle(), 0);
    }
}

#[tokio::test]
async fn dropping_an_answer_closes_its_connection() {
    let closed = Arc::new(Notify::new());
    let has_closed = Arc::clone(&closed);
    let rig = Rig::new(Agent::raw(move |mut stream| {
        let has_closed = Arc::clone(&has_closed);
        async move {
            read_request(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart")
                .await
                .unwrap();
            // Nothing more comes; the next thing that happens is the end.
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            has_closed.notify_one();
        }
    }))
    .await;
    let mut answer = rig.post("x").await.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    drop(answer);
    closed.notified().await;
    assert_eq!(rig.upstream.idle(), 0);
}

#[tokio::test]
async fn a_closed_pool_keeps_and_opens_nothing() {
    let rig = Rig::new(Agent::echo()).await;
    let answer = rig.post("x").await.unwrap();
    rig.upstream.close();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x");
    assert_eq!(rig.upstream.idle(), 0);
    let Error::Unsent(Unsent::Closed, request) = rig.post("y").await.unwrap_err() else {
        panic!("sent")
    };
    assert_eq!(
        request.into_body().collect().await.unwrap().to_bytes(),
        "y",
        "the body comes back whole"
    );
}

#[tokio::test]
async fn a_request_body_that_breaks_off_says_why() {
    let rig = Rig::new(Agent::echo()).await;
    let frames = [Ok(Frame::data("half".into())), Err(BodyError::Digest)];
    let body = RequestBody::new(StreamBody::new(futures_util::stream::iter(frames)));
    let outcome = match rig.upstream.send(post(body)).await {
        // The agent had begun to answer before the body broke.
        Ok(response) => response.into_body().collect().await.map(|_| ()).map_err(Error::Closed),
        Err(error) => Err(error),
    };
    assert!(outcome.is_err());
    let frames = [Ok(Frame::data("half".into())), Err(BodyError::Digest)];
    let body = RequestBody::new(StreamBody::new(futures_util::stream::iter(frames)));
    let patient = Rig::new(Agent::http(|request: Request<Incoming>| async move {
        let _ = request.into_body().collect().await;
        healthy()
    }))
    .await;
    let error = patient.upstream.send(post(body)).await.unwrap_err();
    assert!(matches!(error, Error::Request(BodyError::Digest)), "{error:?}");
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let rig = Rig::new(Agent::echo()).await;
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 512;
    let chunk = bytes::Bytes::from(vec![7; CHUNK]);
    let frames = futures_util::stream::iter((0..CHUNKS).map(move |_| Ok(Frame::data(chunk.clone()))));
    let mut answer = rig
        .upstream
        .send(post(RequestBody::new(StreamBody::new(frames))))
        .await
        .unwrap()
        .into_body();
    let mut total = 0;
    while let Some(frame) = answer.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        total += data.len();
    }
    assert_eq!(total, CHUNK * CHUNKS);
    assert_eq!(rig.upstream.idle(), 1);
}

#[tokio::test]
async fn what_is_not_http_is_named_so() {
    let rig = Rig::new(Agent::raw(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"garbage\r\n\r\n").await;
    }))
    .await;
    let error = rig.post("x").await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
}
