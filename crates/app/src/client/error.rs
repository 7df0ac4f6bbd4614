//! What can go wrong in a call, in the words of a command line.

use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use std::error::Error as _;
use std::time::Duration;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configured URL cannot be used.
    #[error("the endpoint {0} {1}")]
    Endpoint(String, String),
    /// The certificates to trust cannot be read.
    #[error("the file of {0} cannot be used: {1}")]
    Certificates(String, String),
    /// Nobody answers there.
    #[error("cannot reach {0}; is the server running? `eyot serve` starts one")]
    Unreachable(String, #[source] std::io::Error),
    /// The server took the call and did not answer.
    #[error("{0} did not answer within {1:?}")]
    Late(String, Duration),
    /// The server refused the call.
    #[error("{message}{}{}{}", kind_in_brackets(.kind, *.status), request_in_brackets(.request_id), on_lines(.agent))]
    Refused {
        status: StatusCode,
        /// Such as `ValidationException`; empty if it has no name.
        kind: String,
        message: String,
        request_id: String,
        /// What the agent said, where its owner lets callers know.
        agent: Option<String>,
    },
    /// The answer began and did not end.
    #[error("the answer broke off: {0}")]
    BrokeOff(String),
    /// The answer is not what it should be.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(String),
    /// The request could not be signed.
    #[error("the request cannot be signed: {0}")]
    Signing(String),
}

impl Error {
    /// From an answer that is not 2xx.
    pub(super) fn refused(status: StatusCode, kind: &str, request_id: String, agent: &str, body: &[u8]) -> Self {
        // As SDKs read it: `namespace#Name:url` is `Name`.
        let kind = kind.split(':').next().unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
        let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let said = document
            .as_ref()
            .and_then(|d| d.get("message").or_else(|| d.get("Message")))
            .and_then(|m| m.as_str());
        let message = match said {
            Some(text) => text.to_owned(),
            None => format!(
                "the server answered {status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(500)])
            ),
        };
        Self::Refused {
            status,
            kind,
            message,
            request_id,
            agent: agent_said(agent),
        }
    }

    /// From the HTTP library, whose own words are about its insides.
    pub(super) fn from_hyper(base: &Uri, error: &hyper::Error) -> Self {
        if error.is_user() {
            return Self::BrokeOff(format!("the request's body could not be read: {}", chain(error)));
        }
        Self::BrokeOff(format!(
            "{base} closed the connection before it answered ({})",
            chain(error)
        ))
    }
}

/// An error with all its causes.
pub(super) fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn kind_in_brackets(kind: &str, status: StatusCode) -> String {
    if kind.is_empty() {
        String::new()
    } else {
        format!(" [{kind}, {}]", status.as_u16())
    }
}

/// Percent-decoded, and without what a terminal would obey.
fn agent_said(header: &str) -> Option<String> {
    let said = percent_decode_str(header).decode_utf8_lossy();
    let plain = said
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'));
    Some(plain.collect()).filter(|said: &String| !said.is_empty())
}

fn on_lines(agent: &Option<String>) -> String {
    match agent {
        Some(said) => format!("\nThe agent said: {said}"),
        None => String::new(),
    }
}

fn request_in_brackets(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!(" (request {id})")
    }
}
