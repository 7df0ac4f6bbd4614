//! Which request headers may be let through to an agent.
//!
//! `requestHeaderAllowlist` may not name headers that belong to the connection, to the platform or to proxies: an
//! agent that trusted them could be lied to, and a client could break the framing. The table is AWS's; names are
//! compared without regard to case.

use domain::error::FieldError;
use std::collections::HashSet;

/// Where the API keeps the list.
const MEMBER: &str = "requestHeaderConfiguration.requestHeaderAllowlist";

/// Let through although it starts with a refused prefix.
const ALLOWED_EXACTLY: &[&str] = &["x-amz-bedrock-agentcore-identity-wat"];

/// Let through although it starts with a refused prefix.
const ALLOWED_PREFIX: &str = "x-amzn-bedrock-agentcore-runtime-custom-";

/// Refused with anything behind it.
const REFUSED_PREFIXES: &[&str] = &[
    "x-amz-",
    "x-amzn-",
    "accept-",
    "access-control-",
    "if-",
    "public-key-pins",
    "sec-websocket-",
];

/// Refused names, in lower case, sorted.
const REFUSED: &[&str] = &[
    "accept",
    "cache-control",
    "cf-connecting-ip",
    "cf-ray",
    "clear-site-data",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "cookie",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "downlink",
    "dpr",
    "ect",
    "etag",
    "expect-ct",
    "expires",
    "feature-policy",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "origin",
    "permissions-policy",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "referrer-policy",
    "retry-after",
    "save-data",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "viewport-width",
    "width",
    "www-authenticate",
    "x-cache",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-content-type-options",
    "x-csrf-token",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-frame-options",
    "x-original-host",
    "x-original-url",
    "x-originating-ip",
    "x-real-ip",
    "x-requested-with",
    "x-rewrite-url",
    "x-served-by",
    "x-source-ip",
    "x-xss-protection",
];

/// Every name of the list that may not be on it.
pub(crate) fn check(names: &[String]) -> Vec<FieldError> {
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let message = if is_refused(&lower) {
            format!("'{name}' is a restricted header and cannot be passed to an agent")
        } else if !seen.insert(lower) {
            format!("'{name}' is in the list already; names are compared without regard to case")
        } else {
            continue;
        };
        wrong.push(FieldError {
            name: format!("{MEMBER}[{index}]"),
            message,
        });
    }
    wrong
}

fn is_refused(lower: &str) -> bool {
    if ALLOWED_EXACTLY.contains(&lower) {
        return false;
    }
    if let Some(rest) = lower.strip_prefix(ALLOWED_PREFIX) {
        return rest.is_empty();
    }
    REFUSED.binary_search(&lower).is_ok() || REFUSED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_in_lower_case() {
        assert!(REFUSED.is_sorted());
        assert!(REFUSED.iter().all(|name| *name == name.to_ascii_lowercase()));
    }

    #[test]
    fn names_are_let_through_or_refused() {
        fn check_one(name: &str, allowed: bool) {
            assert_eq!(check(&[name.to_owned()]).is_empty(), allowed, "{name}");
        }
        for name in [
            "Authorization",
            "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant",
            "x-amz-bedrock-agentcore-identity-wat",
            "X-Tenant",
            "Accepted",
            "Width-Of-Things",
        ] {
            check_one(name, true);
        }
        for name in [
            "Host",
            "cookie",
            "X-Amz-Date",
            "x-amzn-trace-id",
            "X-Amzn-Bedrock-AgentCore-Runtime-Custom-",
            "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id",
            "Accept",
            "Accept-Language",
            "If-None-Match",
            "Access-Control-Allow-Origin",
            "Public-Key-Pins-Report-Only",
            "Sec-WebSocket-Key",
            "X-Forwarded-For",
        ] {
            check_one(name, false);
        }
    }

    #[test]
    fn duplicates_are_refused_without_regard_to_case() {
        let wrong = check(&["X-Tenant".into(), "Authorization".into(), "x-tenant".into()]);
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].name, "requestHeaderConfiguration.requestHeaderAllowlist[2]");
    }
}
