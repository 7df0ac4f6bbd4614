//! What holds for every operation and every input.

use super::strategy::valid;
use super::{Request, create_agent_runtime};
use crate::generated::round_trip::round_trip;
use crate::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Cuts an input into the parts of a request, as a client's serializer does.
fn request(operation: &'static Operation, input: &Value) -> Request {
    let Some(Shape {
        kind: Kind::Structure { members, .. },
        ..
    }) = operation.input
    else {
        unreachable!()
    };
    let mut request = Request::default();
    let mut body = serde_json::Map::new();
    for member in *members {
        let Some(value) = input.get(member.key()) else { continue };
        match member.location {
            Location::Body => drop(body.insert(member.wire_name.to_owned(), value.clone())),
            Location::Payload => request.body = value.to_string().into_bytes(),
            Location::Uri => request = request.label(member.wire_name, &text(value)),
            Location::Header => request = request.header(member.wire_name, &text(value)),
            Location::Query => match value {
                Value::Array(items) if items.is_empty() => {}
                Value::Array(items) => {
                    request = items
                        .iter()
                        .fold(request, |request, item| request.query(member.wire_name, &text(item)));
                }
                value => request = request.query(member.wire_name, &text(value)),
            },
            Location::StatusCode => {}
        }
    }
    if !body.is_empty() {
        request.body = Value::Object(body).to_string().into_bytes();
    }
    request
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A list in the query cannot be told from an absent one when it is empty.
fn sendable(operation: &'static Operation, input: &Value) -> bool {
    let Some(Shape {
        kind: Kind::Structure { members, .. },
        ..
    }) = operation.input
    else {
        return false;
    };
    !members.iter().any(|member| {
        member.location == Location::Query && input.get(member.key()).is_some_and(|value| value == &json!([]))
    })
}

fn switched_on() -> Vec<&'static Operation> {
    OPERATIONS
        .iter()
        .filter(|operation| operation.is_switched_on())
        .collect()
}

/// Whatever is valid by the table is decoded to itself, fits the generated type and comes back from it unchanged.
#[test]
fn what_decode_accepts_fits_the_type() {
    for operation in switched_on() {
        let strategy = valid(operation.input.unwrap()).prop_filter("sendable", |input| sendable(operation, input));
        let config = ProptestConfig {
            cases: 48,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(input in strategy)| {
            let decoded = request(operation, &input).decode(operation);
            prop_assert_eq!(decoded.as_ref().map(|map| Value::Object(map.clone())), Ok(input.clone()), "{:?}", operation);
            let back = round_trip(operation, decoded.unwrap()).expect("every switched-on operation has a type");
            prop_assert_eq!(Value::Object(back.unwrap()), input, "{:?}", operation);
        });
    }
}

/// Ways to break one member of a valid CreateAgentRuntime, each of which is one violation at its path.
const BREAKS: &[(&str, &str, &str)] = &[
    ("agentRuntimeName", "/agentRuntimeName", "\"1\""),
    ("roleArn", "/roleArn", "null"),
    (
        "agentRuntimeArtifact.codeConfiguration.runtime",
        "/agentRuntimeArtifact/codeConfiguration/runtime",
        "\"X\"",
    ),
    (
        "agentRuntimeArtifact.codeConfiguration.entryPoint",
        "/agentRuntimeArtifact/codeConfiguration/entryPoint",
        "[]",
    ),
    (
        "agentRuntimeArtifact.codeConfiguration.code.s3.bucket",
        "/agentRuntimeArtifact/codeConfiguration/code/s3/bucket",
        "7",
    ),
    (
        "networkConfiguration.networkMode",
        "/networkConfiguration/networkMode",
        "\"public\"",
    ),
    ("protocolConfiguration", "/protocolConfiguration", "\"HTTP\""),
    (
        "lifecycleConfiguration.maxLifetime",
        "/lifecycleConfiguration/maxLifetime",
        "59",
    ),
    (
        "lifecycleConfiguration.idleRuntimeSessionTimeout",
        "/lifecycleConfiguration/idleRuntimeSessionTimeout",
        "60.5",
    ),
    ("requestHeaderConfiguration", "/requestHeaderConfiguration", "{}"),
    ("environmentVariables.FOO", "/environmentVariables/FOO", "[]"),
    ("tags.team", "/tags/team", "\"no!\""),
    ("clientToken", "/clientToken", "false"),
    ("description", "/description", "\"\""),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Break any k members: get k violations, at exactly their paths.
    #[test]
    fn every_violation_is_found(breaks in proptest::sample::subsequence(BREAKS, 1..=BREAKS.len())) {
        let mut body = create_agent_runtime();
        let mut want: Vec<&str> = Vec::new();
        for (path, pointer, value) in &breaks {
            *body.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
            want.push(path);
        }
        let Err(Invalid::Fields(found)) = Request::body(&body).decode(operations::CREATE_AGENT_RUNTIME) else {
            return Err(TestCaseError::fail("accepted"));
        };
        let mut found: Vec<&str> = found.iter().map(|one| one.path.as_str()).collect();
        found.sort_unstable();
        want.sort_unstable();
        prop_assert_eq!(found, want);
    }

    /// No bytes make it panic, and what is refused says why.
    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(
        body in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), "[\\[\\]{}:,\"a-z0-9\\\\. -]{0,60}".prop_map(String::into_bytes)],
        text in ".*",
    ) {
        for operation in switched_on() {
            let mut request = Request { body: body.clone(), ..Request::default() }.query("maxResults", &text).query("tagKeys", &text);
            for label in ["agentRuntimeId", "endpointName", "resourceArn", "agentRuntimeArn"] {
                request = request.label(label, &text);
            }
            request = request.header("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", &text);
            match request.decode(operation) {
                Ok(input) => prop_assert!(round_trip(operation, input).unwrap().is_ok()),
                Err(Invalid::Fields(found)) => prop_assert!(!found.is_empty()),
                Err(Invalid::CannotParse(message)) => prop_assert!(message.contains("the request body")),
            }
        }
    }

    /// Valid JSON of any other form is accepted or refused with paths, and fits the type when it is accepted.
    #[test]
    fn misplaced_values_never_slip_through(pointer in proptest::sample::select(BREAKS), value in json_value()) {
        let mut body = create_agent_runtime();
        *body.pointer_mut(pointer.1).unwrap() = value;
        match Request::body(&body).decode(operations::CREATE_AGENT_RUNTIME) {
            Ok(input) => prop_assert!(round_trip(operations::CREATE_AGENT_RUNTIME, input).unwrap().is_ok()),
            Err(Invalid::Fields(found)) => prop_assert!(found.iter().all(|one| !one.path.is_empty())),
            Err(Invalid::CannotParse(message)) => prop_assert!(false, "{}", message),
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        ".{0,8}",
        proptest::sample::select(&["s3", "bucket", "prefix", "codeConfiguration"][..]).prop_map(str::to_owned)
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
