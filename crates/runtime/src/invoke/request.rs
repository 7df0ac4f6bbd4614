//! What an agent receives: method, path and headers. The body goes through untouched.
//!
//! Invariant: nothing of the client's headers reaches an agent but content type, accept, trace headers and the names
//! that the version allows; above all no signature, token or user id.

use crate::deployment::Deployment;
use crate::session::InFlight;
use domain::Error;
use domain::id::SessionId;
use front_door::body::Incoming;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use uuid::Uuid;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-session-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-request-id");

/// Trace headers, which travel both ways, with the names of their input members.
pub(super) static TRACE: [(&str, HeaderName); 4] = [
    ("traceId", HeaderName::from_static("x-amzn-trace-id")),
    ("traceParent", HeaderName::from_static("traceparent")),
    ("traceState", HeaderName::from_static("tracestate")),
    ("baggage", HeaderName::from_static("baggage")),
];

/// AWS's limit for the value of an allow-listed header.
const MAX_ALLOWED_VALUE: usize = 4096;

/// The call's session, or a new one.
pub(super) fn session_id(input: &Map<String, Value>) -> Result<SessionId, Error> {
    match input.get("runtimeSessionId").and_then(Value::as_str) {
        Some(id) => SessionId::parse(id).map_err(|error| Error::invalid_field("runtimeSessionId", error.to_string())),
        None => Ok(SessionId::generate()),
    }
}

/// The head of the request to the agent.
pub(super) fn head(
    deployment: &Deployment,
    session: &SessionId,
    input: &Map<String, Value>,
    came: &HeaderMap,
    request_id: Uuid,
) -> Result<Request<()>, Error> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(deployment.path.as_str()).map_err(|error| {
        Error::internal(format!(
            "The version's path '{}' cannot be requested: {error}.",
            deployment.path
        ))
    })?;
    let headers = request.headers_mut();
    // With more room the map's memory is of a size that the allocator does not keep at hand; few requests have more.
    headers.reserve(6);
    let content_type = member(input, "contentType")?.unwrap_or(HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, content_type);
    if let Some(accept) = member(input, "accept")? {
        headers.insert(ACCEPT, accept);
    }
    for (name, header) in &TRACE {
        if let Some(value) = member(input, name)? {
            headers.insert(header, value);
        }
    }
    let visible = "an id of visible ASCII is a header value";
    headers.insert(SESSION_ID, HeaderValue::from_str(session.as_str()).expect(visible));
    let mut hyphenated = Uuid::encode_buffer();
    let request_id = request_id.as_hyphenated().encode_lower(&mut hyphenated);
    headers.insert(REQUEST_ID, HeaderValue::from_str(request_id).expect(visible));
    allowed(deployment, came, headers)?;
    Ok(request)
}

/// The body, counted as what the session's agent receives.
pub(super) fn counted(body: Incoming, session: &InFlight) -> Incoming {
    if let Some(bytes) = body.size_hint().exact() {
        session.calls.received(bytes);
        return body;
    }
    let session = session.share();
    let counted = body.map_frame(move |frame| {
        let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
        session.calls.received(bytes as u64);
        frame
    });
    Incoming::new(counted)
}

/// Adds the headers that the version allows. Names that may never be allowed are refused when a version is made; those
/// that carry the caller's proof of identity are left out here once more.
fn allowed(deployment: &Deployment, came: &HeaderMap, headers: &mut HeaderMap) -> Result<(), Error> {
    for name in &deployment.header_allowlist {
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        // `Authorization` reaches an agent only from callers with a bearer token; here it is the signature.
        if name == AUTHORIZATION || name.as_str().starts_with("x-amz-") || headers.contains_key(&name) {
            continue;
        }
        for value in came.get_all(&name) {
            if value.len() > MAX_ALLOWED_VALUE {
                let message = format!(
                    "the header's value has {} bytes; at most 4096 are passed on",
                    value.len()
                );
                return Err(Error::invalid_field(name.as_str(), message));
            }
            headers.append(&name, value.clone());
        }
    }
    Ok(())
}

fn member(input: &Map<String, Value>, name: &str) -> Result<Option<HeaderValue>, Error> {
    let Some(value) = input.get(name).and_then(Value::as_str) else {
        return Ok(None);
    };
    HeaderValue::from_str(value)
        .map(Some)
        .map_err(|_| Error::invalid_field(name, "holds a character that a header cannot carry"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::deployment;
    use serde_json::json;

    /// Checks exactly which headers an agent gets.
    fn check(input: Value, came: &[(&'static str, &str)], allow: &[&str], expected: &[(&str, &str)]) {
        let mut deployment = deployment();
        deployment.header_allowlist = allow.iter().map(|name| (*name).to_owned()).collect();
        let came: HeaderMap = came
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let Value::Object(input) = input else {
            panic!("not an object")
        };
        let session = SessionId::parse(&"s".repeat(33)).unwrap();
        let request = head(&deployment, &session, &input, &came, Uuid::nil()).unwrap();
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/invocations")
        );
        let always = [
            (
                "x-amzn-bedrock-agentcore-runtime-request-id",
                "00000000-0000-0000-0000-000000000000",
            ),
            (
                "x-amzn-bedrock-agentcore-runtime-session-id",
                "sssssssssssssssssssssssssssssssss",
            ),
        ];
        let mut expected: Vec<(&str, &str)> = expected.iter().copied().chain(always).collect();
        let mut got: Vec<(&str, &str)> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        expected.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, expected);
    }

    #[test]
    fn json_is_assumed() {
        check(json!({}), &[], &[], &[("content-type", "application/json")]);
    }

    #[test]
    fn modelled_headers_go_through() {
        let input = json!({
            "contentType": "text/plain", "accept": "text/event-stream", "traceId": "trace-17", "traceParent": "00-a-b-01",
            "traceState": "k=v", "baggage": "a=b", "runtimeUserId": "alice", "mcpSessionId": "m", "qualifier": "DEFAULT",
        });
        let expected = [
            ("content-type", "text/plain"),
            ("accept", "text/event-stream"),
            ("x-amzn-trace-id", "trace-17"),
            ("traceparent", "00-a-b-01"),
            ("tracestate", "k=v"),
            ("baggage", "a=b"),
        ];
        check(
            input,
            &[
                ("x-amzn-bedrock-agentcore-runtime-user-id", "alice"),
                ("user-agent", "Boto3"),
            ],
            &[],
            &expected,
        );
    }

    #[test]
    fn only_allowed_headers_go_through() {
        let came = [
            ("X-Team", "red"),
            ("x-team", "blue"),
            ("X-Other", "1"),
            ("Authorization", "AWS4-HMAC-SHA256 …"),
        ];
        let came = [
            came[0],
            came[1],
            came[2],
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("x-amz-security-token", "t"),
        ];
        let json = ("content-type", "application/json");
        check(json!({}), &came, &[], &[json]);
        check(
            json!({}),
            &came,
            &["x-team"],
            &[json, ("x-team", "red"), ("x-team", "blue")],
        );
        check(
            json!({}),
            &came,
            &["X-TEAM", "x-missing"],
            &[json, ("x-team", "red"), ("x-team", "blue")],
        );
        check(json!({}), &came, &["authorization", "x-amz-security-token"], &[json]);
    }

    #[test]
    fn an_allowed_header_cannot_forge_ours() {
        let came = [
            ("x-amzn-bedrock-agentcore-runtime-session-id", "forged"),
            ("content-type", "text/html"),
        ];
        let allow = ["x-amzn-bedrock-agentcore-runtime-session-id", "content-type"];
        check(json!({}), &came, &allow, &[("content-type", "application/json")]);
    }

    #[test]
    fn an_allowed_value_has_at_most_4096_bytes() {
        let mut deployment = deployment();
        deployment.header_allowlist = vec!["x-team".to_owned()];
        let session = SessionId::generate();
        for (length, ok) in [(4096, true), (4097, false)] {
            let mut came = HeaderMap::new();
            came.insert("x-team", HeaderValue::from_str(&"v".repeat(length)).unwrap());
            let result = head(&deployment, &session, &Map::new(), &came, Uuid::nil());
            assert_eq!(result.is_ok(), ok, "{length}: {result:?}");
        }
    }

    #[test]
    fn a_missing_session_id_is_made() {
        let made = session_id(&Map::new()).unwrap();
        assert_eq!(made.as_str().len(), 36);
        assert_ne!(made, session_id(&Map::new()).unwrap());
    }
}
