//! Connections that come from elsewhere than the server's own address.

use crate::harness::{INVOKE, LONG, Raw, Running, config, start};
use front_door::body::full;
use front_door::service::Reply;
use front_door::{Config, Drained};
use http::HeaderMap;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

async fn answering(config: Config) -> Running {
    start(config, |_| async {
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full("answered"),
        })
    })
    .await
}

/// A connection and the task that serves it.
async fn through(server: &Running) -> (Raw<TcpStream>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let inlet = server.inlet.clone();
    (
        Raw::new(client),
        tokio::spawn(async move { inlet.serve(stream, peer).await }),
    )
}

#[tokio::test]
async fn they_are_served_limited_and_drained_like_the_others() {
    let server = answering(Config {
        max_connections: 2,
        head_timeout: Duration::from_millis(500),
        ..config()
    })
    .await;
    let request = server.signed("POST", INVOKE, &[], b"{}");
    let (mut one, _) = through(&server).await;
    one.write(&request).await;
    assert_eq!(one.answer().await.text(), "answered");
    // A wrong signature is refused as anywhere.
    one.write(b"GET /runtimes/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_ne!(one.answer().await.status, 200);
    // What is open to whoever watches the server is not to an agent.
    one.write(b"GET /_eyot/metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(one.answer().await.status, 403);
    let outside = server.send("GET", "/_eyot/metrics", b"").await;
    assert_eq!(outside.status, 200);
    // Two are open: a third waits, and nobody outside is kept from anything.
    let (mut two, _) = through(&server).await;
    two.write(&request).await;
    two.answer().await;
    let (mut three, third) = through(&server).await;
    three.write(&request).await;
    assert!(timeout(Duration::from_millis(200), three.answer()).await.is_err());
    assert_eq!(server.send("POST", INVOKE, b"{}").await.text(), "answered");
    drop(two);
    assert_eq!(timeout(LONG, three.answer()).await.unwrap().text(), "answered");
    // The head's deadline holds.
    drop(three);
    timeout(LONG, third).await.unwrap().unwrap();
    let (mut slow, served) = through(&server).await;
    slow.write(b"POST /half").await;
    assert_eq!(timeout(LONG, slow.answer()).await.unwrap().status, 408);
    timeout(LONG, served).await.unwrap().unwrap();
    // A drain takes them along, and takes none any more.
    let inlet = server.inlet.clone();
    assert_eq!(timeout(LONG, server.stop()).await.unwrap().unwrap(), Drained::Clean);
    assert!(one.is_closed().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    inlet.serve(stream, peer).await;
    assert!(Raw::new(client).is_closed().await);
}
