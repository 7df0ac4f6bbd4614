//! Gathers the parts of a request into an operation's input.
//!
//! Members bound to path, query and headers become JSON values of their shape's type, the JSON body's members join
//! them, and `validate` checks each. A raw payload is left alone: it is not part of the input, and the caller streams
//! it. Unknown JSON members, query keys and headers are ignored, as AWS does; `null` members count as absent.
//!
//! Invariant: no byte of a request makes this panic, and every violation is in the answer, not only the first.

use crate::operation::Operation;
use crate::shape::{Kind, Location, Member, Shape};
use crate::validate::{Checker, Invalid};
use crate::wire;
use serde_json::{Map, Value};

/// Decodes and checks the input of an operation.
///
/// `labels` and `query` are percent-decoded already; `header` finds the first value of a header by its name, in any
/// case. `body` is ignored when the operation's body is a raw payload or when no member travels there.
///
/// # Errors
/// [`Invalid::CannotParse`] for a body that is not a JSON object; [`Invalid::Fields`] with every violation otherwise.
pub fn decode<'h>(
    operation: &'static Operation,
    labels: &[(&str, &str)],
    query: &[(String, String)],
    header: impl Fn(&'static str) -> Option<&'h str>,
    body: &[u8],
) -> Result<Map<String, Value>, Invalid> {
    let Some(Shape {
        kind: Kind::Structure { members, .. },
        sensitive,
        ..
    }) = operation.input
    else {
        return Ok(Map::new());
    };
    let mut json = parse_body(members, body)?;
    let mut input = Map::new();
    let mut checker = Checker::new();
    for member in *members {
        let found = match member.location {
            Location::Body => json.remove(member.wire_name).filter(|value| !value.is_null()).map(Ok),
            Location::Uri => first(labels.iter().copied(), member.wire_name).map(|text| from_text(member.shape, text)),
            Location::Query => from_query(member, query),
            Location::Header => header(member.wire_name).map(|text| from_header(member.shape, text)),
            Location::Payload if is_raw(member.shape) => continue,
            Location::Payload => payload(member.shape, body)?.map(Ok),
            Location::StatusCode => continue,
        };
        match found {
            Some(Ok(mut value)) => {
                checker.member(member, &mut value, *sensitive);
                input.insert(member.key().to_owned(), value);
            }
            Some(Err(message)) => checker.unreadable(member, message),
            None if member.required => checker.missing(member),
            None => {}
        }
    }
    if checker.violations.is_empty() {
        Ok(input)
    } else {
        Err(Invalid::Fields(checker.violations))
    }
}

/// Whether a payload of this shape is bytes or frames, and not one JSON document.
pub(crate) fn is_raw(shape: &Shape) -> bool {
    matches!(shape.kind, Kind::Blob { .. } | Kind::EventStream { .. })
}

fn parse_body(members: &[Member], body: &[u8]) -> Result<Map<String, Value>, Invalid> {
    if body.is_empty() || !members.iter().any(|member| member.location == Location::Body) {
        return Ok(Map::new());
    }
    match parse(body)? {
        Value::Object(map) => Ok(map),
        _ => Err(Invalid::CannotParse(
            "the request body must be a JSON object".to_owned(),
        )),
    }
}

/// A payload member that is a document of its own; an empty body means that it is absent.
fn payload(shape: &Shape, body: &[u8]) -> Result<Option<Value>, Invalid> {
    if body.is_empty() {
        return Ok(None);
    }
    if matches!(shape.kind, Kind::String { .. }) {
        let text = std::str::from_utf8(body)
            .map_err(|error| Invalid::CannotParse(format!("the request body must be UTF-8 text: {error}")))?;
        return Ok(Some(text.into()));
    }
    parse(body).map(|value| Some(value).filter(|value| !value.is_null()))
}

/// serde_json refuses documents that nest deeper than 128 levels, so that no body can exhaust the stack.
fn parse(body: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Eof => "ends too early",
            _ => "is not valid JSON",
        };
        Invalid::CannotParse(format!(
            "the request body {what} at line {line} column {column}; send one JSON object"
        ))
    })
}

fn first<'a>(mut pairs: impl Iterator<Item = (&'a str, &'a str)>, name: &str) -> Option<&'a str> {
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A list takes every value of its key, anything else the first.
fn from_query(member: &Member, query: &[(String, String)]) -> Option<Result<Value, &'static str>> {
    let mut values = query
        .iter()
        .filter(|(key, _)| key == member.wire_name)
        .map(|(_, value)| value.as_str());
    match &member.shape.kind {
        Kind::List { member, .. } => {
            let items: Result<Vec<Value>, _> = values.map(|text| from_text(member, text)).collect();
            match items {
                Ok(items) if items.is_empty() => None,
                items => Some(items.map(Value::Array)),
            }
        }
        _ => values.next().map(|text| from_text(member.shape, text)),
    }
}

/// A list in a header is separated by commas.
fn from_header(shape: &Shape, text: &str) -> Result<Value, &'static str> {
    match &shape.kind {
        Kind::List { member, .. } => text.split(',').map(|item| from_text(member, item.trim())).collect(),
        _ => from_text(shape, text),
    }
}

fn from_text(shape: &Shape, text: &str) -> Result<Value, &'static str> {
    match &shape.kind {
        Kind::Integer { .. } | Kind::Long { .. } => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| "Member must be an integer"),
        Kind::Float { .. } | Kind::Double { .. } => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err("Member must be a number"),
        },
        Kind::Boolean => text
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| "Member must be true or false"),
        Kind::Timestamp { format } => match wire::timestamp_from_text(text) {
            Some(at) => Ok(wire::timestamp_to_json(at, *format)),
            None => Err("Member must be a timestamp like 2026-11-22T10:00:00Z"),
        },
        _ => Ok(text.into()),
    }
}
