//! Pages of other origins, and callers of STS: the two that do not speak as an AWS client of AgentCore does.

use crate::harness::{INVOKE, Running, config, plain, start};
use front_door::Config;
use front_door::body::full;
use front_door::service::Reply;
use http::HeaderMap;

const PAGE: &str = "https://app.example";

async fn serving(config: Config) -> Running {
    start(config, |_| async {
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full("called"),
        })
    })
    .await
}

fn asks<'a>(origin: &'a str, headers: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", headers),
    ]
}

#[tokio::test]
async fn a_preflight_needs_no_credentials_and_reaches_no_service() {
    let server = serving(config()).await;
    let asked = "authorization,content-type,x-amzn-bedrock-agentcore-runtime-session-id";
    let answer = plain(&server, "OPTIONS", INVOKE, &asks(PAGE, asked), "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some(asked));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn answers_and_refusals_can_be_read_by_the_page() {
    let server = serving(config()).await;
    let refused = plain(&server, "POST", INVOKE, &[("origin", PAGE)], "").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let answered = server.send_with("POST", INVOKE, &[("origin", PAGE)], b"").await;
    assert_eq!((answered.status, answered.text().as_str()), (200, "called"));
    assert_eq!(answered.header("access-control-allow-origin"), Some("*"));
    assert!(
        answered
            .header("access-control-expose-headers")
            .unwrap()
            .contains("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id")
    );
    let without = server.send("POST", INVOKE, b"").await;
    assert_eq!(without.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn only_named_origins_and_only_the_data_plane_are_shared() {
    let named = Config {
        cors_origins: vec![PAGE.to_owned()],
        ..config()
    };
    let server = serving(named).await;
    let check = async |path: &str, origin: &str, status: u16, allowed: Option<&str>| {
        let answer = plain(&server, "OPTIONS", path, &asks(origin, "authorization"), "").await;
        assert_eq!(answer.status, status, "{path} {origin}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path} {origin}");
    };
    check(INVOKE, PAGE, 204, Some(PAGE)).await;
    check(INVOKE, "https://evil.example", 403, None).await;
    check("/runtimes/", PAGE, 403, None).await;
    check("/_eyot/metrics", PAGE, 403, None).await;
    check("/", PAGE, 403, None).await;
}

#[tokio::test]
async fn sts_takes_a_form_and_says_its_errors_in_xml() {
    let server = serving(config()).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let unsigned = "Action=AssumeRoleWithWebIdentity&WebIdentityToken=a+b%2Bc";
    let answer = plain(&server, "POST", "/", &form, unsigned).await;
    assert_eq!(answer.status, 200);
    let said = r#"None [("Action", "AssumeRoleWithWebIdentity"), ("WebIdentityToken", "a b+c")]"#;
    assert_eq!(answer.text(), said);

    // Signed, but for AgentCore.
    let answer = server.send("POST", "/", b"Action=GetCallerIdentity").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("content-type"), Some("text/xml"));
    assert!(
        answer.text().contains("<Code>SignatureDoesNotMatch</Code>"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("correct service: 'sts'"));

    let bearer = [("authorization", "Bearer x")];
    let answer = plain(&server, "POST", "/", &bearer, "Action=GetCallerIdentity").await;
    assert_eq!(answer.status, 403);
    let answer = plain(&server, "POST", "/", &form, "Action=%ff").await;
    assert!(
        answer.text().contains("<Code>ValidationError</Code>"),
        "{}",
        answer.text()
    );
    assert_eq!((answer.status, server.calls()), (400, 1));
}
