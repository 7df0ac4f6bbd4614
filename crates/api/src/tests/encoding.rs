//! From an output to status, headers and body, and how single values look on the wire.

use crate::wire::{timestamp_from_json, timestamp_to_json, timestamp_to_text};
use crate::*;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_document_becomes_a_json_body() {
    let output = control::CreateAgentRuntimeResponse {
        agent_runtime_arn: "arn".to_owned(),
        agent_runtime_id: "hello-abcdefghij".to_owned(),
        agent_runtime_version: "1".to_owned(),
        created_at: at("2026-11-22T10:00:00.123456789Z"),
        status: control::AgentRuntimeStatus::CreateFailed,
        workload_identity_details: None,
    };
    let encoded = encode(operations::CREATE_AGENT_RUNTIME, &to_output(&output));
    assert_eq!((encoded.status, encoded.headers.len()), (202, 0));
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    let want = json!({
        "agentRuntimeArn": "arn",
        "agentRuntimeId": "hello-abcdefghij",
        "agentRuntimeVersion": "1",
        "createdAt": "2026-11-22T10:00:00.123456Z",
        "status": "CREATE_FAILED",
    });
    assert_eq!(body, want);
}

#[test]
fn headers_and_empty_bodies() {
    let output = data::StopRuntimeSessionResponse {
        runtime_session_id: Some("s-1".to_owned()),
        status_code: None,
    };
    let encoded = encode(operations::STOP_RUNTIME_SESSION, &to_output(&output));
    let header = ("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "s-1".to_owned());
    assert_eq!(
        (encoded.status, &encoded.headers[..], &encoded.body[..]),
        (200, &[header][..], &b"{}"[..])
    );

    let encoded = encode(operations::TAG_RESOURCE, &to_output(&control::TagResourceResponse {}));
    assert_eq!(
        encoded,
        Encoded {
            status: 204,
            headers: Vec::new(),
            body: Vec::new()
        }
    );

    let unknown = Map::from_iter([("policy".to_owned(), json!("{}")), ("secret".to_owned(), json!(1))]);
    assert_eq!(
        encode(operations::GET_RESOURCE_POLICY, &unknown).body,
        br#"{"policy":"{}"}"#
    );

    let output = data::StopRuntimeSessionResponse {
        runtime_session_id: None,
        status_code: Some(202),
    };
    assert_eq!(
        encode(operations::STOP_RUNTIME_SESSION, &to_output(&output)).status,
        202
    );
}

#[test]
fn times_as_aws_writes_them() {
    use TimestampFormat::{EpochSeconds, HttpDate, Iso8601};
    let cases = [
        ("2026-11-22T10:00:00Z", Iso8601, json!("2026-11-22T10:00:00Z")),
        ("2026-11-22T10:00:00.000000001Z", Iso8601, json!("2026-11-22T10:00:00Z")),
        ("2026-11-22T10:00:00.1Z", Iso8601, json!("2026-11-22T10:00:00.100000Z")),
        (
            "2026-11-22T10:00:00.123456Z",
            Iso8601,
            json!("2026-11-22T10:00:00.123456Z"),
        ),
        ("2026-11-22T10:00:00Z", EpochSeconds, json!(1_795_341_600)),
        ("2026-11-22T10:00:00.25Z", EpochSeconds, json!(1_795_341_600.25)),
        ("1969-12-31T23:59:59.5Z", EpochSeconds, json!(-0.5)),
        ("2026-11-22T10:00:00Z", HttpDate, json!("Sun, 22 Nov 2026 10:00:00 GMT")),
    ];
    for (time, format, want) in cases {
        let written = timestamp_to_json(at(time), format);
        assert_eq!(written, want, "{time}");
        // What was written is read back to the same.
        let read = timestamp_from_json(&written, format).unwrap();
        assert_eq!(timestamp_to_json(read, format), want, "{time}");
    }
    assert_eq!(
        timestamp_to_text(at("2026-11-22T10:00:00.25Z"), EpochSeconds),
        "1795341600.25"
    );
    for (value, format) in [
        (json!("x"), Iso8601),
        (json!(1), Iso8601),
        (json!(1e18), EpochSeconds),
        (json!(i64::MAX), EpochSeconds),
        (json!("1"), EpochSeconds),
        (json!("1"), HttpDate),
    ] {
        assert_eq!(timestamp_from_json(&value, format), None, "{value} {format:?}");
    }
}

#[test]
fn bytes_are_base64_and_not_shown() {
    let blob: Blob = serde_json::from_value(json!("aHVzaA==")).unwrap();
    assert_eq!(blob, Blob(b"hush".to_vec()));
    assert_eq!(serde_json::to_value(&blob).unwrap(), json!("aHVzaA=="));
    assert_eq!(format!("{blob:?}"), "Blob(4 bytes)");
    assert!(serde_json::from_value::<Blob>(json!("*")).is_err());
}

#[test]
fn enums_know_their_values() {
    for status in control::AgentRuntimeStatus::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), json!(status.as_str()));
        assert_eq!(status.to_string(), status.as_str());
    }
    assert_eq!(control::ServerProtocol::Agui.as_str(), "AGUI");
}
