//! Errors as clients of STS read them: XML, with the names that AWS's query protocol has.
//!
//! Only what the front door itself says is written here; STS writes the errors of its actions.

use super::{Edge, Failure, Written, exception};
use crate::auth::Refusal;
use bytes::Bytes;
use domain::Kind;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use uuid::Uuid;

const XML: HeaderValue = HeaderValue::from_static("text/xml");

/// A failure's wire form.
pub(super) fn write(failure: &Failure, request_id: Uuid) -> Written {
    let (code, status) = code(failure);
    let message = match failure {
        Failure::Refused(refusal) => refusal.to_string(),
        Failure::Domain(error) => error.message.clone(),
        Failure::Unauthorized(message, _) | Failure::Edge(_, message) => message.clone(),
    };
    let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
    let message = escape(&message);
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{kind}</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    );
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, XML);
    Written {
        status,
        headers,
        body: Bytes::from(body),
    }
}

fn code(failure: &Failure) -> (&'static str, StatusCode) {
    match failure {
        Failure::Refused(refusal) => {
            let code = match refusal {
                Refusal::MissingAuthenticationToken => "MissingAuthenticationToken",
                Refusal::UnrecognizedClient => "InvalidClientTokenId",
                Refusal::ExpiredToken => "ExpiredToken",
                Refusal::IncompleteSignature(_) => "IncompleteSignature",
                Refusal::MethodMismatch => "AccessDenied",
                _ => "SignatureDoesNotMatch",
            };
            (code, StatusCode::FORBIDDEN)
        }
        Failure::Domain(error) => {
            let (_, status) = exception(&error.kind, None);
            let code = match error.kind {
                Kind::Invalid { .. } => "ValidationError",
                Kind::Denied => "AccessDenied",
                Kind::Throttled => "Throttling",
                Kind::Unsupported => "InvalidAction",
                Kind::Draining => "ServiceUnavailable",
                _ => "InternalFailure",
            };
            (code, status)
        }
        Failure::Unauthorized(..) => ("AccessDenied", StatusCode::UNAUTHORIZED),
        Failure::Edge(edge, _) => {
            let (_, status) = edge.exception();
            let code = match edge {
                Edge::BodyTimeout => "RequestTimeout",
                _ => "MalformedQueryString",
            };
            (code, status)
        }
    }
}

/// Text between tags. Characters that XML has no way to write are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' | '\t' | ' '.. => escaped.push(character),
            _ => {}
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_named_as_sts_names_it() {
        let check = |failure: Failure, code: &str, status: u16| {
            let written = write(&failure, Uuid::nil());
            let body = std::str::from_utf8(&written.body).unwrap();
            assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
            assert!(body.contains("<RequestId>00000000-0000-"), "{body}");
            assert_eq!(written.status.as_u16(), status);
        };
        check(
            Failure::Refused(Refusal::UnrecognizedClient),
            "InvalidClientTokenId",
            403,
        );
        check(
            Failure::Refused(Refusal::SignatureDoesNotMatch),
            "SignatureDoesNotMatch",
            403,
        );
        check(domain::Error::denied("no").into(), "AccessDenied", 403);
        check(domain::Error::internal("oh").into(), "InternalFailure", 500);
        check(
            Failure::Edge(Edge::BodyTimeout, "slow".to_owned()),
            "RequestTimeout",
            408,
        );
    }

    #[test]
    fn text_cannot_become_a_tag() {
        assert_eq!(escape("a<b>&\"\u{0}\n"), "a&lt;b&gt;&amp;\"\n");
    }
}
