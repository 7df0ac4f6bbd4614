//! Roles outside, with an STS that is a server on loopback.

use super::*;
use crate::credentials::NoRoles;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

fn roles(text: &str) -> Result<Outside, String> {
    let role: Role = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let all = BTreeMap::from([("bedrock".to_owned(), role)]);
    let clock = Clock::from_fn(|| "2026-11-25T12:00:00Z".parse().unwrap());
    Outside::new(&all, Arc::new(NoRoles), clock)
}

fn with(settings: &str) -> String {
    format!(r#"{{"arn":"{ROLE}",{settings}}}"#)
}

async fn issue(outside: &Outside, role_arn: &str) -> Result<Temporary, Error> {
    let source = crate::session::testing::deployment().arn;
    let wanted = Wanted {
        role_arn,
        session_name: "session-1",
        source: &source,
    };
    outside.issue(&wanted).await
}

const KEYS: &str = r#""access_key_id":"AKIA1","secret_access_key":"hush""#;

#[test]
fn a_wrong_setting_is_named() {
    let check = |settings: &str, expected: &str| {
        let said = roles(&with(settings)).unwrap_err();
        assert!(said.contains(expected) && !said.contains("hush"), "{settings}: {said}");
    };
    check(r#""profle":"x""#, "unknown field `profle`");
    check(
        r#""region":"us-east-1""#,
        "[runtime.roles.bedrock] set either `profile`",
    );
    check(&format!(r#"{KEYS},"profile":"x""#), "set either `profile`");
    check(r#""access_key_id":"AKIA1""#, "set either `profile`");
    check(r#""profile":"x","session_token":"hush""#, "set either `profile`");
    check(&format!(r#"{KEYS},"credentials_file":"/x""#), "set either `profile`");
    check(
        &format!(r#"{KEYS},"external_id":"x""#),
        "`external_id` is of no use without `assume_role`",
    );
    check(&format!(r#"{KEYS},"endpoint":"http://x""#), "`endpoint` is of no use");
    check(
        &format!(r#"{KEYS},"assume_role":"admin""#),
        "`assume_role` must be the ARN",
    );
    let assume = format!(r#"{KEYS},"assume_role":"arn:aws:iam::1:role/x""#);
    check(
        &format!(r#"{assume},"duration_seconds":60"#),
        "`duration_seconds` must be",
    );
    check(&format!(r#"{assume},"endpoint":"sts""#), "`endpoint` must be a URL");
    let role: Role = serde_json::from_str(&with(KEYS)).unwrap();
    let twice = BTreeMap::from([("a".to_owned(), role.clone()), ("b".to_owned(), role)]);
    let said = Outside::new(&twice, Arc::new(NoRoles), Clock::system()).unwrap_err();
    assert!(
        said.contains("[runtime.roles.b] `arn` is also that of [runtime.roles.a]"),
        "{said}"
    );
}

#[tokio::test]
async fn keys_are_given_for_an_hour_and_other_roles_left_alone() {
    let outside = roles(&with(KEYS)).unwrap();
    assert!(!format!("{outside:?}").contains("hush"));
    let given = issue(&outside, ROLE).await.unwrap();
    assert_eq!(
        (&*given.access_key_id, given.secret_access_key.reveal()),
        ("AKIA1", "hush")
    );
    assert_eq!(given.session_token.reveal(), "");
    assert_eq!(given.expires_at, "2026-11-25T13:00:00Z".parse::<Timestamp>().unwrap());
    let other = issue(&outside, "arn:aws:iam::123456789012:role/other").await;
    assert!(matches!(other, Err(Error::Refused(said)) if said.contains("role/other")));
    outside.revoke("AKIA1", given.expires_at).await.unwrap();
}

#[tokio::test]
async fn a_profile_is_read_anew_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let settings = serde_json::json!({ "arn": ROLE, "profile": "agents", "credentials_file": file });
    let outside = roles(&settings.to_string()).unwrap();
    let error = issue(&outside, ROLE).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(said) if !said.contains("credentials_file")),
        "{error}"
    );
    for id in ["AKIA1", "AKIA2"] {
        std::fs::write(
            &file,
            format!("[agents]\naws_access_key_id={id}\naws_secret_access_key=s\n"),
        )
        .unwrap();
        assert_eq!(issue(&outside, ROLE).await.unwrap().access_key_id, id);
    }
}

/// Answers one request and gives back what it was.
async fn sts(status: &'static str, body: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        while !request.contains("ExternalId=") {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{request}");
            request += std::str::from_utf8(&buffer[..count]).unwrap();
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    (url, served)
}

fn assuming(url: &str) -> Outside {
    let settings = format!(
        r#"{KEYS},"session_token":"tok","assume_role":"arn:aws:iam::1:role/x","external_id":"a b","endpoint":"{url}","region":"eu-west-1""#
    );
    roles(&with(&settings)).unwrap()
}

#[tokio::test]
async fn a_role_at_aws_is_assumed_with_a_signed_call() {
    let body = "<AssumeRoleResponse><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                <SessionToken>t</SessionToken><Expiration>2026-11-25T12:15:00Z</Expiration></AssumeRoleResponse>";
    let (url, served) = sts("200 OK", body).await;
    let given = issue(&assuming(&url), ROLE).await.unwrap();
    assert_eq!((&*given.access_key_id, given.session_token.reveal()), ("ASIA1", "t"));
    let request = served.await.unwrap();
    let (head, form) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        form,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&RoleSessionName=session-1\
         &DurationSeconds=3600&ExternalId=a%20b"
    );
    assert!(
        head.contains("Credential=AKIA1/20261125/eu-west-1/sts/aws4_request"),
        "{head}"
    );
    assert!(
        head.contains("x-amz-security-token: tok") && !head.contains("hush"),
        "{head}"
    );
}

#[tokio::test]
async fn a_refusal_of_aws_is_the_operators_and_not_told_to_agents() {
    let (url, served) = sts("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>").await;
    let error = issue(&assuming(&url), ROLE).await.unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(error, Error::Unavailable(_)) && !said.contains("AccessDenied"),
        "{said}"
    );
    served.await.unwrap();
    // Nobody there.
    assert!(issue(&assuming("http://127.0.0.1:1"), ROLE).await.is_err());
}
