//! Stopping: what is under way ends well, nothing new begins, nothing is left.

use crate::harness::{INVOKE, Running, config, start};
use front_door::service::Reply;
use front_door::{Config, Drained, body::full};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

/// A server whose service waits until it is told to answer.
async fn waiting(config: Config) -> (Running, mpsc::Receiver<()>, Arc<Notify>) {
    let (entered, inside) = mpsc::channel(8);
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let server = start(config, move |_| {
        let (entered, gate) = (entered.clone(), Arc::clone(&gate));
        async move {
            entered.send(()).await.unwrap();
            gate.notified().await;
            Ok(Reply::Stream {
                headers: HeaderMap::new(),
                body: full("finished"),
            })
        }
    })
    .await;
    (server, inside, release)
}

#[tokio::test]
async fn an_answer_under_way_finishes_and_nothing_new_begins() {
    let (server, mut inside, release) = waiting(config()).await;
    let address = server.address;
    let next = server.signed("POST", INVOKE, &[], b"{}");
    let mut idle = server.connect().await;
    idle.write(b"GET /_eyot/healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.answer().await;
    let mut busy = server.connect().await;
    busy.write(&next).await;
    inside.recv().await.unwrap();

    let ended = server.stop();
    assert!(idle.is_closed().await, "idle connections are closed at once");
    assert!(TcpStream::connect(address).await.is_err(), "the address is free");
    release.notify_one();
    let wire = busy.answer().await;
    assert_eq!(wire.text(), "finished");
    busy.write(&next).await;
    assert!(busy.is_closed().await);
    assert_eq!(ended.await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_cut() {
    let (server, mut inside, _release) = waiting(Config {
        drain_grace: Duration::from_millis(100),
        ..config()
    })
    .await;
    let mut raw = server.connect().await;
    raw.write(&server.signed("POST", INVOKE, &[], b"{}")).await;
    inside.recv().await.unwrap();
    assert_eq!(server.stop().await.unwrap(), Drained::Cut(1));
    assert!(raw.is_closed().await);
}

#[tokio::test]
async fn a_server_without_connections_stops_at_once() {
    let (server, _, _) = waiting(config()).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), server.stop())
        .await
        .unwrap();
    assert_eq!(ended.unwrap(), Drained::Clean);
}
