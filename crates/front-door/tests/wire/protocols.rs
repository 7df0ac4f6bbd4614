//! HTTP/2 in clear and over TLS, and HTTP/1.1 over TLS, all on one port.

use crate::harness::{INVOKE, LONG, Raw, Running, config, sign_for, start, wiring};
use bytes::Bytes;
use front_door::service::Reply;
use front_door::{BindError, Config, Drained, Readiness, Server, body::full};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn echo(config: Config) -> Running {
    start(config, |call| async move {
        let body = call.body.collect().await.unwrap().to_bytes();
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full(body),
        })
    })
    .await
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(host: &str, scheme: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("{scheme}://{host}{INVOKE}"));
    for (name, value) in sign_for(host, "POST", INVOKE, headers, body, false) {
        request = request.header(name, value);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
}

async fn bytes(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn http_2_with_prior_knowledge_serves_many_streams() {
    let server = echo(config()).await;
    let host = server.address.to_string();
    let sender = http2(TcpStream::connect(server.address).await.unwrap()).await;
    let calls = (0..40).map(|number: u32| {
        let mut sender = sender.clone();
        let body = vec![u8::try_from(number).unwrap(); 100_000];
        let request = request(&host, "http", &[], &body);
        async move {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(bytes(response).await, body);
        }
    });
    tokio::time::timeout(LONG, futures_util::future::join_all(calls))
        .await
        .unwrap();
    assert!(
        server
            .metrics()
            .await
            .contains(r#"eyot_connections_accepted_total{protocol="http2",tls="no"} 1"#)
    );
}

#[tokio::test]
async fn http_2_refusals_are_written_as_on_http_1() {
    let server = echo(config()).await;
    let host = server.address.to_string();
    let mut sender = http2(TcpStream::connect(server.address).await.unwrap()).await;
    let mut unsigned = request(&host, "http", &[], b"{}");
    unsigned.headers_mut().remove("authorization");
    let response = sender.send_request(unsigned).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-amzn-errortype"], "AccessDeniedException");
    assert!(response.headers().contains_key("x-amzn-requestid"));

    let long = "x".repeat(70_000);
    let response = sender
        .send_request(request(&host, "http", &[("x-pad", &long)], b"{}"))
        .await
        .unwrap();
    assert_eq!(response.status(), 431);
    assert_eq!(
        response.headers()["x-amzn-errortype"],
        "RequestHeadersTooLargeException"
    );

    // Refused by its announced size, while the client is still sending.
    let large = vec![0; 100_000_001];
    let response = sender.send_request(request(&host, "http", &[], &large)).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-amzn-errortype"], "ValidationException");

    let response = sender
        .send_request(request(&host, "http", &[], b"still served"))
        .await
        .unwrap();
    assert_eq!(bytes(response).await, "still served");
}

#[tokio::test]
async fn http_2_drains_and_cancels() {
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&release);
    let server = start(config(), move |_| {
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
    let host = server.address.to_string();
    let mut sender = http2(TcpStream::connect(server.address).await.unwrap()).await;

    let abandoned = tokio::spawn(sender.send_request(request(&host, "http", &[], b"{}")));
    inside.recv().await.unwrap();
    abandoned.abort();
    server
        .wait_for_metric(r#"eyot_http_requests_total{operation="InvokeAgentRuntime",status="gone"} 1"#)
        .await;

    let answer = tokio::spawn(sender.send_request(request(&host, "http", &[], b"{}")));
    inside.recv().await.unwrap();
    let ended = server.stop();
    release.notify_one();
    assert_eq!(bytes(answer.await.unwrap().unwrap()).await, "finished");
    assert_eq!(ended.await.unwrap(), Drained::Clean);
}

struct Files {
    _dir: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
    other_key: PathBuf,
    empty: PathBuf,
    client: rustls::RootCertStore,
}

fn files() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut client = rustls::RootCertStore::empty();
    client.add(made.cert.der().clone()).unwrap();
    Files {
        cert: write("cert.pem", &made.cert.pem()),
        key: write("key.pem", &made.signing_key.serialize_pem()),
        other_key: write("other.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem()),
        empty: write("empty.pem", "nothing here\n"),
        client,
        _dir: dir,
    }
}

#[tokio::test]
async fn tls_offers_both_versions_by_alpn() {
    let files = files();
    let server = echo(Config {
        tls_cert: Some(files.cert.clone()),
        tls_key: Some(files.key.clone()),
        ..config()
    })
    .await;
    let host = server.address.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let plain = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(files.client.clone())
        .with_no_client_auth();
    let connect = async |alpn: &[&[u8]]| {
        let mut config = plain.clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap()
    };

    let stream = connect(&[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2(stream).await;
    let response = sender
        .send_request(request(&host, "https", &[], b"over h2"))
        .await
        .unwrap();
    assert_eq!(bytes(response).await, "over h2");

    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut raw = Raw::new(connect(alpn).await);
        raw.write(&server.signed("POST", INVOKE, &[], b"over http/1.1")).await;
        assert_eq!(raw.answer().await.text(), "over http/1.1");
    }

    // Plain HTTP on a TLS port, and a handshake that never comes, end the connection and nothing else.
    let mut raw = server.connect().await;
    raw.write(b"GET /_eyot/healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while raw.until(b"\0").await.is_some() {}
    assert_eq!(server.stop().await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn a_mistake_in_the_tls_files_names_the_file() {
    let files = files();
    let missing = files.cert.with_file_name("missing.pem");
    let cases = [
        (Some(&files.cert), None, "both a certificate and a key"),
        (Some(&missing), Some(&files.key), "missing.pem"),
        (Some(&files.cert), Some(&missing), "missing.pem"),
        (Some(&files.empty), Some(&files.key), "empty.pem holds no certificate"),
        (Some(&files.cert), Some(&files.empty), "empty.pem"),
        (Some(&files.cert), Some(&files.other_key), "cannot be used together"),
    ];
    for (cert, key, expected) in cases {
        let config = Config {
            tls_cert: cert.cloned(),
            tls_key: key.cloned(),
            ..config()
        };
        let error = bind(config).await.unwrap_err();
        assert!(
            matches!(error, BindError::Tls(_)) && error.to_string().contains(expected),
            "{expected}: {error}"
        );
    }
}

#[tokio::test]
async fn a_spool_directory_that_cannot_be_made_stops_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = bind(Config {
        spool_dir: Some(file.path().join("below")),
        ..config()
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, BindError::Spool { .. }) && error.to_string().contains("below"),
        "{error}"
    );
}

async fn bind(config: Config) -> Result<Server, BindError> {
    let wiring = wiring(Vec::new(), Readiness::default());
    Server::bind(([127, 0, 0, 1], 0).into(), config, wiring).await
}
