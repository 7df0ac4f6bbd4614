use super::*;
use crate::artifacts::config::Secret;
use api::control::AgentManagedRuntimeType;
use aws_lc_rs::{digest, hmac};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const KEY: &str = "dir/some agent+ü.zip";

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// An S3-compatible service that gives prepared answers and keeps what it was asked.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<Request<()>>>>,
    _server: JoinSet<()>,
}

async fn service(answers: Vec<Answer>) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let mut server = JoinSet::new();
    let keep = Arc::clone(&asked);
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (keep, answers) = (Arc::clone(&keep), Arc::clone(&answers));
            let serve = service_fn(move |request: Request<Incoming>| {
                keep.lock().unwrap().push(request.map(|_| ()));
                let answer = answers
                    .lock()
                    .unwrap()
                    .pop_front()
                    .expect("no more calls than expected");
                async move { Ok::<_, Infallible>(answer) }
            });
            // One after the other, as the client asks.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        }
    });
    Service {
        url,
        asked,
        _server: server,
    }
}

fn answer(status: u16, body: &str) -> Answer {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {});
    Response::builder().status(status).body(BoxBody::new(body)).unwrap()
}

/// Without a length, chunk by chunk; breaks off at the end if told so.
fn chunks(chunks: &[&'static str], breaks: bool) -> Answer {
    let mut frames: Vec<Result<_, std::io::Error>> = chunks
        .iter()
        .map(|chunk| Ok(http_body::Frame::data(Bytes::from_static(chunk.as_bytes()))))
        .collect();
    if breaks {
        frames.push(Err(std::io::Error::other("breaks")));
    }
    Response::new(BoxBody::new(StreamBody::new(futures_util::stream::iter(frames))))
}

fn s3(endpoint: &str) -> S3 {
    S3 {
        endpoint: endpoint.to_owned(),
        region: "eu-west-1".to_owned(),
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(SECRET),
        session_token: None,
        buckets: Vec::new(),
        force_path_style: true,
        ca_file: None,
    }
}

fn code(version_id: Option<&str>) -> Code {
    Code {
        bucket: "my-bucket".to_owned(),
        key: KEY.to_owned(),
        version_id: version_id.map(str::to_owned),
        runtime: AgentManagedRuntimeType::Python3_11,
        entry_point: vec!["main.py".to_owned()],
    }
}

fn client(services: &[(&str, S3)]) -> Result<Client, String> {
    let services = services
        .iter()
        .map(|(name, s3)| ((*name).to_owned(), s3.clone()))
        .collect();
    Client::new(
        &services,
        Clock::from_fn(|| Timestamp::from_second(1_800_000_000).unwrap()),
    )
}

/// Fetches at most 100 bytes.
async fn fetch(s3: S3, code: &Code) -> Result<String, String> {
    let mut file = File::from_std(tempfile::tempfile().unwrap());
    let size = client(&[("store", s3)]).unwrap().fetch(code, &mut file, 100).await?;
    let mut content = String::new();
    file.rewind().await.unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut file, &mut content)
        .await
        .unwrap();
    assert_eq!(size, content.len() as u64);
    Ok(content)
}

/// The signature that S3 expects of a request, made from the rules and not with the signer.
fn expected_signature(request: &Request<()>) -> String {
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let authorization = header("authorization");
    let (_, signed) = authorization.split_once("SignedHeaders=").unwrap();
    let (signed, _) = signed.split_once(',').unwrap();
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let payload = header("x-amz-content-sha256");
    let canonical = format!("GET\n{path}\n{query}\n{headers}\n{signed}\n{payload}");
    let canonical = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
    let at = header("x-amz-date");
    let day = &at[..8];
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{day}/eu-west-1/s3/aws4_request\n{canonical}");
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = mac(format!("AWS4{SECRET}").as_bytes(), day);
    for part in ["eu-west-1", "s3", "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    hex::encode(mac(key.as_ref(), &to_sign))
}

#[tokio::test]
async fn an_object_is_fetched_with_a_valid_signature() {
    for (version, query) in [(None, None), (Some("3/L4+k"), Some("versionId=3%2FL4%2Bk"))] {
        let service = service(vec![answer(200, "content")]).await;
        let mut s3 = s3(&service.url);
        s3.session_token = Some(Secret::new("session"));
        assert_eq!(fetch(s3, &code(version)).await.unwrap(), "content");
        let asked = service.asked.lock().unwrap();
        let [request] = asked.as_slice() else {
            panic!("{asked:?}")
        };
        assert_eq!(request.uri().path(), "/my-bucket/dir/some%20agent%2B%C3%BC.zip");
        assert_eq!(request.uri().query(), query);
        assert_eq!(request.headers()["x-amz-security-token"], "session");
        assert_eq!(
            request.headers()["host"].to_str().unwrap(),
            service.url.trim_start_matches("http://")
        );
        let authorization = request.headers()["authorization"].to_str().unwrap();
        let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/eu-west-1/s3/aws4_request, ";
        assert!(authorization.starts_with(scope), "{authorization}");
        assert!(authorization.ends_with(&expected_signature(request)), "{authorization}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let cut = || chunks(&["half a "], true);
    let service = service(vec![answer(503, ""), cut(), chunks(&["the ", "whole"], false)]).await;
    assert_eq!(fetch(s3(&service.url), &code(None)).await.unwrap(), "the whole");
    assert_eq!(service.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let error = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    for (answers, words) in [
        (
            vec![answer(404, &error("NoSuchKey"))],
            vec![
                KEY,
                "[runtime.s3.store]",
                "no such object (HTTP 404, NoSuchKey): upload it or correct `prefix`",
            ],
        ),
        (vec![answer(404, "")], vec!["no such object"]),
        (
            vec![answer(404, &error("NoSuchVersion"))],
            vec!["no such version", "`versionId`"],
        ),
        (
            vec![answer(404, &error("NoSuchBucket"))],
            vec![
                "my-bucket",
                "no such bucket (HTTP 404, NoSuchBucket): create it or correct `bucket`",
            ],
        ),
        (
            vec![answer(403, &error("AccessDenied"))],
            vec!["access is denied", "s3:GetObject"],
        ),
        (
            vec![answer(403, &error("SignatureDoesNotMatch"))],
            vec!["secret access key is wrong"],
        ),
        (
            vec![answer(403, &error("InvalidAccessKeyId"))],
            vec!["does not know", "access key"],
        ),
        (
            vec![answer(301, &error("PermanentRedirect"))],
            vec!["`endpoint`", "`region`"],
        ),
        (
            vec![answer(200, &"x".repeat(101))],
            vec!["larger than the 100 bytes", "`max_object_bytes`"],
        ),
        (
            vec![chunks(&["0123456789012345678901234567890123456789"; 3], false)],
            vec!["larger than the 100 bytes"],
        ),
        (
            vec![answer(500, ""), answer(500, ""), answer(500, "")],
            vec!["HTTP 500", "tried 3 times", CHECK],
        ),
    ] {
        let expected = answers.len();
        let service = service(answers).await;
        let said = fetch(s3(&service.url), &code(None)).await.unwrap_err();
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{said} has not all of {words:?}"
        );
        assert!(!said.contains(SECRET), "{said}");
        assert_eq!(service.asked.lock().unwrap().len(), expected, "{said}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let said = fetch(s3(&format!("http://127.0.0.1:{port}")), &code(None))
        .await
        .unwrap_err();
    assert!(
        said.contains("no connection to 127.0.0.1") && said.contains("tried 3 times") && said.ends_with(CHECK),
        "{said}"
    );
    let said = fetch(s3(&format!("https://127.0.0.1:{port}")), &code(None))
        .await
        .unwrap_err();
    assert!(said.contains("no connection"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn each_service_has_its_own_turns() {
    let elsewhere = S3 {
        buckets: vec!["elsewhere".into()],
        ..s3("http://a")
    };
    let client = client(&[("store", s3("http://b")), ("other", elsewhere)]).unwrap();
    let object = code(None);
    let mut held = Vec::new();
    for _ in 0..AT_ONCE {
        held.push(client.turn(&object).await.unwrap());
    }
    let other = Code {
        bucket: "elsewhere".to_owned(),
        ..code(None)
    };
    drop(client.turn(&other).await.unwrap());
    let began = tokio::time::Instant::now();
    let said = client.turn(&object).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    assert!(said.contains("[runtime.s3.store]") && said.ends_with(CHECK), "{said}");
    held.pop();
    drop(client.turn(&object).await.unwrap());
}

#[test]
fn the_configuration_is_checked() {
    let bad = |change: fn(&mut S3), word: &str| {
        let mut s3 = s3("http://127.0.0.1:9000");
        change(&mut s3);
        let said = client(&[("store", s3)]).unwrap_err();
        assert!(said.contains("[runtime.s3.store]") && said.contains(word), "{said}");
    };
    bad(|s3| s3.endpoint = "127.0.0.1:9000".into(), "`endpoint`");
    bad(|s3| s3.endpoint = "ftp://127.0.0.1".into(), "`endpoint`");
    bad(|s3| s3.endpoint = "http://127.0.0.1/path".into(), "`endpoint`");
    bad(|s3| s3.endpoint = "http://user:secret@127.0.0.1".into(), "`endpoint`");
    bad(
        |s3| (s3.endpoint, s3.ca_file) = ("https://a".into(), Some("/no/such/file".into())),
        "/no/such/file",
    );

    let two = client(&[("a", s3("http://a")), ("b", s3("http://b"))]).unwrap_err();
    assert!(two.contains("a, b") && two.contains("buckets"), "{two}");
    let named = S3 {
        buckets: vec!["one".into()],
        ..s3("http://a")
    };
    let both = client(&[("a", named.clone()), ("b", s3("http://b"))]).unwrap();
    let of = |bucket: &str| both.locate(bucket).map(|service| service.name.as_str());
    assert_eq!((of("one"), of("two")), (Some("a"), Some("b")));
    assert!(!client(&[("a", named)]).unwrap().has("two"));
}

#[test]
fn the_host_is_written_as_s3_wants_it() {
    for (endpoint, path_style, host) in [
        ("http://127.0.0.1:9000", true, "127.0.0.1:9000"),
        ("http://[::1]:9000", true, "[::1]:9000"),
        ("https://s3.example.com", true, "s3.example.com"),
        ("https://s3.example.com", false, "my-bucket.s3.example.com"),
        ("http://minio:9000/", false, "my-bucket.minio:9000"),
    ] {
        let s3 = S3 {
            force_path_style: path_style,
            ..s3(endpoint)
        };
        let client = client(&[("store", s3)]).unwrap();
        let service = client.locate("my-bucket").unwrap();
        assert_eq!(service.address.header(&service.host_of("my-bucket")), host);
    }
}
