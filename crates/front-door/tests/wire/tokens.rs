//! Runtimes that want bearer tokens: who gets in, what the others are told, and that a body streams through.

use crate::harness::{INVOKE, Running, Wire, config, plain, start_for};
use crate::provider::Provider;
use front_door::Config;
use front_door::body::full;
use front_door::service::Reply;
use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::json;

const STOP: &str = "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fagent-0123456789/stopruntimesession";
const MISMATCH: &str = "Authorization method mismatch.";

/// A server whose runtime takes tokens of `provider`, and answers an invocation with who called and what came.
async fn serving(config: Config, provider: &Provider) -> Running {
    start_for(config, provider.authorizer(), |call| async move {
        let arn = call.caller.arn.clone();
        let body = call.body.collect().await.unwrap().to_bytes();
        Ok(Reply::Stream {
            headers: HeaderMap::new(),
            body: full(format!("{arn} {}", String::from_utf8(body.to_vec()).unwrap())),
        })
    })
    .await
}

async fn bearing(server: &Running, token: &str) -> Wire {
    plain(
        server,
        "POST",
        INVOKE,
        &[("authorization", &format!("Bearer {token}"))],
        "hello",
    )
    .await
}

#[tokio::test]
async fn a_good_token_calls_and_a_signature_does_not() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    let token = provider.token(json!({}));
    let answer = bearing(&server, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.text(), format!("oauth:{}:alice hello", provider.issuer()));
    let signed = server
        .send("POST", INVOKE, b"hello")
        .await
        .error(403, "AccessDeniedException");
    assert!(signed["message"].as_str().unwrap().starts_with(MISMATCH));
    let presigned = format!("{INVOKE}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0");
    assert_eq!(plain(&server, "POST", &presigned, &[], "").await.status, 403);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_token_does_not_call_what_wants_a_signature() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    let authorization = format!("Bearer {}", provider.token(json!({})));
    let header = [("authorization", authorization.as_str())];
    for (method, path) in [
        ("GET", "/runtimes/agent-0123456789/"),
        ("POST", "/runtimes/other-0123456789/invocations?accountId=123456789012"),
        ("GET", "/_eyot/artifacts"),
    ] {
        let refused = plain(&server, method, path, &header, "")
            .await
            .error(403, "AccessDeniedException");
        assert!(refused["message"].as_str().unwrap().starts_with(MISMATCH), "{path}");
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn whoever_has_no_token_is_told_where_to_get_one() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    for headers in [&[][..], &[("authorization", "Bearer")], &[("authorization", "Bearer ")]] {
        let refused = plain(&server, "POST", INVOKE, headers, "hello").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("x-amzn-errortype"), Some("UnauthorizedException"));
        let challenge = refused.header("www-authenticate").unwrap();
        let url = challenge.strip_prefix("Bearer resource_metadata=\"").unwrap();
        let url = url.split('"').next().unwrap();
        assert!(
            challenge.contains("scope=\"agents\"") && !challenge.contains("error="),
            "{challenge}"
        );
        let path = url.strip_prefix(&format!("http://{}", server.address)).unwrap();
        let resource = INVOKE.strip_suffix("/invocations").unwrap();
        assert_eq!(
            path,
            format!("{resource}/invocations/.well-known/oauth-protected-resource?qualifier=DEFAULT")
        );

        let document = plain(&server, "GET", path, &[], "").await;
        assert_eq!(document.status, 200, "{}", document.text());
        let expected = json!({
            "resource": format!("http://{}{INVOKE}?qualifier=DEFAULT", server.address),
            "authorization_servers": [provider.issuer()],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["agents"],
        });
        assert_eq!(document.json(), expected);
    }
    let unknown = "/runtimes/other-0123456789/invocations/.well-known/oauth-protected-resource";
    plain(&server, "GET", unknown, &[], "")
        .await
        .error(404, "ResourceNotFoundException");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_bad_token_is_told_what_is_wrong_with_it() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    let check = async |token: &str, said: &str| {
        let refused = bearing(&server, token).await;
        assert_eq!(refused.status, 401, "{said}");
        assert!(
            refused
                .header("www-authenticate")
                .unwrap()
                .ends_with("error=\"invalid_token\"")
        );
        let text = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(
            text.starts_with("OAuth authorization failed: ") && text.contains(said),
            "{text}"
        );
        assert!(!text.contains(token));
    };
    check("nonsense", "parse").await;
    check(
        &provider.token(json!({"aud": "somebody else"})),
        "Claim 'aud' value mismatch with configuration.",
    )
    .await;
    check(&provider.token(json!({"exp": 1_000_000_000})), "expired").await;
    check(&provider.token(json!({"iss": "https://evil.example"})), "'iss'").await;
    let good = provider.token(json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged: String = signature.chars().rev().collect();
    check(&format!("{head}.{forged}"), "signature").await;
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn behind_a_proxy_the_challenge_names_the_public_address() {
    let provider = Provider::start().await;
    let public = Config {
        public_url: Some("https://agents.example.com/".to_owned()),
        ..config()
    };
    let server = serving(public, &provider).await;
    let refused = plain(&server, "POST", INVOKE, &[], "").await;
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("\"https://agents.example.com/runtimes/arn%3Aaws"),
        "{challenge}"
    );

    let proxied = Config {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..config()
    };
    let server = serving(proxied, &provider).await;
    let headers = [("x-forwarded-proto", "https")];
    let refused = plain(&server, "POST", INVOKE, &headers, "").await;
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains(&format!("\"https://{}/runtimes", server.address)),
        "{challenge}"
    );
}

#[tokio::test]
async fn a_host_cannot_write_into_the_challenge() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    let mut raw = server.connect().await;
    raw.write(format!("POST {INVOKE} HTTP/1.1\r\nhost: a\",x=\"b\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .await;
    let refused = raw.answer().await;
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(!challenge.contains("x=\"b"), "{challenge}");
}

#[tokio::test]
async fn other_operations_of_the_runtime_take_tokens_too() {
    let provider = Provider::start().await;
    let server = serving(config(), &provider).await;
    let session = "s".repeat(33);
    let authorization = format!("Bearer {}", provider.token(json!({})));
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-amzn-bedrock-agentcore-runtime-session-id", session.as_str()),
    ];
    let answer = plain(&server, "POST", STOP, &headers, "{}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(plain(&server, "POST", STOP, &headers[1..], "{}").await.status, 401);
}
