//! Lets pages of other origins call agents: cross-origin resource sharing for the data plane.
//!
//! A page calls with a bearer token that it holds itself; browsers add nothing of their own to such a call, so an origin
//! is no credential here, and the list of origins keeps pages out only for tidiness. Calls with credentials in the
//! browser's sense (cookies) are not allowed, and there are none.
//!
//! AWS does not publish its values. Ours: every header that a page asks for is allowed, because custom headers can be on
//! any runtime's allow-list; what an answer carries for the client can be read.
//!
//! Invariant: a preflight reaches no service and says nothing about what exists.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Any origin.
const ANY: &str = "*";
/// Of the data plane's operations.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// Seconds for which a browser may remember a preflight; more than two hours no browser does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id, X-Amzn-Bedrock-AgentCore-Runtime-Session-Endpoint-Url, \
     X-Amzn-RequestId, X-Amzn-ErrorType, X-Amzn-Trace-Id, Mcp-Session-Id, Mcp-Protocol-Version, traceparent, \
     tracestate, baggage, WWW-Authenticate, Retry-After, X-Eyot-Agent-Error",
);
const REQUEST_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// What asks for more is no browser.
const MAX_ASKED: usize = 4 * 1024;

/// Leave for a page to read an answer.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    origin: HeaderValue,
}

impl Grant {
    /// The leave of a request's page; none where the request comes from no page, or from one of another origin.
    pub(crate) fn of(headers: &HeaderMap, origins: &[String]) -> Option<Self> {
        let origin = headers.get(ORIGIN)?;
        let is_open = origins.iter().any(|allowed| allowed == ANY);
        let is_named = || origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
        match (is_open, is_open || is_named()) {
            (true, _) => Some(Self {
                origin: HeaderValue::from_static(ANY),
            }),
            (false, true) => Some(Self { origin: origin.clone() }),
            (false, false) => None,
        }
    }

    /// Adds to an answer that its page may read it.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if self.origin != ANY {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// Whether a request only asks whether another one would be allowed.
pub(crate) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a preflight is told beside its [`Grant`].
pub(crate) fn preflight(parts: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    let asked = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| is_list_of_names(asked.as_bytes())) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    if parts.headers.contains_key(REQUEST_PRIVATE) {
        headers.insert(ALLOW_PRIVATE, TRUE);
    }
    headers
}

fn is_list_of_names(list: &[u8]) -> bool {
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    list.len() <= MAX_ASKED && list.split(|byte| *byte == b',').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_let_in_by_its_origin() {
        let check = |origin: Option<&'static str>, origins: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let mut answer = HeaderMap::new();
            if let Some(grant) = Grant::of(&headers, &origins) {
                grant.add_to(&mut answer);
                assert!(
                    answer[ACCESS_CONTROL_EXPOSE_HEADERS]
                        .to_str()
                        .unwrap()
                        .contains("Session-Id")
                );
            }
            let said = answer
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|value| value.to_str().unwrap());
            assert_eq!(said, expected, "{origin:?} {origins:?}");
            assert_eq!(answer.contains_key(VARY), expected.is_some_and(|said| said != "*"));
        };
        check(None, &["*"], None);
        check(Some("https://a.example"), &["*"], Some("*"));
        check(
            Some("https://a.example"),
            &["https://a.example"],
            Some("https://a.example"),
        );
        check(
            Some("https://a.example"),
            &["https://b.example", "https://a.example"],
            Some("https://a.example"),
        );
        check(Some("https://a.example.evil"), &["https://a.example"], None);
        check(Some("http://a.example"), &["https://a.example"], None);
        check(Some("null"), &["https://a.example"], None);
        check(Some("https://a.example"), &[], None);
    }

    #[test]
    fn a_preflight_gets_back_the_headers_that_it_asks_for() {
        let check = |asked: &'static str, expected: Option<&str>| {
            let request = http::Request::options("/x")
                .header(ORIGIN, "https://a.example")
                .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(ACCESS_CONTROL_REQUEST_HEADERS, asked);
            let parts = request.body(()).unwrap().into_parts().0;
            assert!(is_preflight(&parts));
            let answer = preflight(&parts);
            let said = answer
                .get(ACCESS_CONTROL_ALLOW_HEADERS)
                .map(|value| value.to_str().unwrap());
            assert_eq!(said, expected);
        };
        check("authorization,content-type", Some("authorization,content-type"));
        check("authorization, x-team", Some("authorization, x-team"));
        check("a b", None);
        check("", None);
        check(Box::leak("x,".repeat(3000).into_boxed_str()), None);
    }

    #[test]
    fn only_a_page_asks_beforehand() {
        let check = |method: &str, headers: &[(HeaderName, &str)], expected: bool| {
            let mut request = http::Request::builder().method(method).uri("/x");
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(is_preflight(&parts), expected, "{method} {headers:?}");
        };
        let both = [(ORIGIN, "https://a"), (ACCESS_CONTROL_REQUEST_METHOD, "POST")];
        check("OPTIONS", &both, true);
        check("POST", &both, false);
        check("OPTIONS", &both[..1], false);
        check("OPTIONS", &both[1..], false);
    }
}
