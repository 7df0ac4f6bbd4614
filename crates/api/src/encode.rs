//! Places the members of an operation's output in status, headers and body.
//!
//! `Content-Type` and `x-amzn-RequestId` are the front door's, unless the model binds an output member to the header.

use crate::decode::is_raw;
use crate::operation::Operation;
use crate::shape::{Kind, Location, Shape, TimestampFormat};
use crate::wire;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The status of an answer that may have no body.
const NO_CONTENT: u16 = 204;

/// An answer, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// HTTP status.
    pub status: u16,
    /// The headers that output members are bound to, by the model's name for them.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON body: `{}` when nothing travels there, empty when the status allows none or the payload is raw.
    pub body: Vec<u8>,
}

/// Encodes an operation's output. Members that the model does not know are dropped, and so are `null` ones.
#[must_use]
pub fn encode(operation: &'static Operation, output: &Map<String, Value>) -> Encoded {
    let mut encoded = Encoded {
        status: operation.status,
        headers: Vec::new(),
        body: Vec::new(),
    };
    let mut body: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut has_payload = false;
    if let Some(Shape {
        kind: Kind::Structure { members, .. },
        ..
    }) = operation.output
    {
        for member in *members {
            has_payload |= member.location == Location::Payload;
            let Some(value) = output.get(member.key()).filter(|value| !value.is_null()) else {
                continue;
            };
            match member.location {
                Location::Body => drop(body.insert(member.wire_name, value)),
                Location::Header => encoded.headers.push((member.wire_name, to_text(member.shape, value))),
                Location::StatusCode => encoded.status = status(value).unwrap_or(encoded.status),
                Location::Payload if !is_raw(member.shape) => encoded.body = payload(member.shape, value),
                // An output has no path or query, and a raw payload is streamed beside this.
                Location::Payload | Location::Uri | Location::Query => {}
            }
        }
    }
    if encoded.status == NO_CONTENT {
        encoded.body.clear();
    } else if !has_payload {
        encoded.body = serde_json::to_vec(&body).expect("JSON values under string keys always serialise");
    }
    encoded
}

fn status(value: &Value) -> Option<u16> {
    value
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..=599).contains(status))
}

fn payload(shape: &Shape, value: &Value) -> Vec<u8> {
    match (&shape.kind, value) {
        (Kind::String { .. }, Value::String(text)) => text.clone().into_bytes(),
        (_, value) => value.to_string().into_bytes(),
    }
}

fn to_text(shape: &Shape, value: &Value) -> String {
    match (&shape.kind, value) {
        (Kind::List { member, .. }, Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| to_text(member, item)).collect();
            items.join(",")
        }
        (Kind::Timestamp { format }, value) => match wire::timestamp_from_json(value, *format) {
            Some(at) => wire::timestamp_to_text(at, TimestampFormat::HttpDate),
            None => value.to_string(),
        },
        (_, Value::String(text)) => text.clone(),
        (_, value) => value.to_string(),
    }
}
