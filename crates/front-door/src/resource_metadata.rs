//! Tells a client without a token where to get one: the `WWW-Authenticate` challenge of a runtime with an authorizer, and
//! the document that it points to (RFC 9728, OAuth 2.0 Protected Resource Metadata).
//!
//! The document is for anybody. It says nothing but what the challenge has said: that the runtime wants tokens of this
//! issuer. A runtime without an authorizer has none, nor has one that does not exist.

use crate::call::Door;
use crate::context::Context;
use crate::service::Head;
use http::HeaderValue;
use http::header::HOST;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

/// What stands behind a runtime's `/invocations` in the document's path.
pub(crate) const SUFFIX: &str = "/.well-known/oauth-protected-resource";
/// The endpoint of a call that names none.
const DEFAULT: &str = "DEFAULT";
/// The path label of a runtime.
const RUNTIME: &str = "agentRuntimeArn";
/// As `encodeURIComponent` and botocore encode a path label.
const LABEL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What a host and its port are made of.
const MAX_HOST: usize = 255;

/// The document.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Metadata<'a> {
    resource: String,
    authorization_servers: [&'a str; 1],
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
}

impl<'a> Metadata<'a> {
    pub(crate) fn new(
        door: &Door,
        context: &Context,
        parts: &Parts,
        head: Head<'_>,
        issuer: &'a str,
        authorizer: &'a oauth::Config,
    ) -> Self {
        Self {
            resource: url(door, context, parts, head, ""),
            authorization_servers: [issuer],
            bearer_methods_supported: ["header"],
            scopes_supported: authorizer.advertised_scopes().collect(),
        }
    }
}

/// The challenge for a caller whose token was refused, or who has none.
pub(crate) fn challenge(
    door: &Door,
    context: &Context,
    parts: &Parts,
    head: Head<'_>,
    authorizer: &oauth::Config,
    refusal: &oauth::Refusal,
) -> HeaderValue {
    let mut text = format!(
        "Bearer resource_metadata=\"{}\"",
        url(door, context, parts, head, SUFFIX)
    );
    let scopes: Vec<&str> = authorizer.advertised_scopes().collect();
    if !scopes.is_empty() {
        text += &format!(", scope=\"{}\"", scopes.join(" "));
    }
    // RFC 6750: no error where there was no token.
    if *refusal != oauth::Refusal::Missing {
        text += ", error=\"invalid_token\"";
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// The address of a runtime's invocations, as the client reaches this server.
fn url(door: &Door, context: &Context, parts: &Parts, head: Head<'_>, suffix: &str) -> String {
    let base = match &door.config.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let scheme = if context.origin.is_secure { "https" } else { "http" };
            format!("{scheme}://{}", host(parts))
        }
    };
    let runtime = utf8_percent_encode(head.label(RUNTIME).unwrap_or_default(), LABEL);
    let qualifier = head.query("qualifier");
    let qualifier = utf8_percent_encode(qualifier.as_deref().unwrap_or(DEFAULT), LABEL);
    format!("{base}/runtimes/{runtime}/invocations{suffix}?qualifier={qualifier}")
}

/// The host that the client has asked for. One that could break out of a quoted text is not repeated.
fn host(parts: &Parts) -> String {
    let header = parts
        .headers
        .get_all(HOST)
        .iter()
        .next_back()
        .and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = header.or(authority).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(is_plain) {
        host.to_owned()
    } else {
        "localhost".to_owned()
    }
}
