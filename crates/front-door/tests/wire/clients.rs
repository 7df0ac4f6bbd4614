//! Clients that are slow, silent, or gone.

use crate::harness::{INVOKE, config, start};
use bytes::Bytes;
use front_door::Config;
use front_door::body::{BodyError, full};
use front_door::service::Reply;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::time::Duration;
use tokio::sync::mpsc;

/// Tells when it is dropped.
struct Tell(mpsc::Sender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn gone(dropped: &mut mpsc::Receiver<()>) {
    tokio::time::timeout(crate::harness::LONG, dropped.recv())
        .await
        .expect("the work is dropped");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let (entered, mut inside) = mpsc::channel(1);
    let (dropped, mut is_dropped) = mpsc::channel(1);
    let server = start(config(), move |_| {
        let (entered, tell) = (entered.clone(), Tell(dropped.clone()));
        async move {
            let _tell = tell;
            entered.send(()).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    inside.recv().await.unwrap();
    drop(raw);
    gone(&mut is_dropped).await;
    server
        .wait_for_metric(r#"eyot_http_requests_total{operation="InvokeAgentRuntime",status="gone"} 1"#)
        .await;
    server.wait_for_metric("eyot_http_requests_in_flight 0").await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_drops_its_source() {
    let (dropped, mut is_dropped) = mpsc::channel(1);
    let server = start(config(), move |_| {
        let tell = Tell(dropped.clone());
        async move {
            let first = futures_util::stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from("first")))]);
            let silent = futures_util::stream::once(async move {
                let _tell = tell;
                std::future::pending().await
            });
            let body = StreamBody::new(futures_util::StreamExt::chain(first, silent)).boxed_unsync();
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body,
            })
        }
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    raw.head().await;
    raw.chunk().await.unwrap();
    drop(raw);
    gone(&mut is_dropped).await;
}

#[tokio::test]
async fn slow_heads_are_cut_in_time_and_others_are_served_meanwhile() {
    let server = start(
        Config {
            head_timeout: Duration::from_millis(150),
            ..config()
        },
        |_| async {
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full("served"),
            })
        },
    )
    .await;
    let mut silent = server.connect().await;
    let mut begun = server.connect().await;
    begun.write(b"POST /runtimes/ HTTP/1.1\r\nhost: x\r\nx-a: ").await;
    let mut half_preface = server.connect().await;
    half_preface.write(b"PR").await;
    // On a connection that has served, the clock begins with the first byte of the next head.
    let mut later = server.connect().await;
    later.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    assert_eq!(later.answer().await.text(), "served");
    later.write(b"POST /runtimes/ HTTP/1.1\r\n").await;

    assert!(silent.is_closed().await);
    assert!(half_preface.is_closed().await);
    for raw in [&mut begun, &mut later] {
        raw.answer().await.error(408, "RequestTimeoutException");
        assert!(raw.is_closed().await);
    }
    assert_eq!(server.send("POST", INVOKE, b"{}").await.text(), "served");
    assert!(
        server
            .metrics()
            .await
            .contains(r#"eyot_connections_cut_total{reason="head"} 4"#)
    );
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout_but_not_the_idle_timeout() {
    let (head, idle) = (Duration::from_millis(100), Duration::from_millis(500));
    let server = start(
        Config {
            head_timeout: head,
            idle_timeout: idle,
            ..config()
        },
        |_| async {
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full("served"),
            })
        },
    )
    .await;
    let mut raw = server.connect().await;
    for _ in 0..2 {
        raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
        assert_eq!(raw.answer().await.text(), "served");
        tokio::time::sleep(head * 2).await;
    }
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_long_answer_is_not_idle() {
    let limit = Duration::from_millis(50);
    let config = Config {
        head_timeout: limit,
        idle_timeout: limit,
        body_stall_timeout: limit,
        ..config()
    };
    let server = start(config, move |_| async move {
        tokio::time::sleep(limit * 6).await;
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full("late"),
        })
    })
    .await;
    assert_eq!(server.send("POST", INVOKE, b"{}").await.text(), "late");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    let (dropped, mut is_dropped) = mpsc::channel(1);
    let config = Config {
        write_stall_timeout: Duration::from_millis(200),
        ..config()
    };
    let server = start(config, move |_| {
        let tell = Tell(dropped.clone());
        async move {
            let piece = Bytes::from(vec![0; 1 << 20]);
            let endless = futures_util::stream::repeat_with(move || {
                let _ = &tell;
                Ok::<_, BodyError>(Frame::data(piece.clone()))
            });
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: StreamBody::new(endless).boxed_unsync(),
            })
        }
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    raw.head().await;
    gone(&mut is_dropped).await;
    assert!(
        server
            .metrics()
            .await
            .contains(r#"eyot_connections_cut_total{reason="write"} 1"#)
    );
}
