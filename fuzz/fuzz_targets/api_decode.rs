//! A verified caller's request still has any bytes: decoding must answer, and whatever it accepts must fit the
//! operation's type, else a service would fail on an input that was called good.

#![no_main]

use api::{OPERATIONS, Operation};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Request<'a> {
    operation: usize,
    labels: Vec<(Label, &'a str)>,
    query: Vec<(Label, String)>,
    header: Option<&'a str>,
    body: &'a [u8],
}

/// Names that mean something are found sooner when they are offered.
#[derive(Debug, Arbitrary)]
enum Label {
    Bound(usize),
    Free(String),
}

impl Label {
    fn name(&self, operation: &Operation) -> String {
        let members = match operation.input.map(|shape| &shape.kind) {
            Some(api::Kind::Structure { members, .. }) => *members,
            _ => &[],
        };
        match self {
            Self::Bound(at) if !members.is_empty() => members[at % members.len()].wire_name.to_owned(),
            Self::Bound(_) => String::new(),
            Self::Free(name) => name.clone(),
        }
    }
}

fuzz_target!(|request: Request<'_>| {
    let operation = &OPERATIONS[request.operation % OPERATIONS.len()];
    let names: Vec<String> = request.labels.iter().map(|(label, _)| label.name(operation)).collect();
    let labels: Vec<(&str, &str)> =
        names.iter().zip(&request.labels).map(|(name, (_, value))| (name.as_str(), *value)).collect();
    let query: Vec<(String, String)> =
        request.query.iter().map(|(label, value)| (label.name(operation), value.clone())).collect();
    // Sensitive values must stay out of what is said about a refusal; formatting it finds a panic at least.
    match api::decode(operation, &labels, &query, |_| request.header, request.body) {
        Ok(input) => assert!(serde_json::to_vec(&input).is_ok()),
        Err(refusal) => assert!(!format!("{refusal:?}").is_empty()),
    }
});
