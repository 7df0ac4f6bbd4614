//! The table, the types and the hand-written part agree, and each keeps what its module promises.

mod encoding;
mod inputs;
mod limits;
mod properties;
mod strategy;
mod table;

use crate::{Invalid, Operation, decode};
use serde_json::{Map, Value, json};

/// The parts of a request, as the front door hands them over.
#[derive(Debug, Default, Clone)]
struct Request {
    labels: Vec<(&'static str, String)>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn body(value: &Value) -> Self {
        Self {
            body: value.to_string().into_bytes(),
            ..Self::default()
        }
    }

    fn label(mut self, name: &'static str, value: &str) -> Self {
        self.labels.push((name, value.to_owned()));
        self
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn decode(&self, operation: &'static Operation) -> Result<Map<String, Value>, Invalid> {
        let labels: Vec<(&str, &str)> = self
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let header = |name: &str| {
            let mut headers = self.headers.iter();
            headers
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        decode(operation, &labels, &self.query, header, &self.body)
    }
}

/// A complete and valid CreateAgentRuntime.
fn create_agent_runtime() -> Value {
    json!({
        "agentRuntimeName": "hello",
        "agentRuntimeArtifact": {"codeConfiguration": {
            "code": {"s3": {"bucket": "packages", "prefix": "hello.zip"}},
            "runtime": "PYTHON_3_11",
            "entryPoint": ["main.py"],
        }},
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "protocolConfiguration": {"serverProtocol": "HTTP"},
        "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800},
        "requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-Custom"]},
        "environmentVariables": {"FOO": "bar"},
        "tags": {"team": "river"},
        "clientToken": "c".repeat(33),
        "description": "says hello",
    })
}

/// Asserts that a request is refused with exactly these violations, in any order.
#[track_caller]
fn check_refused(operation: &'static Operation, request: &Request, want: &[(&str, &str)]) {
    let Err(Invalid::Fields(found)) = request.decode(operation) else {
        panic!("{operation:?} accepted what breaks {want:?}, or could not parse it");
    };
    let mut found: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (one.path.as_str(), one.message.as_str()))
        .collect();
    let mut want = want.to_vec();
    found.sort_unstable();
    want.sort_unstable();
    assert_eq!(found, want, "{operation:?}");
}
