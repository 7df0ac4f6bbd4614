//! The client against a server of a few lines on a real socket.

use super::*;
use std::io::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn connection(url: &str) -> Connection {
    Connection {
        control_url: url.to_owned(),
        data_url: url.to_owned(),
        region: "us-west-2".to_owned(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: Some("token".to_owned()),
    }
}

/// Answers one connection after another with the given bytes; gives back the address and what the last client sent.
async fn server(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&got);
                let wanted = text.split_once("\r\n\r\n").and_then(|(head, body)| {
                    let length = head
                        .lines()
                        .find_map(|l| l.strip_prefix("content-length: "))?
                        .parse()
                        .ok()?;
                    Some(body.len() >= length)
                });
                if wanted == Some(true) {
                    break;
                }
                assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "the client went away");
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(String::from_utf8(got).unwrap());
        }
        requests
    });
    (url, task)
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn requests_are_signed_for_what_is_sent() {
    let (url, task) = server(vec![EMPTY]).await;
    let mut client = Client::new(connection(&url));
    client.clock = Clock::from_fn(|| "2026-11-22T10:00:00Z".parse().unwrap());
    client
        .control(Method::PUT, "/runtimes/?a=b", Some(&serde_json::json!({"x": 1})))
        .await
        .unwrap();
    let request = &task.await.unwrap()[0];
    let sha256 = "5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22";
    for part in [
        "PUT /runtimes/?a=b HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        &format!("x-amz-content-sha256: {sha256}\r\n"),
        "x-amz-date: 20261122T100000Z\r\n",
        "x-amz-security-token: token\r\n",
        "Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-west-2/bedrock-agentcore/aws4_request",
        "SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "\r\n\r\n{\"x\":1}",
    ] {
        assert!(request.contains(part), "{request}\nlacks {part:?}");
    }
}

#[tokio::test]
async fn files_are_sent_with_their_own_digest() {
    let (url, task) = server(vec![EMPTY]).await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"content of a file").unwrap();
    let payload = Payload::from_file(file).unwrap();
    let (sha256, size) = payload.digest();
    assert_eq!(
        (payload.digest(), size),
        (Payload::Memory(Bytes::from_static(b"content of a file")).digest(), 17)
    );
    let call = Call {
        plane: Plane::Data,
        method: Method::PUT,
        target: "/_eyot/artifacts/b/k".to_owned(),
        headers: HeaderMap::new(),
        payload,
        deadline: CONTROL_DEADLINE,
    };
    Client::new(connection(&url)).send(call).await.unwrap();
    let request = &task.await.unwrap()[0];
    assert!(
        request.ends_with("\r\n\r\ncontent of a file") && request.contains(&sha256),
        "{request}"
    );
}

#[tokio::test]
async fn refusals_say_what_the_server_said() {
    for (answer, want) in [
        (
            "HTTP/1.1 404 x\r\nx-amzn-errortype: com.amazonaws#ResourceNotFoundException:http://x\r\n\
             x-amzn-requestid: r1\r\ncontent-length: 27\r\n\r\n{\"message\":\"no such thing\"}",
            "no such thing",
        ),
        (
            "HTTP/1.1 424 x\r\nx-amzn-errortype: RuntimeClientError\r\nx-eyot-agent-error: boom%0A%1B[31m100 %25\r\n\
             content-length: 15\r\n\r\n{\"message\":\"x\"}",
            "x [RuntimeClientError, 424]\nThe agent said: boom\n[31m100 %",
        ),
        (
            "HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\nhtml",
            "the server answered 502 Bad Gateway: html",
        ),
    ] {
        let (url, _task) = server(vec![answer]).await;
        let error = Client::new(connection(&url)).runtime("x-0123456789").await.unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
        if want == "no such thing" {
            assert_eq!(
                error.to_string(),
                "no such thing [ResourceNotFoundException, 404] (request r1)"
            );
            assert!(
                matches!(&error, Error::Refused { status, kind, .. } if *status == 404 && kind == "ResourceNotFoundException")
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_goes_away_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(connection(&free)).runtimes().await.unwrap_err().to_string();
    assert!(
        error.contains("cannot reach") && error.contains("eyot serve"),
        "{error}"
    );

    let (url, _task) = server(vec![""]).await;
    let error = Client::new(connection(&url)).runtimes().await.unwrap_err();
    assert!(matches!(error, Error::BrokeOff(_)), "{error}");

    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{";
    let (url, _task) = server(vec![cut]).await;
    let error = Client::new(connection(&url)).runtimes().await.unwrap_err();
    assert!(matches!(error, Error::BrokeOff(_)), "{error}");

    for wrong in ["ftp://x", "not a url", "/path"] {
        let error = Client::new(connection(wrong)).runtimes().await.unwrap_err();
        assert!(matches!(error, Error::Endpoint(..)), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn all_pages_of_a_list_are_read() {
    let first = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"agentRuntimes\":[{\"agentRuntimeName\":\"a\",\
                 \"agentRuntimeId\":\"a-1\",\"agentRuntimeArn\":\"arn:a\"}],\"nextToken\":\"x/y\"}";
    let last = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"agentRuntimes\":[{\"agentRuntimeName\":\"b\",\
                \"agentRuntimeId\":\"b-1\",\"agentRuntimeArn\":\"arn:b\"}]}";
    let (url, task) = server(vec![first, last]).await;
    let found = Client::new(connection(&url)).runtimes().await.unwrap();
    assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(task.await.unwrap()[1].starts_with("POST /runtimes/?maxResults=100&nextToken=x%2Fy "));
}

#[test]
fn the_secret_is_not_printed() {
    let shown = format!("{:?}", Client::new(connection("http://x")));
    assert!(!shown.contains("wJalr") && shown.contains("AKIA"), "{shown}");
}
