//! From the parts of a request to an input, for real operations.

use super::{Request, check_refused, create_agent_runtime};
use crate::*;
use serde_json::json;

const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/hello-abcdefghij";

#[test]
fn a_body_becomes_its_type() {
    let input = Request::body(&create_agent_runtime())
        .decode(operations::CREATE_AGENT_RUNTIME)
        .unwrap();
    let input: control::CreateAgentRuntimeRequest = from_input(input).unwrap();
    assert_eq!(input.agent_runtime_name, "hello");
    let control::AgentRuntimeArtifact::CodeConfiguration(code) = &input.agent_runtime_artifact else {
        panic!("{input:?}");
    };
    assert_eq!(
        (code.runtime.as_str(), code.entry_point.as_slice()),
        ("PYTHON_3_11", &["main.py".to_owned()][..])
    );
    assert_eq!(
        input.lifecycle_configuration.as_ref().and_then(|one| one.max_lifetime),
        Some(28_800)
    );
    assert_eq!(serde_json::Value::Object(to_output(&input)), create_agent_runtime());
    let shown = format!("{input:?}");
    assert!(
        shown.contains("environment_variables: ***") && shown.contains("hello"),
        "{shown}"
    );
    assert!(
        !shown.contains("bar") && !shown.contains("says hello"),
        "a secret is shown: {shown}"
    );
}

#[test]
fn path_query_and_headers_are_converted() {
    let id = "hello-abcdefghij";
    let listed = Request::default()
        .label("agentRuntimeId", id)
        .query("maxResults", "7")
        .query("other", "x");
    let input = listed.decode(operations::LIST_AGENT_RUNTIME_VERSIONS).unwrap();
    let input: control::ListAgentRuntimeVersionsRequest = from_input(input).unwrap();
    assert_eq!(
        (input.agent_runtime_id.as_str(), input.max_results, input.next_token),
        (id, Some(7), None)
    );

    let got = Request::default().label("agentRuntimeId", id).query("version", "3");
    let input: control::GetAgentRuntimeRequest =
        from_input(got.decode(operations::GET_AGENT_RUNTIME).unwrap()).unwrap();
    assert_eq!(input.agent_runtime_version.as_deref(), Some("3"));

    let untag = Request::default()
        .label("resourceArn", ARN)
        .query("tagKeys", "a")
        .query("tagKeys", "b");
    let input: control::UntagResourceRequest = from_input(untag.decode(operations::UNTAG_RESOURCE).unwrap()).unwrap();
    assert_eq!(input.tag_keys, ["a", "b"]);

    let session = "s".repeat(33);
    let invoke = Request {
        body: b"\xff not json".to_vec(),
        ..Request::default()
    }
    .label("agentRuntimeArn", ARN)
    .query("qualifier", "DEFAULT")
    .header("content-type", "application/json")
    .header("x-amzn-bedrock-agentcore-runtime-session-id", &session);
    let input = invoke.decode(operations::INVOKE_AGENT_RUNTIME).unwrap();
    assert!(!input.contains_key("payload"), "the payload is streamed, not decoded");
    let input: data::InvokeAgentRuntimeRequest = from_input(input).unwrap();
    assert_eq!(input.agent_runtime_arn, ARN);
    assert_eq!(input.runtime_session_id, Some(session));
    assert_eq!(
        (input.qualifier.as_deref(), input.content_type.as_deref()),
        (Some("DEFAULT"), Some("application/json"))
    );
}

#[test]
fn header_query_and_path_keep_their_limits() {
    let short = Request::default()
        .label("agentRuntimeArn", ARN)
        .query("accountId", "12")
        .header("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "short");
    let want = [
        (
            "runtimeSessionId",
            "Member must have length greater than or equal to 33; the value is 'short'",
        ),
        (
            "accountId",
            "Member must satisfy regular expression pattern: [0-9]{12}; the value is '12'",
        ),
    ];
    check_refused(operations::INVOKE_AGENT_RUNTIME, &short, &want);
    let want = [
        ("runtimeSessionId", "Member must not be null"),
        ("agentRuntimeArn", "Member must not be null"),
    ];
    check_refused(operations::STOP_RUNTIME_SESSION, &Request::default(), &want);
    for (given, message) in [
        (
            "0",
            "Member must have value greater than or equal to 1; the value is '0'",
        ),
        (
            "101",
            "Member must have value less than or equal to 100; the value is '101'",
        ),
        ("ten", "Member must be an integer"),
        ("", "Member must be an integer"),
        ("99999999999", "Member must be an integer of 32 bits"),
    ] {
        let request = Request::default().query("maxResults", given);
        check_refused(operations::LIST_AGENT_RUNTIMES, &request, &[("maxResults", message)]);
    }
    check_refused(
        operations::UNTAG_RESOURCE,
        &Request::default().label("resourceArn", ARN),
        &[("tagKeys", "Member must not be null")],
    );
}

#[test]
fn a_body_that_is_no_json_object_cannot_be_parsed() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&[u8], &str); 8] = [
        (
            b"{\"agentRuntimeName\": \"x\",}",
            "is not valid JSON at line 1 column 26",
        ),
        (b"{\n  \"a\": trap\n}", "is not valid JSON at line 2 column 10"),
        (b"{\"agentRuntimeName\"", "ends too early at line 1 column 19"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{} {}", "is not valid JSON at line 1 column 4"),
        (b"{\"a\": \"\xff\"}", "is not valid JSON at line 1"),
        (deep.as_bytes(), "is not valid JSON at line 1"),
    ];
    for (body, want) in cases {
        let request = Request {
            body: body.to_vec(),
            ..Request::default()
        };
        match request.decode(operations::CREATE_AGENT_RUNTIME) {
            Err(Invalid::CannotParse(message)) => assert!(message.contains(want), "{message} for {want}"),
            other => panic!("{other:?} for {want}"),
        }
    }
    // Nothing travels in this operation's body, so that whatever is there does no harm.
    let ignored = Request {
        body: b"{".to_vec(),
        ..Request::default()
    };
    assert!(ignored.decode(operations::LIST_AGENT_RUNTIMES).is_ok());
}

#[test]
fn unknown_and_null_members_are_ignored() {
    let mut body = create_agent_runtime();
    body["unheardOf"] = json!({"x": [1]});
    body["description"] = json!(null);
    body["agentRuntimeArtifact"]["containerConfiguration"] = json!(null);
    body["agentRuntimeArtifact"]["__type"] = json!("x");
    body["lifecycleConfiguration"]["maxLifetime"] = json!(null);
    let input = Request::body(&body).decode(operations::CREATE_AGENT_RUNTIME).unwrap();
    let input: control::CreateAgentRuntimeRequest = from_input(input).unwrap();
    assert_eq!(
        (input.description, input.lifecycle_configuration.unwrap().max_lifetime),
        (None, None)
    );
}

#[test]
fn paths_lead_to_the_member_and_secrets_are_not_quoted() {
    let mut body = create_agent_runtime();
    body["agentRuntimeArtifact"]["codeConfiguration"]["entryPoint"] = json!(["main.py", ""]);
    body["agentRuntimeArtifact"]["codeConfiguration"]["runtime"] = json!("COBOL");
    body["environmentVariables"] = json!({"FOO": "hush".repeat(1251), "BAR": 7});
    body["description"] = json!("");
    body["requestHeaderConfiguration"] = json!({});
    body["tags"] = json!({"a\u{0}": "x"});
    let want = [
        (
            "agentRuntimeArtifact.codeConfiguration.entryPoint[1]",
            "Member must have length greater than or equal to 1; the value is ''",
        ),
        (
            "agentRuntimeArtifact.codeConfiguration.runtime",
            "Member must satisfy enum value set: [PYTHON_3_10, PYTHON_3_11, PYTHON_3_12, PYTHON_3_13, PYTHON_3_14, \
             NODE_22]; the value is 'COBOL'",
        ),
        ("environmentVariables.BAR", "Member must be a string, not a number"),
        (
            "environmentVariables.FOO",
            "Member must have length less than or equal to 5000",
        ),
        ("description", "Member must have length greater than or equal to 1"),
        (
            "requestHeaderConfiguration",
            "Member must have exactly one of [requestHeaderAllowlist], not 0",
        ),
        (
            "tags.a\\0",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9\\s._:/=+@-]*; the value is 'a\\0'",
        ),
    ];
    check_refused(operations::CREATE_AGENT_RUNTIME, &Request::body(&body), &want);
}

#[test]
fn a_hostile_body_cannot_make_the_answer_huge() {
    let mut body = create_agent_runtime();
    let many: Vec<serde_json::Value> = (0..50_000).map(|_| json!("x".repeat(200))).collect();
    body["agentRuntimeArtifact"]["codeConfiguration"]["entryPoint"] = json!(many);
    let Err(Invalid::Fields(found)) = Request::body(&body).decode(operations::CREATE_AGENT_RUNTIME) else {
        panic!("50,000 entry points are too many");
    };
    assert_eq!(found.len(), crate::validate::MAX_VIOLATIONS);
    assert!(found.iter().all(|one| one.message.len() < 200 && one.path.len() < 200));
}
