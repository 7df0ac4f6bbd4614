//! The generated tables: complete, findable, and every pattern compiles.

use crate::shape::Shape;
use crate::*;
use std::collections::BTreeMap;

/// Every shape that can be reached from an input, an output or an exception.
fn reachable() -> BTreeMap<*const Shape, &'static Shape> {
    let mut waiting: Vec<&'static Shape> = OPERATIONS
        .iter()
        .flat_map(|one| [one.input, one.output])
        .flatten()
        .collect();
    for plane in [Plane::Control, Plane::Data] {
        waiting.extend(
            exceptions(plane)
                .iter()
                .flat_map(|one| one.members)
                .map(|member| member.shape),
        );
    }
    let mut found = BTreeMap::new();
    while let Some(shape) = waiting.pop() {
        if found.insert(std::ptr::from_ref(shape), shape).is_some() {
            continue;
        }
        match &shape.kind {
            Kind::Structure { members, .. } | Kind::EventStream { members } => {
                waiting.extend(members.iter().map(|member| member.shape));
            }
            Kind::List { member, .. } => waiting.push(member),
            Kind::Map { key, value, .. } => waiting.extend([*key, *value]),
            _ => {}
        }
    }
    found
}

#[test]
fn every_pattern_compiles() {
    let mut count = 0;
    for shape in reachable().values() {
        if let Kind::String {
            pattern: Some(pattern), ..
        } = &shape.kind
        {
            count += 1;
            assert!(
                pattern.compiled().is_ok(),
                "{}: {:?}",
                shape.name,
                pattern.compiled().err()
            );
        }
    }
    assert!(count > 30, "only {count} patterns");
}

#[test]
fn every_operation_is_there_once_and_found() {
    assert_eq!(OPERATIONS.iter().filter(|one| one.plane == Plane::Control).count(), 175);
    assert_eq!(OPERATIONS.iter().filter(|one| one.plane == Plane::Data).count(), 75);
    for one in OPERATIONS {
        assert!(
            std::ptr::eq(operation(one.plane, one.name).unwrap(), one),
            "{one:?} twice"
        );
        assert_eq!(one.is_switched_on(), one.output.is_some());
        assert!((200..300).contains(&one.status) && one.uri.starts_with('/'), "{one:?}");
        for error in one.errors {
            assert!(exception(one.plane, error).is_some(), "{one:?}: {error}");
        }
    }
    assert!(operation(Plane::Data, "CreateAgentRuntime").is_none());
    assert!(std::ptr::eq(
        operation(Plane::Control, "CreateAgentRuntime").unwrap(),
        operations::CREATE_AGENT_RUNTIME
    ));
}

#[test]
fn labels_of_the_uri_are_members_of_the_input() {
    for one in OPERATIONS {
        let Some(Shape {
            kind: Kind::Structure { members, .. },
            ..
        }) = one.input
        else {
            continue;
        };
        let mut in_uri: Vec<&str> = one
            .uri
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        let labels = members.iter().filter(|member| member.location == Location::Uri);
        let mut in_input: Vec<&str> = labels.map(|member| member.wire_name).collect();
        in_uri.sort_unstable();
        in_input.sort_unstable();
        assert_eq!(in_uri, in_input, "{one:?}");
    }
}

#[test]
fn operations_and_exceptions_say_what_the_model_says() {
    let cases = [
        (operations::CREATE_AGENT_RUNTIME, "PUT", "/runtimes/", 202),
        (operations::LIST_AGENT_RUNTIMES, "POST", "/runtimes/", 200),
        (operations::GET_AGENT_RUNTIME, "GET", "/runtimes/{agentRuntimeId}/", 200),
        (operations::UNTAG_RESOURCE, "DELETE", "/tags/{resourceArn}", 204),
        (
            operations::PUT_RESOURCE_POLICY,
            "PUT",
            "/resourcepolicy/{resourceArn}",
            201,
        ),
        (
            operations::INVOKE_AGENT_RUNTIME,
            "POST",
            "/runtimes/{agentRuntimeArn}/invocations",
            200,
        ),
        (
            operations::STOP_RUNTIME_SESSION,
            "POST",
            "/runtimes/{agentRuntimeArn}/stopruntimesession",
            200,
        ),
    ];
    for (operation, method, uri, status) in cases {
        assert_eq!(
            (operation.method, operation.uri, operation.status),
            (method, uri, status),
            "{operation:?}"
        );
    }
    let payload = Payload {
        member: "payload",
        max_bytes: Some(100_000_000),
    };
    assert_eq!(operations::INVOKE_AGENT_RUNTIME.payload, Some(payload));
    assert_eq!(operations::STOP_RUNTIME_SESSION.payload, None);
    let cases = [
        ("ValidationException", 400, false),
        ("UnauthorizedException", 401, false),
        ("ServiceQuotaExceededException", 402, false),
        ("AccessDeniedException", 403, false),
        ("ResourceNotFoundException", 404, false),
        ("ConflictException", 409, false),
        ("RetryableConflictException", 409, true),
        ("RuntimeClientError", 424, false),
        ("ThrottlingException", 429, false),
        ("InternalServerException", 500, false),
    ];
    for (name, status, retryable) in cases {
        let found = exception(Plane::Data, name).unwrap();
        assert_eq!((found.status, found.retryable), (status, retryable), "{name}");
        assert!(found.members.iter().any(|member| member.name == "message"), "{name}");
    }
    assert!(exception(Plane::Control, "RuntimeClientError").is_none());
}

/// Any OCI image reference is accepted, not only Amazon ECR's.
#[test]
fn container_uris() {
    let hex = "0123456789abcdef".repeat(4);
    let digest = format!("ghcr.io/acme/agent:1.2@sha256:{hex}");
    let fine = [
        "123456789012.dkr.ecr.us-west-2.amazonaws.com/agent:latest",
        "public.ecr.aws/acme/agent",
        "agent",
        "library/agent:v1",
        "docker.io/library/agent:v1_2.3-rc",
        "localhost:5000/team/agent__x",
        "[::1]:5000/agent",
        "10.0.0.7:5000/a/b/c/d.e-f--g",
        &digest,
    ];
    let wrong = [
        "",
        "Agent",
        "ghcr.io/Acme/agent",
        "agent:",
        "agent:la test",
        "agent@sha256:xyz",
        "agent@sha256:abc",
        "/agent",
        "agent/",
        "a//b",
        "https://ghcr.io/acme/agent",
        "agent:-x",
        "ghcr.io:port/agent",
        "agent\n",
        "a___b",
    ];
    for (uris, accepted) in [(&fine[..], true), (&wrong[..], false)] {
        for uri in uris {
            let mut body = super::create_agent_runtime();
            body["agentRuntimeArtifact"] = serde_json::json!({"containerConfiguration": {"containerUri": uri}});
            let answer = super::Request::body(&body).decode(operations::CREATE_AGENT_RUNTIME);
            assert_eq!(answer.is_ok(), accepted, "{uri:?}: {answer:?}");
        }
    }
}
